"""Checkpoints: state dicts and plain values, written in one move, read without running anything in them."""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.files import replacing

LAST = "checkpoint-last.pth"
BEST = "model_best.pth"
TEMPERATURES = (0.05, 20.0)
"""Least and greatest temperature of a network, by which its logits are divided before they become probabilities."""


class _Inert:
    """Takes the place of an object whose class is not loaded: accepts any arguments and does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_RELEASED_CLASSES = (
    "parse_config.ConfigParser",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",  # Python 3.13
    "numpy.dtype",
    "numpy.core.multiarray.scalar",  # numpy before 2
    "numpy._core.multiarray.scalar",
)
"""Classes that the released code saves beside its weights: its config, with paths in it, and a numpy number."""


def numbered(train_epoch: int) -> str:
    """Name of the checkpoint that is kept after a training epoch (1-based)."""
    return f"checkpoint-epoch{train_epoch}.pth"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path` in one move."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this project; pickled objects in it are refused.

    Raises
    ------
    UserError
        The file is missing, damaged, or no checkpoint of this project.
    """
    state = _read(path)
    if not _is_ours(state):
        raise UserError(f"{path}: no checkpoint of this project.")
    return state


def load_weights(path: Path) -> tuple[Mapping[str, Tensor], dict[str, Any] | None]:
    """Read the weights in a checkpoint of this project or of the released code; nothing in it is run.

    Returns
    -------
    weights : mapping of str to Tensor
    about : dict or None
        What a checkpoint of this project says of its network, data and training, and its `temperature` (1 if it has
        none); None for the released code.

    Raises
    ------
    UserError
        The file is missing, damaged, holds something else than weights, or objects that are none of the released
        code's.
    """
    state, about = _read(path), None
    if _is_ours(state):
        weights = state["model"]
        about = state["about"] | {"train_epoch": state["train_epoch"], "temperature": temperature_of(path, state)}
    else:
        weights = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path}: holds neither a checkpoint of this project nor the weights of a released model.")
    require_finite(str(path), weights)
    return weights, about


def require_finite(source: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite, or that claim more numbers than there are. Messages begin with `source`."""
    for name, value in weights.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{source}: {name} claims more numbers than there are.")
        if not value.isfinite().all():
            raise UserError(f"{source}: {name} holds NaN or infinite numbers. Pass an older checkpoint.")


def temperature_of(path: Path, state: Mapping[str, Any]) -> float:
    """Take the temperature of the network in a checkpoint of this project; 1 if it has none.

    Raises
    ------
    UserError
        It is no number, or out of range.
    """
    temperature = state.get("temperature", 1.0)
    low, high = TEMPERATURES
    if not isinstance(temperature, float) or not low <= temperature <= high:
        raise UserError(f"{path}: its temperature is {temperature!r}, not a number from {low:g} to {high:g}.")
    return temperature


def _is_ours(state: object) -> bool:
    """Tell whether a checkpoint is one of this project."""
    kinds = {"train_epoch": int, "model": dict, "about": dict}
    return isinstance(state, dict) and all(isinstance(state.get(key), kind) for key, kind in kinds.items())


def _read(path: Path) -> Any:
    """Read tensors and plain values; of other classes only those of the released code stand in for, by nothing."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if is_zip:  # torch before 1.6 wrote none
            _check_zip(path)
        with torch.serialization.safe_globals([(_Inert, name) for name in _RELEASED_CLASSES]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such checkpoint.") from error
    except UserError:
        raise
    except Exception as error:  # zipfile, pickle and torch raise many kinds on damaged bytes
        # Of torch's text only the cause is told, not its advice to run what is in there.
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        cause = re.search(r"WeightsUnpickler error: (.*)", str(error)) or re.match(r"(.*)", str(error))
        reason = f"it would run {foreign[1]}" if foreign else cause[1] if cause else ""
        raise UserError(f"{path}: no checkpoint that can be read ({reason}).") from error


def _check_zip(path: Path) -> None:
    """Refuse a checkpoint whose parts are damaged, or unpack to more than it holds."""
    with zipfile.ZipFile(path) as archive:
        # A part that unpacks to more than the file holds is no tensor that torch wrote.
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise UserError(f"{path}: no checkpoint of this project (its parts claim more bytes than it has).")
        damaged = archive.testzip()
    if damaged is not None:
        raise UserError(f"{path}: damaged (its part {damaged} has another checksum).")


def newest_first(directory: Path) -> Iterator[Path]:
    """Yield the checkpoints of a folder from which training can go on, the newest first."""
    if (directory / LAST).is_file():
        yield directory / LAST
    kept = ((re.fullmatch(r"checkpoint-epoch(\d+)\.pth", path.name), path) for path in directory.glob("checkpoint-*"))
    by_train_epoch = {int(match[1]): path for match, path in kept if match}
    yield from (by_train_epoch[train_epoch] for train_epoch in sorted(by_train_epoch, reverse=True))
