"""The report of an experiment's folds: pooled figures with intervals, per fold, per recording."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from model import metric
from model.metric import Metric
from report import statistics
from report.results import FITTED_ON, PROTOCOLS, Results, predicted_stages, read_results
from report.review_curve import review_curve
from report.tables import summary, write_workbook
from utils.config_fields import WORKBOOK_END
from utils.experiment import LOG_FILE, fold_directory, is_finished
from utils.files import write_text
from utils.lock import locked
from utils.logs import LOG, SUMMARY, log_to_file
from utils.sleep_statistics import sleep_statistics, transitions
from utils.stages import STAGE_NAMES


def write_report_if_complete(experiment: Path, num_folds: int) -> None:
    """Write the report into the last fold's folder if all folds are finished."""
    last = fold_directory(experiment, num_folds - 1)
    if all(is_finished(fold_directory(experiment, fold)) for fold in range(num_folds)):
        # Folds that are trained side by side may finish at the same time.
        with locked(last / LOG_FILE), log_to_file(last / LOG_FILE):
            write_report(read_results(experiment))
    else:
        missing = [str(fold) for fold in range(num_folds) if not is_finished(fold_directory(experiment, fold))]
        LOG.log(SUMMARY, f"No report yet, which comes with the last fold: fold {', '.join(missing)} not finished.")


def write_report(results: Results) -> dict[str, Any]:
    """Write the report into the folder of the last finished fold, log its summary, and return it.

    Earlier reports of a part of the folds, which it replaces, are removed from the other folds' folders.
    """
    from report.page import write_page  # these load matplotlib, for which a training run does not wait
    from report.plots import write_figures

    report = make_report(results)
    directory = results.report_directory
    workbook = directory / f"{results.name}{WORKBOOK_END}"
    write_text(directory / "report.json", json.dumps(report, indent=2) + "\n")
    write_workbook(workbook, report)
    figures = write_figures(directory / "figures", report, results)
    page = write_page(directory, report, results, figures)
    LOG.log(SUMMARY, summary(report))
    LOG.log(SUMMARY, f"Report: {page}\n        {workbook}\n        {directory / 'report.json'}")
    for fold in range(results.num_folds):
        other = fold_directory(results.experiment, fold)
        if other != directory and _is_partial(other / "report.json"):
            _remove_report(other, list(figures))
            LOG.log(SUMMARY, f"Removed the report of fewer folds in {other}: this one replaces it.")
    return report


def _is_partial(path: Path) -> bool:
    """Tell whether a `report.json` says that folds are missing."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["folds"]["missing"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remove_report(directory: Path, figures: Sequence[str]) -> None:
    """Remove the files of a report, by the names that `write_report` gives them, and nothing else."""
    # report.json, which tells that the report is partial, goes last: a removal that is interrupted can be repeated.
    patterns = [*(f"figures/{name}.*" for name in figures), "*_classification_report.xlsx", "report.html"]
    for path in [path for pattern in [*patterns, "report.json"] for path in directory.glob(pattern)]:
        path.unlink()
    with suppress(OSError):  # other files in it, or no such folder
        (directory / "figures").rmdir()


def make_report(results: Results) -> dict[str, Any]:
    """Evaluate the predictions of all folds pooled, per fold, and per recording.

    Returns
    -------
    dict
        Plain values, the content of `report.json`. The published metrics are fractions from 0 to 1; a metric that gives
        no number is None. `intervals` tells over how many subjects the intervals are, with a `note` if such intervals
        hold less often than they say. That of a stage's F1 is over the `n_subjects` in which the stage occurs. `sleep`
        has the statistics that need neither lights off nor lights on. `transitions` are those of the true hypnograms
        and of each protocol; `context_difference` is what the night context adds to the single sleep epochs, over
        subjects, or None without it, and `p_note` says how small its p values can be with few subjects. `calibration`
        is that of the network's own probabilities, `calibrated` that with the temperatures of the folds, or None where
        there are none. `review` is `review_curve` of the experiment's own protocol, and of the context if there is one.
        Of an evaluation on other nights, `per_fold` is empty, `timing` None, and `remarks` are what to know first.
    """
    predictions = results.predictions
    y_true, subject, recording = predictions.y_true, predictions.subject, predictions.recording
    y_pred, probabilities = {results.protocol: predictions.y_pred}, [predictions.probabilities]
    if results.evaluation is None:
        y_pred["last_epoch"] = predictions.y_pred_last_epoch
        probabilities.append(predictions.probabilities_last_epoch)
    if predictions.y_pred_context is not None and predictions.probabilities_context is not None:
        y_pred["context"] = predictions.y_pred_context
        probabilities.append(predictions.probabilities_context)
    hypnograms = {"true": y_true, **y_pred}
    counts = {name: statistics.counts_by_group(subject, y_true, stages)[1] for name, stages in y_pred.items()}
    statistics.warn_of_failures(results.metrics, [by_subject.sum(0) for by_subject in counts.values()])
    fold = np.repeat(list(results.folds), [len(of_fold.y_true) for of_fold in results.folds.values()])
    per_fold = _rows("fold", fold, y_true, y_pred, results.metrics) if results.evaluation is None else []
    per_recording = _rows("recording", recording, y_true, y_pred, results.metrics)
    for row, night in zip(per_recording, predictions.nights().values(), strict=True):
        row["subject"] = subject[night[0]].item()
        row["sleep"] = {
            name: sleep_statistics(predictions.sleep_epoch[night], stages[night]) for name, stages in hypnograms.items()
        }
    protocols = {
        name: {
            "label": PROTOCOLS[name],
            **_figures(counts[name], results.metrics),
            "folds": {
                figure: statistics.mean_and_sd([row[name][figure] for row in per_fold]) for figure in results.metrics
            },
            "calibration": statistics.calibration(y_true, stages, of_stages),
            "calibrated": _calibrated(results, name),
            "sleep_agreement": {
                statistic: statistics.agreement(
                    [row["sleep"]["true"][statistic] for row in per_recording],
                    [row["sleep"][name][statistic] for row in per_recording],
                )
                for statistic in per_recording[0]["sleep"]["true"]
            },
        }
        for (name, stages), of_stages in zip(y_pred.items(), probabilities, strict=True)
    }
    n_subjects = len(counts[results.protocol])
    missing = [number for number in range(results.num_folds) if number not in results.folds]
    difference = None
    if "context" in counts:
        difference = statistics.differences_by_subject(results.metrics, counts[results.protocol], counts["context"])
    return {
        "folds": {"finished": list(results.folds), "missing": missing},
        "metrics": list(results.metrics),
        "protocols": protocols,
        "per_fold": per_fold,
        "per_recording": per_recording,
        "transitions": {
            name: transitions(recording, predictions.sleep_epoch, stages) for name, stages in hypnograms.items()
        },
        "intervals": {"level": statistics.LEVEL, "n_subjects": n_subjects, "note": statistics.few_subjects(n_subjects)},
        "p_note": statistics.smallest_p(n_subjects) if difference else "",
        "context_difference": difference,
        "timing": _timing(results.seconds),
        "review": {
            name: review_curve(predictions, stages, of_stages.max(axis=1))
            for name, (stages, of_stages) in predicted_stages(predictions, results.protocol).items()
        },
        "remarks": results.evaluation["remarks"] if results.evaluation else [],
    }


def _timing(seconds: Mapping[int, float]) -> dict[str, Any] | None:
    """Say how long the folds trained; None if none was."""
    if not seconds:
        return None
    return {
        "per_fold": [{"fold": number, "seconds": of_fold} for number, of_fold in seconds.items()],
        "mean": np.mean(list(seconds.values())).item(),
        "total": np.sum(list(seconds.values())).item(),
    }


def _rows(
    column: str, groups: np.ndarray, y_true: np.ndarray, y_pred: Mapping[str, np.ndarray], metrics: Mapping[str, Metric]
) -> list[dict[str, Any]]:
    """Evaluate each group, such as each fold: one row for each, sorted."""
    rows: list[dict[str, Any]] = []
    for protocol, stages in y_pred.items():
        names, counts = statistics.counts_by_group(groups, y_true, stages)
        n = counts.sum((-2, -1)).tolist()
        rows = rows or [{column: name, "n": n[number]} for number, name in enumerate(names.tolist())]
        figures = statistics.evaluated(metrics, counts)
        for number, row in enumerate(rows):
            row[protocol] = {name: values[number] for name, values in figures.items()}
    return rows


def _calibrated(results: Results, protocol: str) -> dict[str, Any] | None:
    """Calibrate a protocol by the temperature of each fold; None where there is none."""
    name = {results.protocol: "temperature", "context": "temperature_context"}.get(protocol)
    if name not in results.predictions.arrays:
        return None
    stages, probabilities = predicted_stages(results.predictions, results.protocol)[protocol]
    return {
        "temperatures": [fold.arrays[name][0].item() for fold in results.folds.values()],
        "fitted_on": FITTED_ON[results.protocol],
        **statistics.calibration(results.predictions.y_true, stages, probabilities),
    }


def _figures(by_subject: np.ndarray, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Evaluate one protocol on everything pooled, with intervals over subjects."""
    counts = by_subject.sum(0)
    by_class = {name: values.tolist() for name, values in metric.per_class(counts).items()}
    by_class["n_subjects"] = metric.occurs(by_subject).sum(0).tolist()
    by_class["f1_interval"] = statistics.f1_intervals(by_subject)
    return {
        **statistics.evaluated(metrics, counts),
        "n": counts.sum().item(),
        "confusion_matrix": counts.tolist(),
        "per_class": {
            stage: {name: values[position] for name, values in by_class.items()}
            for position, stage in enumerate(STAGE_NAMES)
        },
        "intervals": statistics.intervals(metrics, by_subject),
    }
