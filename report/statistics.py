"""How sure the figures are: intervals by bootstrap over subjects, paired differences, calibration, agreement.

The sleep epochs of a subject are not independent of each other, so whole subjects are resampled, with all their nights.
What a resample needs of a subject is its confusion matrix alone, and matrices add up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from utils.stages import N_STAGES

HEADLINE = ("accuracy", "macro_f1", "kappa", "mgm")
"""The metrics that are reported with an interval, beside each stage's F1."""

N_RESAMPLES = 2000

SEED = 0
"""Of the resamples, so that a report made again is the same."""

LEVEL = 95
"""Percent of the resamples that an interval holds."""

N_BINS = 15
"""Bins of the highest probability, as in Guo et al., On Calibration of Modern Neural Networks (ICML 2017)."""


def matrices_by_group(groups: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count true against predicted stages for each group, such as each subject.

    Parameters
    ----------
    groups : ndarray of shape (n,)
        Name of each sleep epoch's group.
    y_true, y_pred : ndarray of shape (n,)
        Stages 0 to 4.

    Returns
    -------
    names : ndarray of shape (n_groups,)
        Sorted.
    matrices : ndarray of shape (n_groups, 5, 5), int64
        Rows are true stages.
    """
    names, position = np.unique(groups, return_inverse=True)
    cell = (position * N_STAGES + y_true) * N_STAGES + y_pred
    counts = np.bincount(cell, minlength=len(names) * N_STAGES**2)
    return names, counts.reshape(len(names), N_STAGES, N_STAGES)


def scores(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the metrics of `model.metric` from confusion matrices, many at once.

    Parameters
    ----------
    matrices : ndarray of shape (..., 5, 5)
        Counts; rows are true stages.

    Returns
    -------
    dict of str to ndarray
        `accuracy`, `macro_f1`, `kappa`, `mgm` of shape (...), and `f1` of shape (..., 5), which is NaN for a stage
        that is neither true nor predicted.
    """
    matrices = np.asarray(matrices, np.float64)
    n, right = matrices.sum((-2, -1)), np.diagonal(matrices, axis1=-2, axis2=-1)
    true, predicted = matrices.sum(-1), matrices.sum(-2)
    accuracy = right.sum(-1) / n
    f1 = _ratio(2 * right, true + predicted, np.nan)
    negatives = n[..., None] - true
    specificity = _ratio(negatives - (predicted - right), negatives, 1)
    g_mean = np.where(np.isnan(f1), np.nan, np.sqrt(_ratio(right, true, 0) * specificity))
    by_chance = (true * predicted).sum(-1) / n**2
    return {
        "accuracy": accuracy,
        "macro_f1": np.nanmean(f1, axis=-1),
        "kappa": _ratio(accuracy - by_chance, 1 - by_chance, 0),
        "mgm": np.nanmean(g_mean, axis=-1),
        "f1": f1,
    }


def resample(n: int) -> np.ndarray:
    """Draw positions with replacement, shape (2000, n): each row is a resample of `n` subjects."""
    return np.random.default_rng(SEED).integers(0, n, (N_RESAMPLES, n))


def interval(values: np.ndarray) -> list[float] | None:
    """95 % percentile interval [low, high] of a figure over resamples; NaN does not count; None without a value."""
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    return np.percentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2]).tolist()


def intervals(matrices: np.ndarray, resamples: np.ndarray | None = None) -> dict[str, Any] | None:
    """Estimate 95 % intervals of the metrics by bootstrap over subjects.

    Parameters
    ----------
    matrices : ndarray of shape (n_subjects, 5, 5)
        Confusion matrix of each subject, all nights together.
    resamples : ndarray of shape (n_resamples, n_subjects) or None
        Positions of the subjects in each resample; None: 2000 seeded ones.

    Returns
    -------
    dict or None
        [low, high] by name of the metric, and under `f1` one for each stage (None for a stage that does not occur;
        the resamples that it does not occur in do not count). None if there are fewer than two subjects.
    """
    n_subjects = len(matrices)
    if n_subjects < 2:
        return None
    resamples = resample(n_subjects) if resamples is None else resamples
    # How often each subject is in each resample: a weight, so that a resample's matrix is a weighted sum.
    times = np.stack([np.bincount(drawn, minlength=n_subjects) for drawn in resamples])
    resampled = scores((times @ matrices.reshape(n_subjects, -1)).reshape(-1, N_STAGES, N_STAGES))
    return {name: interval(resampled[name]) for name in HEADLINE} | {"f1": [interval(f1) for f1 in resampled["f1"].T]}


def paired_difference(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Compare one figure of the same subjects in two experiments.

    Parameters
    ----------
    before, after : ndarray of shape (n_subjects,)
        Each subject's figure.

    Returns
    -------
    dict
        `n` subjects, `mean` of after - before, its 95 % `interval` by bootstrap over the subjects, and `p_value` of
        the two-sided Wilcoxon signed-rank test, which is 1 if no subject differs. The last two are None with fewer
        than two subjects.
    """
    # Rounded so that differences which are equal but for the last bit are ties, as the test ranks them.
    differences = np.round(np.asarray(after, np.float64) - before, 12)
    n = len(differences)
    result: dict[str, Any] = {"n": n, "mean": differences.mean().item(), "interval": None, "p_value": None}
    if n >= 2:
        result["interval"] = interval(differences[resample(n)].mean(axis=1))
        result["p_value"] = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return result


def differences_by_subject(
    subjects: np.ndarray, y_true: np.ndarray, before: np.ndarray, after: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Compare two predictions of the same sleep epochs: the `paired_difference` of each metric over the subjects.

    Parameters
    ----------
    subjects : ndarray of shape (n,)
        Name of each sleep epoch's subject.
    y_true, before, after : ndarray of shape (n,)
        Stages 0 to 4.
    """
    one, other = (scores(matrices_by_group(subjects, y_true, y_pred)[1]) for y_pred in (before, after))
    return {name: paired_difference(one[name], other[name]) for name in HEADLINE}


def mean_and_sd(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation (n - 1 in the denominator) of a sample; the latter None for a single value."""
    sd = np.std(values, ddof=1).item() if len(values) > 1 else None
    return {"mean": np.mean(values).item(), "sd": sd}


def agreement(true: Sequence[float | None], predicted: Sequence[float | None]) -> dict[str, Any]:
    """Say how well a measurement of the same nights agrees, as Bland and Altman do (Lancet 1986).

    Parameters
    ----------
    true, predicted : sequence of float or None
        One for each night; a night counts if both are there.

    Returns
    -------
    dict
        `n` nights, the `mean` of predicted - true, its `sd`, and the limits of agreement `low` and `high`,
        mean - 1.96 sd and mean + 1.96 sd. None where there are too few nights: none for the mean, one for the others.
    """
    differences = [b - a for a, b in zip(true, predicted, strict=True) if a is not None and b is not None]
    if not differences:
        return {"n": 0, "mean": None, "sd": None, "low": None, "high": None}
    mean, sd = np.mean(differences).item(), mean_and_sd(differences)["sd"]
    low, high = (None, None) if sd is None else (mean - 1.96 * sd, mean + 1.96 * sd)
    return {"n": len(differences), "mean": mean, "sd": sd, "low": low, "high": high}


def calibration(y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Compare how sure the predictions are with how often they are right.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n,)
    probabilities : ndarray of shape (n, 5)

    Returns
    -------
    dict
        `bins`, 15 of equal width, each from above `low` up to `high`, with `n` sleep epochs, their mean `confidence`
        (highest probability) and `accuracy` (None in an empty bin); and `ece`, the expected calibration error: the
        mean of |confidence - accuracy| over the bins, weighted by n.
    """
    confidence = np.asarray(probabilities, np.float64).max(axis=1)
    right = y_true == y_pred
    edges = np.arange(N_BINS + 1) / N_BINS
    # A softmax in float32 can reach a little above 1.
    position = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, N_BINS - 1)
    bins: list[dict[str, Any]] = []
    error = 0.0
    for number in range(N_BINS):
        inside = position == number
        row: Mapping[str, Any] = {"confidence": None, "accuracy": None}
        if inside.any():
            row = {"confidence": confidence[inside].mean().item(), "accuracy": right[inside].mean().item()}
            error += inside.sum().item() * abs(row["confidence"] - row["accuracy"])
        bins.append({"low": edges[number].item(), "high": edges[number + 1].item(), "n": inside.sum().item(), **row})
    return {"ece": error / len(y_true), "bins": bins}


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float) -> np.ndarray:
    """Divide; `otherwise` where the denominator is 0."""
    result = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise, np.float64)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)
