import math

import numpy as np
import pytest
from report_inputs import predictions
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from report import statistics
from report.review_curve import review_curve

METRICS = {
    "accuracy": accuracy_score,
    "macro_f1": lambda y_true, y_pred: f1_score(y_true, y_pred, average="macro"),
    "kappa": cohen_kappa_score,
}


@pytest.fixture
def nights():
    """Six nights of three subjects, of odd lengths; the less certain, the more often wrong."""
    rng = np.random.default_rng(0)
    lengths = (307, 200, 151, 99, 40, 603)
    y_true = [rng.integers(0, 5, n) for n in lengths]
    confidence = [rng.uniform(0.2, 1, n) for n in lengths]
    y_pred = [
        np.where(rng.random(len(true)) < sure, true, rng.integers(0, 5, len(true)))
        for true, sure in zip(y_true, confidence, strict=True)
    ]
    names = [f"SC4{subject:02}{night}E0" for subject in range(3) for night in (1, 2)]
    made = predictions(dict(zip(names, zip(y_true, y_pred, strict=True), strict=True)))
    order = rng.permutation(len(made.y_true))  # the nights lie anywhere among each other
    return made.take(order), np.concatenate(confidence)[order]


def corrected(made, confidence, percent, at_random=None):
    """Correct night by night, one sleep epoch after the other."""
    stages, n_looked_at = made.y_pred.copy(), 0
    for name in set(made.recording.tolist()):
        night = [i for i in range(len(stages)) if made.recording[i] == name]
        n = math.ceil(percent * len(night) / 100 - 1 / 2)
        first = sorted(night, key=lambda i: confidence[i]) if at_random is None else at_random.permutation(night)
        for i in first[:n]:
            stages[i] = made.y_true[i]
        n_looked_at += n
    return stages, n_looked_at


@pytest.mark.parametrize("row", range(5))
def test_the_curve_is_that_of_nights_corrected_one_sleep_epoch_after_the_other(nights, row, monkeypatch):
    made, confidence = nights
    draws = statistics.draw(3)[:50]
    monkeypatch.setattr(statistics, "draw", lambda n: draws)
    found = review_curve(made, made.y_pred, confidence)["rows"][row]
    assert found["percent"] == (0, 5, 10, 20, 30)[row]
    stages, n = corrected(made, confidence, found["percent"])
    assert (found["n"], found["n_changed"]) == (n, (stages != made.y_pred).sum())
    subjects = [made.subject == subject for subject in sorted(set(made.subject.tolist()))]
    for name, metric in METRICS.items():
        assert found[name] == pytest.approx(metric(made.y_true, stages))
        drawn = [np.concatenate([np.flatnonzero(subjects[subject]) for subject in draw]) for draw in draws]
        values = np.array([metric(made.y_true[at], stages[at]) for at in drawn])
        assert found["intervals"][name] == pytest.approx(statistics.interval(values, 3))


def test_a_choice_at_random_is_the_mean_of_many(nights):
    made, confidence = nights
    rng = np.random.default_rng(1)
    for row in review_curve(made, made.y_pred, confidence)["rows"][1:]:
        draws = [corrected(made, confidence, row["percent"], rng)[0] for _ in range(100)]
        for name, metric in METRICS.items():
            mean = np.mean([metric(made.y_true, stages) for stages in draws])
            assert row["random"][name] == pytest.approx(mean, abs=0.003)
            assert row[name] > row["random"][name] + 0.005


def test_the_goal_is_reached_after_the_fewest_percent(nights):
    made, confidence = nights
    found = review_curve(made, made.y_pred, confidence)
    kappas = [cohen_kappa_score(made.y_true, corrected(made, confidence, percent)[0]) for percent in range(101)]
    assert found["goal"] == 0.9
    assert found["goal_percent"] == next(percent for percent, value in enumerate(kappas) if value >= 0.9)
    assert 20 < found["goal_percent"] < 80


def test_what_is_right_already_needs_no_review_and_one_stage_throughout_has_no_kappa():
    right = predictions({"a": ([0, 1, 2], [0, 1, 2])})
    assert review_curve(right, right.y_pred, np.ones(3))["goal_percent"] == 0
    same = predictions({"a": ([2, 2], [2, 1])})
    found = review_curve(same, same.y_pred, np.ones(2))
    assert found["goal_percent"] is None
    assert [row["n"] for row in found["rows"]] == [0, 0, 0, 0, 1]
    assert found["rows"][4]["intervals"]["accuracy"] is None
