"""The folders of an experiment, `<save_dir>/<name>/fold_<k>/`, the files in them, and the predictions of a fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.checkpoint import BEST, LAST
from utils.errors import UserError
from utils.files import replacing

CONFIG, DATA, METRICS, PREDICTIONS = "config.json", "data.json", "metrics.csv", "predictions.npz"
LOG_FILE = "info.log"

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
    sleep_epoch : ndarray of shape (n,), int32
        Position in the night.
    y_true : ndarray of shape (n,), int64
    y_pred, y_pred_last_epoch : ndarray of shape (n,), int64
        By the weights that the protocol selected, and by those after the last training epoch.
    probabilities, probabilities_last_epoch : ndarray of shape (n, 5), float32
        Of W, N1, N2, N3, REM.
    selected_train_epoch : ndarray of shape (), int64
        That the protocol selected, 1-based.
    y_pred_context, probabilities_context : ndarray or None
        The same with the night around each sleep epoch, by the weights that the protocol selected, where the
        experiment has such a model.
    """

    recording: np.ndarray
    subject: np.ndarray
    sleep_epoch: np.ndarray
    y_true: np.ndarray
    y_pred: np.ndarray
    probabilities: np.ndarray
    y_pred_last_epoch: np.ndarray
    probabilities_last_epoch: np.ndarray
    selected_train_epoch: np.ndarray
    y_pred_context: np.ndarray | None = None
    probabilities_context: np.ndarray | None = None

    @property
    def arrays(self) -> dict[str, Any]:
        """Those that there are, by name."""
        return {name: values for name, values in vars(self).items() if values is not None}


def fold_directory(experiment: Path, fold: int) -> Path:
    """Folder of a fold (0-based)."""
    return experiment / f"fold_{fold}"


def is_finished(directory: Path) -> bool:
    """Tell whether a fold is done: its predictions are the last thing that is written."""
    return (directory / PREDICTIONS).is_file()


def write_predictions(directory: Path, predictions: Predictions) -> None:
    """Write `predictions.npz`, without pickles, in one move."""
    with replacing(directory / PREDICTIONS) as temporary, temporary.open("wb") as file:
        np.savez(file, **predictions.arrays)


def read_predictions(directory: Path) -> Predictions:
    """Read the `predictions.npz` of a fold.

    Raises
    ------
    UserError
        The file is missing or damaged.
    """
    path = directory / PREDICTIONS
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            return Predictions(**npz)
    except Exception as error:  # numpy and zipfile raise many kinds on damaged bytes
        raise UserError(f"{path}: cannot be read ({error}). Remove it and train the fold again.") from error
