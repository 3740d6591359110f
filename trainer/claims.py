"""Which run the folder of a fold belongs to: it is taken for this one, or refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_loader.folds import Fold
from parse_config import ConfigParser
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.experiment import CONFIG, CONTEXT, DATA, LOG_FILE, RESULTS, fold_directory
from utils.files import write_text
from utils.lock import held
from utils.nested import differences
from utils.recording import Outline

UNIMPORTANT = (
    "name",
    "n_gpu",
    "data_loader.args.resident",
    "trainer.save_dir",
    "trainer.tensorboard",
    "trainer.verbosity",
)
"""Keys of the configuration that do not change a result."""


def claim_folds(
    config: ConfigParser, folds: Sequence[Fold], outlines: Sequence[Outline], overwrite: bool, checkpoint: Path | None
) -> None:
    """Take the folders of some folds for this run.

    Parameters
    ----------
    config : ConfigParser
    folds : sequence of Fold
    outlines : sequence of Outline
        At least their recordings.
    overwrite : bool
        Remove the results of an earlier run; if these are all folds, also those of folds beyond them.
    checkpoint : Path or None
        From which the one fold is to go on.

    Raises
    ------
    UserError
        A folder belongs to another run, see `claim`; or the checkpoint does not fit, see `check_checkpoint`.
    """
    if checkpoint:
        check_checkpoint(checkpoint, folds[0].number, config.values)
    if overwrite and len(folds) == config["data_loader.args.num_folds"]:
        directories = sorted(config.experiment_dir.glob("fold_*"))
        for directory in directories:  # nothing is removed if another process is at work on one of them
            with held(directory / LOG_FILE):
                pass
        for directory in directories:
            _remove_results(directory)
    checksums = {outline.name: outline.checksum for outline in outlines}
    for fold in folds:
        sets = {"train": fold.train, "valid": fold.valid, "test": fold.test}
        data = {name: {recording: checksums[recording] for recording in of} for name, of in sets.items()}
        claim(fold_directory(config.experiment_dir, fold.number), config.values, data, overwrite)


def check_checkpoint(checkpoint: Path, fold: int, config: Mapping[str, Any]) -> None:
    """Refuse to go on with fold `fold` of a resolved configuration from a checkpoint that does not fit.

    One of another fold may have been trained on what this one tests on. One of another optimizer or scheduler brings
    the state of its own, so the configuration would say what is not so.

    Raises
    ------
    UserError
        Names what differs in the fold, in how the subjects were cut into folds, in optimizer or scheduler.
    """
    about = load_checkpoint(checkpoint)["about"]
    before = about.get("config", {})
    try:
        changed = differences(_cut(about.get("fold"), before), _cut(fold, config))
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:  # anything may stand there
        raise UserError(f"{checkpoint}: its configuration cannot be understood. Pass another checkpoint.") from error
    if changed:
        raise UserError(
            f"{checkpoint} is of another fold; it may have been trained on recordings that this one tests on:\n  "
            + "\n  ".join(changed)
            + "\nPass a checkpoint of the same fold."
        )
    stateful = ("optimizer", "lr_scheduler")
    if changed := differences({key: before.get(key) for key in stateful}, {key: config.get(key) for key in stateful}):
        raise UserError(
            f"{checkpoint} has the state of another optimizer or scheduler:\n  "
            + "\n  ".join(changed)
            + "\nGo on with those of the checkpoint, or train afresh without --resume."
        )


def claim(directory: Path, config: Mapping[str, Any], data: Mapping[str, Any], overwrite: bool) -> None:
    """Take the folder of a fold for this run; refuse it if another configuration or other data was used there.

    Parameters
    ----------
    directory : Path
        Created if it does not exist.
    config : mapping
        Resolved configuration.
    data : mapping
        For each set, the checksum of each recording by name.
    overwrite : bool
        Remove the results of an earlier run instead of refusing or going on.

    Raises
    ------
    UserError
        Names what differs, in this fold or in another one of the experiment; or another process is at work on it.
    """
    if not overwrite:
        _refuse_unknown_results(directory)
        _compare(directory, config, data)
    for other in sorted(directory.parent.glob("fold_*")):
        if other != directory:
            _compare(other, config, data, same_fold=False)
    if overwrite and directory.is_dir():
        _remove_results(directory)
    for name, value, indent in ((DATA, data, 1), (CONFIG, config, 4)):
        if not (directory / name).exists():
            write_text(directory / name, json.dumps(value, indent=indent) + "\n")


def _cut(fold: object, config: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what decides which recordings a fold trains on."""
    arguments = config.get("data_loader", {}).get("args", {})
    return {
        "fold": fold,
        "seed": config.get("seed"),
        "evaluation": config.get("evaluation"),
        **{f"data_loader.args.{key}": arguments.get(key) for key in ("num_folds", "subject_pattern")},
    }


def _refuse_unknown_results(directory: Path) -> None:
    """Refuse a folder with results but without the configuration and data that they were made with."""
    missing = [name for name in (CONFIG, DATA) if not (directory / name).exists()]
    if missing and any((directory / name).exists() for name in RESULTS):
        raise UserError(
            f"{directory} holds results, but no {' and no '.join(missing)} that tells how they were made. "
            "Take another name (--set name=...), or --overwrite to replace that run."
        )


def _compare(directory: Path, config: Mapping[str, Any], data: Mapping[str, Any], same_fold: bool = True) -> None:
    """Refuse a folder of another configuration or other data; another fold has the recordings in other sets."""
    for name, now in ((CONFIG, config), (DATA, data)):
        before = _read(directory / name)
        if before is None:
            continue
        if name == CONFIG:
            before, now = _important(before), _important(now)
        elif not same_fold:
            before, now = _merged(before), _merged(now)
        changed = differences(before, now)
        if changed:
            remedy = "--overwrite to replace that run" if same_fold else "replace all folds: --fold_id all --overwrite"
            raise UserError(
                f"{directory} holds a run with {'another configuration' if name == CONFIG else 'other data'}:\n  "
                + "\n  ".join([*changed[:10], *([f"and {len(changed) - 10} more"] if len(changed) > 10 else [])])
                + f"\nTake another name (--set name=...), or {remedy}."
            )


def _merged(data: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the sets of a fold."""
    sets = [recordings for recordings in data.values() if isinstance(recordings, dict)]
    return {name: checksum for recordings in sets for name, checksum in recordings.items()}


def _read(path: Path) -> dict[str, Any] | None:
    """Read an earlier run's JSON file; None if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Pass --overwrite to start this fold afresh.") from error
    return value


def _important(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leave out the keys that do not change a result."""
    return {
        key: _important(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in UNIMPORTANT
    }


def _remove_results(directory: Path) -> None:
    """Remove what a run of this fold wrote, except its log, and nothing else."""
    # Configuration and data go last: after a removal that is interrupted, no results are left without them.
    folders = ("", f"{CONTEXT}/")
    patterns = [f"{folder}{name}" for folder in folders for name in ("checkpoint-epoch*.pth", ".writing-*")]
    patterns += ["report.json", "report.html", "figures/*", "*_classification_report.xlsx", DATA, CONFIG]
    with held(directory / LOG_FILE):
        for path in [path for pattern in [*RESULTS, *patterns] for path in directory.glob(pattern)]:
            path.unlink()
