"""The holdout protocol, folds side by side and the 3-epoch input, run as their users run them."""

import json

import numpy as np
import pytest
import torch
from scripts import ROOT, TRAIN, call, run, settings, train, write_nights

from report.__main__ import main as report
from utils.recording import Recording, open_signal, read_outline, write_recording

NIGHTS = {f"SC4{subject:02d}1E0": 12 for subject in range(5)}
HOLDOUT = settings(
    evaluation__protocol="holdout", evaluation__valid_subjects=1, data_loader__args__num_folds=5, trainer__epochs=2
)


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("npz"), NIGHTS)


@pytest.fixture(scope="module")
def plan(nights):
    code, out, err = train("--fold_id", "1", "--np_data_dir", nights, "--dry_run", *HOLDOUT, cwd=ROOT)
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def trained(nights, tmp_path_factory):
    """Fold 1 trained under holdout."""
    place = tmp_path_factory.mktemp("true")
    code, _, err = train("--fold_id", "1", "--np_data_dir", nights, *HOLDOUT, cwd=place)
    assert code == 0, err
    return place / "saved/Exp1/fold_1"


def scrambled(nights, folder, recordings):
    """Copy prepared recordings, the stages of some of them in another order."""
    for path in sorted(nights.glob("*.npz")):
        outline = read_outline(path)
        stages = outline.stages.copy()
        if outline.name in recordings:
            stages = (stages + 1 + np.arange(len(stages)) % 3) % 5
            assert not np.array_equal(stages, outline.stages)
        signal = np.array(open_signal(outline))
        write_recording(folder / path.name, Recording(signal, stages, outline.fs, outline.channel, outline.sleep_epoch))
    return folder


def weights(directory, name):
    return torch.load(directory / name, weights_only=True)["model"]


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_holdout_sets_aside_whole_subjects_and_counts_the_training_ones_alone(plan):
    assert (len(plan["train"]), len(plan["valid"]), len(plan["test"])) == (3, 1, 1)
    assert sorted(plan["train"] + plan["valid"] + plan["test"]) == sorted(NIGHTS)
    assert sum(plan["class_counts"]) == 36


def test_test_labels_reach_neither_weights_nor_selection_under_holdout(nights, plan, trained, tmp_path):
    other = scrambled(nights, tmp_path / "npz", plan["test"])
    code, _, err = train("--fold_id", "1", "--np_data_dir", other, *HOLDOUT, cwd=tmp_path)
    assert code == 0, err
    again = tmp_path / "saved/Exp1/fold_1"
    for name in ("model_best.pth", "checkpoint-last.pth"):
        assert equal(weights(trained, name), weights(again, name))
    with np.load(trained / "predictions.npz") as before, np.load(again / "predictions.npz") as after:
        np.testing.assert_array_equal(before["probabilities"], after["probabilities"])
        assert not np.array_equal(before["y_true"], after["y_true"])


def test_training_labels_do_reach_the_weights(nights, plan, trained, tmp_path):
    other = scrambled(nights, tmp_path / "npz", plan["train"][:1])
    code, _, err = train("--fold_id", "1", "--np_data_dir", other, *HOLDOUT, cwd=tmp_path)
    assert code == 0, err
    assert not equal(
        weights(trained, "checkpoint-last.pth"), weights(tmp_path / "saved/Exp1/fold_1", "checkpoint-last.pth")
    )


def test_the_monitor_looks_at_the_validation_set_and_the_report_names_the_protocol(trained):
    header = (trained / "metrics.csv").read_text().partition("\n")[0]
    assert "valid_accuracy" in header
    assert "test_" not in header
    code, out, err = call(report, [trained.parent], ROOT)
    assert code == 0, err
    protocols = json.loads((trained / "report.json").read_text())["protocols"]
    assert list(protocols) == ["holdout", "last_epoch"]
    assert "selected on the validation subjects" in protocols["holdout"]["label"]
    assert "holdout" in out + err


def test_a_fold_that_fails_beside_another_is_named_and_stops_none(nights, tmp_path):
    in_the_way = tmp_path / "saved/Exp1/fold_0/checkpoint-epoch1.pth"
    in_the_way.mkdir(parents=True)
    changes = settings(data_loader__args__num_folds=2, trainer__epochs=1, trainer__save_period=1)
    code, _, err = run([*TRAIN, "--fold_id", "all", "--np_data_dir", nights, "--jobs", "2", *changes], tmp_path)
    assert code == 1
    assert "Folds that failed: 0." in err
    assert (tmp_path / "saved/Exp1/fold_1/predictions.npz").is_file()


def test_three_epochs_train_and_predict_the_centre(nights, tmp_path):
    changes = settings(data_loader__args__num_folds=2, trainer__epochs=1, data_loader__args__context=[1, 1])
    code, _, err = train("--fold_id", "0", "--np_data_dir", nights, *changes, cwd=tmp_path)
    assert code == 0, err
    with np.load(tmp_path / "saved/Exp1/fold_0/predictions.npz") as predictions:
        test = sorted(set(predictions["recording"].tolist()))
        stages = np.concatenate([read_outline(nights / f"{name}.npz").stages for name in test])
        np.testing.assert_array_equal(predictions["y_true"], stages)
