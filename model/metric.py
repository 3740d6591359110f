"""Metrics. A function named in `__all__` can stand in the configuration's `metrics` and be its monitor.

A metric takes `y_true` and `y_pred`, int arrays of shape (n_sleep_epochs,) with stages 0 to 4, of all sleep epochs
pooled, and returns a number. It must not depend on their order: the report evaluates it on counts of each pair of a
true and a predicted stage. Any function of this kind will do, such as one that calls scikit-learn. The report calls
it some thousand times, for its interval over subjects.

The published metrics are formulas on confusion matrices (`from_counts`), which NumPy evaluates all at once.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from numbers import Real
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.stages import N_STAGES

__all__ = ["accuracy", "kappa", "macro_f1", "mgm"]

Metric = Callable[[np.ndarray, np.ndarray], float]

RESERVED = frozenset(
    """calibrated calibration confusion_matrix epoch evaluate fold folds from_counts intervals label labels loss n
    number occurs per_class recording seconds sleep sleep_agreement subject""".split()
)
"""Names that no metric can have: they stand beside the metrics in `metrics.csv` and `report.json`, or are used here."""


def confusion_matrix(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Count true stages (rows) against predicted ones (columns), shape (5, 5)."""
    return np.bincount(N_STAGES * y_true + y_pred, minlength=N_STAGES**2).reshape(N_STAGES, N_STAGES)


def from_counts(formula: Callable[[np.ndarray], np.ndarray]) -> Metric:
    """Make a metric of a formula that maps confusion matrices of shape (..., 5, 5) to numbers of shape (...)."""

    @wraps(formula)
    def metric(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return float(formula(confusion_matrix(y_true, y_pred)))

    metric.of_counts = formula  # type: ignore[attr-defined]
    return metric


@from_counts
def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of sleep epochs whose stage is right."""
    return counts.trace(axis1=-2, axis2=-1) / counts.sum((-2, -1))


@from_counts
def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 of the stages that are true or predicted anywhere."""
    return per_class(counts)["f1"].mean(axis=-1, where=occurs(counts))


@from_counts
def kappa(counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa; 0 where it is not defined (one and the same stage throughout)."""
    n = counts.sum((-2, -1))
    observed = counts.trace(axis1=-2, axis2=-1) / n
    by_chance = (counts.sum(-1) * counts.sum(-2)).sum(-1) / n**2
    return _ratio(observed - by_chance, 1 - by_chance)


@from_counts
def mgm(counts: np.ndarray) -> np.ndarray:
    """Macro G-mean: mean sqrt(sensitivity * specificity) of the stages that are true or predicted anywhere."""
    return per_class(counts)["g_mean"].mean(axis=-1, where=occurs(counts))


def per_class(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute precision, recall, F1, G-mean and support of each stage against all others.

    Maps confusion matrices, (..., 5, 5) with true stages as rows, to arrays of shape (..., 5): fractions, 0 where they
    are not defined, and `support`, a count.
    """
    right, true, predicted = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)
    negatives = true.sum(-1, keepdims=True) - true
    recall = _ratio(right, true)
    specificity = _ratio(negatives - (predicted - right), negatives, otherwise=1)
    return {
        "precision": _ratio(right, predicted),
        "recall": recall,
        "f1": _ratio(2 * right, true + predicted),
        "g_mean": np.sqrt(recall * specificity),
        "support": true,
    }


def occurs(counts: np.ndarray) -> np.ndarray:
    """Tell which stages are true or predicted anywhere, shape (..., 5)."""
    return counts.sum(-1) + counts.sum(-2) > 0


def evaluate(metric: Metric, counts: np.ndarray) -> np.ndarray:
    """Evaluate a metric on confusion matrices of shape (..., 5, 5); NaN where it fails or gives no number.

    A metric that `from_counts` made is evaluated by its formula, any other called once for each distinct matrix.
    """
    if hasattr(metric, "of_counts"):
        with suppress(Exception):  # a formula for one matrix only: it is called once for each below
            values = np.asarray(metric.of_counts(counts), np.float64)
            if values.shape == counts.shape[:-2]:
                return np.where(np.isfinite(values), values, np.nan)
    # Resamples of a few subjects are often the same.
    distinct, position = np.unique(counts.reshape(-1, N_STAGES**2), axis=0, return_inverse=True)
    values = np.full(len(distinct), np.nan)
    for row, of_row in enumerate(distinct):
        with suppress(UserError):
            values[row] = number(metric, *labels(of_row))
    return values[position].reshape(counts.shape[:-2])


def number(metric: Metric, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Call a metric; refuse one that fails or gives something that is no finite number."""
    name, labels_of_both = getattr(metric, "__name__", repr(metric)), [y_true.view(), y_pred.view()]
    for array in labels_of_both:
        array.setflags(write=False)  # a metric that changed them would falsify the others
    try:
        value: Any = metric(*labels_of_both)
        value = float(value.item() if getattr(value, "ndim", None) == 0 else value) if _is_number(value) else value
    except Exception as error:  # a metric is the user's own and may raise anything
        raise UserError(f"Metric {name} fails: {error!r}. Correct it in model/metric.py.") from error
    if not isinstance(value, float) or not math.isfinite(value):
        what = value if isinstance(value, float) else f"a value of type {type(value).__name__}"
        raise UserError(f"Metric {name} gives {what}, which is no number. Correct it in model/metric.py.")
    return value


def _is_number(value: object) -> bool:
    """Tell whether a metric's value is a number, or an array or tensor of one number without axes."""
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0


def labels(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make `y_true` and `y_pred` that have these counts, a confusion matrix of 25 cells."""
    y_true, y_pred = np.divmod(np.arange(N_STAGES**2), N_STAGES)
    return np.repeat(y_true, counts.ravel()), np.repeat(y_pred, counts.ravel())


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = 0) -> np.ndarray:
    """Divide; `otherwise` where the denominator is 0."""
    result = np.full(np.shape(numerator), otherwise, np.float64)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
