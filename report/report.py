"""The report of an experiment's folds: pooled metrics with intervals, per fold, per recording."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model import metric
from report import statistics
from report.results import PROTOCOLS, Results, pooled, read_results, subjects_of
from report.tables import fit_columns, summary, tables
from utils.experiment import LOG_FILE, METRICS, Predictions, fold_directory, is_finished
from utils.files import replacing, write_text
from utils.lock import locked
from utils.logs import LOG, SUMMARY, log_to_file
from utils.sleep_statistics import sleep_statistics, transitions
from utils.stages import STAGE_NAMES
from utils.subjects import subject_of

HEADLINE = {name: getattr(metric, name) for name in statistics.HEADLINE}


def write_report_if_complete(experiment: Path, num_folds: int) -> None:
    """Write the report into the last fold's folder if all folds are finished."""
    last = fold_directory(experiment, num_folds - 1)
    if all(is_finished(fold_directory(experiment, fold)) for fold in range(num_folds)):
        # Folds that are trained side by side may finish at the same time.
        with locked(last / LOG_FILE), log_to_file(last / LOG_FILE):
            write_report(experiment, range(num_folds))


def write_report(experiment: Path, folds: Sequence[int]) -> dict[str, Any]:
    """Write the classification report of some folds into the folder of the last of them, and log its headline.

    Parameters
    ----------
    experiment : Path
        `<save_dir>/<name>`.
    folds : sequence of int
        Finished folds.

    Returns
    -------
    dict
        What `report.json` holds.
    """
    return write(read_results(experiment, folds))


def make_report(
    folds: Mapping[int, Predictions],
    protocol: str = "released",
    subject_pattern: str | None = None,
    seconds: Mapping[int, float] | None = None,
    missing: Sequence[int] = (),
) -> dict[str, Any]:
    """Compute the metrics on the pooled predictions of all folds, per fold, and per recording.

    Parameters
    ----------
    folds : mapping of int to Predictions
        By number of the fold.
    protocol : str
        How the weights behind `y_pred` were selected: `released` or `holdout`.
    subject_pattern : str or None
        See `utils.subjects.subject_of`.
    seconds : mapping of int to float or None
        How long each fold trained, where that is known.
    missing : sequence of int
        Folds of the experiment that are not here.

    Returns
    -------
    dict
        Plain values; metrics are fractions from 0 to 1: `folds` (`finished`, `missing`), `protocols`, `per_fold`,
        `per_recording`, `transitions` (of the true hypnograms and by protocol), `context_difference` (what the model of
        the night adds to the single sleep epochs, over subjects; None without one), `timing`.
    """
    folds = dict(sorted(folds.items()))
    everything = pooled(list(folds.values()))
    predicted = {
        protocol: (everything.y_pred, everything.probabilities),
        "last_epoch": (everything.y_pred_last_epoch, everything.probabilities_last_epoch),
    }
    if everything.y_pred_context is not None and everything.probabilities_context is not None:
        predicted["context"] = (everything.y_pred_context, everything.probabilities_context)
    subjects = subjects_of(everything.recording, subject_pattern)
    y_pred = {name: by_name[0] for name, by_name in predicted.items()}
    fold = np.repeat(list(folds), [len(predictions.y_true) for predictions in folds.values()])
    per_fold = _rows("fold", fold, everything, y_pred)
    per_recording = _rows("recording", everything.recording, everything, y_pred)
    for row in per_recording:
        row["subject"] = subject_of(row["recording"], subject_pattern)
        row["sleep"] = _sleep(everything, everything.recording == row["recording"], y_pred)
    return {
        "folds": {"finished": list(folds), "missing": list(missing)},
        "protocols": {
            name: _scores(name, everything.y_true, y_pred[name], subjects)
            | {
                "folds": {
                    figure: statistics.mean_and_sd([row[name][figure] for row in per_fold]) for figure in HEADLINE
                },
                "calibration": statistics.calibration(everything.y_true, y_pred[name], probabilities),
                "sleep_agreement": _sleep_agreement(per_recording, name),
            }
            for name, (_, probabilities) in predicted.items()
        },
        "per_fold": per_fold,
        "per_recording": per_recording,
        "transitions": {
            name: transitions(everything.recording, everything.sleep_epoch, stages)
            for name, stages in {"true": everything.y_true, **y_pred}.items()
        },
        "context_difference": statistics.differences_by_subject(
            subjects, everything.y_true, everything.y_pred, everything.y_pred_context
        )
        if everything.y_pred_context is not None
        else None,
        "timing": _timing(list(folds), seconds or {}),
    }


def write(results: Results) -> dict[str, Any]:
    """Write the report of the folds in `results`; see `write_report`."""
    report = make_report(results.folds, results.protocol, results.subject_pattern, results.seconds, results.missing)
    directory = fold_directory(results.experiment, max(results.folds))
    workbook = directory / f"{results.name}_classification_report.xlsx"
    write_text(directory / "report.json", json.dumps(report, indent=2) + "\n")
    with replacing(workbook) as temporary, pd.ExcelWriter(temporary, engine="openpyxl") as writer:
        for sheet, table in tables(report).items():
            table.to_excel(writer, sheet_name=sheet)
            fit_columns(writer.sheets[sheet])
    page = _illustrate(results, report, directory)
    LOG.log(SUMMARY, summary(report))
    LOG.log(SUMMARY, f"Report: {page}\n        {workbook}\n        {directory / 'report.json'}")
    return report


def _illustrate(results: Results, report: Mapping[str, Any], directory: Path) -> Path:
    """Draw the figures and write the page; return the page."""
    from report.page import write_page  # these load matplotlib, for which a training run does not wait
    from report.plots import write_figures

    predictions = pooled(list(results.folds.values()))
    metrics = {fold: fold_directory(results.experiment, fold) / METRICS for fold in results.selected}
    figures = write_figures(directory / "figures", report, predictions, metrics, results.selected)
    return write_page(directory, report, predictions, figures, results.config)


def _rows(
    column: str, groups: np.ndarray, everything: Predictions, y_pred: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """One row of headline figures for each value of `groups`."""
    names, position = np.unique(groups, return_inverse=True)
    return [
        {column: name, "n": int((position == number).sum())}
        | {
            protocol: _headline(everything.y_true[position == number], predicted[position == number])
            for protocol, predicted in y_pred.items()
        }
        for number, name in enumerate(names.tolist())
    ]


def _scores(protocol: str, y_true: np.ndarray, y_pred: np.ndarray, subjects: np.ndarray) -> dict[str, Any]:
    """Metrics of one protocol on everything pooled, with their intervals."""
    by_class = metric.per_class(y_true, y_pred)
    intervals = statistics.intervals(statistics.matrices_by_group(subjects, y_true, y_pred)[1])
    f1_intervals = intervals.pop("f1") if intervals else [None] * len(STAGE_NAMES)
    return {
        "label": PROTOCOLS[protocol],
        **_headline(y_true, y_pred),
        "n": len(y_true),
        "confusion_matrix": metric.confusion_matrix(y_true, y_pred).tolist(),
        "per_class": {
            stage: {name: values[position].item() for name, values in by_class.items()}
            | {"f1_interval": f1_intervals[position]}
            for position, stage in enumerate(STAGE_NAMES)
        },
        "intervals": intervals,
    }


def _headline(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    return {name: function(y_true, y_pred) for name, function in HEADLINE.items()}


def _sleep(everything: Predictions, inside: np.ndarray, y_pred: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Sleep statistics of one recording, from its true hypnogram and from each predicted one."""
    hypnograms = {"true": everything.y_true, **y_pred}
    return {
        name: sleep_statistics(everything.sleep_epoch[inside], stages[inside]) for name, stages in hypnograms.items()
    }


def _sleep_agreement(per_recording: Sequence[Mapping[str, Any]], protocol: str) -> dict[str, Any]:
    """Compare each sleep statistic of the predicted hypnograms with that of the true ones."""
    nights = [row["sleep"] for row in per_recording]
    return {
        name: statistics.agreement(
            [night["true"][name] for night in nights], [night[protocol][name] for night in nights]
        )
        for name in nights[0]["true"]
    }


def _timing(folds: Sequence[int], seconds: Mapping[int, float]) -> dict[str, Any]:
    """How long training took: of each fold, their mean and their sum (None where it is not known)."""
    known = [seconds[fold] for fold in folds if fold in seconds]
    return {
        "per_fold": [{"fold": fold, "seconds": seconds.get(fold)} for fold in folds],
        "mean": float(np.mean(known)) if known else None,
        "total": float(np.sum(known)) if known else None,
    }
