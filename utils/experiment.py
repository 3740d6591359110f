"""The folders of an experiment, `<save_dir>/<name>/fold_<k>/`, the files in them, and the predictions of a fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.checkpoint import BEST, LAST
from utils.errors import UserError
from utils.files import replacing

CONFIG, DATA, METRICS, PREDICTIONS = "config.json", "data.json", "metrics.csv", "predictions.npz"
LOG_FILE = "info.log"

EVALUATION = "evaluation.json"
"""File, beside `predictions.npz`, that says how networks were evaluated on nights other than those of an experiment."""

CONTEXT = "context"
"""Folder, in that of a fold, of the model that reads the night around each sleep epoch."""

RESULTS = (PREDICTIONS, *(f"{folder}{name}" for folder in ("", f"{CONTEXT}/") for name in (BEST, LAST, METRICS)))
"""Files that hold what a fold gave."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for the test set of one fold, or of several pooled.

    Attributes
    ----------
    recording, subject : ndarray of shape (n,), str
    start_time : ndarray of shape (n,), str
        Start of the recording, ISO 8601; empty if not known.
    sleep_epoch : ndarray of shape (n,), int32
        Position in the night: it begins 30 * sleep_epoch s after `start_time`.
    y_true : ndarray of shape (n,), int64
    y_pred, y_pred_last_epoch : ndarray of shape (n,), int64
        By the weights that the protocol selected, and by those after the last training epoch.
    probabilities, probabilities_last_epoch : ndarray of shape (n, 5), float32
        Of W, N1, N2, N3, REM.
    selected_train_epoch : int or None
        1-based number of the training epoch that the protocol selected; None for several folds.
    y_pred_context, probabilities_context : ndarray or None
        The same as `y_pred` and `probabilities`, by the model of the night context, where the experiment has one.
    temperature, temperature_context : ndarray of shape (n,), float64, or None
        That of the fold's network and of its night context, for each sleep epoch; see `calibrated`. None if an earlier
        version of this project made the predictions.
    """

    recording: np.ndarray
    subject: np.ndarray
    start_time: np.ndarray
    sleep_epoch: np.ndarray
    y_true: np.ndarray
    y_pred: np.ndarray
    probabilities: np.ndarray
    y_pred_last_epoch: np.ndarray
    probabilities_last_epoch: np.ndarray
    selected_train_epoch: int | None = None
    y_pred_context: np.ndarray | None = None
    probabilities_context: np.ndarray | None = None
    temperature: np.ndarray | None = None
    temperature_context: np.ndarray | None = None

    @property
    def arrays(self) -> dict[str, Any]:
        """Arrays with a value for each sleep epoch, by name."""
        return {name: values for name, values in vars(self).items() if isinstance(values, np.ndarray)}

    def take(self, chosen: np.ndarray) -> "Predictions":
        """Take some sleep epochs: a mask, or positions in a new order."""
        return replace(self, **{name: values[chosen] for name, values in self.arrays.items()})

    def nights(self) -> dict[str, np.ndarray]:
        """Positions in the arrays of each recording's sleep epochs, by its name, sorted."""
        names, number = np.unique(self.recording, return_inverse=True)
        positions = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
        return dict(zip(names.tolist(), positions, strict=True))


def pooled(folds: Sequence[Predictions]) -> Predictions:
    """Concatenate the predictions of several folds; what one of them lacks is left out."""
    names = [name for name in folds[0].arrays if all(name in fold.arrays for fold in folds)]
    arrays: dict[str, Any] = {name: np.concatenate([fold.arrays[name] for fold in folds]) for name in names}
    return Predictions(**arrays)


def calibrated(probabilities: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Map softmax(logits), (n, 5), to softmax(logits / temperature), for temperatures (n,); float64."""
    powers = probabilities.astype(np.float64) ** (1 / temperature[:, None])
    return powers / powers.sum(axis=1, keepdims=True)


def fold_directory(experiment: Path, fold: int) -> Path:
    """Folder of a fold (0-based)."""
    return experiment / f"fold_{fold}"


def is_finished(directory: Path) -> bool:
    """Tell whether a fold is finished: its predictions are written last."""
    return (directory / PREDICTIONS).is_file()


def write_predictions(directory: Path, predictions: Predictions) -> None:
    """Write `predictions.npz`; an earlier one is replaced only once the new one is complete."""
    with replacing(directory / PREDICTIONS) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: value for name, value in vars(predictions).items() if value is not None})


def read_predictions(directory: Path) -> Predictions:
    """Read `predictions.npz` of a fold.

    Raises
    ------
    UserError
        The file is missing or damaged, or an earlier version of this project wrote it.
    """
    path = directory / PREDICTIONS
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            values = dict(npz)
        if "subject" in values:
            values.setdefault("start_time", np.full(len(values["subject"]), ""))  # earlier versions left it out
            if "selected_train_epoch" in values:
                values["selected_train_epoch"] = int(values["selected_train_epoch"])
            return Predictions(**values)
    except Exception as error:  # numpy and zipfile raise many kinds on damaged bytes
        raise UserError(f"{path}: cannot be read ({error}). Remove it and train the fold again.") from error
    raise UserError(f"{path}: an earlier version wrote it, without subjects. Remove it and train the fold again.")
