import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from model import metric
from utils.errors import UserError

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
    value = getattr(metric, name)(Y_TRUE, Y_PRED)
    assert value == pytest.approx(HAND_WORKED[name], rel=1e-12)
    assert type(value) is float


def test_every_metric_that_a_configuration_can_name_is_tested_here():
    assert set(metric.__all__) == HAND_WORKED.keys()


def test_rows_of_the_confusion_matrix_are_true_stages():
    assert metric.confusion_matrix(Y_TRUE, Y_PRED).tolist() == MATRIX


def test_the_figures_of_each_stage_are_those_worked_out_by_hand():
    by_stage = metric.per_class(np.array(MATRIX))
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


def drawn_stages(occurring):
    """Stages of nights of 1 to 1000 sleep epochs, drawn from the first `occurring` ones."""
    rng = np.random.default_rng(occurring)
    return [rng.integers(0, occurring, (2, n)) for n in (1, 2, 3, 5, 10, 100, 1000) for _ in range(5)]


@pytest.mark.parametrize("occurring", [5, 4, 2, 1])
@pytest.mark.filterwarnings("ignore")  # of scikit-learn, where a figure is not defined
def test_the_formulas_agree_with_scikit_learn_on_many_matrices_at_once(occurring):
    nights = drawn_stages(occurring)
    counts = np.stack([metric.confusion_matrix(*night) for night in nights])
    for matrix, night in zip(counts, nights, strict=True):
        np.testing.assert_array_equal(matrix, sklearn_metrics.confusion_matrix(*night, labels=range(5)))
    expected = {
        "accuracy": [sklearn_metrics.accuracy_score(*night) for night in nights],
        "macro_f1": [sklearn_metrics.f1_score(*night, average="macro", zero_division=0) for night in nights],
        "kappa": np.nan_to_num([sklearn_metrics.cohen_kappa_score(*night) for night in nights]),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(metric.evaluate(getattr(metric, name), counts), values, rtol=0, atol=1e-12)
    by_stage = [
        sklearn_metrics.precision_recall_fscore_support(*night, labels=range(5), zero_division=0) for night in nights
    ]
    for name, values in zip(("precision", "recall", "f1", "support"), zip(*by_stage, strict=True), strict=True):
        np.testing.assert_allclose(metric.per_class(counts)[name], values, rtol=0, atol=1e-12, err_msg=name)
    absent = [[stage not in np.union1d(*night) for stage in range(5)] for night in nights]
    np.testing.assert_array_equal(metric.occurs(counts), ~np.array(absent))


@pytest.mark.parametrize(
    ("name", "value"),
    # N3 is predicted but never true. W: precision 1, recall 1/2, F1 2/3, no negatives; N3: 0
    [("accuracy", 1 / 2), ("macro_f1", 1 / 3), ("kappa", 0), ("mgm", math.sqrt(1 / 2) / 2)],
)
def test_a_stage_that_is_only_predicted_pulls_the_means_down(name, value):
    assert getattr(metric, name)(np.array([0, 0]), np.array([0, 3])) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("name", "value"), [("accuracy", 1), ("macro_f1", 1), ("kappa", 0), ("mgm", 1)])
def test_one_stage_throughout_has_defined_metrics(name, value):
    same = np.full(7, 4)
    assert getattr(metric, name)(same, same) == value
    assert getattr(metric, name)(same, np.full(7, 2)) == 0


def test_kappa_does_not_overflow_on_many_sleep_epochs():
    y_true, y_pred = np.tile(Y_TRUE, 50_000).astype(np.int32), np.tile(Y_PRED, 50_000).astype(np.int32)
    assert metric.kappa(y_true, y_pred) == pytest.approx(HAND_WORKED["kappa"], rel=1e-9)


def test_a_plain_function_is_evaluated_on_labels_with_the_same_confusion_matrix():
    def kappa(y_true, y_pred):
        return sklearn_metrics.cohen_kappa_score(y_true, y_pred)

    counts = np.random.default_rng(0).integers(0, 9, (2, 3, 5, 5))
    np.testing.assert_array_equal(metric.confusion_matrix(*metric.labels(counts[1, 2])), counts[1, 2])
    np.testing.assert_allclose(metric.evaluate(kappa, counts), metric.evaluate(metric.kappa, counts), atol=1e-12)


def test_a_formula_for_one_matrix_only_is_called_for_each():
    @metric.from_counts
    def share_of_wake(counts):
        return counts[0].sum() / counts.sum()

    counts = np.random.default_rng(0).integers(1, 9, (7, 5, 5))
    expected = [matrix[0].sum() / matrix.sum() for matrix in counts]
    np.testing.assert_allclose(metric.evaluate(share_of_wake, counts), expected)


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "a value of type NoneType"), ("0.5", "type str"), (np.zeros(2), "type ndarray"), (np.nan, "gives nan")],
)
def test_a_metric_that_gives_no_number_is_named(value, said):
    def odd(y_true, y_pred):
        return value

    with pytest.raises(UserError, match=rf"^Metric odd gives .*{said.removeprefix('gives ')}, which is no number"):
        metric.number(odd, Y_TRUE, Y_PRED)
    assert np.isnan(metric.evaluate(odd, np.array([MATRIX]))).tolist() == [True]


def test_a_metric_that_fails_is_named_with_its_error():
    def odd(y_true, y_pred):
        raise KeyError("N1\nN2")

    with pytest.raises(UserError, match=r"^Metric odd fails: KeyError\('N1\\nN2'\)[^\n]*$"):
        metric.number(odd, Y_TRUE, Y_PRED)
    assert np.isnan(metric.evaluate(odd, np.array([MATRIX]))).tolist() == [True]


@pytest.mark.parametrize("value", [1, True, np.float32(0.5), np.array(0.5)])
def test_numbers_of_every_kind_are_numbers(value):
    assert metric.number(lambda y_true, y_pred: value, Y_TRUE, Y_PRED) == float(value)
