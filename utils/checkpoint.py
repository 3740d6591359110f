"""Checkpoints: state dicts and plain values, written in one move, read without running anything in them."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.files import replacing

LAST = "checkpoint-last.pth"
BEST = "model_best.pth"


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
    try:
        with zipfile.ZipFile(path) as archive:
            # A part that unpacks to more than the file holds is no tensor that torch wrote.
            swollen = sum(part.file_size for part in archive.infolist()) > path.stat().st_size
            damaged = None if swollen else archive.testzip()
        if swollen:
            raise UserError(f"{path}: no checkpoint of this project (its parts claim more bytes than it has).")
        if damaged is not None:
            raise UserError(f"{path}: damaged (its part {damaged} has another checksum).")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such checkpoint.") from error
    except UserError:
        raise
    except Exception as error:  # zipfile, pickle and torch raise many kinds on damaged bytes
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: no checkpoint that can be read ({reason}).") from error
    kinds = {"train_epoch": int, "model": dict, "about": dict}
    if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{path}: no checkpoint of this project.")
    return state


def newest_first(directory: Path) -> Iterator[Path]:
    """Yield the checkpoints of a folder from which training can go on, the newest first."""
    last = directory / LAST
    if last.is_file():
        yield last
    kept = ((re.fullmatch(r"checkpoint-epoch(\d+)\.pth", path.name), path) for path in directory.glob("checkpoint-*"))
    by_train_epoch = {int(match[1]): path for match, path in kept if match}
    yield from (by_train_epoch[train_epoch] for train_epoch in sorted(by_train_epoch, reverse=True))
