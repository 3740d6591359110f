"""The results of an experiment: predictions and training histories of its finished folds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model import metric
from model.metric import Metric
from report.wording import METRICS as PUBLISHED
from utils.errors import UserError
from utils.experiment import (
    CONFIG,
    CONTEXT,
    EVALUATION,
    METRICS,
    Predictions,
    calibrated,
    fold_directory,
    is_finished,
    pooled,
    read_predictions,
)
from utils.files import name_problem
from utils.logs import LOG

PROTOCOLS = {
    "released": "selected on the test fold, optimistic",
    "holdout": "selected on the validation subjects, tested once",
    "last_epoch": "the last training epoch, which selects nothing",
    "context": "by the same selection, with the night around each sleep epoch",
    "other_nights": "networks trained elsewhere, evaluated once on these nights",
}
"""How the weights of each protocol are selected. An experiment has its own protocol (`released` or `holdout`), the last
training epoch, and `context` if it has a model of the night context. Networks that are evaluated on other nights have
`other_nights` alone."""

OTHER_NIGHTS = "other_nights"

FITTED_ON = {"released": "the training subjects", "holdout": "the validation subjects"}
"""On whom the temperatures of each fold are fitted."""


@dataclass(frozen=True)
class Results:
    """Finished folds of an experiment.

    Attributes
    ----------
    experiment : Path
        `<save_dir>/<name>`.
    config : dict
        Resolved configuration, the same for all folds.
    metrics : dict of str to function
        The published metrics, then the others of the configuration.
    folds, histories, context_histories, seconds : dict
        Predictions, `metrics.csv` (a row for each training epoch) of the network and of the model of the night context
        (none without one), and how long the fold trained, both models; by the number of the fold, ascending.
    evaluation : dict or None
        Of networks that were evaluated on other nights: `remarks`, `left_out`, `scored_by`, `networks`, `nights`. There
        is one fold then, 0, without history.
    """

    experiment: Path
    config: dict[str, Any]
    metrics: dict[str, Metric]
    folds: dict[int, Predictions]
    histories: dict[int, pd.DataFrame]
    context_histories: dict[int, pd.DataFrame]
    seconds: dict[int, float]
    evaluation: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the experiment's folder."""
        return self.experiment.resolve().name

    @cached_property
    def predictions(self) -> Predictions:
        """Predictions of all finished folds, pooled."""
        return pooled(list(self.folds.values()))

    @property
    def protocol(self) -> str:
        """`released`, `holdout` or `other_nights`."""
        return OTHER_NIGHTS if self.evaluation is not None else self.config["evaluation"]["protocol"]

    @property
    def report_directory(self) -> Path:
        """Where the report is written: the folder of the last finished fold, or that of an evaluation."""
        return self.experiment if self.evaluation is not None else fold_directory(self.experiment, max(self.folds))

    @property
    def num_folds(self) -> int:
        """Number of folds in the configuration, finished or not; 1 for an evaluation on other nights."""
        return 1 if self.evaluation is not None else self.config["data_loader"]["args"]["num_folds"]


def read_results(experiment: Path) -> Results:
    """Read the finished folds of an experiment; refuse a folder without any, and damaged files."""
    if problem := name_problem(experiment.resolve()):
        raise UserError(problem)
    if (experiment / EVALUATION).is_file():
        return _read_evaluation(experiment)
    results = Results(experiment, *_read_config(experiment), {}, {}, {}, {})
    for fold in range(results.num_folds):
        directory = fold_directory(experiment, fold)
        if not is_finished(directory):
            continue
        results.folds[fold] = read_predictions(directory)
        results.histories[fold] = _read_history(directory / METRICS)
        results.seconds[fold] = float(results.histories[fold]["seconds"].sum())
        if (directory / CONTEXT / METRICS).is_file():
            results.context_histories[fold] = _read_history(directory / CONTEXT / METRICS)
            results.seconds[fold] += float(results.context_histories[fold]["seconds"].sum())
    if not results.folds:
        raise UserError(f"{experiment}: no fold is finished. Train one with train_Kfold_CV.py.")
    _refuse_mixtures(results)
    return results


def _read_evaluation(directory: Path) -> Results:
    """Read the evaluation of networks on other nights."""
    path = directory / EVALUATION
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
        config = dict(evaluation["config"])
        names = [*PUBLISHED, *config.get("metrics", [])]
        [str(remark) for remark in evaluation["remarks"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error!r}). Evaluate again, with another --output.") from error
    metrics = {name: getattr(metric, name) for name in dict.fromkeys(names) if name in metric.__all__}
    return Results(directory, config, metrics, {0: read_predictions(directory)}, {}, {}, {}, evaluation)


def _refuse_mixtures(results: Results) -> None:
    """Refuse folds that are not of one run: a recording, or another night of its subject, is tested twice."""
    for what in ("recording", "subject"):
        tested: dict[str, int] = {}
        for fold, predictions in results.folds.items():
            for name in np.unique(predictions.arrays[what]).tolist():
                if name in tested:
                    raise UserError(
                        f"{results.experiment}: the {what} {name} is tested in fold {tested[name]} and in fold {fold}, "
                        "which are of different runs. Train all folds again: --fold_id all --overwrite."
                    )
                tested[name] = fold


def main_protocol(report: Mapping[str, Any]) -> str:
    """Name of the experiment's own protocol: `released` or `holdout`; or `other_nights`."""
    return next(iter(report["protocols"]))


def predicted_stages(predictions: Predictions, protocol: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stages and probabilities by the experiment's own protocol, and by the night context if there is one.

    The probabilities are calibrated if the temperature is known.
    """
    shown = {protocol: (predictions.y_pred, _calibrated(predictions.probabilities, predictions.temperature))}
    if predictions.y_pred_context is not None and predictions.probabilities_context is not None:
        probabilities = _calibrated(predictions.probabilities_context, predictions.temperature_context)
        shown["context"] = predictions.y_pred_context, probabilities
    return shown


def _calibrated(probabilities: np.ndarray, temperature: np.ndarray | None) -> np.ndarray:
    """Calibrate probabilities, (n, 5), if there is a temperature."""
    return probabilities if temperature is None else calibrated(probabilities, temperature)


def start_of(night: Predictions) -> datetime | None:
    """Start of the recording that a night is of; None if its date or its time of day is not known."""
    text = night.start_time[0].item()
    return datetime.fromisoformat(text) if "T" in text or " " in text else None


def typical_recording(report: Mapping[str, Any]) -> str:
    """Name of the recording of median accuracy (the lower of two) in a report."""
    protocol = main_protocol(report)
    rows = sorted(report["per_recording"], key=lambda row: (row[protocol]["accuracy"], row["recording"]))
    return rows[(len(rows) - 1) // 2]["recording"]


def folds_note(report: Mapping[str, Any]) -> str | None:
    """Note which folds a report includes; None if it includes all."""
    finished, missing = report["folds"]["finished"], report["folds"]["missing"]
    if not missing:
        return None
    numbers, rest = (", ".join(map(str, folds)) for folds in (finished, missing))
    return f"Partial: {len(finished)} of {len(finished) + len(missing)} folds ({numbers}); missing: {rest}"


def _read_config(experiment: Path) -> tuple[dict[str, Any], dict[str, Metric]]:
    """Read the configuration of one fold, which all folds share, and look up its metrics."""
    path = min(experiment.glob(f"fold_*/{CONFIG}"), default=None)
    if path is None:
        raise UserError(f"{experiment}: no experiment here (no fold_*/{CONFIG}). Pass a folder such as saved/Exp1.")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        int(config["data_loader"]["args"]["num_folds"])
        names = list(dict.fromkeys([*PUBLISHED, *config["metrics"]]))
        protocol = config["evaluation"]["protocol"]
        if protocol not in ("released", "holdout"):
            raise ValueError(f"evaluation.protocol is {protocol!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error!r}). Train the fold again.") from error
    unknown = [name for name in names if name not in metric.__all__]
    if unknown:
        LOG.warning(f"{path}: no metric {', '.join(unknown)} in model/metric.py any more; the report leaves it out.")
    return config, {name: getattr(metric, name) for name in names if name not in unknown}


def _read_history(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path).astype({"seconds": float})
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Train the fold again.") from error
