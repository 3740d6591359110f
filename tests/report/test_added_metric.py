"""A metric that is added to model/metric.py stands in every form of the report."""

import json

import numpy as np
import pytest
from openpyxl import load_workbook
from report_inputs import blank_figures, predictions, results, write_experiment

from model import metric
from report.comparison import comparison, experiments_table
from report.report import make_report, write_report
from report.results import read_results
from report.tables import summary

FOLDS = {
    0: predictions({"SC4001E0": ([0, 1, 1, 2], [0, 1, 2, 2]), "SC4011E0": ([0, 1, 1, 2], [0, 1, 1, 1])}),
    1: predictions({"SC4021E0": ([0, 3, 2, 2], [0, 3, 2, 2])}),
}
"""F1 of N1: 2/3, 4/5 and, in a night without N1, not defined; 3/4 in all."""


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr("report.plots.write_figures", lambda directory, *_: blank_figures(directory))


def columns(sheet):
    return {column[0].value: [cell.value for cell in column[1:]] for column in sheet.iter_cols()}


def test_a_new_metric_stands_in_every_form_of_the_report(tmp_path, n1_f1, log):
    experiment = write_experiment(tmp_path / "A", FOLDS, metrics=["n1_f1"])
    report = write_report(read_results(experiment))
    assert not [record for record in log.records if record.levelname == "WARNING"]

    assert json.loads((experiment / "fold_1" / "report.json").read_text()) == report
    assert report["metrics"] == ["accuracy", "macro_f1", "kappa", "mgm", "n1_f1"]
    released = report["protocols"]["released"]
    assert released["n1_f1"] == pytest.approx(3 / 4)
    low, high = released["intervals"]["n1_f1"]
    assert (low, high) == (pytest.approx(2 / 3), pytest.approx(4 / 5))
    assert [row["released"]["n1_f1"] for row in report["per_fold"]] == [pytest.approx(3 / 4), None]
    assert released["folds"]["n1_f1"] == {"mean": pytest.approx(3 / 4), "sd": None}
    assert [row["released"]["n1_f1"] for row in report["per_recording"]] == pytest.approx([2 / 3, 4 / 5, None])

    book = load_workbook(experiment / "fold_1" / "A_classification_report.xlsx")
    overall = columns(book["overall"])
    assert [overall[title][0] for title in ("n1_f1", "n1_f1 low", "n1_f1 high")] == pytest.approx([3 / 4, low, high])
    assert columns(book["per fold"])["released: n1_f1"] == [pytest.approx(3 / 4), None, pytest.approx(3 / 4), None]
    assert columns(book["per recording"])["last_epoch: n1_f1"] == [pytest.approx(2 / 3), pytest.approx(4 / 5), None]

    page = (experiment / "fold_1" / "report.html").read_text()
    assert '<th scope="col">n1_f1</th>' in page
    assert f'<span class="value">0.750</span><small>0.667 to {high:.3f}</small><small>folds 0.750</small>' in page
    assert page.count('<th scope="col" class="number">n1_f1</th>') == 2  # of folds and of recordings
    assert '<td class="number" data-value="">–</td>' in page  # the night and the fold without N1
    assert "n1_f1 0.750 [0.667, 0.800]" in log.text


def test_a_new_metric_stands_in_the_table_and_the_comparison_of_experiments(n1_f1):
    first, second = results(FOLDS, metrics=["n1_f1"], name="A"), results(FOLDS, "holdout", name="B")
    header, *lines, _, _ = experiments_table([second, first]).splitlines()
    assert header.split("  ")[-1].strip() == "s per fold"
    assert " n1_f1 " in header
    assert all("0.750 [0.667, 0.800]" in line for line in lines)
    (line, _) = [line for line in comparison(first, second).splitlines() if line.startswith("n1_f1")]
    assert line.split() == ["n1_f1", "0.750", "0.750", "+0.000", "[+0.000,", "+0.000]", "1"]


def failing(y_true, y_pred):
    raise ZeroDivisionError("no N1")


def one_of_many(y_true, y_pred):
    return y_true == y_pred


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (failing, "Metric failing fails: ZeroDivisionError('no N1'). Correct it in model/metric.py."),
        (one_of_many, "Metric one_of_many gives a value of type ndarray, which is no number."),
    ],
)
def test_a_metric_without_a_number_is_named_and_the_report_is_written(tmp_path, monkeypatch, log, odd, said):
    name = odd.__name__
    monkeypatch.setattr(metric, name, odd, raising=False)
    monkeypatch.setattr(metric, "__all__", [*metric.__all__, name])
    experiment = write_experiment(tmp_path / "A", FOLDS, metrics=[name])
    report = write_report(read_results(experiment))
    (warning,) = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert warning.startswith(said)
    assert "\n" not in warning
    released = report["protocols"]["released"]
    assert (released[name], released["intervals"][name]) == (None, None)
    assert f"{name} -" in summary(report)
    assert f'<th scope="col">{name}</th>' in (experiment / "fold_1" / "report.html").read_text()
    log.clear()
    assert f"\n{name}" in comparison(read_results(experiment), read_results(experiment))
    assert experiments_table([read_results(experiment)]).splitlines()[1].split()[-7] == "-"
    assert log.text.count("Correct it") == 1


def test_a_formula_from_counts_gives_the_report_of_the_same_plain_function(monkeypatch):
    @metric.from_counts
    def balanced(counts):
        return metric.per_class(counts)["recall"].mean(axis=-1, where=counts.sum(-1) > 0)

    def plain(y_true, y_pred):
        return np.mean([(y_pred[y_true == stage] == stage).mean() for stage in np.unique(y_true)])

    reports = []
    for function in (balanced, plain):
        monkeypatch.setattr(metric, "balanced", function, raising=False)
        reports.append(make_report(results(FOLDS, metrics=["balanced"])))
    one, other = (report["protocols"]["released"] for report in reports)
    assert one["balanced"] == pytest.approx(other["balanced"])
    assert one["intervals"]["balanced"] == pytest.approx(other["intervals"]["balanced"])
