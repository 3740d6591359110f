"""Metrics. A function named in `__all__` can stand in the configuration's `metrics` and be its monitor.

A metric takes `y_true` and `y_pred`, integer arrays of shape (n_sleep_epochs,) with stages 0 to 4, of all sleep epochs
pooled, and returns a fraction. Means over stages are over those that occur in `y_true` or `y_pred`.

scikit-learn is imported by the functions that use it: it takes a second, for which no first training step waits.
"""

import numpy as np

from utils.stages import N_STAGES

__all__ = ["accuracy", "kappa", "macro_f1", "mgm"]


def accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Share of sleep epochs whose stage is right."""
    from sklearn import metrics

    return float(metrics.accuracy_score(y_true, y_pred))


def macro_f1(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean of the stages' F1."""
    from sklearn import metrics

    return float(metrics.f1_score(y_true, y_pred, average="macro", zero_division=0))


def kappa(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Cohen's kappa; 0 where it is not defined (one and the same stage throughout)."""
    from sklearn import metrics

    matrix = confusion_matrix(y_true, y_pred)
    by_chance = matrix.sum(0) @ matrix.sum(1) / matrix.sum() ** 2
    return float(metrics.cohen_kappa_score(y_true, y_pred)) if by_chance < 1 else 0.0


def mgm(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Macro G-mean: mean over the stages of sqrt(sensitivity * specificity)."""
    occurs = np.union1d(y_true, y_pred)
    return float(per_class(y_true, y_pred)["g_mean"][occurs].mean())


def confusion_matrix(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Count true stages (rows) against predicted ones (columns), shape (5, 5)."""
    from sklearn import metrics

    return metrics.confusion_matrix(y_true, y_pred, labels=range(N_STAGES))


def per_class(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1, G-mean and support of each stage.

    Returns
    -------
    dict of str to ndarray of shape (5,)
        `precision`, `recall`, `f1`, `g_mean` as fractions (0 where not defined) and `support`, a count.
    """
    from sklearn import metrics

    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        y_true, y_pred, labels=range(N_STAGES), zero_division=0
    )
    matrix = confusion_matrix(y_true, y_pred)
    negatives = matrix.sum() - matrix.sum(axis=1)
    false_positives = matrix.sum(axis=0) - np.diag(matrix)
    specificity = np.divide(negatives - false_positives, negatives, out=np.ones(N_STAGES), where=negatives > 0)
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "g_mean": np.sqrt(recall * specificity),
        "support": support,
    }
