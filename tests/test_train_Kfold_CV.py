# ruff: noqa: N999 (named like the script)
"""The command line that trains folds, run as its users run it, with tiny numbers."""

import csv
import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from scripts import (
    FOLD_0,
    MONITOR,
    NIGHTS,
    RELEASED,
    ROOT,
    SMALL,
    TRAIN,
    contents,
    finish,
    run,
    settings,
    start,
    temporary_files,
    three_folds,
    wait_until,
    write_nights,
)

import train_Kfold_CV
from model.metric import accuracy
from model.model import AttnSleep
from report.__main__ import main as report_main
from utils.lock import held
from utils.nested import merge

FILES_OF_A_FOLD = {
    "checkpoint-epoch2.pth",
    "checkpoint-last.pth",
    "config.json",
    "data.json",
    "info.log",
    "metrics.csv",
    "model_best.pth",
    "predictions.npz",
}


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return three_folds(tmp_path_factory.getbasetemp())[0]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Folder of three folds that were trained without a disturbance; what each run said, by fold."""
    return three_folds(tmp_path_factory.getbasetemp())[1:]


@pytest.fixture(scope="module")
def fold(experiment):
    return experiment[0] / "fold_0"


@pytest.fixture
def copy(fold, tmp_path, monkeypatch):
    """Copy the folder of that fold to an experiment of the same name below the working directory."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(fold, tmp_path / "saved/Exp1/fold_0")


@pytest.fixture
def call(monkeypatch, capsys):
    """Call a command line's main() in this process: for refusals, which come before torch computes anything."""

    def call_main(*arguments, main=train_Kfold_CV.run):
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call_main


def train(nights, *further, fold=0, **changes):
    """Arguments that train a fold as `experiment` trains fold 0."""
    return ["--fold_id", fold, "--np_data_dir", nights, *settings(**(FOLD_0 | changes)), *further]


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(path):
    return [{key: row[key] for key in row if key not in {"seconds", "sleep_epochs_per_s"}} for row in read_rows(path)]


def load(path):
    return torch.load(path, weights_only=True)


def assert_same_state(one, other):
    """Compare nested states to the bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds", "sleep_epochs_per_s"}:
            assert_same_state(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same_state(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def assert_same_results(one, other):
    """Compare two folders of a fold: weights, optimizer, scheduler, arrays and metrics, but for the times."""
    for name in ("checkpoint-last.pth", "checkpoint-epoch2.pth", "model_best.pth"):
        assert_same_state(load(one / name), load(other / name))
    assert without_times(one / "metrics.csv") == without_times(other / "metrics.csv")
    with np.load(one / "predictions.npz") as left, np.load(other / "predictions.npz") as right:
        assert list(left) == list(right)
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}


# What a run says and leaves behind


def test_a_dry_run_prints_one_json_object_and_does_nothing(nights, tmp_path):
    command = [*TRAIN, *train(nights, "--dry_run", "--device", "7", fold=1)]
    code, out, _ = run(command, cwd=tmp_path)
    plan = json.loads(out)
    keys = ["fold", "train", "valid", "test", "subjects"]
    keys += ["class_counts", "class_weights", "parameters", "device", "config"]
    assert (code, list(plan)) == (0, keys)
    assert plan["fold"] == 1
    assert sorted(plan["train"] + plan["test"]) == sorted(NIGHTS)
    assert plan["valid"] == []
    stages = [np.load(nights / f"{name}.npz")["y"] for name in NIGHTS]
    assert plan["class_counts"] == np.bincount(np.concatenate(stages), minlength=5).tolist()
    assert plan["class_weights"] == [0.3, 0.4, 0.3, 0.2, 0.3]
    assert plan["parameters"] == 509_825
    assert plan["device"] == "cpu"
    assert plan["config"]["n_gpu"] == 4
    assert list(tmp_path.iterdir()) == []


def test_a_fold_leaves_its_files_and_no_others(fold):
    assert {path.name for path in fold.iterdir()} == FILES_OF_A_FOLD


def test_config_json_of_a_fold_is_the_resolved_configuration(fold):
    changes = {}
    for key, value in (SMALL | FOLD_0).items():
        for part in reversed(key.split(".")):
            value = {part: value}
        changes = merge(changes, value)
    assert json.loads((fold / "config.json").read_text()) == merge(
        json.loads((ROOT / "config.json").read_text()), changes
    )


def test_data_json_names_the_recordings_of_each_set_and_no_subject_is_in_two(experiment):
    tested = []
    for number in range(3):
        sets = json.loads((experiment[0] / f"fold_{number}/data.json").read_text())
        assert set(sets["train"]) | set(sets["test"]) == set(NIGHTS)
        assert not {name[:5] for name in sets["train"]} & {name[:5] for name in sets["test"]}
        tested += sets["test"]
    assert sorted(tested) == sorted(NIGHTS)


def test_metrics_csv_has_a_row_for_each_training_epoch(fold):
    rows = read_rows(fold / "metrics.csv")
    scores = ["loss", "accuracy", "macro_f1", "kappa", "mgm"]
    columns = {f"{name}_{score}" for name in ("train", "test") for score in scores}
    assert set(rows[0]) == columns | {"train_epoch", "lr", "seconds", "sleep_epochs_per_s"}
    assert [row["train_epoch"] for row in rows] == ["1", "2", "3"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert all(float(row["lr"]) == 0.001 and float(row["seconds"]) > 0 for row in rows)


def test_the_signal_of_the_stages_is_learned(fold):
    rows = read_rows(fold / "metrics.csv")
    assert float(rows[-1]["test_accuracy"]) > max(0.4, float(rows[0]["test_accuracy"]))


def test_checkpoints_are_those_of_their_training_epochs_and_tell_what_they_are_of(fold):
    best = 1 + int(np.argmin([float(row["test_accuracy"]) for row in read_rows(fold / "metrics.csv")]))
    for name, train_epoch in (("checkpoint-epoch2", 2), ("checkpoint-last", 3), ("model_best", best)):
        state = load(fold / f"{name}.pth")
        assert state["train_epoch"] == train_epoch == len(state["history"])
        about = state["about"]
        assert (about["fs"], about["channel"], about["units"], about["fold"]) == (100, "EEG Fpz-Cz", "uV", 0)
        assert about["stage_names"] == ["W", "N1", "N2", "N3", "REM"]
        assert about["config"] == json.loads((fold / "config.json").read_text())
    assert best < 3, "the tests below cannot tell the best training epoch from the last one"


def test_predictions_hold_every_sleep_epoch_of_the_test_set_in_its_order(fold):
    sets = json.loads((fold / "data.json").read_text())
    with np.load(fold / "predictions.npz") as predictions:
        n = sum(NIGHTS[name] for name in sets["test"])
        assert {name: (predictions[name].dtype.kind, predictions[name].shape) for name in predictions} == {
            "recording": ("U", (n,)),
            "subject": ("U", (n,)),
            "start_time": ("U", (n,)),
            "sleep_epoch": ("i", (n,)),
            "y_true": ("i", (n,)),
            "y_pred": ("i", (n,)),
            "probabilities": ("f", (n, 5)),
            "y_pred_last_epoch": ("i", (n,)),
            "probabilities_last_epoch": ("f", (n, 5)),
            "temperature": ("f", (n,)),
            "selected_train_epoch": ("i", ()),
        }
        assert predictions["probabilities"].dtype == predictions["probabilities_last_epoch"].dtype == np.float32
        assert list(dict.fromkeys(predictions["recording"])) == sorted(sets["test"])
        assert set(predictions["subject"]) == {name[3:5] for name in sets["test"]}
        for name in sets["test"]:
            of_night = predictions["recording"] == name
            assert predictions["sleep_epoch"][of_night].tolist() == list(range(7, 7 + NIGHTS[name]))


@pytest.mark.parametrize(("weights", "suffix"), [("model_best", ""), ("checkpoint-last", "_last_epoch")])
def test_the_kept_weights_give_the_kept_predictions(fold, nights, weights, suffix):
    network = AttnSleep().eval()
    network.load_state_dict(load(fold / f"{weights}.pth")["model"])
    recordings = [np.load(nights / f"{name}.npz") for name in json.loads((fold / "data.json").read_text())["test"]]
    signal = np.concatenate([recording["x"] for recording in recordings])
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(signal).transpose(1, 2)).softmax(dim=1).numpy()
    with np.load(fold / "predictions.npz") as predictions:
        np.testing.assert_array_equal(predictions["y_true"], np.concatenate([night["y"] for night in recordings]))
        np.testing.assert_allclose(predictions[f"probabilities{suffix}"], probabilities, atol=1e-5)
        np.testing.assert_array_equal(predictions[f"y_pred{suffix}"], probabilities.argmax(axis=1))
        row = read_rows(fold / "metrics.csv")[load(fold / f"{weights}.pth")["train_epoch"] - 1]
        assert float(row["test_accuracy"]) == accuracy(predictions["y_true"], predictions[f"y_pred{suffix}"])


def test_a_gpu_that_is_not_there_is_said_once(experiment):
    assert experiment[1][0][2].count("GPU 7 is not among the 0 GPUs here: using the CPU.") == 1
    assert "GPU" not in experiment[1][1][2]
    assert "; on cpu." in (experiment[0] / "fold_0/info.log").read_text()


def test_verbosity_0_1_and_2_say_more_and_more(experiment):
    of_0, of_1, of_2 = (experiment[1][fold][2] for fold in (2, 1, 0))
    for said in (of_0, of_1, of_2):
        assert "Fold" in said
        assert "is finished" in said
    assert "train epoch" not in of_0
    assert of_1.count("train epoch ") == of_2.count("train epoch ") == 3
    assert "First training step" in of_2
    assert "First training step" not in of_1
    assert "\r" not in of_2  # no progress bar where there is no terminal


# Interrupted, and the same command again


def test_whatever_the_moment_of_an_interruption_the_end_is_the_same_to_the_bit(nights, fold, tmp_path):
    command = [*TRAIN, *train(nights, "--device", "7")]
    directory = tmp_path / "saved/Exp1/fold_0"
    last, best, log = (directory / name for name in ("checkpoint-last.pth", "model_best.pth", "info.log"))
    moments = [
        ("in a step", lambda: log.exists() and "First training step" in log.read_text(), signal.SIGKILL),
        ("between two checkpoints", best.exists, signal.SIGKILL),
        ("after a training epoch", lambda: last.exists() and log.read_text().count("train on") == 3, signal.SIGTERM),
    ]
    for hash_seed, (moment, happened, number) in enumerate(moments, start=4):
        process = start(command, tmp_path, PYTHONHASHSEED=str(hash_seed))
        wait_until(process, happened)
        process.send_signal(number)
        code, out, err = finish(process)
        assert not (directory / "predictions.npz").exists(), moment
        if number != signal.SIGKILL:
            assert (code, out) == (128 + number, "")
            assert f"Stopped by {number.name}. The same command goes on after the last finished training epoch." in err
            assert f"WARNING Fold 0 stopped by {number.name}." in log.read_text()
            assert temporary_files(tmp_path) == []
        else:
            assert code == -signal.SIGKILL, moment
    code, _, err = run(command, tmp_path, PYTHONHASHSEED="9")
    assert code == 0
    assert "Going on after training epoch" in err
    assert_same_results(directory, fold)
    assert temporary_files(tmp_path) == []


def test_folds_side_by_side_all_stop_when_the_run_is_told_to_and_go_on_to_the_same_end(nights, experiment, tmp_path):
    command = [*TRAIN, "--fold_id", "all", "--jobs", "2", "--np_data_dir", nights, *settings(**MONITOR)]
    folders = [tmp_path / f"saved/Exp1/fold_{fold}" for fold in range(3)]
    logs = [folder / "info.log" for folder in folders]
    process = start(command, tmp_path)
    wait_until(process, lambda: all(log.exists() and "to train on" in log.read_text() for log in logs[:2]))
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, out) == (143, "")
    texts = [log.read_text() for log in logs if log.exists()]
    assert any("stopped by SIGTERM" in text for text in texts)
    assert all(("stopped by SIGTERM" in text) != ("is finished" in text) for text in texts)
    code, _, err = run(command, tmp_path)
    assert code == 0, err
    assert_same_results(folders[1], experiment[0] / "fold_1")


def threads_in(directory):
    return load(directory / "checkpoint-last.pth")["about"]["computed_with"]["threads"]


def test_a_fold_has_its_share_of_the_threads_also_when_it_is_the_last_one_that_is_left(nights, tmp_path):
    command = [*TRAIN, "--fold_id", "all", "--jobs", "2", "--np_data_dir", nights, *settings(trainer__epochs=1)]
    code, _, err = run(command, tmp_path, OMP_NUM_THREADS="2")
    assert code == 0, err
    folders = [tmp_path / f"saved/Exp1/fold_{fold}" for fold in range(3)]
    assert [threads_in(folder) for folder in folders] == [1, 1, 1]
    before = load(folders[1] / "checkpoint-last.pth")["model"]
    for path in folders[1].glob("*[!g]"):
        if path.is_file():
            path.unlink()
    code, _, err = run(command, tmp_path, OMP_NUM_THREADS="2")
    assert code == 0, err
    assert "[fold" not in err  # one fold is left, which the process trains itself
    after = load(folders[1] / "checkpoint-last.pth")["model"]
    assert threads_in(folders[1]) == 1
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_going_on_with_another_number_of_threads_is_told(nights, fold, copy, tmp_path):
    (copy / "predictions.npz").unlink()
    (copy / "checkpoint-last.pth").unlink()
    code, _, err = run([*TRAIN, *train(nights)], tmp_path, OMP_NUM_THREADS="2")
    assert code == 0
    assert "The weights will not be the same to the bit as without the stop: threads: 1 -> 2." in err


def test_a_run_killed_after_its_last_training_epoch_writes_the_same_predictions(nights, fold, copy, tmp_path):
    (copy / "predictions.npz").unlink()
    code, _, err = run([*TRAIN, *train(nights)], tmp_path)
    assert code == 0
    assert "train epoch" not in err
    assert_same_results(copy, fold)


def test_a_damaged_checkpoint_last_falls_back_to_an_older_one_with_the_same_end(nights, fold, copy, tmp_path):
    (copy / "predictions.npz").unlink()
    damaged = bytearray((copy / "checkpoint-last.pth").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / "checkpoint-last.pth").write_bytes(damaged)
    code, _, err = run([*TRAIN, *train(nights)], tmp_path)
    assert code == 0
    assert "checkpoint-last.pth: damaged" in err
    assert "Going on after training epoch 2, from checkpoint-epoch2.pth" in err
    assert_same_results(copy, fold)


def test_resume_goes_on_from_the_checkpoint_that_is_named(nights, fold, copy, tmp_path):
    (copy / "predictions.npz").unlink()
    (copy / "metrics.csv").unlink()
    # The configuration is the one beside the checkpoint.
    further = ["--np_data_dir", nights, "-r", "saved/Exp1/fold_0/checkpoint-epoch2.pth"]
    code, _, err = run([*TRAIN, "--fold_id", "0", *further], tmp_path)
    assert code == 0
    assert "Going on after training epoch 2, from checkpoint-epoch2.pth" in err
    assert_same_results(copy, fold)


def test_resume_in_a_new_experiment_has_the_best_weights_of_the_old_one(nights, fold, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*train(nights, "-r", fold / "checkpoint-epoch2.pth", name="Again"))
    assert code == 0, err
    directory = tmp_path / "saved/Again/fold_0"
    rows = read_rows(directory / "metrics.csv")
    best = min(rows, key=lambda row: float(row["test_accuracy"]))
    assert load(directory / "model_best.pth")["train_epoch"] == int(best["train_epoch"])
    with np.load(directory / "predictions.npz") as predictions:
        assert accuracy(predictions["y_true"], predictions["y_pred"]) == float(best["test_accuracy"])


def test_a_finished_fold_is_skipped_and_left_untouched(nights, copy, tmp_path, call):
    before = contents(copy)
    code, out, err = call(*train(nights, "--device", "cpu", n_gpu=1, trainer__verbosity=0, trainer__save_dir="./saved"))
    assert (code, out) == (0, "")
    assert "skipped: fold 0" in err
    assert contents(copy) == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_name_used_with_another_configuration_is_refused_with_the_difference(nights, copy, tmp_path, call, number):
    before = contents(tmp_path)
    code, out, err = call(*train(nights, fold=number, optimizer__args__lr=0.01, seed=7))
    assert (code, out) == (1, "")
    assert "optimizer.args.lr: 0.001 -> 0.01" in err
    assert "seed: 123 -> 7" in err
    assert "--overwrite" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_name_used_with_other_data_is_refused_with_the_difference(copy, tmp_path, call, number):
    others = write_nights(tmp_path / "others", NIGHTS | {"SC4031E0": 5}, SC4011E0=lambda signal: signal + 1e-3)
    before = contents(tmp_path)
    code, _, err = call(*train(others, fold=number))
    assert code == 1
    assert "other data" in err
    assert "SC4011E0" in err
    assert "SC4031E0" in err
    assert "SC4002E0" not in err
    assert contents(tmp_path) == before


def test_overwrite_starts_afresh_and_leaves_nothing_of_the_old_run(nights, fold, copy, tmp_path):
    (copy / ".writing-checkpoint-epoch1.pth").touch()
    small = settings(**MONITOR, trainer__epochs=1, trainer__verbosity=0, seed=7)
    command = [*TRAIN, "--fold_id", "0", "--np_data_dir", nights, *small, "--overwrite"]
    code, _, err = run(command, tmp_path)
    assert code == 0
    assert "Going on" not in err
    assert {path.name for path in copy.rglob("*")} == FILES_OF_A_FOLD - {"checkpoint-epoch2.pth"}
    assert json.loads((copy / "config.json").read_text())["seed"] == 7
    assert [row["train_epoch"] for row in read_rows(copy / "metrics.csv")] == ["1"]
    weights, before = (load(directory / "model_best.pth")["model"]["head.weight"] for directory in (copy, fold))
    assert not torch.equal(weights, before)


def test_overwriting_one_fold_of_several_with_another_configuration_is_refused(nights, copy, tmp_path, call):
    shutil.copytree(copy, copy.with_name("fold_1"))
    before = {path: content for path, content in contents(tmp_path).items() if not path.endswith("info.log")}
    code, _, err = call(*train(nights, "--overwrite", seed=7))
    assert code == 1
    assert "fold_1 holds a run with another configuration" in err
    assert "seed: 123 -> 7" in err
    assert "--fold_id all --overwrite" in err
    assert contents(tmp_path).items() >= before.items()


@pytest.mark.parametrize("busy", ["fold_0", "fold_2"])
def test_overwriting_removes_nothing_while_another_process_is_at_work_on_any_fold(nights, copy, tmp_path, call, busy):
    for name in ("fold_1", "fold_2"):
        shutil.copytree(copy, copy.with_name(name))
    before = {path: content for path, content in contents(tmp_path).items() if not path.endswith("info.log")}
    with held(copy.with_name(busy) / "info.log"):
        code, _, err = call(*train(nights, "--overwrite", fold="all"))
    assert code == 1
    assert f"{busy}: process {os.getpid()} on " in err
    assert "is at work on it" in err
    assert contents(tmp_path).items() >= before.items()


def test_overwriting_all_folds_leaves_nothing_of_an_earlier_run_that_had_more(nights, copy, monkeypatch, call):
    monkeypatch.setattr("report.report.write_report_if_complete", lambda *_: None)
    beyond = shutil.copytree(copy, copy.with_name("fold_2"))
    for name in ("report.json", "report.html", "Exp1_classification_report.xlsx"):
        (beyond / name).touch()
    changes = {"data_loader.args.num_folds": 2, "trainer.epochs": 1, "trainer.save_period": 1}
    for options in (["--overwrite"], []):
        code, _, err = call(*train(nights, *options, fold="all", **changes))
        assert code == 0, err
    assert [path.name for path in beyond.iterdir()] == ["info.log"]
    assert "skipped: fold 0, 1" in err


def test_results_without_the_configuration_that_made_them_are_refused(nights, copy, tmp_path, call):
    (copy / "config.json").unlink()
    before = contents(tmp_path)
    code, _, err = call(*train(nights))
    assert code == 1
    assert "no config.json" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["", "[]", '{"name": '])
def test_a_damaged_config_json_in_the_folder_of_a_fold_is_refused(nights, copy, call, text):
    (copy / "config.json").write_text(text)
    code, _, err = call(*train(nights))
    assert code == 1
    assert "fold_0/config.json: cannot be read" in err
    assert "--overwrite" in err


@pytest.mark.parametrize("options", [["--fold_id", "1"], ["--set", "data_loader.args.num_folds=2"]])
def test_a_checkpoint_of_another_fold_is_refused_because_it_saw_what_is_tested(nights, copy, tmp_path, call, options):
    checkpoint = shutil.copytree(copy, tmp_path / "elsewhere") / "checkpoint-epoch2.pth"
    before = contents(tmp_path)
    code, _, err = call(*train(nights, "-r", checkpoint, name="Other"), *options)
    assert code == 1
    assert "checkpoint-epoch2.pth was trained on subjects that are in the test set of this fold: SC40" in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("changes", [["optimizer.args.lr=0.01"], ["optimizer.type=SGD", "optimizer.args.lr=0.001"]])
def test_a_checkpoint_of_another_optimizer_is_refused_because_its_own_would_go_on(
    nights, fold, tmp_path, call, changes
):
    overrides = [
        word for change in ["name=Other", f"trainer.save_dir={tmp_path}", *changes] for word in ("--set", change)
    ]
    code, _, err = call(*train(nights, "-r", fold / "checkpoint-epoch2.pth", trainer__epochs=4), *overrides)
    assert code == 1
    assert f"  {changes[0].partition('=')[0]}: " in err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_missing_or_none_is_refused(nights, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.pth").write_bytes(b"no checkpoint")
    for name, text in (("odd.pth", "no checkpoint that can be read"), ("missing.pth", "no such checkpoint")):
        code, _, err = call(*train(nights, "-c", ROOT / "config.json", "-r", name))
        assert code == 1
        assert f"{name}: {text}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["odd.pth"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--fold_id", "all", "-r", "x.pth"], "--resume goes on with one fold"),
        (["--overwrite", "-r", "x.pth"], "pass one of them"),
        (["--fold_id", "all", "--dry_run"], "--dry_run shows one fold"),
        (["--fold_id", "-1"], "'-1' is neither"),
        (["--device", "cuda:0"], "'cuda:0' is neither"),
    ],
)
def test_options_that_contradict_or_make_no_sense_are_refused(nights, tmp_path, monkeypatch, call, options, text):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*train(nights), *options)
    assert code == 2
    assert text in err
    assert list(tmp_path.iterdir()) == []


# Configuration and data that cannot be used


def test_all_problems_of_a_configuration_are_told_together_before_data_is_read(tmp_path):
    (tmp_path / "mine.json").write_text(
        json.dumps(
            {
                "extends": str(ROOT / "config.json"),
                "arch": {"args": {"n_haeds": 5}},
                "loss": {"type": "FocalLos"},
                "trainer": {"epochs": 0, "monitor": "max acuracy"},
            }
        )
    )
    options = ["-c", "mine.json", "--set", "trainer.save_perod=3", "--set", "optimizer.args.amsgrad=1"]
    code, out, err = run([*TRAIN, "--fold_id", "0", "--np_data_dir", "nowhere", *options], cwd=tmp_path)
    assert (code, out) == (1, "")
    title, *lines = err.splitlines()
    assert title == "mine.json:"
    for key, meant in (
        ("arch.args.n_haeds", "n_heads"),
        ("loss", "FocalLoss"),
        ("trainer.epochs", "from 1 to 100000"),
        ("trainer.monitor", "accuracy"),
        ("trainer.save_perod", "trainer.save_period"),
        ("optimizer.args.amsgrad", "true or false"),
    ):
        assert any(line.startswith(f"  {key}: ") and meant in line for line in lines), (key, lines)
    assert len(lines) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


def test_another_configuration_and_overrides_are_used(nights, tmp_path, call):
    (tmp_path / "mine.json").write_text(
        json.dumps({"extends": str(ROOT / "config.json"), "name": "Mine", "trainer": {"epochs": 7}, "seed": 5})
    )
    options = ["-c", tmp_path / "mine.json", "--set", "data_loader.args.num_folds=2", "--set", "seed=6"]
    code, out, _ = call("--fold_id", 1, "--np_data_dir", nights, "--dry_run", *options, "--set", "name=2026")
    config = json.loads(out)["config"]
    assert code == 0
    assert (config["name"], config["trainer"]["epochs"], config["seed"]) == ("2026", 7, 6)
    assert config["data_loader"]["args"]["num_folds"] == 2
    assert config["arch"] == json.loads((ROOT / "config.json").read_text())["arch"]


def test_the_released_configuration_trains_as_it_stands(nights, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "released.json").write_text(RELEASED)
    few = ["--set", "data_loader.args.num_folds=3", "--set", "trainer.epochs=1"]
    code, _, err = call("-c", "released.json", "-f", 0, "-d", 0, "-da", nights, *few)
    assert code == 0, err
    assert 'loss: "weighted_CrossEntropyLoss" is understood as the class ClassAwareLoss.' in err
    assert "Fold 0 is finished: best training epoch 1 of 1 (min loss)" in err
    assert set(read_rows(tmp_path / "saved/Exp1/fold_0/metrics.csv")[0]) >= {"train_accuracy", "test_accuracy"}


def test_recordings_that_are_no_eeg_in_microvolts_are_all_named(tmp_path, monkeypatch, call):
    def with_nan(signal):
        signal[3, 100] = np.nan
        return signal

    folder = write_nights(
        tmp_path / "npz",
        SC4001E0=with_nan,
        SC4002E0=lambda signal: 0 * signal + 64,
        SC4021E0=lambda signal: 1e-6 * signal,
    )
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*train(folder))
    assert code == 1
    lines = [line for line in err.splitlines() if line.startswith("SC4")]
    assert [line.partition(": ")[0] for line in lines] == ["SC4001E0.npz", "SC4002E0.npz", "SC4021E0.npz"]
    assert all(word in line for word, line in zip(("NaN", "constant", "volts"), lines, strict=True))
    assert not list(tmp_path.rglob("*.pth"))


def spoil_stages(folder):
    arrays = dict(np.load(folder / "SC4011E0.npz"))
    np.savez(folder / "SC4011E0.npz", **(arrays | {"y": arrays["y"] + 1}))


def spoil_file(folder):
    (folder / "SC4011E0.npz").write_bytes((folder / "SC4011E0.npz").read_bytes()[:-500])


def spoil_rate(folder):
    write_nights(folder, {"SC4011E0": 5}, fs=125)


@pytest.mark.parametrize(
    ("options", "spoil", "texts"),
    [
        (["--np_data_dir", "nowhere"], None, ["nowhere", "no such folder", "--np_data_dir"]),
        (["--np_data_dir", "."], None, ["no npz files"]),
        (["--set", "data_loader.args.num_folds=4"], None, ["num_folds is 4", "3 subjects", "at most 3"]),
        (["--fold_id", "3"], None, ["--fold_id 3", "0 to 2"]),
        (["--set", "data_loader.args.fs=125"], None, ["100 Hz", "data_loader.args.fs is 125"]),
        (["--set", "data_loader.args.subject_pattern=(XY)"], None, ["SC4001E0", "'(XY)'"]),
        ([], spoil_stages, ["SC4011E0.npz", "stages [5]"]),
        ([], spoil_file, ["SC4011E0.npz", "not a readable npz file"]),
        ([], spoil_rate, ["SC4011E0.npz", "125 Hz", "SC4001E0.npz has 100 Hz"]),
        (["--set", "trainer.save_dir=file"], None, ["file"]),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_reason(tmp_path, monkeypatch, call, options, spoil, texts):
    folder = write_nights(tmp_path / "npz")
    if spoil:
        spoil(folder)
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*train(folder), *options)
    assert (code, out) == (1, "")
    for text in texts:
        assert text in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "npz"]


def test_a_loss_that_is_no_number_ends_the_fold_with_a_reason(nights, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*train(nights, fold=2, optimizer__args__lr=1e30))
    assert code == 1
    assert "Fold 2 failed" in err
    assert "the loss is nan" in err
    assert "optimizer.args.lr" in err
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"config.json", "data.json", "info.log"}


# The report


def test_the_report_of_an_incomplete_experiment_says_which_folds_are_missing(experiment):
    code, out, err = experiment[1]["report"]
    assert (code, out) == (0, "")
    assert "missing: 0" in err
    assert "missing: 0," not in err
    assert "Report:" in err


def test_the_report_appears_in_the_last_folds_folder_when_all_folds_are_there_whatever_their_order(experiment):
    directory, said = experiment
    reports = {str(path.relative_to(directory)) for path in directory.rglob("*report*")}
    assert reports == {f"fold_2/{name}" for name in ("report.json", "report.html", "Exp1_classification_report.xlsx")}
    n = json.loads((directory / "fold_2/report.json").read_text())["protocols"]["released"]["n"]
    assert n == sum(NIGHTS.values())
    for text in (said[0][2], (directory / "fold_2/info.log").read_text()):
        assert "selected on the test fold, optimistic" in text
        assert "which selects nothing" in text
        assert "Exp1_classification_report.xlsx" in text
    assert "accuracy" not in said[2][2].partition("is finished")[2].partition("\n")[2]
    assert temporary_files(directory) == []


def test_the_report_of_what_is_no_experiment_is_refused(tmp_path, call):
    code, _, err = call(tmp_path, main=report_main)
    assert code == 1
    assert "no experiment here" in err


@pytest.mark.parametrize("name", ["predictions.npz", "config.json"])
def test_the_report_of_a_damaged_fold_is_refused_with_its_file(copy, call, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:100])
    code, _, err = call(copy.parent, main=report_main)
    assert code == 1
    assert f"fold_0/{name}" in err
