import math

import numpy as np
import pytest

from model import metric

# true \ predicted   W  N1  N2  N3  REM
# W                  2   1
# N1                     1   1
# N2                 2       2
# N3 does not occur
# REM                                 1
Y_TRUE = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 4])
Y_PRED = np.array([0, 0, 1, 1, 2, 2, 2, 0, 0, 4])
MATRIX = [[2, 1, 0, 0, 0], [0, 1, 1, 0, 0], [2, 0, 2, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]

HAND_WORKED = {
    "accuracy": 6 / 10,
    "macro_f1": (4 / 7 + 1 / 2 + 4 / 7 + 1) / 4,
    # by chance: (3 * 4 + 2 * 2 + 4 * 3 + 1 * 1) / 100 = 0.29
    "kappa": (0.6 - 0.29) / (1 - 0.29),
    # sensitivity times specificity: W 2/3 * 5/7, N1 1/2 * 7/8, N2 1/2 * 5/6, REM 1
    "mgm": (math.sqrt(10 / 21) + math.sqrt(7 / 16) + math.sqrt(5 / 12) + 1) / 4,
}


@pytest.mark.parametrize("name", HAND_WORKED)
def test_the_metrics_are_those_worked_out_by_hand(name):
    assert getattr(metric, name)(Y_TRUE, Y_PRED) == pytest.approx(HAND_WORKED[name], rel=1e-12)


def test_every_metric_that_a_configuration_can_name_is_tested_here():
    assert set(metric.__all__) == HAND_WORKED.keys()


def test_rows_of_the_confusion_matrix_are_true_stages():
    assert metric.confusion_matrix(Y_TRUE, Y_PRED).tolist() == MATRIX


def test_the_figures_of_each_stage_are_those_worked_out_by_hand():
    by_stage = metric.per_class(Y_TRUE, Y_PRED)
    expected = {
        "precision": [1 / 2, 1 / 2, 2 / 3, 0, 1],
        "recall": [2 / 3, 1 / 2, 1 / 2, 0, 1],
        "f1": [4 / 7, 1 / 2, 4 / 7, 0, 1],
        "g_mean": [math.sqrt(10 / 21), math.sqrt(7 / 16), math.sqrt(5 / 12), 0, 1],
        "support": [3, 2, 4, 0, 1],
    }
    assert by_stage.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(by_stage[name], values, rtol=1e-12, err_msg=name)
    assert by_stage["support"].dtype.kind == "i"


@pytest.mark.parametrize(
    ("name", "value"),
    # N3 is predicted but never true. W: precision 1, recall 1/2, F1 2/3, no negatives; N3: 0
    [("accuracy", 1 / 2), ("macro_f1", 1 / 3), ("kappa", 0), ("mgm", math.sqrt(1 / 2) / 2)],
)
def test_a_stage_that_is_only_predicted_pulls_the_means_down(name, value):
    assert getattr(metric, name)(np.array([0, 0]), np.array([0, 3])) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("name", "value"), [("accuracy", 1), ("macro_f1", 1), ("kappa", 0), ("mgm", 1)])
@pytest.mark.parametrize("stage", [0, 4])
def test_one_stage_throughout_has_defined_metrics(name, value, stage):
    same = np.full(7, stage)
    assert getattr(metric, name)(same, same) == value


@pytest.mark.parametrize("name", HAND_WORKED)
def test_one_stage_throughout_that_is_never_hit_gives_zeros(name):
    assert getattr(metric, name)(np.full(7, 2), np.full(7, 4)) == 0


@pytest.mark.parametrize("name", HAND_WORKED)
def test_all_stages_right_gives_one(name):
    stages = np.array([0, 1, 2, 3, 4, 2])
    assert getattr(metric, name)(stages, stages) == 1


@pytest.mark.parametrize("name", HAND_WORKED)
def test_a_metric_is_a_plain_number(name):
    assert type(getattr(metric, name)(Y_TRUE, Y_PRED)) is float


def test_kappa_does_not_overflow_on_many_sleep_epochs():
    y_true, y_pred = np.tile(Y_TRUE, 50_000).astype(np.int32), np.tile(Y_PRED, 50_000).astype(np.int32)
    assert metric.kappa(y_true, y_pred) == pytest.approx(HAND_WORKED["kappa"], rel=1e-9)
