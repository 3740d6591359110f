"""The command that trains every fold and then reports, run as its users run it, with tiny numbers."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from scripts import BATCH, MONITOR, NIGHTS, ROOT, contents, run, settings, temporary_files, three_folds

STAGES = ["W", "N1", "N2", "N3", "REM"]


@pytest.fixture(scope="module")
def separate(tmp_path_factory):
    """Recordings, and the folder of the same experiment trained fold by fold, the last one first."""
    return three_folds(tmp_path_factory.getbasetemp())[:2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, separate):
    """Run the command twice; the first run fails in fold 1, where a folder stands in the place of a file.

    Neither is in the folder of the code, and no environment but conda's base is active.
    """
    place = tmp_path_factory.mktemp("else where")
    saved = place / "saved/Exp1"
    in_the_way = saved / "fold_1/checkpoint-epoch2.pth"
    in_the_way.mkdir(parents=True)
    environment = {
        "VIRTUAL_ENV": "",
        "CONDA_PREFIX": "/opt/conda",
        "CONDA_DEFAULT_ENV": "base",
        "PATH": "/usr/bin:/bin",
    }
    if not (ROOT / ".venv/bin/python").exists():
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [*BATCH, "0", separate[0], *settings(**MONITOR)]
    first = run(command, place, **environment)
    after_first = contents(saved)
    in_the_way.rmdir()
    second = run(command, place, **environment)
    return saved, (first, after_first), (second, contents(saved))


@pytest.fixture(scope="module")
def report(runs):
    return json.loads((runs[0] / "fold_2/report.json").read_text())


@pytest.fixture(scope="module")
def workbook(runs):
    return openpyxl.load_workbook(runs[0] / "fold_2/Exp1_classification_report.xlsx")


def pooled(saved, name):
    """Arrays of all folds, one after the other."""
    return np.concatenate([np.load(saved / f"fold_{fold}/predictions.npz")[name] for fold in range(3)])


def rows(sheet):
    """Rows of a sheet, by the titles of its columns."""
    titles, *values = ([cell.value for cell in row] for row in sheet.iter_rows())
    return [dict(zip(titles, row, strict=True)) for row in values]


def test_without_gpu_and_folder_it_says_how_it_is_used(tmp_path):
    code, out, err = run([*BATCH, "0"], tmp_path)
    assert (code, out) == (2, "")
    assert "usage:" in err
    assert "GPU_ID NPZ_DIR" in err


@pytest.mark.parametrize(
    ("active", "which"),
    [
        ({}, "beside"),
        ({"CONDA_DEFAULT_ENV": "base", "CONDA_PREFIX": "/opt/conda"}, "beside"),
        ({"CONDA_DEFAULT_ENV": "sleep", "CONDA_PREFIX": "/opt/conda/envs/sleep"}, "active"),
        ({"VIRTUAL_ENV": "/home/me/venv"}, "active"),
    ],
)
def test_the_environment_beside_the_script_is_used_unless_another_one_is_active(tmp_path, active, which):
    """Where conda starts its base in every shell, that is no choice of the user's."""
    place = tmp_path / "the code"
    for name, folder in (("beside", place / ".venv/bin"), ("active", tmp_path / "bin")):
        folder.mkdir(parents=True)
        (folder / "python").write_text(f"#!/bin/sh\necho {name}\n")
        (folder / "python").chmod(0o755)
    script = shutil.copy(BATCH[0], place)
    unset = {"VIRTUAL_ENV": "", "CONDA_PREFIX": "", "CONDA_DEFAULT_ENV": ""}
    code, out, _ = run([script, "0", "npz"], tmp_path, **unset | active, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert (code, out) == (0, f"{which}\n")


def test_it_stops_at_the_fold_that_fails_and_names_it(runs):
    (code, out, err), files = runs[1]
    assert (code, out) == (1, "")
    assert "Fold 0 is finished" in err
    assert "Fold 1 failed" in err
    assert "fold_1/checkpoint-epoch2.pth" in err
    assert "Fold 2" not in err
    assert "fold_0/predictions.npz" in files
    assert "fold_1/predictions.npz" not in files
    assert not [name for name in files if name.startswith("fold_2/") and name.endswith((".pth", ".log", ".csv"))]
    assert not [name for name in files if "report" in name]


def test_run_again_it_goes_on_where_it_stopped(runs):
    _, (_, before), ((code, out, err), after) = runs
    assert (code, out) == (0, "")
    assert "skipped: fold 0\n" in err.replace(".\n", "\n")
    assert "Going on after training epoch 1, from checkpoint-last.pth" in err
    assert [f"Fold {fold} is finished" in err for fold in range(3)] == [False, True, True]
    of_fold_0 = {name for name in after if name.startswith("fold_0/")}
    assert {name: after[name] for name in of_fold_0} == {name: before[name] for name in of_fold_0}
    assert of_fold_0 == {name for name in before if name.startswith("fold_0/")}


def test_further_arguments_reach_the_training(runs):
    for fold in range(3):
        config = json.loads((runs[0] / f"fold_{fold}/config.json").read_text())
        assert config["trainer"]["monitor"] == "min accuracy"
        assert config["data_loader"]["args"]["batch_size"] == 8


def test_the_report_lands_in_the_last_folds_folder_and_no_temporary_file_is_left(runs):
    reports = {name for name in runs[2][1] if "report" in name}
    assert reports == {f"fold_2/{name}" for name in ("report.json", "report.html", "Exp1_classification_report.xlsx")}
    assert temporary_files(runs[0]) == []


def test_folds_in_any_order_and_any_process_give_the_same_report(report, separate):
    other = json.loads((separate[1] / "fold_2/report.json").read_text())
    for part in ("protocols", "per_fold", "per_recording"):
        assert other[part] == report[part]


@pytest.mark.parametrize(("protocol", "suffix"), [("released", ""), ("last_epoch", "_last_epoch")])
def test_the_figures_are_those_of_all_predictions_pooled(runs, report, protocol, suffix):
    y_true, y_pred = pooled(runs[0], "y_true"), pooled(runs[0], f"y_pred{suffix}")
    scores = report["protocols"][protocol]
    assert {"accuracy", "macro_f1", "kappa", "mgm", "n", "confusion_matrix", "per_class"} <= scores.keys()
    assert scores["n"] == sum(NIGHTS.values()) == len(y_true)
    matrix = np.zeros((5, 5), int)
    np.add.at(matrix, (y_true, y_pred), 1)
    assert scores["confusion_matrix"] == matrix.tolist()
    assert scores["accuracy"] == pytest.approx((y_true == y_pred).mean())
    by_chance = matrix.sum(0) @ matrix.sum(1) / matrix.sum() ** 2
    assert scores["kappa"] == pytest.approx((scores["accuracy"] - by_chance) / (1 - by_chance))
    assert list(scores["per_class"]) == STAGES
    for number, stage in enumerate(STAGES):
        of_stage, hits = scores["per_class"][stage], matrix[number, number]
        assert of_stage["support"] == matrix[number].sum()
        recall, precision = hits / matrix[number].sum(), hits / max(1, matrix[:, number].sum())
        false_positives = matrix[:, number].sum() - hits
        specificity = 1 - false_positives / (len(y_true) - matrix[number].sum())
        assert of_stage["recall"] == pytest.approx(recall)
        assert of_stage["precision"] == pytest.approx(precision)
        assert of_stage["f1"] == pytest.approx(2 * hits / (matrix[number].sum() + matrix[:, number].sum()))
        assert of_stage["g_mean"] == pytest.approx((recall * specificity) ** 0.5)
    for mean, of_class in (("macro_f1", "f1"), ("mgm", "g_mean")):
        assert scores[mean] == pytest.approx(np.mean([scores["per_class"][stage][of_class] for stage in STAGES]))


def test_the_two_protocols_differ_and_are_labelled(report):
    protocols = report["protocols"]
    assert set(protocols) == {"released", "last_epoch"}
    # The monitor of these runs picks the worst training epoch.
    assert protocols["released"]["accuracy"] < protocols["last_epoch"]["accuracy"]
    assert protocols["released"]["label"] == "selected on the test fold, optimistic"
    assert "selects nothing" in protocols["last_epoch"]["label"]


def test_folds_and_recordings_have_their_own_figures(runs, report):
    recording, y_true = pooled(runs[0], "recording"), pooled(runs[0], "y_true")
    assert [row["fold"] for row in report["per_fold"]] == [0, 1, 2]
    assert sorted(row["recording"] for row in report["per_recording"]) == sorted(NIGHTS)
    assert {row["recording"]: row["n"] for row in report["per_recording"]} == NIGHTS
    for protocol, suffix in (("released", ""), ("last_epoch", "_last_epoch")):
        right = y_true == pooled(runs[0], f"y_pred{suffix}")
        for row in report["per_recording"]:
            expected = right[recording == row["recording"]].mean()
            assert row[protocol]["accuracy"] == pytest.approx(expected)
        begin = 0
        for row in report["per_fold"]:
            assert row[protocol]["accuracy"] == pytest.approx(right[begin : begin + row["n"]].mean())
            begin += row["n"]
        assert begin == len(right)


def test_the_workbook_has_the_same_in_percent_with_counts_as_counts(report, workbook):
    assert workbook.sheetnames[:5] == ["overall", "per class", "confusion matrix", "per fold", "per recording"]
    released, last_epoch = (report["protocols"][protocol] for protocol in ("released", "last_epoch"))
    for row, scores in zip(rows(workbook["overall"]), (released, last_epoch), strict=True):
        assert scores["label"] in row["protocol"]
        for title, name in (("accuracy %", "accuracy"), ("macro F1 %", "macro_f1"), ("MGm %", "mgm")):
            assert row[title] == pytest.approx(100 * scores[name])
        assert row["kappa"] == pytest.approx(scores["kappa"])
        assert (row["n"], type(row["n"])) == (scores["n"], int)
    for row, stage in zip(rows(workbook["per class"])[:5], STAGES, strict=True):
        of_stage = released["per_class"][stage]
        assert row["stage"] == stage
        for title, name in (
            ("precision %", "precision"),
            ("recall %", "recall"),
            ("F1 %", "f1"),
            ("G-mean %", "g_mean"),
        ):
            assert row[title] == pytest.approx(100 * of_stage[name])
        assert (row["support"], type(row["support"])) == (of_stage["support"], int)
    matrix = np.array(last_epoch["confusion_matrix"])
    for row, stage, counts in zip(rows(workbook["confusion matrix"])[5:10], STAGES, matrix, strict=True):
        assert row["true stage"] == stage
        assert [row[f"{column} (count)"] for column in STAGES] == counts.tolist()
        percent = [row[f"{column} (% of row)"] for column in STAGES]
        assert percent == pytest.approx(100 * counts / counts.sum())
    assert [row["fold"] for row in rows(workbook["per fold"])[:3]] == [0, 1, 2]
    assert [row["recording"] for row in rows(workbook["per recording"])] == sorted(NIGHTS)


def test_the_log_of_the_last_fold_ends_with_a_short_table(runs, report):
    log = (runs[0] / "fold_2/info.log").read_text()
    for protocol in ("released", "last_epoch"):
        scores = report["protocols"][protocol]
        assert scores["label"] in log
        assert f"accuracy {100 * scores['accuracy']:.1f} %" in log
        assert f"kappa {scores['kappa']:.3f}" in log
    assert log.index("Fold 2 is finished") < log.index("selected on the test fold")
