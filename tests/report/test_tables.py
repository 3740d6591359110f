import numpy as np
import pytest
from openpyxl import load_workbook
from report_inputs import predictions, report_of, with_context, with_temperatures

from report import statistics
from report.statistics import few_subjects
from report.tables import WIDEST, summary, write_workbook
from report.wording import NO_LIGHTS

SEVEN_RIGHT = [0, 0, 0, 0, 2, 2, 2, 2, 4, 4]
"""The last three are wrong in the first night below."""


def folds():
    """Two subjects; a is right in 7 of 10 (three sleep epochs of sleep are called wake), b throughout."""
    a = predictions(
        {"a": (SEVEN_RIGHT, [*SEVEN_RIGHT[:7], 0, 0, 0])},
        probabilities=np.full((10, 5), 0.2) + 0.3 * np.eye(5)[[*SEVEN_RIGHT[:7], 0, 0, 0]],
    )
    return {0: a, 1: predictions({"b": (SEVEN_RIGHT, SEVEN_RIGHT)})}


@pytest.fixture
def report():
    return report_of(folds(), "holdout", {0: [4.0, 6.0], 1: [20.0]})


def test_a_report_names_the_protocol_of_the_experiment(report):
    assert list(report["protocols"]) == ["holdout", "last_epoch"]
    assert report["protocols"]["holdout"]["label"] == "selected on the validation subjects, tested once"
    assert report["per_fold"][0]["holdout"]["accuracy"] == 0.7


def test_the_folds_have_mean_and_standard_deviation(report):
    shown = report["protocols"]["holdout"]["folds"]
    assert shown.keys() == {"accuracy", "macro_f1", "kappa", "mgm"}
    assert shown["accuracy"] == pytest.approx({"mean": 0.85, "sd": 0.3 / np.sqrt(2)})


def test_each_recording_has_its_subject_and_its_sleep(report):
    row = report["per_recording"][0]
    assert (row["recording"], row["subject"]) == ("a", "a")
    assert row["sleep"].keys() == {"true", "holdout", "last_epoch"}
    assert row["sleep"]["true"]["total_sleep_time_min"] == 3.0
    assert row["sleep"]["holdout"]["total_sleep_time_min"] == 1.5
    assert row["sleep"]["holdout"]["rem_latency_min"] is None


def test_the_position_in_the_night_counts(report):
    fold = folds()[1]
    fold.sleep_epoch[4:] += 100
    later = report_of({1: fold})["per_recording"][0]["sleep"]["true"]
    fold.sleep_epoch[8:] += 100
    assert report_of({1: fold})["per_recording"][0]["sleep"]["true"]["rem_latency_min"] == 52.0
    assert later["total_sleep_time_min"] == 3.0


def test_agreement_is_predicted_minus_true(report):
    shown = report["protocols"]["holdout"]["sleep_agreement"]
    sd = 1.5 / np.sqrt(2)
    assert shown["total_sleep_time_min"] == pytest.approx(
        {
            "n": 2,
            "true_mean": 3.0,
            "predicted_mean": 2.25,
            "mean": -0.75,
            "sd": sd,
            "low": -0.75 - 1.96 * sd,
            "high": -0.75 + 1.96 * sd,
        }
    )
    assert shown["rem_latency_min"]["n"] == 1


def test_each_protocol_is_calibrated_on_its_own_probabilities(report):
    # a's highest probability is 0.5 and seven of ten are right; b's is 1, as are all of the last epoch.
    assert report["protocols"]["holdout"]["calibration"]["ece"] == pytest.approx(0.1)
    assert report["protocols"]["last_epoch"]["calibration"]["ece"] == pytest.approx(0.15)


def test_timing_has_each_fold_the_mean_and_the_sum(report):
    assert report["timing"] == {
        "per_fold": [{"fold": 0, "seconds": 10}, {"fold": 1, "seconds": 20}],
        "mean": 15,
        "total": 30,
    }


def test_the_summary_has_intervals_and_the_time(report):
    lines = summary(report).splitlines()
    assert lines[0] == "Protocol holdout (selected on the validation subjects, tested once): 20 sleep epochs"
    assert "accuracy 85.0 % [70.0, 100.0]" in lines[1]
    low, high = (f"{end:.3f}" for end in report["protocols"]["holdout"]["intervals"]["kappa"])
    assert f"[{low}, {high}]" in lines[1]
    assert lines[-3] == "In brackets: 95 % intervals, by bootstrap over the 2 subjects."
    assert lines[-2] == few_subjects(2)
    assert lines[-1] == "Training took 15 s per fold, 30 s in all."


def test_twenty_subjects_are_not_called_few():
    fold = predictions({f"night{number}": ([0, 1], [0, 0]) for number in range(20)})
    said = summary(report_of({0: fold}))
    assert "over the 20 subjects." in said
    assert "less often" not in said


def test_one_subject_is_said_to_have_no_intervals():
    said = summary(report_of({0: folds()[0]})).splitlines()
    assert said[-2] == "No intervals: they come from resampling subjects, and there is only one."
    assert "accuracy 70.0 %   macro F1" in said[1]


@pytest.fixture
def workbook(tmp_path):
    def write(folds):
        write_workbook(tmp_path / "report.xlsx", report_of(folds, "holdout"))
        return load_workbook(tmp_path / "report.xlsx")

    return write


def rows(sheet):
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def column(sheet, title):
    header, *body = rows(sheet)
    return [row[header.index(title)] for row in body]


def test_the_sheets_are_in_this_order(workbook):
    assert workbook(folds()).sheetnames == [
        "overall",
        "per class",
        "confusion matrix",
        "per fold",
        "per recording",
        "sleep statistics",
        "calibration",
        "review",
        "transitions",
    ]


def test_intervals_stand_beside_the_figures(workbook, report):
    book = workbook(folds())
    assert column(book["overall"], "accuracy % low")[0] == 70
    assert column(book["overall"], "accuracy % high")[0] == 100
    assert column(book["overall"], "kappa low")[0] == pytest.approx(
        report["protocols"]["holdout"]["intervals"]["kappa"][0]
    )
    low, high = report["protocols"]["holdout"]["per_class"]["N2"]["f1_interval"]
    assert column(book["per class"], "F1 % low")[2] == pytest.approx(100 * low)
    assert column(book["per class"], "F1 % high")[2] == pytest.approx(100 * high)
    assert column(book["per class"], "F1 % low")[3] is None
    assert column(book["per class"], "subjects")[2:4] == [2, 0]
    assert report["intervals"] == {"level": 95, "n_subjects": 2, "note": few_subjects(2)}
    assert column(book["overall"], "note on intervals") == [few_subjects(2)] * 2
    assert column(book["per class"], "note on intervals") == [few_subjects(2)] * 10


def test_mean_and_standard_deviation_stand_below_the_folds(workbook):
    sheet = workbook(folds())["per fold"]
    assert column(sheet, "fold") == [0, 1, "mean", "standard deviation"]
    assert column(sheet, "n") == [10, 10, None, None]
    accuracy = column(sheet, "holdout: accuracy %")
    assert accuracy == pytest.approx([70, 100, 85, 30 / np.sqrt(2)])


def test_the_sleep_sheet_has_each_hypnogram_and_the_agreement(workbook):
    sheet = workbook(folds())["sleep statistics"]
    assert column(sheet, "hypnogram")[:6] == ["true", "holdout", "last_epoch"] * 2
    assert column(sheet, "total sleep time min")[:3] == [3, 1.5, 1.5]
    assert column(sheet, "wake within sleep min")[:2] == [0, 0]
    assert {"sleep latency min", "sleep efficiency %", "WASO min", "W min"}.isdisjoint(rows(sheet)[0])
    assert column(sheet, "note")[:2] == [NO_LIGHTS, None]
    assert column(sheet, "total sleep time min")[6:9] == [3, 2.25, -0.75]
    assert column(sheet, "REM latency min")[1] is None
    assert column(sheet, "N2 % of sleep")[0] == pytest.approx(200 / 3)
    assert [title for title in column(sheet, "recording")[6:13] if title] == [
        "mean of the true ones",
        "mean of the predicted ones",
        "mean difference (predicted - true)",
        "its standard deviation",
        "lower limit of agreement",
        "upper limit of agreement",
        "recordings that have it",
    ]
    assert column(sheet, "hypnogram")[6:13] == ["holdout"] * 7
    assert column(sheet, "total sleep time min")[12] == 2
    assert column(sheet, "REM latency min")[12] == 1


def test_the_calibration_sheet_ends_each_protocol_with_its_error(workbook):
    sheet = workbook(folds())["calibration"]
    assert len(column(sheet, "bin")) == 32
    assert column(sheet, "bin")[15] == "expected calibration error"
    assert column(sheet, "error %")[15] == pytest.approx(10)
    assert column(sheet, "n")[15] == 20
    assert column(sheet, "confidence %")[7] == pytest.approx(50)
    assert column(sheet, "accuracy %")[7] == pytest.approx(70)


def test_one_fold_of_one_subject_gives_a_workbook_with_empty_cells(workbook):
    book = workbook({0: folds()[0]})
    assert column(book["overall"], "accuracy % low") == [None, None]
    assert column(book["per fold"], "holdout: accuracy %") == [pytest.approx(70), pytest.approx(70), None]


def test_a_note_wraps_in_its_cell(workbook):
    sheet = workbook(folds())["overall"]
    (cell,) = [cell for cell in sheet[2] if cell.value == few_subjects(2)]
    assert cell.alignment.wrap_text
    assert sheet.column_dimensions[cell.column_letter].width == WIDEST


# Night context


def test_a_model_of_the_night_has_its_row_beside_the_single_sleep_epochs():
    single = report_of(folds(), "holdout")
    report = report_of(with_context(folds()), "holdout")
    assert list(report["protocols"]) == ["holdout", "last_epoch", "context"]
    assert report["protocols"]["holdout"] == single["protocols"]["holdout"]
    context = report["protocols"]["context"]
    assert (context["accuracy"], context["macro_f1"], context["calibration"]["ece"]) == (1, 1, 0)
    assert single["context_difference"] is None


def test_the_difference_is_that_of_the_subjects():
    report = report_of(with_context(folds()), "holdout")
    by_subject = {}
    for row in report["per_recording"]:
        by_subject.setdefault(row["subject"], []).append((row["n"], row["holdout"]["accuracy"]))
    missed = [
        1 - sum(n * accuracy for n, accuracy in nights) / sum(n for n, _ in nights) for nights in by_subject.values()
    ]
    shown = report["context_difference"]["accuracy"]
    assert shown["mean"] == pytest.approx(np.mean(missed))
    assert min(missed) <= shown["interval"][0] <= shown["mean"] <= shown["interval"][1] <= max(missed)


def test_the_summary_says_what_the_night_adds_and_how_often_the_stage_changes():
    report = report_of(with_context(folds()), "holdout")
    changes = {name: f"{shown['changes_per_night']:.0f}" for name, shown in report["transitions"].items()}
    (line,) = [line for line in summary(report).splitlines() if line.startswith("Night context")]
    assert f"macro F1 {100 * report['context_difference']['macro_f1']['mean']:+.1f} [" in line
    assert f"{changes['true']} true, {changes['holdout']} without it, {changes['true']} with it; " in line
    error = report["protocols"]["holdout"]["calibration"]["ece"]
    assert error > 0
    assert line.endswith(f"expected calibration error: {100 * error:.1f} % without it, 0.0 % with it.")
    assert "Night context" not in summary(report_of(folds(), "holdout"))


def test_the_sheet_of_transitions_has_every_hypnogram(workbook):
    sheet = workbook(with_context(folds()))["transitions"]
    names = [name for name in column(sheet, "hypnogram") if name]
    assert names == ["true", "holdout", "last_epoch", "context"]
    counted = sum(column(sheet, "then W (count)")[:5])
    assert counted == sum(row[0] for row in report_of(folds(), "holdout")["transitions"]["true"]["counts"])


def test_the_temperatures_of_the_folds_give_a_second_calibration(workbook):
    made = with_temperatures(with_context(folds()))
    report = report_of(made, "holdout")
    holdout = report["protocols"]["holdout"]
    assert holdout["calibrated"]["temperatures"] == [1.25 + 0.25 * number for number in made]
    assert holdout["calibrated"]["fitted_on"] == "the validation subjects"
    p = np.concatenate([fold.probabilities for fold in made.values()]).astype(float)
    temperature = np.concatenate([fold.temperature for fold in made.values()])
    scaled = np.exp(np.log(np.maximum(p, 1e-300)) / temperature[:, None])
    scaled /= scaled.sum(axis=1, keepdims=True)
    y_true, y_pred = (np.concatenate([fold.arrays[name] for fold in made.values()]) for name in ("y_true", "y_pred"))
    expected = statistics.calibration(y_true, y_pred, scaled)
    assert holdout["calibrated"]["ece"] == pytest.approx(expected["ece"])
    assert holdout["calibration"] == report_of(folds(), "holdout")["protocols"]["holdout"]["calibration"]
    assert report["protocols"]["last_epoch"]["calibrated"] is None
    assert report["protocols"]["context"]["calibrated"]["temperatures"] == [2.5 + 0.5 * number for number in made]
    labels = list(dict.fromkeys(column(workbook(made)["calibration"], "protocol")))
    assert sum("with the temperatures 1.25 to 1.50, fitted" in (label or "") for label in labels) == 1
    assert f", {100 * holdout['calibrated']['ece']:.1f} % with the temperatures 1.25 to" in summary(report)


def test_the_sheet_of_the_review_has_each_row_of_the_curve(workbook):
    sheet, curve = workbook(folds())["review"], report_of(folds(), "holdout")["review"]["holdout"]
    assert column(sheet, "% looked at") == [row["percent"] for row in curve["rows"]]
    assert column(sheet, "kappa") == pytest.approx([row["kappa"] for row in curve["rows"]])
    assert column(sheet, "macro F1 % at random") == pytest.approx(
        [100 * row["random"]["macro_f1"] for row in curve["rows"]]
    )
    assert column(sheet, "changed") == [row["n_changed"] for row in curve["rows"]]
    assert column(sheet, "% until kappa 0.90") == [curve["goal_percent"]] * 5
