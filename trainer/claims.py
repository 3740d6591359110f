"""Which run the folder of a fold belongs to: it is taken for this one, or refused."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from data_loader.folds import Fold
from parse_config import ConfigParser
from trainer.initial import InitialWeights, data_with_initial
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.experiment import CONFIG, CONTEXT, DATA, LOG_FILE, RESULTS, fold_directory
from utils.files import write_text
from utils.lock import held
from utils.nested import differences
from utils.recording import Outline, is_same_data
from utils.subjects import subject_of

UNIMPORTANT = (
    "name",
    "n_gpu",
    "data_loader.args.resident",
    "trainer.cuda_graph",
    "trainer.save_dir",
    "trainer.tensorboard",
    "trainer.verbosity",
)
"""Keys of the configuration that do not change a result."""


def claim_folds(
    config: ConfigParser,
    folds: Sequence[Fold],
    outlines: Sequence[Outline],
    overwrite: bool,
    checkpoint: Path | None,
    initial: Mapping[int, InitialWeights],
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
    initial : mapping of int to InitialWeights
        Of each fold that has some.

    Raises
    ------
    UserError
        A folder belongs to another run, see `claim`; the checkpoint does not fit, see `check_checkpoint`; or another
        process is at work on what would be removed.
    """
    data = {fold.number: data_with_initial(fold, outlines, initial.get(fold.number)) for fold in folds}
    if checkpoint:
        check_checkpoint(checkpoint, folds[0].number, config.values, data[folds[0].number])
    all_again = overwrite and len(folds) == config["data_loader.args.num_folds"]
    own = [fold_directory(config.experiment_dir, fold.number) for fold in folds] if overwrite else []
    replaced = sorted(config.experiment_dir.glob("fold_*")) if all_again else [each for each in own if each.is_dir()]
    with ExitStack() as locks:  # nothing is removed if another process is at work on one of them
        for directory in replaced:
            locks.enter_context(held(directory / LOG_FILE))
        for directory in replaced if all_again else []:
            _remove_results(directory)
        for fold in folds:
            claim(fold_directory(config.experiment_dir, fold.number), config.values, data[fold.number], overwrite)


def check_checkpoint(checkpoint: Path, fold: int, config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint that was not trained as this fold is, on the same recordings.

    Only what does not change the result may differ, and the night context, which comes after the network.

    Parameters
    ----------
    checkpoint : Path
    fold : int
    config : mapping
        Resolved configuration.
    data : mapping
        For each set, the checksum of each recording by name.

    Raises
    ------
    UserError
        Names what differs: recordings that changed sides first.
    """
    about = load_checkpoint(checkpoint)["about"]
    try:
        before = about["data"] if "data" in about else _read(checkpoint.parent / DATA)
        if before is None:
            raise UserError(
                f"{checkpoint} does not say which recordings it was trained on, and no {DATA} beside it does. "
                "Pass the checkpoint in the folder where it was trained."
            )
        _refuse_leaks(checkpoint, before, data, config["data_loader"]["args"]["subject_pattern"])
        changed = differences({"fold": about.get("fold"), **before}, {"fold": fold, **_as_before(before, data)})
        changed += differences(
            _important({**about["config"], "context": None}), _important({**config, "context": None})
        )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:  # anything may stand there
        raise UserError(f"{checkpoint}: what it says of itself cannot be understood. Pass another one.") from error
    if changed:
        raise UserError(
            f"{checkpoint} was trained in another way, or on other recordings:\n  "
            + "\n  ".join(_shortened(changed))
            + "\nGo on as the checkpoint says, or train afresh without --resume."
        )


def _refuse_leaks(checkpoint: Path, before: Mapping[str, Any], now: Mapping[str, Any], pattern: str | None) -> None:
    """Refuse a checkpoint that was trained, or selected, on what is tested or selected on now."""
    used = {"train": "trained", "valid": "selected", "initial": "trained"}
    for known, verb in used.items():
        seen = before.get(known) or {}
        subjects, signals = {subject_of(name, pattern) for name in seen}, {_signal(value) for value in seen.values()}
        for side in {"valid", "test"} - {known}:
            shared = [
                name
                for name, checksum in now[side].items()
                if subject_of(name, pattern) in subjects or _signal(checksum) in signals
            ]
            if shared:
                raise UserError(
                    f"{checkpoint} was {verb} on subjects that are in the {side} set of this fold: "
                    f"{', '.join(_shortened(shared))}. Pass a checkpoint of the same fold of the same recordings."
                )


def _signal(checksum: str) -> str:
    """Take the signal's part of a recording's checksum."""
    return checksum.partition("-")[0]


def _shortened(items: Sequence[str]) -> list[str]:
    """Take ten items, and count the others."""
    return [*items[:10], *([f"and {len(items) - 10} more"] if len(items) > 10 else [])]


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
        else:
            before, now = (before, now) if same_fold else (_merged(before), _merged(now))
            now = _as_before(before, now)
        changed = differences(before, now)
        if changed:
            remedy = "--overwrite to replace that run" if same_fold else "replace all folds: --fold_id all --overwrite"
            raise UserError(
                f"{directory} holds a run with {'another configuration' if name == CONFIG else 'other data'}:\n  "
                + "\n  ".join(_shortened(changed))
                + f"\nTake another name (--set name=...), or {remedy}."
            )


def _as_before(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Write checksums of the same data as they were written before."""
    written = {}
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = _as_before(old, value)
        elif isinstance(value, str) and isinstance(old, str) and "-" in old and is_same_data(old, value):
            value = old
        written[key] = value
    return written


def _merged(data: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the sets of a fold; those of its initial weights are another fold's matter."""
    sets = [recordings for key, recordings in data.items() if key != "initial" and isinstance(recordings, dict)]
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
    for path in [path for pattern in [*RESULTS, *patterns] for path in directory.glob(pattern)]:
        path.unlink()
