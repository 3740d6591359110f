"""The networks of an experiment in one file to hand on: safetensors, which holds numbers and text but no code.

The tensors are named `fold_<k>/network/...` and `fold_<k>/context/...`. The text is the card, as JSON, which says what
the networks are, and a SHA-256 of the card and the tensors.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from utils.checkpoint import TEMPERATURES, require_finite
from utils.errors import UserError
from utils.files import replacing, require_file
from utils.nested import no_number

SUFFIX = ".safetensors"

FORMAT = 1

_OF_ALL = ("fs", "channel", "units", "stage_names", "context", "config")
"""What all folds have in common; the card says it once, and of a fold only where it has another value."""


@dataclass(frozen=True)
class SharedFold:
    """The networks of one fold.

    Attributes
    ----------
    weights : dict of str to Tensor
    about : dict
        What a checkpoint of the fold says, `train_epoch`, `temperature` and the recordings of the fold (`data`) if they
        are known included.
    night_context : tuple of dict and dict, or None
        Weights of the night context, and what its checkpoint says.
    """

    weights: dict[str, Tensor]
    about: dict[str, Any]
    night_context: tuple[dict[str, Tensor], dict[str, Any]] | None = None


def is_shared(path: Path) -> bool:
    """Tell by its name or its first bytes whether a file holds shared networks."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix.lower() == SUFFIX or file.read(9)[8:] == b"{"


def write_shared(path: Path, folds: Sequence[SharedFold], card: Mapping[str, Any]) -> dict[str, Any]:
    """Write the networks of some folds, at least one, and return the card with what it says of them added."""
    common = {key: folds[0].about[key] for key in _OF_ALL if key in folds[0].about}
    tensors: dict[str, Tensor] = {}
    described = []
    for fold in folds:
        parts = {"network": fold.weights, "context": fold.night_context[0] if fold.night_context else {}}
        for part, weights in parts.items():
            prefix = f"fold_{fold.about['fold']}/{part}"
            tensors |= {f"{prefix}/{name}": value.clone().contiguous() for name, value in weights.items()}
        own = _what_differs(common, fold.about)
        night = _what_differs(common | own, fold.night_context[1]) if fold.night_context else None
        described.append(own | {"night_context": night})
    text = json.dumps({"format": FORMAT, **card, **common, "folds": described}, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {"card": text, "sha256": _digest(text, tensors)}))
    return json.loads(text)


def read_shared(path: Path) -> tuple[list[SharedFold], dict[str, Any]]:
    """Read all folds and the card of a file of shared networks.

    Raises
    ------
    UserError
        The file is missing, damaged, none of this project, or its card and its tensors do not fit together.
    """
    try:
        require_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        text = metadata.get("card", "")
        card = json.loads(text, parse_constant=no_number) if text else None
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file.") from error
    except UserError:
        raise
    except Exception as error:  # safetensors, torch and json raise many kinds on damaged bytes
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged ({reason}). Get the file again.") from error
    if not isinstance(card, dict) or "format" not in card:
        raise UserError(f"{path}: holds weights, but no card of this project. Share networks with scoring.share.")
    if card["format"] != FORMAT:
        raise UserError(f"{path}: its format is {card['format']!r}; this version reads {FORMAT}.")
    if metadata.get("sha256") != _digest(text, tensors):
        raise UserError(f"{path}: damaged: its card or weights do not have the SHA-256 that it states. Get it again.")
    if problem := next(_problems(card), ""):
        raise UserError(f"{path}: {problem}.")
    return list(_folds(path, card, tensors)), card


def _folds(path: Path, card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[SharedFold]:
    """Take the folds that the card names; no tensor is missing or left over."""
    common, left = {key: card[key] for key in _OF_ALL if key in card}, dict(tensors)

    def taken(prefix: str) -> dict[str, Tensor]:
        weights = {name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)}
        if not weights:
            raise UserError(f"{path}: its card tells of {prefix}, but no weights are there.")
        require_finite(f"{path}: {prefix.rstrip('/')}", weights)
        return weights

    for described in card["folds"]:
        about = common | {key: value for key, value in described.items() if key != "night_context"}
        name, night = f"fold_{about['fold']}", described["night_context"]
        weights = taken(f"{name}/network/")
        yield SharedFold(weights, about, None if night is None else (taken(f"{name}/context/"), about | night))
    if left:
        raise UserError(f"{path}: holds weights that its card does not name, such as {min(left)}.")


def _problems(card: Mapping[str, Any]) -> Iterator[str]:
    """Say what of the card cannot be: of what it says here, `Any` may stand there."""
    folds = card.get("folds")
    if not isinstance(folds, list) or not folds or not all(isinstance(fold, dict) for fold in folds):
        yield "its card names no folds"
        return
    numbers = [fold.get("fold") for fold in folds]
    if any(type(number) is not int or number < 0 for number in numbers) or len({*numbers}) < len(numbers):
        yield f"its card numbers the folds {numbers}"
        return
    for fold in folds:
        night = fold.get("night_context", "")
        if type(fold.get("train_epoch")) is not int or not (night is None or isinstance(night, dict)):
            yield f"its card does not describe fold {fold['fold']}"
            return
        for part in (fold, night or {}):
            temperature = part.get("temperature", 1.0)
            low, high = TEMPERATURES
            if type(temperature) not in (int, float) or not low <= temperature <= high:
                yield f"its card gives fold {fold['fold']} the temperature {temperature!r}, not from {low} to {high}"
        if leaked := _leaked(fold.get("data")):
            yield f"its card says that fold {fold['fold']} learned from {leaked}, which it selects or tests on"


def _leaked(data: Any) -> str:
    """Name a recording that was trained on, also by the initial weights, and is in another set; empty if none is."""
    try:
        sets = {which: {str(name): str(value).partition("-")[0] for name, value in (data.get(which) or {}).items()} for
                which in ("initial", "train", "valid", "test")}  # fmt: skip
    except (TypeError, AttributeError):  # not known, which whoever scores is told
        return ""
    names, signals = {*sets["initial"], *sets["train"]}, {*sets["initial"].values(), *sets["train"].values()}
    others = {**sets["valid"], **sets["test"]}
    return next((name for name, value in others.items() if name in names or value in signals), "")


def _what_differs(common: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Take what is not said already."""
    return {key: value for key, value in about.items() if key not in common or common[key] != value}


def _digest(card: str, tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of the card and of the tensors, with their names, types and shapes."""
    digest = hashlib.sha256(card.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode("utf-8", "surrogatepass"))
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
