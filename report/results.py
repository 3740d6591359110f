"""What an experiment gave: the predictions of its finished folds and what is needed to report on them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils.errors import UserError
from utils.experiment import CONFIG, CONTEXT, METRICS, Predictions, fold_directory, is_finished, read_predictions
from utils.subjects import subject_of

PROTOCOLS = {
    "released": "selected on the test fold, optimistic",
    "holdout": "selected on the validation subjects, tested once",
    "last_epoch": "the last training epoch, which selects nothing",
    "context": "by the same selection, with the night around each sleep epoch",
}
"""What each protocol's figures are. An experiment has those of its own protocol, those of the last epoch, and those of
its model of the night, if it has one."""


@dataclass(frozen=True)
class Results:
    """Finished folds of an experiment.

    Attributes
    ----------
    experiment : Path
        `<save_dir>/<name>`.
    num_folds : int
        How many folds the configuration asks for.
    protocol : str
        `released` or `holdout`.
    subject_pattern : str or None
        See `utils.subjects.subject_of`.
    folds : dict of int to Predictions
        By number of the fold, ascending.
    seconds : dict of int to float
        How long each fold trained; a fold whose `metrics.csv` does not tell is left out.
    selected : dict of int to int
        Training epoch (1-based) that the monitor selected in each fold; left out as with `seconds`.
    config : dict
        Resolved configuration.
    """

    experiment: Path
    num_folds: int
    protocol: str
    subject_pattern: str | None
    folds: dict[int, Predictions]
    seconds: dict[int, float]
    selected: dict[int, int]
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.experiment.resolve().name

    @property
    def missing(self) -> list[int]:
        """Folds that are not here."""
        return sorted(set(range(self.num_folds)) - set(self.folds))


def is_experiment(folder: Path) -> bool:
    """Tell whether a folder has a fold in it."""
    return any(folder.glob(f"fold_*/{CONFIG}"))


def read_results(experiment: Path, folds: Sequence[int] | None = None) -> Results:
    """Read the folds of an experiment.

    Parameters
    ----------
    experiment : Path
        `<save_dir>/<name>`.
    folds : sequence of int or None
        Which; None: all that are finished.

    Raises
    ------
    UserError
        The folder is no experiment, none of its folds is finished, or a file is damaged.
    """
    config, num_folds, protocol, pattern = _settings(experiment)
    if folds is None:
        folds = [fold for fold in range(num_folds) if is_finished(fold_directory(experiment, fold))]
    if not folds:
        raise UserError(f"{experiment}: no fold is finished. Train one with train_Kfold_CV.py.")
    seconds = {fold: _seconds(fold_directory(experiment, fold)) for fold in sorted(folds)}
    selected = {fold: _selected(fold_directory(experiment, fold), protocol, config) for fold in seconds}
    return Results(
        experiment,
        num_folds,
        protocol,
        pattern,
        {fold: read_predictions(fold_directory(experiment, fold)) for fold in sorted(folds)},
        {fold: value for fold, value in seconds.items() if value is not None},
        {fold: value for fold, value in selected.items() if value is not None},
        config,
    )


def pooled(results: Sequence[Predictions]) -> Predictions:
    """Lay the predictions of several folds one after the other."""
    return Predictions(**{name: np.concatenate([fold.arrays[name] for fold in results]) for name in results[0].arrays})


def subjects_of(recording: np.ndarray, pattern: str | None) -> np.ndarray:
    """Name the subject of each sleep epoch.

    Parameters
    ----------
    recording : ndarray of shape (n,), str
    pattern : str or None
        See `utils.subjects.subject_of`.
    """
    names, position = np.unique(recording, return_inverse=True)
    return np.array([subject_of(name, pattern) for name in names.tolist()])[position]


def main_protocol(report: Mapping[str, Any]) -> str:
    """Name the protocol of a report that selected the training epoch: `released` or `holdout`."""
    return next((name for name in report["protocols"] if name != "last_epoch"), "last_epoch")


def typical_recording(report: Mapping[str, Any]) -> str:
    """Name the recording of median accuracy (the lower of two) in a report."""
    protocol = main_protocol(report)
    rows = sorted(report["per_recording"], key=lambda row: (row[protocol]["accuracy"], row["recording"]))
    return rows[(len(rows) - 1) // 2]["recording"]


def folds_note(report: Mapping[str, Any]) -> str | None:
    """Say of which folds a report is, if not of all of the experiment."""
    finished, missing = report["folds"]["finished"], report["folds"]["missing"]
    if not missing:
        return None
    return (
        f"Partial: {len(finished)} of {len(finished) + len(missing)} folds "
        f"({', '.join(map(str, finished))}); missing: {', '.join(map(str, missing))}"
    )


def _settings(experiment: Path) -> tuple[dict[str, Any], int, str, str | None]:
    """Read the configuration of a fold, and from it number of folds, protocol and subject pattern: all folds agree."""
    path = next(iter(sorted(experiment.glob(f"fold_*/{CONFIG}"))), None)
    if path is None:
        raise UserError(f"{experiment}: no experiment here (no fold_*/{CONFIG}). Pass a folder such as saved/Exp1.")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        arguments = config["data_loader"]["args"]
        num_folds, pattern = int(arguments["num_folds"]), arguments.get("subject_pattern")
        protocol = config.get("evaluation", {}).get("protocol", "released")
        if protocol not in ("released", "holdout"):
            raise ValueError(f"evaluation.protocol is {protocol!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as a fold's configuration ({error!r}). Train the fold again."
        ) from error
    return config, num_folds, protocol, pattern


def _seconds(directory: Path) -> float | None:
    """Add up how long the training epochs of a fold took, also of its model of the night; None if not written."""
    of_night = directory / CONTEXT / METRICS
    try:
        paths = [directory / METRICS, *([of_night] if of_night.is_file() else [])]
        return float(sum(pd.read_csv(path)["seconds"].sum() for path in paths))
    except (OSError, ValueError, KeyError, TypeError):  # a report is worth having without it
        return None


def _selected(directory: Path, protocol: str, config: dict[str, Any]) -> int | None:
    """Look up the training epoch that the monitor selected, the first one on a tie; None if that is not written."""
    try:
        direction, monitored = config["trainer"]["monitor"].split()
        rows = pd.read_csv(directory / METRICS)
        scores = rows[f"{'valid' if protocol == 'holdout' else 'test'}_{monitored}"]
        best = scores.to_numpy().argmax() if direction == "max" else scores.to_numpy().argmin()
        return int(rows["train_epoch"].to_numpy()[best])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a report is worth having without it
        return None
