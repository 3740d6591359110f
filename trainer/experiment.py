"""The folders of an experiment: `<save_dir>/<name>/fold_<k>/`, what is in them, and what may go into them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parse_config import differences
from utils.checkpoint import BEST, LAST
from utils.errors import UserError
from utils.files import replacing, write_text

CONFIG, DATA, PREDICTIONS = "config.json", "data.json", "predictions.npz"

UNIMPORTANT = ("n_gpu", "trainer.save_dir", "trainer.verbosity")
"""Keys of the configuration that do not change a result."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for the test set of one fold, or of several pooled.

    Attributes
    ----------
    recording : ndarray of shape (n,), str
    sleep_epoch : ndarray of shape (n,), int32
        Position in the night.
    y_true : ndarray of shape (n,), int64
    y_pred, y_pred_last_epoch : ndarray of shape (n,), int64
        By the weights that the protocol selected, and by those after the last training epoch.
    probabilities, probabilities_last_epoch : ndarray of shape (n, 5), float32
        Of W, N1, N2, N3, REM.
    """

    recording: np.ndarray
    sleep_epoch: np.ndarray
    y_true: np.ndarray
    y_pred: np.ndarray
    probabilities: np.ndarray
    y_pred_last_epoch: np.ndarray
    probabilities_last_epoch: np.ndarray


def fold_directory(experiment: Path, fold: int) -> Path:
    """Folder of a fold (0-based)."""
    return experiment / f"fold_{fold}"


def is_finished(directory: Path) -> bool:
    """Tell whether a fold is done: its predictions are the last thing that is written."""
    return (directory / PREDICTIONS).is_file()


def write_predictions(directory: Path, predictions: Predictions) -> None:
    """Write `predictions.npz`, without pickles, in one move."""
    with replacing(directory / PREDICTIONS) as temporary, temporary.open("wb") as file:
        np.savez(file, **vars(predictions))


def read_predictions(directory: Path) -> Predictions:
    """Read the `predictions.npz` of a fold.

    Raises
    ------
    UserError
        The file is missing or damaged.
    """
    path = directory / PREDICTIONS
    try:
        with np.load(path, allow_pickle=False) as npz:
            return Predictions(**npz)
    except Exception as error:  # numpy and zipfile raise many kinds on damaged bytes
        raise UserError(f"{path}: cannot be read ({error}). Remove it and train the fold again.") from error


def claim(directory: Path, config: Mapping[str, Any], data: Mapping[str, Any], overwrite: bool) -> None:
    """Make the folder of a fold ours, or refuse if it was made with another configuration or other data.

    Parameters
    ----------
    directory : Path
        Is made if it is missing.
    config : mapping
        Resolved configuration.
    data : mapping
        Checksum of each recording by name, for each set.
    overwrite : bool
        Remove an earlier run's results from the folder instead of refusing or going on.

    Raises
    ------
    UserError
        What differs.
    """
    if overwrite:
        _remove_results(directory)
    for name, value in ((CONFIG, _important(config)), (DATA, data)):
        path = directory / name
        before = _read(path)
        if before is None:
            continue
        changed = differences(_important(before) if name == CONFIG else before, value)
        if changed:
            raise UserError(
                f"{directory} holds a run with {'another configuration' if name == CONFIG else 'other data'}:\n  "
                + "\n  ".join([*changed[:10], *([f"and {len(changed) - 10} more"] if len(changed) > 10 else [])])
                + "\nTake another name (--set name=...), or --overwrite to replace that run."
            )
    write_text(directory / DATA, json.dumps(data, indent=1) + "\n")
    write_text(directory / CONFIG, json.dumps(config, indent=4) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    """Read an earlier run's JSON file; None if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Pass --overwrite to start this fold afresh.") from error


def _important(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leave out the keys that do not change a result."""
    return {
        key: _important(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in UNIMPORTANT
    }


def _remove_results(directory: Path) -> None:
    """Remove what a run of this fold wrote, and nothing else."""
    names = (CONFIG, DATA, PREDICTIONS, "metrics.csv", BEST, LAST)
    kept = directory.glob("checkpoint-epoch*.pth")
    for path in [*(directory / name for name in names), *kept]:
        path.unlink(missing_ok=True)
