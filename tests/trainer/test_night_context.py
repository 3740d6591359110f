"""A fold with a model of the night on top."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loader.data_loaders import SleepEpochs, find_recordings
from data_loader.folds import Fold
from data_loader.windows import Windows
from scoring.networks import load_networks
from train_Kfold_CV import make_trainer, train_fold
from trainer.claims import claim
from trainer.configuration import read_config
from trainer.night_context import make_night_trainer, summarise
from trainer.trainer import Trainer
from utils.checkpoint import BEST, LAST, load_checkpoint
from utils.experiment import CONTEXT, calibrated, is_finished, read_predictions
from utils.recording import write_recording

CONFIG = Path(__file__).resolve().parents[2] / "configs/night_context.json"
FOLD = Fold(1, train=("a", "b"), valid=("c",), test=("d", "e"))
STAGES = [0, 2, 3, 4, 1, 2]


@pytest.fixture
def folder(prepared):
    return prepared("a", "b", "c", "d", "e", stages=STAGES)


@pytest.fixture
def data(folder):
    return SleepEpochs(find_recordings(folder), torch.device("cpu"))


@pytest.fixture
def configure(tmp_path):
    def configure(*overrides, where="saved"):
        small = ["trainer.epochs=1", "data_loader.args.batch_size=8", "context.epochs=3", "context.window=4"]
        return read_config(CONFIG, [*small, f"trainer.save_dir={tmp_path / where}", *overrides])

    return configure


def directory_of(config):
    return config.experiment_dir / "fold_1"


def weights(path):
    return torch.cat([value.flatten().double() for value in load_checkpoint(path)["model"].values()])


@pytest.mark.parametrize("fold", [FOLD, replace(FOLD, valid=())], ids=["holdout", "released"])
def test_a_fold_ends_with_predictions_by_single_sleep_epochs_and_by_the_night(configure, data, log, fold):
    config = configure()
    train_fold(config, fold, data, None)
    directory = directory_of(config)
    assert {path.name for path in (directory / CONTEXT).iterdir()} == {BEST, LAST, "metrics.csv"}
    found = read_predictions(directory)
    assert found.probabilities_context.shape == (12, 5)
    np.testing.assert_allclose(found.probabilities_context.sum(1), 1, atol=1e-6)
    for folder, temperature in (("", found.temperature), (CONTEXT, found.temperature_context)):
        assert set(temperature.tolist()) == {load_checkpoint(directory / folder / BEST)["temperature"]}
        assert "temperature" not in load_checkpoint(directory / folder / LAST)
    subjects = "6 sleep epochs of the validation" if fold.valid else "12 sleep epochs of the training"
    assert f"Night context: temperature {found.temperature_context[0]:.3f}, fitted on {subjects} subjects" in log.text
    assert f"Temperature {found.temperature[0]:.3f}, fitted on {subjects} subjects" in log.text
    np.testing.assert_array_equal(found.probabilities_context.argmax(1), found.y_pred_context)
    assert not np.allclose(found.probabilities_context, found.probabilities)
    header = (directory / CONTEXT / "metrics.csv").read_text().partition("\n")[0]
    assert ("valid_accuracy" in header) == bool(fold.valid)
    state = load_checkpoint(directory / CONTEXT / BEST)
    assert state["about"]["n_inputs"] == 35
    assert state["about"]["config"] == config.values


def test_the_network_of_single_sleep_epochs_is_as_it_is_without(configure, data):
    alone, beside = configure("context=null", where="alone"), configure(where="beside")
    for config in (alone, beside):
        train_fold(config, FOLD, data, None)
    assert torch.equal(weights(directory_of(alone) / BEST), weights(directory_of(beside) / BEST))
    one, other = (read_predictions(directory_of(config)) for config in (alone, beside))
    assert one.y_pred_context is None
    for name, values in one.arrays.items():
        np.testing.assert_array_equal(values, other.arrays[name])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", ["features", "windows", "predictions"])
def test_a_fold_that_is_stopped_goes_on_with_its_night_model_to_the_same_bits(configure, data, monkeypatch, stop):
    whole, parts = (configure("trainer.averaging=0.9", where=where) for where in ("whole", "parts"))
    train_fold(whole, FOLD, data, None)

    def stopped(*_):
        raise StoppedError

    train_pass = Trainer.train_pass
    if stop == "features":
        monkeypatch.setattr("trainer.night_context.summarise", stopped)
    elif stop == "windows":
        monkeypatch.setattr(
            Trainer,
            "train_pass",
            lambda self, n: stopped() if (self.directory.name, n) == (CONTEXT, 2) else train_pass(self, n),
        )
    else:
        monkeypatch.setattr("utils.experiment.write_predictions", stopped)
    with pytest.raises(StoppedError):
        train_fold(parts, FOLD, data, None)
    assert not is_finished(directory_of(parts))
    monkeypatch.undo()

    trained = []
    monkeypatch.setattr(Trainer, "train_pass", lambda self, n: trained.append(n) or train_pass(self, n))
    torch.rand(5)
    train_fold(parts, FOLD, data, None)
    assert trained == {"features": [1, 2, 3], "windows": [2, 3], "predictions": []}[stop]
    for name in (BEST, LAST):
        assert torch.equal(*(weights(directory_of(config) / CONTEXT / name) for config in (whole, parts)))
    one, other = (read_predictions(directory_of(config)).arrays for config in (whole, parts))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_another_recording_and_what_lies_beyond_a_gap_change_nothing_in_a_night(configure, folder, make_recording):
    gap = {"sleep_epoch": np.array([3, 4, 5, 9, 10, 11])}
    write_recording(folder / "d.npz", make_recording(STAGES, seed=3, **gap))
    data = SleepEpochs(find_recordings(folder), torch.device("cpu"))
    config = configure()
    trainer = make_trainer(config, FOLD, data, directory_of(config))
    inputs = summarise(trainer, data, list("abcde"))
    assert inputs.abs().sum(dim=1).min() > 0
    of_night = make_night_trainer(config, FOLD, data, trainer, inputs)
    other = inputs.clone()
    night, neighbour = data.indices(["d"]), data.indices(["e"])
    other[neighbour] = inputs[neighbour][torch.randperm(6)]
    other[night[3:]] += 1  # what comes after the gap
    found, changed = (of_night.outputs(Windows(data, x, ["d", "e"], None, 1)) for x in (inputs, other))
    assert torch.equal(found[:3], changed[:3])
    assert not torch.equal(found[3:6], changed[3:6])
    assert not torch.equal(found[6:], changed[6:])


@pytest.mark.parametrize("averaging", ["null", "0.9"])
def test_a_fold_scores_its_test_nights_as_its_predictions_say(configure, folder, make_recording, averaging):
    gap = {"sleep_epoch": np.array([3, 4, 5, 9, 10, 11])}
    write_recording(folder / "d.npz", make_recording(STAGES, seed=3, **gap))
    data = SleepEpochs(find_recordings(folder), torch.device("cpu"))
    config = configure(f"trainer.averaging={averaging}", "trainer.epochs=2")
    train_fold(config, FOLD, data, None)
    found = read_predictions(directory_of(config))
    with np.load(folder / "d.npz") as night:
        signal = np.full((12, 3000), np.nan, np.float32)
        signal[gap["sleep_epoch"]] = night["x"].reshape(6, 3000)
    scoring = load_networks([directory_of(config)]).score(signal.ravel(), "d")
    inside = found.recording == "d"
    expected = calibrated(found.probabilities_context, found.temperature_context)
    assert np.abs(expected - found.probabilities_context)[inside].max() > 0.01
    assert np.abs(found.probabilities_context - found.probabilities)[inside].max() > 0.01
    np.testing.assert_allclose(scoring.probabilities[gap["sleep_epoch"]], expected[inside], atol=2e-3)


def test_test_stages_reach_neither_weights_nor_selection_of_the_night_model_under_holdout(
    configure, folder, data, make_recording
):
    train_fold(configure(where="one"), FOLD, data, None)
    for seed, name in ((3, "d"), (4, "e")):
        recording = make_recording(STAGES, seed=seed)
        write_recording(folder / f"{name}.npz", replace(recording, stages=recording.stages[::-1].copy()))
    train_fold(configure(where="two"), FOLD, SleepEpochs(find_recordings(folder), torch.device("cpu")), None)
    one, two = (directory_of(configure(where=where)) for where in ("one", "two"))
    for name in (BEST, LAST):
        assert torch.equal(weights(one / CONTEXT / name), weights(two / CONTEXT / name))
    for name in ("probabilities_context", "temperature_context"):
        np.testing.assert_array_equal(*(read_predictions(directory).arrays[name] for directory in (one, two)))
    assert not np.array_equal(read_predictions(one).y_true, read_predictions(two).y_true)


def test_starting_afresh_removes_the_night_model_too(configure, data):
    config = configure()
    claim(directory_of(config), config.values, {}, overwrite=False)
    train_fold(config, FOLD, data, None)
    claim(directory_of(config), config.values, {}, overwrite=True)
    left = {path.name for path in directory_of(config).rglob("*") if path.is_file()}
    assert left == {"config.json", "data.json", "info.log"}


def test_a_trained_fold_is_given_a_night_model_by_going_on_from_its_checkpoint(configure, data):
    trained, beside = configure("context=null", where="trained"), configure(where="beside")
    train_fold(trained, FOLD, data, None)
    train_fold(beside, FOLD, data, directory_of(trained) / LAST)
    assert torch.equal(*(weights(directory_of(config) / BEST) for config in (trained, beside)))
    assert read_predictions(directory_of(beside)).y_pred_context is not None


def test_a_loss_that_is_no_number_is_told_with_its_recordings(configure, data, monkeypatch, log):
    monkeypatch.setattr("trainer.night_context.summarise", lambda *_: torch.full((len(data.stages), 35), torch.nan))
    with pytest.raises(SystemExit):
        train_fold(configure(), FOLD, data, None)
    assert "the loss is nan. The batch is of a, b." in log.text
