"""What a review is worth: the figures after a scorer has corrected the least certain sleep epochs of each night."""

from typing import Any

import numpy as np

from model.metric import accuracy, confusion_matrix, evaluate, kappa, macro_f1
from report import statistics
from utils.experiment import Predictions
from utils.stages import N_STAGES

PERCENTS = (0, 5, 10, 20, 30)
"""Percent of each night's sleep epochs that a scorer looks at."""

GOAL = 0.9
"""A kappa; the report tells how much must be looked at to reach it."""

METRICS = {"accuracy": accuracy, "macro_f1": macro_f1, "kappa": kappa}


def review_curve(predictions: Predictions, y_pred: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
    """Evaluate predictions of which a scorer corrects some percent of each night, the least certain sleep epochs first.

    The true stage is taken for what the scorer sees.

    Parameters
    ----------
    predictions : Predictions
        Of n sleep epochs.
    y_pred : ndarray of shape (n,)
    confidence : ndarray of shape (n,)
        Highest probability of each sleep epoch.

    Returns
    -------
    dict
        `rows`, one for each of PERCENTS: `percent` of each night, `n` sleep epochs that are looked at and `n_changed`
        of them; `accuracy`, `macro_f1`, `kappa` afterwards and their `intervals` over subjects; and `random`, the same
        three if as many were chosen at random. `goal`, a kappa, and `goal_percent`, the fewest whole percent after
        which it is reached; None if it never is, because one stage is true throughout.
    """
    y_true = predictions.y_true
    turn = turns(predictions, confidence)
    counts = confusion_matrix(y_true, y_pred)
    subject = np.unique(predictions.subject, return_inverse=True)[1]  # numbers are grouped faster than names
    rows = []
    for percent in PERCENTS:
        corrected = np.where(turn <= percent, y_true, y_pred)
        by_subject = statistics.counts_by_group(subject, y_true, corrected)[1]
        n = (turn <= percent).sum().item()
        rows.append(
            {
                "percent": percent,
                "n": n,
                "n_changed": (corrected != y_pred).sum().item(),
                **statistics.evaluated(METRICS, by_subject.sum(0)),
                "intervals": statistics.intervals(METRICS, by_subject),
                "random": statistics.evaluated(METRICS, corrected_at_random(counts, n / len(turn))),
            }
        )
    reached = np.flatnonzero(evaluate(kappa, counts_by_percent(turn, y_true, y_pred)) >= GOAL)
    return {"rows": rows, "goal": GOAL, "goal_percent": reached[0].item() if len(reached) else None}


def turns(predictions: Predictions, confidence: np.ndarray) -> np.ndarray:
    """Percent of its night that must be looked at before it is the turn of a sleep epoch: int, 1 to 100, shape (n,).

    The sleep epoch of rank r (0-based) among the n of its night is looked at if r + 1/2 is below percent / 100 * n.
    """
    turn = np.empty(len(confidence), np.int64)
    for night in predictions.nights().values():
        order = night[np.argsort(confidence[night], kind="stable")]
        turn[order] = 50 * (2 * np.arange(len(night)) + 1) // len(night) + 1
    return turn


def corrected_at_random(counts: np.ndarray, share: float) -> np.ndarray:
    """Map a confusion matrix, (5, 5), to the expected one after a share of it, chosen at random, is corrected."""
    return (1 - share) * counts + share * np.diag(counts.sum(axis=1))


def counts_by_percent(turn: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Confusion matrices, (101, 5, 5), after 0, 1, ... 100 percent of each night are corrected."""
    cell = (turn * N_STAGES + y_true) * N_STAGES + y_pred
    looked_at = np.bincount(cell, minlength=101 * N_STAGES**2).reshape(101, N_STAGES, N_STAGES).cumsum(axis=0)
    return looked_at[-1] - looked_at + looked_at.sum(axis=2)[:, :, None] * np.eye(N_STAGES, dtype=np.int64)
