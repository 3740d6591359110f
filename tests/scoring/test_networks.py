import os
import zipfile
from collections import OrderedDict
from pathlib import PosixPath

import numpy as np
import pytest
import torch
from checkpoints import network, write_checkpoint, write_experiment, write_night_context
from torch.nn.utils.rnn import pack_sequence

from data_loader.data_loaders import neighbours
from scoring.networks import Inputs, find_checkpoints, load_networks
from utils.checkpoint import BEST, load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.experiment import CONTEXT

N = 7


@pytest.fixture
def signal():
    """Seven sleep epochs that differ in size and colour, and a rest of 12 s."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (N + 1, 3000)).astype(np.float32)
    noise[::2] = np.cumsum(noise[::2], axis=1) / 5
    noise *= 10 * (1 + np.arange(N + 1, dtype=np.float32)[:, None])
    return noise.ravel()[: N * 3000 + 1200]


def probabilities(net, signal, rows=None, context=(0, 0)):
    epochs = torch.from_numpy(signal[: N * 3000].reshape(N, 3000))
    rows = np.arange(N) if rows is None else np.asarray(rows)
    together = rows[neighbours(rows, *context)]
    with torch.inference_mode():
        return net(epochs[torch.from_numpy(together)].flatten(1).unsqueeze(1)).softmax(dim=1).numpy()


def test_a_night_is_scored_as_by_the_network_and_the_rest_is_not(tmp_path, signal):
    net = write_checkpoint(tmp_path / "a.pth")
    scoring = load_networks([tmp_path / "a.pth"]).score(signal, "a")
    expected = probabilities(net, signal)
    np.testing.assert_allclose(scoring.probabilities, expected, atol=2e-5)
    np.testing.assert_array_equal(scoring.stages, expected.argmax(axis=1))
    assert len(set(scoring.stages.tolist())) > 1
    assert scoring.probabilities.dtype == np.float32


def test_a_gap_leaves_its_sleep_epochs_unscored_and_moves_nothing(tmp_path, signal):
    write_checkpoint(tmp_path / "a.pth")
    networks = load_networks([tmp_path / "a.pth"])
    whole = networks.score(signal, "a")
    signal[3 * 3000 - 1 : 3 * 3000 + 1] = [np.nan, np.inf]
    scoring = networks.score(signal, "a")
    assert scoring.stages[[2, 3]].tolist() == [-1, -1]
    assert np.isnan(scoring.probabilities[[2, 3]]).all()
    others = [0, 1, 4, 5, 6]
    np.testing.assert_allclose(scoring.probabilities[others], whole.probabilities[others], atol=1e-6)


def test_scoring_can_be_limited(tmp_path, signal):
    write_checkpoint(tmp_path / "a.pth")
    networks = load_networks([tmp_path / "a.pth"])
    scoring = networks.score(signal, "a", 2, 5)
    assert np.flatnonzero(scoring.stages != -1).tolist() == [2, 3, 4]
    np.testing.assert_allclose(scoring.probabilities[2:5], networks.score(signal, "a").probabilities[2:5], atol=1e-6)


@pytest.mark.parametrize("context", [(1, 1), (2, 0)])
def test_a_context_is_that_of_the_training_across_gaps_and_ends(tmp_path, signal, context):
    net = write_checkpoint(tmp_path / "a.pth", context=context)
    networks = load_networks([tmp_path / "a.pth"])
    assert (networks.inputs.context, networks.inputs.n_samples) == (context, 3000)
    scoring = networks.score(signal, "a", 1)
    expected = probabilities(net, signal, context=context)
    np.testing.assert_allclose(
        scoring.probabilities[1:], expected[1:], atol=2e-5, err_msg="what is not wanted is context"
    )
    signal[3 * 3000 : 4 * 3000] = np.nan
    rows = [0, 1, 2, 4, 5, 6]
    expected = probabilities(net, signal, rows, context)
    np.testing.assert_allclose(networks.score(signal, "a").probabilities[rows], expected, atol=2e-5)


def test_the_folds_of_an_experiment_are_averaged(tmp_path, signal):
    nets = write_experiment(tmp_path / "Exp 1", 3)
    networks = load_networks([tmp_path / "Exp 1"])
    expected = np.mean([probabilities(net, signal) for net in nets], axis=0)
    np.testing.assert_allclose(networks.score(signal, "a").probabilities, expected, atol=2e-5)
    described = networks.description["checkpoints"]
    assert [(checkpoint["fold"], checkpoint["train_epoch"]) for checkpoint in described] == [(0, 7), (1, 7), (2, 7)]
    assert len({checkpoint["crc32"] for checkpoint in described}) == 3


def test_each_network_has_its_temperature_before_probabilities_are_averaged(tmp_path, signal):
    temperatures = (3.0, None, 0.5)
    paths = [tmp_path / f"{number}.pth" for number in range(3)]
    nets = [
        write_checkpoint(path, seed, temperature=t)
        for seed, (path, t) in enumerate(zip(paths, temperatures, strict=True))
    ]
    scoring = load_networks(paths).score(signal, "a")
    epochs = torch.from_numpy(signal[: N * 3000].reshape(N, 1, 3000))
    with torch.inference_mode():
        each = [(net(epochs) / (t or 1)).softmax(dim=1).numpy() for net, t in zip(nets, temperatures, strict=True)]
    np.testing.assert_allclose(scoring.probabilities, np.mean(each, axis=0), atol=2e-5)
    alone = load_networks(paths[:1])
    assert [each["temperature"] for each in alone.description["checkpoints"]] == [3.0]
    stages = alone.score(signal, "a").stages
    save_checkpoint(paths[0], {k: v for k, v in load_checkpoint(paths[0]).items() if k != "temperature"})
    np.testing.assert_array_equal(load_networks(paths[:1]).score(signal, "a").stages, stages)


@pytest.mark.parametrize("temperature", ["hot", 0.0, float("nan"), 1000.0, [2.0]])
def test_a_temperature_that_is_none_is_refused(tmp_path, temperature):
    write_checkpoint(tmp_path / "a.pth", temperature=temperature)
    with pytest.raises(UserError, match=r"a.pth: its temperature is .*, not a number from 0.05 to 20."):
        load_networks([tmp_path / "a.pth"])


def of_night(net, night, signal, *runs):
    """Probabilities of both models, each run of sleep epochs by itself."""
    epochs = torch.from_numpy(signal[: N * 3000].reshape(N, 1, 3000))
    with torch.inference_mode():
        return np.concatenate([night(pack_sequence([net.summary(epochs[run])])).softmax(dim=1) for run in runs])


@pytest.fixture
def fold(tmp_path):
    """A fold with a night context, and its two models."""
    folder = tmp_path / "fold_0"
    return folder, write_checkpoint(folder / BEST), write_night_context(folder)


def test_a_fold_scores_with_its_night_context(fold, signal):
    folder, net, night = fold
    networks = load_networks([folder])
    scoring = networks.score(signal, "a")
    np.testing.assert_allclose(scoring.probabilities, of_night(net, night, signal, slice(0, N)), atol=1e-4)
    np.testing.assert_array_equal(scoring.stages, scoring.probabilities.argmax(axis=1))
    assert np.abs(scoring.probabilities - probabilities(net, signal)).max() > 0.1
    (said,) = networks.description["checkpoints"]
    assert (said["night_context"]["path"], said["night_context"]["train_epoch"]) == (str(folder / CONTEXT / BEST), 3)
    assert said["night_context"]["crc32"] != said["crc32"]
    assert networks.notes == ["1 of 1 networks read the night around each sleep epoch."]


def test_a_night_context_has_a_temperature_of_its_own(fold, signal):
    folder, net, night = fold
    for path, temperature in ((folder / BEST, 9.0), (folder / CONTEXT / BEST, 2.0)):
        save_checkpoint(path, load_checkpoint(path) | {"temperature": temperature})
    epochs = torch.from_numpy(signal[: N * 3000].reshape(N, 1, 3000))
    with torch.inference_mode():
        expected = (night(pack_sequence([net.summary(epochs)])) / 2).softmax(dim=1).numpy()
    networks = load_networks([folder])
    np.testing.assert_allclose(networks.score(signal, "a").probabilities, expected, atol=1e-4)
    (said,) = networks.description["checkpoints"]
    assert (said["temperature"], said["night_context"]["temperature"]) == (9.0, 2.0)


def test_a_night_context_never_reads_across_a_gap(fold, signal):
    folder, net, night = fold
    networks = load_networks([folder])
    signal[3 * 3000 + 5] = np.nan
    scoring = networks.score(signal, "a")
    rows = [0, 1, 2, 4, 5, 6]
    assert scoring.stages[3] == -1
    expected = of_night(net, night, signal, slice(0, 3), slice(4, N))
    np.testing.assert_allclose(scoring.probabilities[rows], expected, atol=1e-4)
    signal[4 * 3000 :] *= 1.5
    beyond = networks.score(signal, "a").probabilities
    np.testing.assert_array_equal(beyond[:3], scoring.probabilities[:3])
    assert np.abs(beyond[4:] - scoring.probabilities[4:]).max() > 1e-3
    limited = networks.score(signal, "a", 1, 6).probabilities  # what is not wanted is not read
    expected = of_night(net, night, signal, slice(1, 3), slice(4, 6))
    np.testing.assert_allclose(limited[[1, 2, 4, 5]], expected, atol=1e-4)


def test_neither_night_context_nor_neighbours_read_across_a_sleep_epoch_without_signal(fold, signal, tmp_path):
    folder, net, night = fold
    signal[3 * 3000 : 4 * 3000] = 12
    rows = [0, 1, 2, 4, 5, 6]
    scoring = load_networks([folder]).score(signal, "a")
    assert scoring.stages[3] == -1
    assert np.isnan(scoring.probabilities[3]).all()
    expected = of_night(net, night, signal, slice(0, 3), slice(4, N))
    np.testing.assert_allclose(scoring.probabilities[rows], expected, atol=1e-4)
    net = write_checkpoint(tmp_path / "a.pth", context=(1, 1))
    scoring = load_networks([tmp_path / "a.pth"]).score(signal, "a")
    expected = probabilities(net, signal, rows, (1, 1))
    np.testing.assert_allclose(scoring.probabilities[rows], expected, atol=2e-5)


def test_a_checkpoint_by_itself_scores_without_the_night_context_and_says_so(fold, signal):
    folder, net, _ = fold
    networks = load_networks([folder / BEST])
    np.testing.assert_allclose(networks.score(signal, "a").probabilities, probabilities(net, signal), atol=2e-5)
    assert networks.description["checkpoints"][0]["night_context"] is None
    path = folder / BEST
    assert networks.notes == [f"{path}: without its night context. Pass the folder, {folder}, to use both."]


def test_folds_with_and_without_night_contexts_are_averaged(tmp_path, signal):
    nets = write_experiment(tmp_path / "Exp1", 3)
    nights = [write_night_context(tmp_path / f"Exp1/fold_{k}", seed=k) for k in range(2)]
    whole = slice(0, N)
    expected = [
        *(of_night(*pair, signal, whole) for pair in zip(nets, nights, strict=False)),
        probabilities(nets[2], signal),
    ]
    networks = load_networks([tmp_path / "Exp1"])
    np.testing.assert_allclose(networks.score(signal, "a").probabilities, np.mean(expected, axis=0), atol=1e-4)
    assert networks.notes[1:] == ["2 of 3 networks read the night around each sleep epoch."]


def test_a_night_context_reads_a_network_with_neighbours_too(tmp_path, signal):
    net, night = write_checkpoint(tmp_path / "f" / BEST, context=(1, 1)), write_night_context(tmp_path / "f")
    epochs = torch.from_numpy(signal[: N * 3000].reshape(N, 3000))
    together = epochs[torch.from_numpy(neighbours(np.arange(N), 1, 1))].flatten(1).unsqueeze(1)
    with torch.inference_mode():
        expected = night(pack_sequence([net.summary(together)])).softmax(dim=1)
    np.testing.assert_allclose(load_networks([tmp_path / "f"]).score(signal, "a").probabilities, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_inputs": 133}, r"do not fit .*must match"),
        (
            {"config": {"context": {"model": {"type": "NightLSTM"}}}},
            "its network 'NightLSTM' is not in model/night_context.py",
        ),
        ({"config": {}}, r"do not fit \('context'\)"),
    ],
)
def test_a_night_context_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    write_checkpoint(tmp_path / "f" / BEST)
    write_night_context(tmp_path / "f", **change)
    with pytest.raises(UserError, match=rf"f/context/model_best\.pth: [^\n]*{message}[^\n]*$"):
        load_networks([tmp_path / "f"])


def test_a_night_context_alone_is_no_network(fold):
    folder, *_ = fold
    with pytest.raises(UserError, match=r"context/model_best.pth: .*Pass the fold's folder"):
        load_networks([folder / CONTEXT / BEST])


def test_a_fold_an_experiment_and_several_paths_stand_for_their_best_models(tmp_path):
    write_experiment(tmp_path / "A", 11)
    (tmp_path / "A/fold_3" / BEST).unlink()
    experiment = [tmp_path / f"A/fold_{fold}" / BEST for fold in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)]
    assert find_checkpoints(tmp_path / "A") == experiment
    assert find_checkpoints(tmp_path / "A/fold_1") == [tmp_path / "A/fold_1" / BEST]
    assert len(load_networks([tmp_path / "A/fold_1", tmp_path / "A/fold_2" / BEST]).members) == 2
    with pytest.raises(UserError, match=r"fold_3: neither a fold \(model_best.pth\) nor an experiment"):
        find_checkpoints(tmp_path / "A/fold_3")
    with pytest.raises(UserError, match=r"nothing.pth: no such checkpoint"):
        load_networks([tmp_path / "nothing.pth"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fs": 125}, r"b.pth: trained on other inputs than .*a.pth \(fs: 100.0 -> 125.0\)"),
        ({"context": (1, 1)}, r"b.pth: trained on other inputs than .*a.pth \(context: "),
        ({"channel": "C4-M1"}, r'b.pth: trained on other inputs than .*a.pth \(channel: "EEG Fpz-Cz" -> "C4-M1"\)'),
    ],
)
def test_networks_of_different_inputs_do_not_score_together(tmp_path, change, message):
    write_checkpoint(tmp_path / "a.pth")
    write_checkpoint(tmp_path / "b.pth", **change)
    with pytest.raises(UserError, match=message):
        load_networks([tmp_path / "a.pth", tmp_path / "b.pth"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": "V"}, "its units are 'V', not 'uV'"),
        ({"stage_names": ["W", "R"]}, r"its stage_names are \['W', 'R'\], not"),
        ({"config": {"arch": {"type": "Transformer"}}}, "its network 'Transformer' is not in model/model.py"),
        ({"config": {"arch": {"type": "torch"}}}, "its network 'torch' is not in model/model.py, which has AttnSleep"),
        ({"config": {"arch": {"type": "AttnSleep", "args": {"tce": False}}}}, "do not fit .*Unexpected key"),
        ({"fs": 125}, "do not fit .*size mismatch"),
        ({"config": {"arch": {"type": "AttnSleep", "args": {"size": 1}}}}, "do not fit .*unexpected keyword"),
        ({"fs": 99}, "AttnSleep takes fs 100 or 125 Hz, not 99"),
        ({"fs": 1e6}, r"its fs is 1e\+06 Hz, not between 0 and 100000 Hz"),
        ({"config": {}}, r"do not fit \('arch'\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_network_is_refused_by_name(tmp_path, change, message):
    write_checkpoint(tmp_path / "a.pth")
    state = load_checkpoint(tmp_path / "a.pth")
    torch.save(state | {"about": state["about"] | change}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a\.pth: [^\n]*{message}[^\n]*$"):
        load_networks([tmp_path / "a.pth"])


def test_checkpoints_from_before_there_was_a_context_have_none(tmp_path):
    net = network()
    state = {"train_epoch": 1, "model": net.state_dict(), "about": {
        "fs": 100, "channel": "EEG", "units": "uV", "stage_names": ["W", "N1", "N2", "N3", "REM"],
        "config": {"arch": {"type": "AttnSleep"}},
    }}  # fmt: skip
    torch.save(state, tmp_path / "a.pth")
    assert load_networks([tmp_path / "a.pth"]).inputs.context == (0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:1000], "a: nothing to score: it is shorter than 30 s"),
        (lambda x: x * np.nan, "a: nothing to score: sleep epochs 0 to 6 all have a gap"),
        (lambda x: x * 1e-6, r"a: the signal's standard deviation is 0\.0001\d\d; EEG in microvolts has 2 to 1000"),
        (lambda x: x / x.std(), r"a: the signal's standard deviation is 1\.0\d; .* Are the values z-scored"),
        (lambda x: x * 1e6, "a: the signal's standard deviation is"),
        (lambda x: x * 0 + 3, "a: the signal is constant"),
        (lambda x: 200 * np.sign(x), "a: no sleep epoch has a signal: all are flat or clipped. Was the channel"),
    ],
)
def test_what_cannot_be_eeg_is_refused_with_what_was_found(tmp_path, signal, change, message):
    write_checkpoint(tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        load_networks([tmp_path / "a.pth"]).score(change(signal), "a")


def test_a_part_that_was_not_recorded_cannot_be_scored(tmp_path, signal):
    write_checkpoint(tmp_path / "a.pth")
    signal[3000:9000] = np.nan
    with pytest.raises(UserError, match="a: nothing to score: sleep epochs 1 to 2 all have a gap"):
        load_networks([tmp_path / "a.pth"]).score(signal, "a", 1, 3)


class ConfigParser:
    """Stands for the released code's class of that name."""

    def __init__(self):
        self._config, self._save_dir = OrderedDict(name="Exp1", n_gpu=1), PosixPath("saved/Exp1")


@pytest.fixture
def released(monkeypatch):
    """Released weights by formula, and the checkpoint the released code would have saved with them."""
    import sys
    from types import ModuleType

    sys.path.insert(0, str(PosixPath(__file__).parents[1] / "model"))
    from released_network import weights_by_formula

    module = ModuleType("parse_config")
    module.ConfigParser = ConfigParser
    monkeypatch.setattr(ConfigParser, "__module__", "parse_config")
    monkeypatch.setitem(sys.modules, "parse_config", module)
    weights = OrderedDict(weights_by_formula(100))
    return weights, {
        "arch": "AttnSleep",
        "epoch": 99,
        "state_dict": weights,
        "optimizer": torch.optim.Adam([torch.zeros(3, requires_grad=True)]).state_dict(),
        "monitor_best": 0.84,
        "config": ConfigParser(),
    }


@pytest.mark.parametrize("as_zip", [True, False], ids=["torch since 1.6", "torch before 1.6"])
@pytest.mark.parametrize("whole", [True, False])
def test_released_checkpoints_score_as_their_weights_do(tmp_path, signal, released, whole, as_zip):
    from model.original import from_original_state_dict

    weights, checkpoint = released
    torch.save(checkpoint if whole else weights, tmp_path / "a.pth", _use_new_zipfile_serialization=as_zip)
    networks = load_networks([tmp_path / "a.pth"])
    assert networks.inputs == Inputs(100, "", (0, 0))
    expected = probabilities(from_original_state_dict(weights), signal)
    np.testing.assert_allclose(networks.score(signal, "a").probabilities, expected, atol=2e-5)


class Payload:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch '{self.victim}'",)


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"], ids=["numpy 2", "numpy 1"])
def test_a_released_checkpoint_may_hold_its_metric_as_a_number_of_numpy(tmp_path, released, module):
    weights, checkpoint = released
    checkpoint["monitor_best"] = np.float64(0.84)
    torch.save(checkpoint, tmp_path / "new.pth")
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for name in new.namelist():
            archive.writestr(name, new.read(name).replace(b"cnumpy._core.", b"c%s." % module.encode()))
    assert load_networks([tmp_path / "a.pth"]).inputs.fs == 100


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("where", ["config", "state_dict", "inside"])
def test_a_released_checkpoint_with_a_payload_is_refused_and_not_run(tmp_path, released, where, as_zip):
    _, checkpoint = released
    victim = tmp_path / "victim"
    if where == "inside":
        checkpoint["config"]._config["evil"] = Payload(victim)
    else:
        checkpoint[where] = Payload(victim)
    torch.save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=as_zip)
    with pytest.raises(UserError, match=r"a.pth: no checkpoint that can be read \(it would run posix.system\)"):
        load_networks([tmp_path / "a.pth"])
    assert not victim.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert victim.exists(), "the payload itself works"


@pytest.mark.parametrize("state", [{}, {"a": 1}, [torch.zeros(1)], {"state_dict": {"a": 1}}, {"state_dict": {}}])
def test_what_holds_no_weights_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="a.pth: holds neither a checkpoint of this project nor the weights of a rel"):
        load_networks([tmp_path / "a.pth"])


def test_weights_of_another_network_are_refused_with_what_is_missing(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(2, 3).state_dict()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="a.pth: the state dict is not one of the released AttnSleep: it has no 'mrc"):
        load_networks([tmp_path / "a.pth"])
