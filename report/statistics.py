"""Figures and how certain they are: bootstrap over subjects, paired differences, calibration, agreement.

The sleep epochs of a subject depend on each other, so whole subjects are resampled, with all their nights. A resample
needs only the confusion matrix of each subject, because confusion matrices add up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm, t, wilcoxon

from model.metric import Metric, evaluate, labels, number, occurs, per_class
from utils.errors import UserError
from utils.logs import LOG
from utils.stages import N_STAGES

N_RESAMPLES = 2000
SEED = 0  # of the resamples, so that the same predictions give the same report
LEVEL = 95  # percent of the resamples within an interval
HOLDS = {2: (50, 48), 3: (74, 71), 4: (88, 82), 5: (92, 88), 6: (93, 89), 8: (94, 90), 10: (94, 91), 20: (94, 93)}
"""How many of 100 intervals over at least so many subjects hold: where the subjects' figures spread normally, and where
they are skewed. From `python -m benchmarks.coverage`; see docs/intervals.md."""
ENOUGH = 93  # of 100
N_BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks (ICML 2017)


def counts_by_group(groups: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the confusion matrix of each group of sleep epochs, such as each subject.

    `groups` of shape (n,) names the group of each sleep epoch. Returns the names, sorted, and the confusion matrices,
    (n_groups, 5, 5).
    """
    names, position = np.unique(groups, return_inverse=True)
    cell = (position * N_STAGES + y_true) * N_STAGES + y_pred
    counts = np.bincount(cell, minlength=len(names) * N_STAGES**2)
    return names, counts.reshape(len(names), N_STAGES, N_STAGES)


def evaluated(metrics: Mapping[str, Metric], counts: np.ndarray) -> dict[str, Any]:
    """Evaluate each metric on confusion matrices (..., 5, 5): plain numbers of shape (...), None instead of NaN."""
    values = {name: evaluate(metric, counts) for name, metric in metrics.items()}
    return {name: np.where(np.isnan(numbers), np.array(None), numbers).tolist() for name, numbers in values.items()}


def warn_of_failures(metrics: Mapping[str, Metric], matrices: Sequence[np.ndarray]) -> None:
    """Log a warning for each metric that gives no number for one of several whole confusion matrices (5, 5)."""
    for metric in metrics.values():
        try:
            for counts in matrices:
                number(metric, *labels(counts))
        except UserError as error:
            LOG.warning(f"{error} The report has no figure where it gives none.")


def draw(n: int) -> np.ndarray:
    """Draw 2000 times `n` of `n` subjects with replacement: their positions, shape (2000, n)."""
    return np.random.default_rng(SEED).integers(0, n, (N_RESAMPLES, n))


def resample(by_subject: np.ndarray) -> np.ndarray:
    """Draw subjects with replacement and sum their confusion matrices.

    Maps (n_subjects, 5, 5) to (2000, 5, 5), always the same, or to (0, 5, 5) with fewer than two subjects.
    """
    n = len(by_subject)
    if n < 2:
        return by_subject[:0]
    times_drawn = np.stack([np.bincount(positions, minlength=n) for positions in draw(n)])
    return np.tensordot(times_drawn, by_subject, axes=1)


def interval(values: np.ndarray, n: int) -> list[float] | None:
    """Compute the 95 % interval of a figure by the expanded percentile bootstrap of Hesterberg.

    The percentile interval ignores that the spread of n subjects is itself uncertain, and is too narrow for few of
    them. The expanded one takes percentiles further out, so that for a mean it is about as wide as Student's t
    interval: T. Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015), 371.
    `docs/intervals.md` tells how often such intervals hold.

    Parameters
    ----------
    values : ndarray of shape (n_resamples,)
        The figure of each resample. NaN does not count.
    n : int
        Number of subjects from which the resamples were drawn.

    Returns
    -------
    list of two float or None
        Lower and upper limit. They are figures of resamples, so they never leave the range of the figure. None with
        fewer than two subjects, or without a value.
    """
    values = values[~np.isnan(values)]
    if n < 2 or len(values) == 0:
        return None
    tail = 100 * norm.cdf(np.sqrt(n / (n - 1)) * t.ppf((1 - LEVEL / 100) / 2, n - 1))
    return np.percentile(values, [tail, 100 - tail]).tolist()


def few_subjects(n: int) -> str:
    """Say how often intervals over `n` subjects hold if that is clearly less often than they say; else nothing."""
    if n < 2:
        return "No intervals: they come from resampling subjects, and there is only one."
    normal, skewed = HOLDS[max(fewest for fewest in HOLDS if fewest <= n)]
    if min(normal, skewed) >= ENOUGH:
        return ""
    return (
        f"With {n} subjects these intervals hold less often than they say: about {normal} of 100, "
        f"or {skewed} where a few subjects are far worse than the others."
    )


def smallest_p(n: int) -> str:
    """Say how small the p value of the signed-rank test over `n` subjects can be at all if that is above 5 %."""
    if not 2 <= n < 6:
        return ""
    return f"With {n} subjects p is never below {2 ** (1 - n):.3g}, however large the differences are."


def intervals(metrics: Mapping[str, Metric], by_subject: np.ndarray) -> dict[str, list[float] | None]:
    """95 % interval of each metric of the pooled confusion matrices of subjects, (n_subjects, 5, 5)."""
    resamples = resample(by_subject)
    return {name: interval(evaluate(metric, resamples), len(by_subject)) for name, metric in metrics.items()}


def f1_intervals(by_subject: np.ndarray) -> list[list[float] | None]:
    """95 % interval of each stage's F1, from the subjects, (n_subjects, 5, 5), and resamples in which it occurs."""
    resamples = resample(by_subject)
    f1 = np.where(occurs(resamples), per_class(resamples)["f1"], np.nan)
    return [interval(values, n) for values, n in zip(f1.T, occurs(by_subject).sum(0).tolist(), strict=True)]


def paired_difference(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Compare a figure of the same subjects, (n_subjects,), in two experiments; a subject with NaN does not count.

    Returns
    -------
    dict
        `n` subjects, `mean` of after - before, its 95 % `interval` by bootstrap over the subjects, and `p_value` of
        the two-sided Wilcoxon signed-rank test, which is 1 if no subject differs. The last two are None with fewer
        than two subjects, and the mean is None without any.
    """
    # Rounded so that differences which are equal but for the last bit are ties, as the test ranks them.
    differences = np.round(np.asarray(after, np.float64) - before, 12)
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    mean = differences.mean().item() if n else None
    result: dict[str, Any] = {"n": n, "mean": mean, "interval": None, "p_value": None}
    if n >= 2:
        result["interval"] = interval(differences[draw(n)].mean(axis=1), n)
        result["p_value"] = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return result


def differences_by_subject(
    metrics: Mapping[str, Metric], before: np.ndarray, after: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Compute the `paired_difference` of each metric from the same subjects' confusion matrices (n_subjects, 5, 5)."""
    return {name: paired_difference(evaluate(each, before), evaluate(each, after)) for name, each in metrics.items()}


def mean_and_sd(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation (n - 1 in the denominator) of the values that are not None."""
    known = [value for value in values if value is not None]
    return {
        "mean": np.mean(known).item() if known else None,
        "sd": np.std(known, ddof=1).item() if len(known) > 1 else None,
    }


def agreement(true: Sequence[float | None], predicted: Sequence[float | None]) -> dict[str, Any]:
    """Compare a measurement of the same nights as Bland and Altman do (Lancet 1986); a night counts if it has both.

    Returns
    -------
    dict
        `n` nights, their means `true_mean` and `predicted_mean`, the `mean` of predicted - true, its `sd`, and the
        limits of agreement `low` and `high`, mean - 1.96 sd and mean + 1.96 sd. The means are None without a night, the
        others with fewer than two.
    """
    pairs = [(a, b) for a, b in zip(true, predicted, strict=True) if a is not None and b is not None]
    mean, sd = mean_and_sd([b - a for a, b in pairs]).values()
    low, high = (None, None) if mean is None or sd is None else (mean - 1.96 * sd, mean + 1.96 * sd)
    means = {
        f"{name}_mean": mean_and_sd([pair[side] for pair in pairs])["mean"]
        for side, name in enumerate(("true", "predicted"))
    }
    return {"n": len(pairs), **means, "mean": mean, "sd": sd, "low": low, "high": high}


def calibration(y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Compare the confidence of predictions, with probabilities (n, 5), with how often they are right.

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
    for bin_ in range(N_BINS):
        inside = position == bin_
        row: dict[str, Any] = {"low": edges[bin_].item(), "high": edges[bin_ + 1].item(), "n": inside.sum().item()}
        row |= {"confidence": None, "accuracy": None}
        if row["n"]:
            row |= {"confidence": confidence[inside].mean().item(), "accuracy": right[inside].mean().item()}
            error += row["n"] * abs(row["confidence"] - row["accuracy"])
        bins.append(row)
    return {"ece": error / len(y_true), "bins": bins}
