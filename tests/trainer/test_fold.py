import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loader.data_loaders import SleepEpochs, find_recordings
from data_loader.folds import Fold, data_of, make_folds
from train_Kfold_CV import make_trainer, train_fold
from trainer.configuration import read_config
from trainer.fold import folds_of, introduce, plan, predict_test_set
from trainer.temperature import fit_temperature
from utils.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.experiment import read_predictions
from utils.recording import write_recording

CONFIG = Path(__file__).resolve().parents[2] / "config.json"
CPU = torch.device("cpu")
FOLD = Fold(1, train=("a", "b"), valid=(), test=("c",))


@pytest.fixture
def folder(prepared):
    """Three nights of four sleep epochs."""
    return prepared("a", "b", "c", stages=[0, 2, 3, 4])


@pytest.fixture
def data(folder):
    return SleepEpochs(find_recordings(folder), CPU)


@pytest.fixture
def configure(tmp_path):
    def configure(*overrides, where="saved"):
        small = ["trainer.epochs=2", "data_loader.args.batch_size=4", "data_loader.args.num_folds=3"]
        return read_config(CONFIG, [*small, f"trainer.save_dir={tmp_path / where}", *overrides])

    return configure


def in_checkpoint(path):
    state = load_checkpoint(path)
    return torch.cat([value.flatten().double() for value in state["model"].values()])


def test_a_fold_is_trained_to_its_predictions(configure, data, log):
    config = configure()
    train_fold(config, FOLD, data, None)
    directory = config.experiment_dir / "fold_1"
    names = {path.name for path in directory.iterdir()}
    assert names == {"metrics.csv", "info.log", LAST, BEST, "predictions.npz"}
    assert "Fold 1 is finished: best training epoch" in (directory / "info.log").read_text()
    found = read_predictions(directory)
    assert found.recording.tolist() == found.subject.tolist() == ["c"] * 4
    assert found.selected_train_epoch == load_checkpoint(directory / BEST)["train_epoch"]
    assert found.sleep_epoch.tolist() == [7, 8, 9, 10]
    assert found.start_time.tolist() == [data.outlines["c"].start_time] * 4
    assert found.y_true.tolist() == [0, 2, 3, 4]
    for y_pred, probabilities in (
        (found.y_pred, found.probabilities),
        (found.y_pred_last_epoch, found.probabilities_last_epoch),
    ):
        assert probabilities.shape == (4, 5)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(probabilities.argmax(1), y_pred)


@pytest.mark.parametrize("averaging", ["null", "0.9"])
@pytest.mark.parametrize("monitor", ["max loss", "min loss"])  # under one of them the best is not the last
def test_the_predictions_are_those_of_the_best_and_of_the_last_training_epoch(configure, data, monitor, averaging):
    config = configure(f"trainer.monitor={monitor}", f"trainer.averaging={averaging}")
    train_fold(config, FOLD, data, None)
    directory = config.experiment_dir / "fold_1"
    found, network = read_predictions(directory), config.init_obj("arch", fs=100).eval()
    losses = [row["test_loss"] for row in load_checkpoint(directory / LAST)["history"]]
    assert load_checkpoint(directory / BEST)["train_epoch"] == 1 + int(
        (np.argmax if monitor == "max loss" else np.argmin)(losses)
    )
    signal = torch.from_numpy(np.load(data.outlines["c"].path)["x"]).transpose(1, 2)
    for name, probabilities in ((BEST, found.probabilities), (LAST, found.probabilities_last_epoch)):
        network.load_state_dict(load_checkpoint(directory / name)["model"])
        with torch.inference_mode():
            expected = network(signal).softmax(1)
        torch.testing.assert_close(torch.from_numpy(probabilities), expected, rtol=0, atol=1e-5)


def test_checkpoints_know_what_they_were_made_with(configure, data):
    config = configure()
    train_fold(config, FOLD, data, None)
    about = load_checkpoint(config.experiment_dir / "fold_1" / BEST)["about"]
    assert about == {
        "fs": 100,
        "channel": "EEG Fpz-Cz",
        "units": "uV",
        "stage_names": ["W", "N1", "N2", "N3", "REM"],
        "fold": 1,
        "context": [0, 0],
        "config": config.values,
        "data": data_of(FOLD, data.outlines.values()),
        "amplitude_uv": about["amplitude_uv"],
        "computed_with": {"torch": torch.__version__, "device": "cpu", "threads": torch.get_num_threads()},
    }
    assert about["data"]["test"].keys() == set(FOLD.test)
    std_uv = [np.load(data.outlines[name].path)["x"].std() for name in FOLD.train]
    assert about["amplitude_uv"] == pytest.approx(
        {"median": np.median(std_uv), "low": min(std_uv), "high": max(std_uv)}, abs=0.02
    )


def test_sleep_epochs_without_signal_are_counted_and_told(configure, folder, make_recording, log):
    recording = make_recording([0, 2, 3, 4], seed=9)
    recording.signal[1:3] = 4
    write_recording(folder / "c.npz", recording)
    data = SleepEpochs(find_recordings(folder), CPU)
    assert data.n_empty == {"a": 0, "b": 0, "c": 2}
    introduce(FOLD, configure(), data)
    n = len(data.stages)
    told = (
        f"2 of {n} sleep epochs ({200 / n:.1f} %) are without signal (flat or clipped), and used like all others: in c."
    )
    assert told in log.messages


def test_recordings_of_several_channels_are_told_and_the_checkpoint_names_none(configure, folder, make_recording, log):
    write_recording(folder / "c.npz", make_recording([0, 2, 3, 4], channel="C4-M1", seed=9))
    data = SleepEpochs(find_recordings(folder), CPU)
    config = configure("trainer.epochs=1")
    train_fold(config, FOLD, data, None)
    assert "The recordings are of different channels: 'EEG Fpz-Cz' (a, b), 'C4-M1' (c)." in log.messages
    assert load_checkpoint(config.experiment_dir / "fold_1" / BEST)["about"]["channel"] == ""


@pytest.mark.parametrize(
    ("names", "pattern", "n_warnings"),
    [
        (["s1_night1", "s1_night2", "s2_night1"], "null", 1),
        (["s1_night1", "s1_night2", "s2_night1"], r"(.+)_night", 0),
        (["SC4001E0", "SC4002E0", "SC4011E0"], "null", 0),
    ],
)
def test_nights_that_look_like_those_of_one_subject_are_warned_of(configure, prepared, log, names, pattern, n_warnings):
    config = configure("data_loader.args.num_folds=2", f"data_loader.args.subject_pattern={pattern}")
    folds_of(config, find_recordings(prepared(*names)))
    assert len(log.messages) == n_warnings
    if n_warnings:
        assert log.messages[0].startswith("s1_night1, s1_night2 and others look like several nights of a subject")
        assert log.messages[0].endswith(r"--set data_loader.args.subject_pattern='^(.+)_night\d+$'")


def test_nights_that_were_prepared_as_those_of_one_subject_cannot_count_as_several(configure, tmp_path, make_recording):
    for seed, (name, subject) in enumerate({"x1": "anna", "y2": "anna", "z3": ""}.items()):
        write_recording(tmp_path / f"npz/{name}.npz", make_recording(5, seed=seed, subject=subject))
    outlines = find_recordings(tmp_path / "npz")
    with pytest.raises(
        UserError, match="x1, y2 are nights of the subject 'anna', as they were prepared, but would count"
    ):
        folds_of(configure("data_loader.args.num_folds=2"), outlines)
    folds_of(configure("data_loader.args.num_folds=2", "data_loader.args.subject_pattern=^([xyz])?"), outlines[1:])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("n_batches", [1, 3, 4, 5, 6, 7, 8, 9], ids=lambda n: f"after {n} batches")
def test_a_fold_that_is_stopped_anywhere_ends_with_the_same_weights_to_the_bit(configure, data, monkeypatch, n_batches):
    """Each training epoch has two batches to train on and one to test on; at the end one is predicted twice, and the
    temperature is fitted on two."""
    whole, parts = configure(where="whole"), configure(where="parts")
    train_fold(whole, FOLD, data, None)

    left = n_batches
    read = SleepEpochs.read

    def read_or_stop(self, chosen):
        nonlocal left
        if left == 0:
            raise StoppedError
        left -= 1
        return read(self, chosen)

    monkeypatch.setattr(SleepEpochs, "read", read_or_stop)
    with pytest.raises(StoppedError):
        train_fold(parts, FOLD, data, None)
    monkeypatch.undo()
    torch.rand(5)
    train_fold(parts, FOLD, data, None)

    one, other = (config.experiment_dir / "fold_1" for config in (whole, parts))
    for name in (LAST, BEST):
        assert torch.equal(in_checkpoint(one / name), in_checkpoint(other / name))
    for name, value in read_predictions(one).arrays.items():
        np.testing.assert_array_equal(getattr(read_predictions(other), name), value)


def test_two_seeds_give_two_networks_and_one_seed_gives_one(configure, data, tmp_path):
    weights = {}
    for where, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = configure("trainer.epochs=1", f"seed={seed}", where=where)
        train_fold(config, FOLD, data, None)
        weights[where] = in_checkpoint(config.experiment_dir / "fold_1" / LAST)
    assert torch.equal(weights["a"], weights["b"])
    assert not torch.equal(weights["a"], weights["c"])


def test_the_folds_before_do_not_change_a_fold(configure, data):
    """Trained alone or after another one in the same process, a fold ends with the same weights."""
    other = Fold(0, train=("a", "c"), valid=(), test=("b",))
    alone, together = configure("trainer.epochs=1", where="alone"), configure("trainer.epochs=1", where="together")
    train_fold(alone, FOLD, data, None)
    for fold in (other, FOLD):
        train_fold(together, fold, data, None)
    one, two = (config.experiment_dir / "fold_1" for config in (alone, together))
    assert torch.equal(in_checkpoint(one / LAST), in_checkpoint(two / LAST))


def test_a_fold_that_fails_says_so_in_its_log_and_ends_the_run(configure, data):
    config = configure("optimizer.type=SGD", "optimizer.args.lr=1e30", "trainer.epochs=3")
    with pytest.raises(SystemExit) as ended:
        train_fold(config, FOLD, data, None)
    assert ended.value.code == 1
    said = (config.experiment_dir / "fold_1" / "info.log").read_text()
    assert "Fold 1 failed. training epoch" in said
    assert "the loss is nan" in said


def test_the_plan_says_what_would_be_done_and_is_json(configure, folder):
    config = configure("data_loader.args.num_folds=3")
    fold = make_folds(["a", "b", "c"], 3, 123)[2]
    planned = json.loads(json.dumps(plan(config, fold, find_recordings(folder), "cpu")))
    assert list(planned) == [
        "fold", "train", "valid", "test", "subjects", "class_counts", "class_weights", "parameters", "device", "config"
    ]  # fmt: skip
    assert planned["fold"] == 2
    assert sorted(planned["train"] + planned["test"]) == ["a", "b", "c"]
    assert (planned["train"], planned["valid"], planned["test"]) == (list(fold.train), [], list(fold.test))
    assert planned["subjects"] == {"train": list(fold.train), "valid": [], "test": list(fold.test)}
    # training and test epochs: three of each stage but N1; 0.4 ln(0.4 * 12 / 1) = 0.63
    assert planned["class_counts"] == [3, 0, 3, 3, 3]
    assert planned["class_weights"] == [0.3, 0.63, 0.3, 0.2, 0.3]
    assert planned["parameters"] == 509_825
    assert planned["device"] == "cpu"
    assert planned["config"] == config.values


def test_the_plan_of_a_loss_without_weights_says_so(configure, folder):
    planned = plan(configure("loss.type=FocalLoss"), FOLD, find_recordings(folder), "cpu")
    assert planned["class_weights"] is None


def test_the_loss_counts_training_and_test_epochs_as_the_released_code_does(configure, data):
    trainer = make_trainer(configure(), FOLD, data, Path("nowhere"))
    assert trainer.criterion.weight.tolist() == pytest.approx([0.3, 0.63, 0.3, 0.2, 0.3])
    assert trainer.train_batches.indices.tolist() == list(range(8))
    assert trainer.evaluation_batches.indices.tolist() == list(range(8, 12))
    assert (trainer.train_batches.shuffle, trainer.evaluation_batches.shuffle) == (True, False)


# Holdout

HOLDOUT = Fold(1, train=("a",), valid=("b",), test=("c",))


def test_under_holdout_the_monitor_looks_at_the_validation_set_and_the_loss_counts_the_training_set(configure, data):
    trainer = make_trainer(configure("evaluation.protocol=holdout"), HOLDOUT, data, Path("nowhere"))
    assert trainer.train_batches.indices.tolist() == [0, 1, 2, 3]
    assert trainer.evaluation_batches.indices.tolist() == [4, 5, 6, 7]
    # one each of W, N2, N3, REM; 0.4 ln(0.4 * 4) = 0.19 is below 0.4
    assert trainer.criterion.weight.tolist() == pytest.approx([0.3, 0.4, 0.3, 0.2, 0.3])


def test_under_holdout_the_test_set_is_predicted_and_the_table_is_of_the_validation_set(configure, data):
    config = configure("evaluation.protocol=holdout", "trainer.epochs=1")
    train_fold(config, HOLDOUT, data, None)
    directory = config.experiment_dir / "fold_1"
    assert read_predictions(directory).recording.tolist() == ["c"] * 4
    header = (directory / "metrics.csv").read_text().splitlines()[0]
    assert "valid_accuracy" in header
    assert "test" not in header


def test_under_holdout_the_labels_of_the_test_set_reach_nothing(configure, folder, make_recording):
    """With scrambled test labels the weights are the same to the bit; under the released protocol they are not."""
    weights, temperatures = {}, {}
    for kind, stages in (("true", [0, 2, 3, 4]), ("scrambled", [1, 1, 1, 0])):
        recording = make_recording([0, 2, 3, 4], seed=2)
        write_recording(folder / "c.npz", replace(recording, stages=np.array(stages)))
        data = SleepEpochs(find_recordings(folder), CPU)
        for protocol, fold in (("holdout", HOLDOUT), ("released", FOLD)):
            config = configure(f"evaluation.protocol={protocol}", where=f"{kind} {protocol}")
            train_fold(config, fold, data, None)
            paths = (config.experiment_dir / "fold_1" / name for name in (LAST, BEST))
            weights[kind, protocol] = torch.cat([in_checkpoint(path) for path in paths])
            temperatures[kind, protocol] = load_checkpoint(config.experiment_dir / "fold_1" / BEST)["temperature"]
    assert torch.equal(weights["true", "holdout"], weights["scrambled", "holdout"])
    assert temperatures["true", "holdout"] == temperatures["scrambled", "holdout"]
    assert not torch.equal(weights["true", "released"], weights["scrambled", "released"])


def test_a_fold_can_be_trained_on_three_sleep_epochs_at_once(configure, folder):
    config = configure("data_loader.args.context=[1, 1]", "trainer.epochs=1")
    train_fold(config, FOLD, SleepEpochs(find_recordings(folder), CPU, context=(1, 1)), None)
    found = read_predictions(config.experiment_dir / "fold_1")
    assert found.y_true.tolist() == [0, 2, 3, 4]
    assert load_checkpoint(config.experiment_dir / "fold_1" / LAST)["about"]["context"] == [1, 1]


def test_a_network_learns_what_tells_the_stages_apart(configure, prepared, tmp_path):
    """The frequency of the signal tells the stage: a few steps do better than chance on a night never seen."""
    data = SleepEpochs(find_recordings(prepared("a", "b", "c", stages=20)), CPU)
    overrides = ["trainer.epochs=4", "arch.args.dropout_mrcnn=0.1", "trainer.monitor=min loss"]
    config = configure(*overrides)
    train_fold(config, FOLD, data, None)
    history = load_checkpoint(config.experiment_dir / "fold_1" / LAST)["history"]
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert max(row["train_accuracy"] for row in history) > 0.5


# Temperature


@pytest.mark.parametrize(
    ("fold", "names", "said"),
    [
        (HOLDOUT, "b", "4 sleep epochs of the validation"),
        (FOLD, "ab", "8 sleep epochs of the training"),
    ],
    ids=["holdout", "released"],
)
def test_the_temperature_is_fitted_on_what_the_fold_may_see_and_kept_with_the_selected_weights(
    configure, data, log, fold, names, said
):
    config = configure(f"evaluation.protocol={'holdout' if fold.valid else 'released'}", "trainer.epochs=1")
    train_fold(config, fold, data, None)
    directory = config.experiment_dir / "fold_1"
    state = load_checkpoint(directory / BEST)
    network = config.init_obj("arch", fs=100).eval()
    network.load_state_dict(state["model"])
    with torch.inference_mode():
        signals = [torch.from_numpy(np.load(data.outlines[name].path)["x"]).transpose(1, 2) for name in names]
        logits = torch.cat([network(signal) for signal in signals])
    stages = torch.tensor([0, 2, 3, 4] * len(names))
    assert state["temperature"] == pytest.approx(fit_temperature(logits, stages), rel=1e-3)
    assert read_predictions(directory).temperature.tolist() == [state["temperature"]] * 4
    assert f"Temperature {state['temperature']:.3f}, fitted on {said} subjects" in log.text
    assert "temperature" not in load_checkpoint(directory / LAST)


def test_under_the_released_protocol_the_labels_of_the_test_set_do_not_reach_the_temperature(
    configure, data, folder, make_recording
):
    """They reach the weights; so the same weights get their temperature beside true and scrambled test labels."""
    config = configure("trainer.epochs=1")
    train_fold(config, FOLD, data, None)
    best = config.experiment_dir / "fold_1" / BEST
    before = load_checkpoint(best)["temperature"]
    write_recording(folder / "c.npz", replace(make_recording([0, 2, 3, 4], seed=2), stages=np.array([1, 1, 1, 0])))
    trainer = make_trainer(config, FOLD, SleepEpochs(find_recordings(folder), CPU), best.parent)
    save_checkpoint(best, load_checkpoint(best) | {"temperature": 9.0})
    assert predict_test_set(trainer, FOLD, trainer.train_batches.data, None).temperature[0] == before
    assert load_checkpoint(best)["temperature"] == before


def test_a_temperature_that_cannot_be_fitted_is_told(configure, prepared, log):
    data = SleepEpochs(find_recordings(prepared("d", "e", "f", stages=[2, 2, 2, 2])), CPU)
    train_fold(configure("trainer.epochs=1"), Fold(1, train=("d", "e"), valid=(), test=("f",)), data, None)
    assert "Temperature 1, not fitted: the training subjects have one stage alone." in log.messages
