import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from openpyxl import load_workbook
from report_inputs import blank_figures, predictions, report_of, results, with_context, write_experiment

from report.__main__ import main
from report.comparison import compare
from report.page import _nights
from report.report import make_report, write_report, write_report_if_complete
from report.results import read_results
from report.tables import summary, tables, write_workbook
from utils.logs import log_to_console

STAGES = ("W", "N1", "N2", "N3", "REM")
RELEASED = "released (selected on the test fold, optimistic)"
LAST_EPOCH = "last_epoch (the last training epoch, which selects nothing)"


def folds():
    """Two folds, three recordings, ten sleep epochs; the hand-worked example of tests/model/test_metric.py, pooled."""
    first = {"b": ([0, 0, 0], [0, 0, 1]), "a": ([1, 1, 2], [1, 2, 2])}
    return {
        0: predictions(first, [0, 0, 0, 0, 0, 0]),
        1: predictions({"c": ([2, 2, 2, 4], [2, 0, 0, 4])}, [2, 2, 2, 4]),
    }


THIRD = predictions({"d": ([0, 1, 2], [0, 1, 1])}, [0, 1, 1])
"""A third fold."""

MATRIX = [[2, 1, 0, 0, 0], [0, 1, 1, 0, 0], [2, 0, 2, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
MACRO_F1 = (4 / 7 + 1 / 2 + 4 / 7 + 1) / 4
KAPPA = 31 / 71
MGM = (math.sqrt(10 / 21) + math.sqrt(7 / 16) + math.sqrt(5 / 12) + 1) / 4
BY_STAGE = {
    "W": {"precision": 1 / 2, "recall": 2 / 3, "f1": 4 / 7, "g_mean": math.sqrt(10 / 21), "support": 3},
    "N1": {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "g_mean": math.sqrt(7 / 16), "support": 2},
    "N2": {"precision": 2 / 3, "recall": 1 / 2, "f1": 4 / 7, "g_mean": math.sqrt(5 / 12), "support": 4},
    "N3": {"precision": 0, "recall": 0, "f1": 0, "g_mean": 0, "support": 0},
    "REM": {"precision": 1, "recall": 1, "f1": 1, "g_mean": 1, "support": 1},
}


def test_the_figures_are_those_of_all_predictions_pooled():
    released = report_of(folds())["protocols"]["released"]
    assert released["label"] == "selected on the test fold, optimistic"
    assert released["n"] == 10
    assert released["confusion_matrix"] == MATRIX
    headline = {name: released[name] for name in ("accuracy", "macro_f1", "kappa", "mgm")}
    assert headline == pytest.approx({"accuracy": 0.6, "macro_f1": MACRO_F1, "kappa": KAPPA, "mgm": MGM})
    assert released["per_class"].keys() == set(STAGES)
    for stage, figures in BY_STAGE.items():
        shown = {name: released["per_class"][stage][name] for name in figures}
        assert shown == pytest.approx(figures), stage


def test_the_last_training_epoch_has_figures_of_its_own():
    last = report_of(folds())["protocols"]["last_epoch"]
    assert last["label"] == "the last training epoch, which selects nothing"
    assert last["accuracy"] == pytest.approx(0.7)
    assert last["confusion_matrix"] == [
        [3, 0, 0, 0, 0],
        [2, 0, 0, 0, 0],
        [1, 0, 3, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
    ]
    assert last["per_class"]["W"]["precision"] == pytest.approx(1 / 2)


def test_each_fold_and_each_recording_has_a_row():
    report = report_of(folds())
    assert [(row["fold"], row["n"]) for row in report["per_fold"]] == [(0, 6), (1, 4)]
    assert [row["released"]["accuracy"] for row in report["per_fold"]] == pytest.approx([4 / 6, 2 / 4])
    assert [row["last_epoch"]["accuracy"] for row in report["per_fold"]] == pytest.approx([3 / 6, 1])
    assert [(row["recording"], row["n"]) for row in report["per_recording"]] == [("a", 3), ("b", 3), ("c", 4)]
    assert [row["released"]["accuracy"] for row in report["per_recording"]] == pytest.approx([2 / 3, 2 / 3, 1 / 2])
    # c: W none true, N2 one of three right, REM right: F1 0, 1/2, 1
    assert report["per_recording"][2]["released"]["macro_f1"] == pytest.approx(1 / 2)


class Watched(np.ndarray):
    """An array that counts how often all of it is compared: a look for one night among all of them."""

    n_compared = 0

    def __eq__(self, other):
        Watched.n_compared += 1
        return np.asarray(self) == np.asarray(other)

    __hash__ = None


@pytest.mark.parametrize("use", [lambda all_: make_report(all_), lambda all_: _nights(all_.predictions, "released"),
                                 lambda all_: compare(all_, all_)])  # fmt: skip
def test_no_night_is_looked_for_among_all_so_that_time_grows_with_their_number_alone(use):
    compared = []
    for n in (2, 20):
        fold = predictions({f"night{number}": ([0, 1, 2], [0, 1, 1]) for number in range(n)})
        watched = replace(fold, recording=fold.recording.view(Watched), subject=fold.subject.view(Watched))
        all_ = results({0: fold})
        vars(all_)["predictions"] = watched  # pooled folds are plain arrays
        Watched.n_compared = 0
        use(all_)
        compared.append(Watched.n_compared)
    assert compared[0] == compared[1]


def test_p_values_of_few_subjects_have_a_word_of_their_own():
    of_three = report_of(with_context(folds()))
    assert of_three["p_note"].startswith("With 3 subjects p is never below 0.25,")
    assert report_of(folds())["p_note"] == ""


def test_figures_of_a_holdout_say_so():
    protocols = report_of(folds(), "holdout")["protocols"]
    assert set(protocols) == {"holdout", "last_epoch"}
    assert protocols["holdout"]["label"] == "selected on the validation subjects, tested once"
    assert protocols["holdout"]["confusion_matrix"] == MATRIX


def test_the_report_is_plain_values_that_json_can_hold():
    report = report_of(folds())
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_one_stage_throughout_gives_a_report_without_holes():
    same = report_of({0: predictions({"a": ([2, 2, 2], [2, 2, 2])}, [3, 3, 3])})
    assert same["protocols"]["released"]["accuracy"] == 1
    assert same["protocols"]["released"]["kappa"] == 0
    assert same["protocols"]["last_epoch"]["macro_f1"] == 0
    json.dumps(same, allow_nan=False)
    tables(same)


def test_the_summary_says_both_protocols_with_their_labels():
    text = summary(report_of(folds()))
    released, last = text.split("Protocol ")[1:]
    assert released.startswith(f"{RELEASED}: 10 sleep epochs\n")
    assert last.startswith(f"{LAST_EPOCH}: 10 sleep epochs\n")
    for figure in ("accuracy 60.0 %", "macro F1 66.1 %", "kappa 0.437", "MGm 74.9 %"):
        assert figure in released
    assert "F1 in percent: W 57.1   N1 50.0   N2 57.1   N3 0.0   REM 100.0" in released
    assert "accuracy 70.0 %" in last


@pytest.fixture
def experiment(tmp_path):
    """An experiment of three folds, of which the first two are finished."""
    return write_experiment(tmp_path / "saved" / "Exp 1", folds(), num_folds=3)


@pytest.fixture(scope="module")
def workbook(tmp_path_factory):
    path = tmp_path_factory.mktemp("workbook") / "report.xlsx"
    write_workbook(path, report_of(folds()))
    return load_workbook(path)


def rows(sheet):
    """Rows of a sheet as mappings from the titles of its columns; cells that are merged downwards are filled."""
    titles, *lines = ([cell.value for cell in line] for line in sheet.iter_rows())
    assert len(set(titles)) == len(titles)
    shown = []
    for line in lines:
        first = line[0] if line[0] is not None else shown[-1][titles[0]]
        shown.append(dict(zip(titles, [first, *line[1:]], strict=True)))
    return shown


@pytest.fixture
def no_figures(monkeypatch):
    """Write the page without drawing its figures, which takes seconds."""
    monkeypatch.setattr("report.plots.write_figures", lambda directory, *_: blank_figures(directory))


def test_the_report_lands_in_the_last_folds_folder(experiment, log):
    report = write_report(read_results(experiment))
    assert json.loads((experiment / "fold_1" / "report.json").read_text()) == report
    assert report == make_report(results(folds(), num_folds=3))
    assert {path.name for path in (experiment / "fold_1").iterdir()} == {
        "predictions.npz",
        "config.json",
        "metrics.csv",
        "report.json",
        "report.html",
        "figures",
        "Exp 1_classification_report.xlsx",
    }
    assert not (experiment / "fold_0" / "report.json").exists()
    assert summary(report) in log.messages
    assert "Exp 1_classification_report.xlsx" in log.text


def test_the_workbook_begins_with_the_five_tables(workbook):
    assert workbook.sheetnames[:5] == ["overall", "per class", "confusion matrix", "per fold", "per recording"]


def test_the_overall_sheet_has_percents_but_for_kappa(workbook):
    released, last = rows(workbook["overall"])
    assert (released["protocol"], last["protocol"]) == (RELEASED, LAST_EPOCH)
    expected = {"accuracy %": 60, "macro F1 %": 100 * MACRO_F1, "kappa": KAPPA, "MGm %": 100 * MGM, "n": 10}
    assert {title: released[title] for title in expected} == pytest.approx(expected)
    assert last["accuracy %"] == pytest.approx(70)


def test_the_sheet_per_class_has_percents_and_the_support_as_a_count(workbook):
    shown = rows(workbook["per class"])
    assert [row["stage"] for row in shown] == [*STAGES, *STAGES]
    assert [row["protocol"] for row in shown] == [RELEASED] * 5 + [LAST_EPOCH] * 5
    titles = {"precision %": "precision", "recall %": "recall", "F1 %": "f1", "G-mean %": "g_mean"}
    for row, figures in zip(shown, BY_STAGE.values(), strict=False):
        assert [row[title] for title in titles] == pytest.approx([100 * figures[name] for name in titles.values()])
        assert row["support"] == figures["support"]
        assert type(row["support"]) is int


def test_the_confusion_sheet_has_counts_beside_percents_of_the_true_stage(workbook):
    shown = rows(workbook["confusion matrix"])
    assert [row["true stage"] for row in shown] == [*STAGES, *STAGES]
    assert [[row[f"{stage} (count)"] for stage in STAGES] for row in shown[:5]] == MATRIX
    percents = [[row[f"{stage} (% of row)"] for stage in STAGES] for row in shown[:5]]
    assert percents[0] == pytest.approx([200 / 3, 100 / 3, 0, 0, 0])
    assert percents[2] == pytest.approx([50, 0, 50, 0, 0])
    assert percents[3] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("sheet", "key", "names", "n", "accuracy"),
    [
        ("per fold", "fold", [0, 1], [6, 4], [400 / 6, 50]),
        ("per recording", "recording", ["a", "b", "c"], [3, 3, 4], [200 / 3, 200 / 3, 50]),
    ],
)
def test_the_sheets_of_folds_and_recordings_have_both_protocols_side_by_side(workbook, sheet, key, names, n, accuracy):
    shown = rows(workbook[sheet])[: len(names)]
    assert [row[key] for row in shown] == names
    assert [row["n"] for row in shown] == n
    assert [row["released: accuracy %"] for row in shown] == pytest.approx(accuracy)
    figures = {"accuracy %", "macro F1 %", "kappa", "MGm %"}
    assert {f"{protocol}: {name}" for protocol in ("released", "last_epoch") for name in figures} <= shown[0].keys()


def test_the_report_is_written_when_all_folds_are_there_and_not_before(experiment, no_figures):
    write_report_if_complete(experiment, 3)
    assert not list(experiment.glob("fold_*/report.json"))
    write_experiment(experiment, {2: THIRD}, num_folds=3)
    log_to_console(1)
    write_report_if_complete(experiment, 3)
    assert [path.parent.name for path in experiment.glob("fold_*/report.json")] == ["fold_2"]
    assert json.loads((experiment / "fold_2" / "report.json").read_text())["protocols"]["released"]["n"] == 13
    assert "accuracy" in (experiment / "fold_2" / "info.log").read_text()


@pytest.fixture
def command(monkeypatch, capsys):
    """Run python -m report in this process and return its exit code and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
        return main(), capsys.readouterr().err

    return run


def test_the_report_of_the_folds_that_are_there_says_in_every_file_of_which(experiment, command, no_figures):
    code, err = command(experiment)
    assert code == 0
    note = "Partial: 2 of 3 folds (0, 1); missing: 2"
    assert err.splitlines()[0] == f"{note}."
    directory = experiment / "fold_1"
    report = json.loads((directory / "report.json").read_text())
    assert report["folds"] == {"finished": [0, 1], "missing": [2]}
    assert f"{note}." in (directory / "report.html").read_text()
    overall = rows(load_workbook(directory / "Exp 1_classification_report.xlsx")["overall"])
    assert [row["folds"] for row in overall] == [note, note]


def test_the_complete_report_removes_the_partial_ones_and_nothing_else(experiment, command, log, no_figures):
    write_report(read_results(experiment))
    (experiment / "fold_1/figures/mine.txt").touch()
    write_experiment(experiment, {2: THIRD}, num_folds=3)
    write_report(read_results(experiment))
    assert sorted(path.parent.name for path in experiment.rglob("*report*")) == ["fold_2"] * 3
    assert {path.name for path in (experiment / "fold_1").iterdir()} == {
        *("predictions.npz", "config.json", "metrics.csv", "figures")
    }
    assert [path.name for path in (experiment / "fold_1/figures").iterdir()] == ["mine.txt"]
    assert f"Removed the report of fewer folds in {experiment / 'fold_1'}: this one replaces it." in log.messages


def test_a_partial_report_leaves_a_complete_one_alone(experiment, command, no_figures):
    write_experiment(experiment, {2: THIRD}, num_folds=3)
    write_report(read_results(experiment))
    (experiment / "fold_2/predictions.npz").unlink()
    write_report(read_results(experiment))
    assert {path.parent.name for path in experiment.glob("fold_*/report.json")} == {"fold_1", "fold_2"}


def test_the_folds_need_not_be_the_first_ones(experiment, command, no_figures):
    (experiment / "fold_0" / "predictions.npz").unlink()
    code, err = command(experiment)
    assert (code, err.splitlines()[0]) == (0, "Partial: 1 of 3 folds (1); missing: 0, 2.")
    assert [row["fold"] for row in json.loads((experiment / "fold_1" / "report.json").read_text())["per_fold"]] == [1]


def test_when_no_fold_is_missing_the_report_is_not_called_partial(experiment, command, no_figures):
    write_experiment(experiment, {2: THIRD}, num_folds=3)
    assert "Partial" not in command(experiment)[1]
    directory = experiment / "fold_2"
    assert "Partial" not in (directory / "report.html").read_text()
    overall = rows(load_workbook(directory / "Exp 1_classification_report.xlsx")["overall"])
    assert [row["folds"] for row in overall] == ["all 3", "all 3"]


def test_a_user_error_is_one_line_and_exit_code_1(experiment, command):
    (experiment / "fold_0" / "predictions.npz").write_bytes(b"")
    code, err = command(experiment)
    assert code == 1
    assert "fold_0/predictions.npz: cannot be read" in err
    assert err.count("\n") == 1


def test_a_file_that_is_missing_is_one_line_and_exit_code_1(experiment, command):
    (experiment / "fold_1" / "metrics.csv").unlink()
    code, err = command(experiment)
    assert code == 1
    assert "fold_1/metrics.csv" in err
    assert err.count("\n") == 1
