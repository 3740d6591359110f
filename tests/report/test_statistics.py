import math
from pathlib import Path

import numpy as np
import pytest
from report_inputs import predictions, report_of
from scipy.stats import wilcoxon

from model import metric
from report import statistics
from report.wording import METRICS


def stages(rng, n, occurring=5):
    return rng.integers(0, occurring, n), rng.integers(0, occurring, n)


def test_confusion_matrices_are_counted_for_each_group():
    groups = np.array(["b", "a", "b", "b"])
    names, matrices = statistics.counts_by_group(groups, np.array([0, 1, 0, 4]), np.array([0, 1, 2, 3]))
    assert names.tolist() == ["a", "b"]
    assert {(*cell,): matrices[tuple(cell)] for cell in np.argwhere(matrices).tolist()} == {
        (0, 1, 1): 1,
        (1, 0, 0): 1,
        (1, 0, 2): 1,
        (1, 4, 3): 1,
    }


PUBLISHED = {name: getattr(metric, name) for name in METRICS}


@pytest.fixture
def subjects():
    """Seven subjects; N3 is true of one alone and never predicted of others, and REM does not occur."""
    rng = np.random.default_rng(1)
    drawn = [stages(rng, n, 3) for n in (3, 50, 20, 80, 10, 40, 30)]
    drawn[0] = (np.array([3, 3, 3, 0]), np.array([3, 3, 0, 0]))
    return drawn


def test_intervals_are_those_of_a_plain_bootstrap_with_the_same_draws(subjects, monkeypatch):
    draws = np.random.default_rng(2).integers(0, 7, (100, 7))
    monkeypatch.setattr(statistics, "draw", lambda n: draws)
    counts = np.stack([metric.confusion_matrix(*pair) for pair in subjects])
    plain = {name: [] for name in PUBLISHED}
    f1 = [[] for _ in range(5)]
    for draw in draws:
        y_true, y_pred = (np.concatenate([subjects[subject][side] for subject in draw]) for side in (0, 1))
        for name, values in plain.items():
            values.append(PUBLISHED[name](y_true, y_pred))
        for stage in np.union1d(y_true, y_pred):
            f1[stage].append(metric.per_class(metric.confusion_matrix(y_true, y_pred))["f1"][stage])
    intervals, f1_intervals = statistics.intervals(PUBLISHED, counts), statistics.f1_intervals(counts)
    for name, values in plain.items():
        assert intervals[name] == pytest.approx(statistics.interval(np.array(values), 7)), name
    assert 0 < len(f1[3]) < 100
    n_subjects = metric.occurs(counts).sum(0)
    for stage in range(3):
        assert f1_intervals[stage] == pytest.approx(statistics.interval(np.array(f1[stage]), n_subjects[stage])), stage
    assert f1_intervals[3:] == [None, None]  # N3 occurs in one subject, REM in none


def test_intervals_computed_again_are_the_same_and_contain_the_figure(subjects):
    counts = np.stack([metric.confusion_matrix(*pair) for pair in subjects])
    intervals = statistics.intervals(PUBLISHED, counts)
    assert intervals == statistics.intervals(PUBLISHED, counts)
    low, high = intervals["accuracy"]
    assert low < metric.evaluate(metric.accuracy, counts.sum(0)) < high


def test_a_metric_by_hand_has_the_interval_of_its_formula(subjects):
    def by_hand(y_true, y_pred):
        return (y_true == y_pred).mean()

    counts = np.stack([metric.confusion_matrix(*pair) for pair in subjects])
    intervals = statistics.intervals({"by_hand": by_hand, "accuracy": metric.accuracy}, counts)
    assert intervals["by_hand"] == pytest.approx(intervals["accuracy"])


def test_there_are_2000_draws_of_as_many_subjects():
    draws = statistics.draw(20)
    assert draws.shape == (2000, 20)
    assert set(draws.ravel()) == set(range(20))


def test_an_interval_leaves_two_and_a_half_percent_out_at_either_end_and_less_with_few_subjects():
    values = np.random.default_rng(0).permutation(np.append(np.arange(1001.0), np.nan))
    assert statistics.interval(values, 10**6) == pytest.approx([25, 975], abs=1e-3)
    # 97.5 % point of Student's t with 9 degrees of freedom: 2.26216; normal distribution below -2.26216 * sqrt(10 / 9)
    assert statistics.interval(values, 10) == pytest.approx([8.55, 991.45], abs=0.01)
    assert statistics.interval(values, 2) == pytest.approx([0, 1000], abs=1e-6)
    assert statistics.interval(values, 1) is None
    assert statistics.interval(np.array([np.nan]), 10) is None


def test_intervals_over_ten_subjects_hold_93_times_of_100():
    rng = np.random.default_rng(0)
    n_right = rng.binomial(800, rng.normal(0.8, 0.06, (400, 10)))
    held = {"accuracy": 0, "difference": 0}
    for of_sample in n_right:
        counts = np.zeros((10, 5, 5), int)
        counts[:, 0, 0], counts[:, 0, 1] = of_sample, 800 - of_sample
        limits = {
            "accuracy": statistics.intervals({"accuracy": metric.accuracy}, counts)["accuracy"],
            "difference": statistics.paired_difference(np.full(10, 0.8), of_sample / 800)["interval"],
        }
        for name, true in (("accuracy", 0.8), ("difference", 0)):
            held[name] += limits[name][0] <= true <= limits[name][1]
    assert min(held.values()) >= 0.93 * 400


def test_what_is_said_of_few_subjects_is_what_the_documentation_measured():
    lines = (Path(__file__).parents[2] / "docs/intervals.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.count("|") == 8 and line[2].isdecimal()]
    measured = {int(n): [float(cell) for cell in cells] for n, *cells in rows}  # three figures normal, three skewed
    for n, (normal, skewed) in statistics.HOLDS.items():
        assert (normal, skewed) == pytest.approx((min(measured[n][:3]), min(measured[n][3:])), abs=1), n
    fewest = min(n for n, said in statistics.HOLDS.items() if min(said) >= statistics.ENOUGH)
    assert statistics.few_subjects(fewest) == ""
    assert "With 7 subjects these intervals hold less often than they say: about 93 of 100" in statistics.few_subjects(
        7
    )


NIGHTS = {"SC4001E0": [1] * 4, "SC4002E0": [0] * 4, "SC4011E0": [0] * 4, "SC4012E0": [1] * 4}
"""Of each subject, one night is all right and one all wrong: N1 throughout."""


def test_the_nights_of_a_subject_are_drawn_together():
    nights = {name: ([1] * 4, y_pred) for name, y_pred in NIGHTS.items()}
    together = report_of({0: predictions(nights)})["protocols"]["released"]
    assert together["accuracy"] == 0.5
    assert together["intervals"]["accuracy"] == [0.5, 0.5]
    apart = report_of({0: predictions(nights, pattern="(.*)")})["protocols"]["released"]
    assert apart["intervals"]["accuracy"] == [0, 1]


def test_the_nights_of_a_subject_are_drawn_together_even_from_two_folds():
    folds = {number: predictions({name: ([1] * 4, NIGHTS[name])}) for number, name in enumerate(NIGHTS)}
    assert report_of(folds)["protocols"]["released"]["intervals"]["accuracy"] == [0.5, 0.5]


def test_a_report_on_one_subject_has_no_intervals():
    fold = predictions({name: ([1, 2], [1, 1]) for name in ("SC4001E0", "SC4002E0")})
    released = report_of({0: fold})["protocols"]["released"]
    assert released["intervals"] == dict.fromkeys(PUBLISHED)
    assert [figures["f1_interval"] for figures in released["per_class"].values()] == [None] * 5


def test_five_subjects_that_all_gain_differ_with_p_of_a_sixteenth():
    # 2 of the 2**5 ways to give signs to five ranks are as far out.
    computed = statistics.paired_difference(np.zeros(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert (computed["n"], computed["mean"]) == (5, pytest.approx(0.3))
    assert computed["p_value"] == pytest.approx(2 / 32)
    assert 0.1 < computed["interval"][0] < 0.3 < computed["interval"][1] < 0.5


def test_the_difference_is_after_minus_before():
    assert statistics.paired_difference(np.array([0.5, 0.5]), np.array([0.4, 0.2]))["mean"] == pytest.approx(-0.2)


def test_the_interval_of_a_difference_is_that_of_a_plain_bootstrap_with_the_same_draws():
    before, after = np.random.default_rng(3).random((2, 6))
    means = [np.mean([after[subject] - before[subject] for subject in draw]) for draw in statistics.draw(6)]
    computed = statistics.paired_difference(before, after)
    assert computed["interval"] == pytest.approx(statistics.interval(np.array(means), 6))


def test_no_difference_at_all_has_p_of_1():
    computed = statistics.paired_difference(np.full(4, 0.3), np.full(4, 0.3))
    assert computed == {"n": 4, "mean": 0, "interval": [0, 0], "p_value": 1}


def test_one_subject_has_a_difference_without_interval_and_p():
    computed = statistics.paired_difference(np.array([0.25]), np.array([0.75]))
    assert computed == {"n": 1, "mean": 0.5, "interval": None, "p_value": None}


def test_subjects_without_a_figure_do_not_count_in_a_difference():
    difference = statistics.paired_difference(np.array([0.25, np.nan, 0.5]), np.array([0.75, 0.5, np.nan]))
    assert difference == {"n": 1, "mean": 0.5, "interval": None, "p_value": None}
    assert statistics.paired_difference(np.array([np.nan]), np.array([0.5]))["mean"] is None


def test_differences_equal_but_for_the_last_bit_are_ties():
    before, after = np.array([0.2, 0.1, 0.7, 0.5, 0.4]), np.array([0.3, 0.2, 0.8, 0.4, 0.7])
    assert len(np.unique(np.abs(after - before))) > 2
    assert statistics.paired_difference(before, after)["p_value"] == wilcoxon([1.0, 1, 1, -1, 3]).pvalue


def test_mean_and_standard_deviation_of_a_sample():
    assert statistics.mean_and_sd([1, 2, 3, 4]) == {"mean": 2.5, "sd": pytest.approx(math.sqrt(5 / 3))}
    assert statistics.mean_and_sd([7, None]) == {"mean": 7, "sd": None}
    assert statistics.mean_and_sd([None]) == {"mean": None, "sd": None}


def test_agreement_counts_the_nights_that_have_both():
    computed = statistics.agreement([10, 20, None, 30], [12, 19, 5, None])
    sd = math.sqrt(4.5)
    assert computed == {
        "n": 2,
        "true_mean": 15,
        "predicted_mean": 15.5,
        "mean": 0.5,
        "sd": pytest.approx(sd),
        "low": pytest.approx(0.5 - 1.96 * sd),
        "high": pytest.approx(0.5 + 1.96 * sd),
    }


def test_agreement_of_too_few_nights_has_holes():
    without = {"sd": None, "low": None, "high": None}
    assert statistics.agreement([10], [12]) == {"n": 1, "true_mean": 10, "predicted_mean": 12, "mean": 2, **without}
    without |= {"true_mean": None, "predicted_mean": None, "mean": None}
    assert statistics.agreement([None], [12]) == {"n": 0, **without}


def calibration(confidences, right):
    probabilities = np.array([[confidence, 0, 0, 0, 0] for confidence in confidences])
    return statistics.calibration(np.where(right, 0, 1), np.zeros(len(right), int), probabilities)


def test_the_calibration_error_is_that_worked_out_by_hand():
    computed = calibration([0.96, 0.94, 0.5], [True, False, True])
    assert computed["ece"] == pytest.approx(2 / 3 * (0.95 - 0.5) + 1 / 3 * (1 - 0.5))
    filled = {number: row for number, row in enumerate(computed["bins"]) if row["n"]}
    assert filled == {
        7: pytest.approx({"low": 7 / 15, "high": 8 / 15, "n": 1, "confidence": 0.5, "accuracy": 1}),
        14: pytest.approx({"low": 14 / 15, "high": 1, "n": 2, "confidence": 0.95, "accuracy": 0.5}),
    }
    assert len(computed["bins"]) == 15
    first = {"low": 0, "high": pytest.approx(1 / 15), "n": 0, "confidence": None, "accuracy": None}
    assert computed["bins"][0] == first


def test_a_bin_holds_its_upper_edge_and_the_last_one_what_rounding_puts_above_1():
    bins = calibration([0.2, 0.4, 1.0, 1.0000001], [True] * 4)["bins"]
    assert {number: row["n"] for number, row in enumerate(bins) if row["n"]} == {2: 1, 5: 1, 14: 2}


def test_sure_and_right_throughout_is_calibrated():
    assert calibration([1.0, 1.0], [True, True])["ece"] == 0


def test_predictions_are_compared_and_not_the_first_column():
    y_true, y_pred = np.array([2, 3]), np.array([2, 2])
    computed = statistics.calibration(y_true, y_pred, np.array([[0.1, 0.1, 0.6, 0.1, 0.1]] * 2))
    assert computed["ece"] == pytest.approx(0.1)
