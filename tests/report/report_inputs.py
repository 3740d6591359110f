"""What figures and page are made from, small and made by hand."""

import numpy as np

from report.report import make_report
from utils.experiment import Predictions

NIGHT = [0, 0, 1, 2, 3, 3, 2, 4, 4, 0]
"""Stages of a night that has them all."""


def night_predictions(nights, seed=0):
    """Predictions for {recording: stages}; one sleep epoch in four is wrong, and the sixth and seventh were dropped."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, stages in nights.items():
        y_true = np.asarray(stages, np.int64)
        y_pred = np.where(np.arange(len(y_true)) % 4 == 3, rng.choice(y_true, len(y_true)), y_true)
        probabilities = rng.dirichlet(np.ones(5), len(y_true)) * 0.4
        probabilities[np.arange(len(y_true)), y_pred] += 0.6
        position = 20 + np.arange(len(y_true)) + 2 * (np.arange(len(y_true)) >= 5)
        values = (np.repeat(name, len(y_true)), position.astype(np.int32), y_true, y_pred)
        parts.append((*values, probabilities.astype(np.float32), y_pred, probabilities.astype(np.float32)))
    return Predictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def report_of(predictions, protocol="released"):
    """Report with a fold for each recording."""
    names = np.unique(predictions.recording)
    folds = {
        fold: Predictions(**{key: value[predictions.recording == name] for key, value in predictions.arrays.items()})
        for fold, name in enumerate(names)
    }
    return make_report(folds, protocol=protocol, seconds=dict.fromkeys(folds, 61.0))


def without_extras(report):
    """Take away from a report what may be missing, in each of the ways it may be."""
    for number, scores in enumerate(report["protocols"].values()):
        for key in ("folds", "calibration", "sleep_agreement"):
            scores[key] = None
            if number:
                del scores[key]
        scores["intervals"] = None if number else dict.fromkeys(scores["intervals"] or {})
        for row in scores["per_class"].values():
            row["f1_interval"] = None
    for row in report["per_recording"]:
        row["sleep"] = row["subject"] = None
    report["timing"] = None
    return report


def write_metrics(directory, n_folds, n_train_epochs, scored_on="test"):
    """Write a metrics.csv for each fold; the loss of training epoch e of fold f is f + 1 / e."""
    paths = {}
    for fold in range(n_folds):
        names = ["loss", "accuracy", "macro_f1"]
        header = ["train_epoch", *(f"{part}_{name}" for part in ("train", scored_on) for name in names)]
        rows = [[e, *(2 * [fold + 1 / e, 1 - 0.5 / e, 1 - 0.7 / e])] for e in range(1, n_train_epochs + 1)]
        paths[fold] = directory / f"metrics_{fold}.csv"
        paths[fold].write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return paths
