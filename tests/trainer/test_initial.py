"""Training on from the weights of another network: what is taken, what trains, and that it never saw what is tested."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from released_network import weights_by_formula

from data_loader.data_loaders import SleepEpochs, find_recordings
from data_loader.folds import Fold, data_of
from model.original import from_original_state_dict
from scoring.networks import load_networks
from train_Kfold_CV import make_trainer, train_fold
from trainer.claims import check_checkpoint, claim_folds
from trainer.configuration import read_config
from trainer.initial import choose_initial
from utils.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.recording import write_recording

CONFIG = Path(__file__).resolve().parents[2] / "config.json"
CPU = torch.device("cpu")
STAGES = [0, 2, 3, 4]
OLD = [Fold(0, ("a", "b"), ("c",), ("d",)), Fold(1, ("d", "b"), ("c",), ("a",))]
NEW = Fold(0, ("k",), ("l",), ("m",))


@pytest.fixture
def configure(tmp_path):
    def configure(*overrides, name="new"):
        small = ["trainer.epochs=1", "data_loader.args.batch_size=4", f"name={name}"]
        return read_config(CONFIG, [*small, f"trainer.save_dir={tmp_path / 'saved'}", *overrides])

    return configure


@pytest.fixture
def nights(tmp_path, make_recording):
    """Write nights of four sleep epochs into a folder of their own."""

    def write(folder, *names, seed=0, **changes):
        for number, name in enumerate(names):
            write_recording(tmp_path / folder / f"{name}.npz", make_recording(STAGES, seed=seed + number, **changes))
        return find_recordings(tmp_path / folder)

    return write


@pytest.fixture
def old(configure, nights):
    """Train both folds of an experiment, and return its folder."""
    config, outlines = configure(name="old"), nights("old nights", "a", "b", "c", "d")
    claim_folds(config, OLD, outlines, False, None, {})
    for fold in OLD:
        train_fold(config, fold, SleepEpochs(outlines, CPU), None)
    return config.experiment_dir


@pytest.fixture
def others(nights):
    return nights("new nights", "k", "l", "m", seed=10)


def beginning(source, **settings):
    return [f"initial.{key}={json.dumps(value)}" for key, value in {"checkpoint": str(source), **settings}.items()]


def trainer_of(config, outlines, fold=NEW):
    initial = choose_initial(config, [fold], outlines)
    return make_trainer(config, fold, SleepEpochs(outlines, CPU), config.experiment_dir, initial[fold.number])


def weights_of(source):
    return load_checkpoint(source / BEST)["model"]


def assert_equal(state, expected, names=None):
    assert all(torch.equal(state[name], expected[name]) for name in (names or expected))


def test_training_begins_with_the_weights_of_the_fold_with_its_number(configure, old, others, log):
    for number in (0, 1):
        fold = Fold(number, *((NEW.train, NEW.valid, NEW.test)))
        trainer = trainer_of(configure(*beginning(old)), others, fold)
        assert_equal(trainer.model.state_dict(), weights_of(old / f"fold_{number}"))
        assert f"Training begins with 82 of 82 arrays of {old / f'fold_{number}' / BEST}." in log.messages
    assert trainer.about["initial"] == str(old / "fold_1" / BEST)
    assert trainer.about["data"].keys() == {"train", "valid", "test", "initial"}
    assert trainer.about["data"]["initial"].keys() == {"b", "c", "d"}


def test_without_initial_weights_nothing_is_different(configure, others):
    config = configure()
    assert choose_initial(config, [NEW], others) == {}
    trainer = make_trainer(config, NEW, SleepEpochs(others, CPU), config.experiment_dir)
    assert "initial" not in {*config.values, *trainer.about, *trainer.about["data"]}


# Leaks


def test_a_fold_takes_a_network_that_never_saw_its_nights(configure, old, nights):
    outlines = nights("old nights", "e", seed=20)
    fold = Fold(0, ("e",), (), ("a",))  # fold 0 trained on a, fold 1 tested it
    initial = choose_initial(configure(*beginning(old)), [fold], outlines)[0]
    assert initial.source == str(old / "fold_1" / BEST)
    with pytest.raises(UserError, match=r"Fold 0: .*fold_0/.* fold tests or selects on: c, a. So did 1 other network"):
        choose_initial(configure(*beginning(old)), [Fold(0, ("e",), ("c",), ("a",))], outlines)


@pytest.mark.parametrize("side", ["valid", "test"])
@pytest.mark.parametrize(
    ("name", "changes", "pattern"),
    [
        ("a", {"seed": 30}, None),  # by its name
        ("A", {"seed": 30}, None),  # in capitals
        ("renamed", {"seed": 0}, None),  # by its signal: a with another name, and hypnogram
        ("other_channel", {"seed": 30, "made_from": '{"recording": {"crc32": "abcd1234"}}'}, None),  # by its file
        ("a_2", {"seed": 30}, r"^([a-z]+)"),  # another night of its subject
        ("c", {"seed": 30}, None),  # which it was selected on
    ],
)
def test_a_night_that_the_weights_learned_from_is_never_tested(configure, old, nights, name, changes, pattern, side):
    for fold in (0, 1):
        path = old / f"fold_{fold}" / BEST
        state = load_checkpoint(path)
        state["about"]["data"]["train"] |= {"a": state["about"]["data"]["train"].get("a") or _checksum(nights, "a")}
        state["about"]["data"]["train"]["b"] += "-ofabcd1234"
        save_checkpoint(path, state)
    outlines = [*nights("new nights", "k", "m", seed=10), *nights("leak", name, **changes)]
    sides = {"train": ("k",), "valid": ("m",), "test": ("m",)} | {side: (name,)}
    overrides = [] if pattern is None else [f"data_loader.args.subject_pattern={pattern}"]
    with pytest.raises(UserError, match=rf"fold tests or selects on: {name}\. So did"):
        choose_initial(configure(*beginning(old), *overrides), [Fold(0, **sides)], outlines)
    sides |= {"train": (name,), side: ("m",)}  # to train on it again is no leak
    assert choose_initial(configure(*beginning(old), *overrides), [Fold(0, **sides)], outlines)


def _checksum(nights, name):
    return next(outline.checksum for outline in nights("old nights") if outline.name == name)


def test_a_night_that_the_weights_before_the_weights_learned_from_is_not_tested_either(configure, old, others, nights):
    config = configure(*beginning(old), name="second")
    initial = choose_initial(config, [NEW], others)
    claim_folds(config, [NEW], others, False, None, initial)
    train_fold(config, NEW, SleepEpochs(others, CPU), None, initial[0])
    outlines = nights("third nights", "x", "a", seed=40)
    with pytest.raises(UserError, match="tests or selects on: a. Begin with"):
        choose_initial(configure(*beginning(config.experiment_dir)), [Fold(0, ("x",), (), ("a",))], outlines)
    # Whoever scores such a night later is told, whether the checkpoint or data.json says so.
    state = load_checkpoint(config.experiment_dir / "fold_0" / BEST)
    for where in ("both", "data.json"):
        if where == "data.json":
            del state["about"]["data"]
            save_checkpoint(config.experiment_dir / "fold_0" / BEST, state)
        networks = load_networks([config.experiment_dir])
        assert networks.for_night("a").training_overlap == "its network was trained on this recording"
        assert networks.for_night("k").training_overlap == "its network was trained on this recording"
        assert networks.for_night("m").training_overlap == ""
        assert networks.for_night("another").training_overlap == ""
    # And a checkpoint of this run is none of a run that tests it.
    tested = {**data_of(NEW, others), "test": {"a": "1"}}
    with pytest.raises(UserError, match="was trained on subjects that are in the test set of this fold: a"):
        check_checkpoint(config.experiment_dir / "fold_0" / LAST, 0, config.values, tested)


def test_a_network_that_was_selected_on_its_test_set_learned_from_it(configure, nights):
    config, outlines = configure(name="released"), nights("old nights", "a", "b")
    train_fold(config, Fold(0, ("a",), (), ("b",)), SleepEpochs(outlines, CPU), None)
    others = nights("old nights", "e", seed=20)
    with pytest.raises(UserError, match="tests or selects on: b"):
        choose_initial(configure(*beginning(config.experiment_dir)), [Fold(0, ("e",), (), ("b",))], others)


def test_weights_of_which_nobody_knows_what_they_saw_are_refused_or_told_loudly(configure, others, tmp_path, log):
    weights = weights_by_formula(100)
    torch.save({"state_dict": weights}, tmp_path / "released.pth")
    with pytest.raises(UserError, match="released.pth does not say what it was trained on.* initial.trained_on"):
        choose_initial(configure(*beginning(tmp_path / "released.pth")), [NEW], others)
    config = configure(*beginning(tmp_path / "released.pth", trained_on="Sleep-EDF-20, fold 3"))
    trainer = trainer_of(config, others)
    assert_equal(trainer.model.state_dict(), from_original_state_dict(weights).state_dict())
    assert any(
        record.levelname == "WARNING" and re.search("Nobody can check.*'Sleep-EDF-20, fold 3'", record.message)
        for record in log.records
    )
    assert trainer.about["data"]["initial"] is None
    # What went on from them is not known either.
    train_fold(config, NEW, SleepEpochs(others, CPU), None, choose_initial(config, [NEW], others)[0])
    networks = load_networks([config.experiment_dir])
    assert networks.for_night("m").training_overlap == "what its network trained on is not known"
    with pytest.raises(UserError, match="does not say what it was trained on"):
        choose_initial(configure(*beginning(config.experiment_dir)), [NEW], others)


# What is taken


def test_layers_that_do_not_fit_are_random_and_named(configure, old, others, log):
    trainer = trainer_of(configure(*beginning(old), "data_loader.args.context=[1,1]"), others)
    state, before = trainer.model.state_dict(), weights_of(old / "fold_0")
    taken = [name for name in before if name.split(".")[0] in ("mrcnn", "afr") or "queries" in name]
    assert_equal(state, before, taken)
    assert not torch.equal(state["head.bias"], before["head.bias"])  # of a fitting shape, but the weights are not
    assert any(
        re.match(rf"Training begins with {len(taken)} of 82 .*shape is there: head, .*, tce.norm.$", message)
        for message in log.messages
    )


def test_what_does_not_fit_at_all_or_is_of_another_rate_is_refused(configure, old, others, nights):
    path = old / "fold_0" / BEST
    state = load_checkpoint(path)
    for changes, reason in (
        ({"about": state["about"] | {"fs": 125.0}}, r"its fs is 125.0, not 100. Prepare the recordings with --fs 125."),
        ({"about": state["about"] | {"units": "mV"}}, "its units is mV, not uV"),
        ({"model": {"one.weight": torch.ones(2)}}, r"none of its weights fit afr.convolutions.0, .* of AttnSleep"),
    ):
        save_checkpoint(path, state | changes)
        with pytest.raises(UserError, match=f"fold_0/{BEST}: {reason}"):
            choose_initial(configure(*beginning(old)), [NEW], others)
    with pytest.raises(UserError, match="neither a fold"):
        choose_initial(configure(*beginning(old.parent.parent / "old nights")), [NEW], others)
    with pytest.raises(UserError, match="no such checkpoint"):
        choose_initial(configure(*beginning(old / "gone.pth")), [NEW], others)


# What trains


def test_what_was_taken_learns_at_the_lower_rate_and_the_head_at_the_full_one(configure, old, others):
    sgd = 'optimizer={"type": "SGD", "args": {"lr": 0.01}}'
    scheduler = 'lr_scheduler={"type": "MultiStepLR", "args": {"milestones": [1], "gamma": 0.1}}'
    steps = {}
    for factor in (1, 0.25):
        config = configure(*beginning(old, lr_factor=factor), sgd, scheduler, "trainer.epochs=2", name=f"f{factor}")
        trainer = trainer_of(config, others)
        before = {name: value.clone() for name, value in trainer.model.named_parameters()}
        torch.manual_seed(0)
        trainer.train_pass(1)
        steps[factor] = {name: value.detach() - before[name] for name, value in trainer.model.named_parameters()}
        trainer.lr_scheduler.step()
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        assert rates == pytest.approx([0.001, 0.001 * factor] if factor < 1 else [0.001])
    for name, step in steps[1].items():
        expected = step if name.startswith("head.") else 0.25 * step
        torch.testing.assert_close(steps[0.25][name], expected, rtol=1e-2, atol=2e-7)
        assert step.abs().max() > 0, name


def test_layers_that_were_not_taken_learn_at_the_full_rate(configure, old, others):
    trainer = trainer_of(configure(*beginning(old, lr_factor=0.1), "data_loader.args.context=[1,1]"), others)
    rates = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        fits = name.split(".")[0] in ("mrcnn", "afr") or "queries" in name
        assert rates[id(parameter)] == pytest.approx(1e-4 if fits else 1e-3), name


@pytest.mark.parametrize("averaging", ["null", "0.9"])
def test_the_head_alone_trains_and_all_else_stays_to_the_bit(configure, old, others, averaging):
    config = configure(*beginning(old, layers="head"), f"trainer.averaging={averaging}", "trainer.epochs=2")
    initial = choose_initial(config, [NEW], others)
    train_fold(config, NEW, SleepEpochs(others, CPU), None, initial[0])
    before, after = weights_of(old / "fold_0"), load_checkpoint(config.experiment_dir / "fold_0" / LAST)
    states = [after["model"], *([after["averaging"]["raw_model"]] if averaging != "null" else [])]
    for state in states:
        assert_equal(state, before, [name for name in before if not name.startswith("head.")])  # statistics as well
        assert not torch.equal(state["head.weight"], before["head.weight"])


def test_a_head_that_is_to_train_alone_needs_all_else(configure, old, others):
    config = configure(*beginning(old, layers="head"), "data_loader.args.context=[1,1]")
    with pytest.raises(UserError, match=r'none of its weights fit tce.layers.* or initial.layers "all"'):
        choose_initial(config, [NEW], others)


def test_a_run_from_other_weights_goes_on_to_the_same_bits_and_notices_other_weights(configure, old, others, nights):
    overrides = [*beginning(old, lr_factor=0.1), "trainer.averaging=0.99"]
    data = SleepEpochs(others, CPU)
    for name, stops in (("whole", (3,)), ("parts", (1, 3))):
        for n in stops:
            config = configure(*overrides, f"trainer.epochs={n}", name=name)
            initial = choose_initial(config, [NEW], others)
            if n < 3:
                make_trainer(config, NEW, data, config.experiment_dir / "fold_0", initial[0]).train()
            else:
                train_fold(config, NEW, data, None, initial[0])
    whole, parts = (
        load_checkpoint(config.experiment_dir.parent / name / "fold_0" / LAST) for name in ("whole", "parts")
    )
    for one, other in ((whole, parts), (whole["averaging"], parts["averaging"])):
        for key in ("model", "raw_model"):
            if key in one:
                assert_equal(one[key], other[key])
    assert whole["averaging"]["n_steps"] == parts["averaging"]["n_steps"] == 3

    config = configure(*overrides, name="claimed")
    claim_folds(config, [NEW], others, False, None, choose_initial(config, [NEW], others))
    claim_folds(config, [NEW], others, False, None, choose_initial(config, [NEW], others))
    shutil.copy(old / "fold_1" / BEST, old / "fold_0" / BEST)  # another network, trained on other nights
    with pytest.raises(UserError, match="holds a run with other data"):
        claim_folds(config, [NEW], others, False, None, choose_initial(config, [NEW], others))


def test_folds_may_begin_with_networks_that_learned_from_different_nights(configure, old, others):
    folds = [Fold(0, ("k",), ("l",), ("m",)), Fold(1, ("m",), ("l",), ("k",))]
    config = configure(*beginning(old))
    initial = choose_initial(config, folds, others)
    assert initial[0].training_sets != initial[1].training_sets
    claim_folds(config, folds, others, False, None, initial)
    claim_folds(config, folds, others, False, None, initial)


# The configuration


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["initial.layers=head"], "initial.checkpoint: null will not do"),
        (["initial.checkpoint=a", "initial.layers=tail"], 'initial.layers: "tail" will not do'),
        (["initial.checkpoint=a", "initial.lr_factor=2"], "initial.lr_factor: 2 will not do"),
        (["initial.checkpoint=a", "initial.layer=head"], "initial.layer: unknown key. Did you mean 'initial.layers'?"),
        (
            ["initial.checkpoint=a", "initial.lr_factor=0.1", 'lr_scheduler={"type": "OneCycleLR", "args": '
            '{"max_lr": 0.1, "total_steps": 9}}'],
            "lr_scheduler: OneCycleLR sets learning rates of its own, whatever initial.lr_factor is.",
        ),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused(configure, overrides, text):
    with pytest.raises(UserError, match=re.escape(text)):
        configure(*overrides)


def test_a_network_without_a_head_cannot_train_its_head(configure, monkeypatch):
    class Tiny(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(3000, 5))

    monkeypatch.setattr("model.model.Tiny", Tiny, raising=False)
    monkeypatch.setattr("model.model.__all__", ["AttnSleep", "Tiny"])
    overrides = ["arch.type=Tiny", "initial.checkpoint=a"]
    configure(*overrides)
    with pytest.raises(UserError, match='initial: layers "head" trains the layer that is named head, which Tiny does'):
        configure(*overrides, "initial.layers=head")
