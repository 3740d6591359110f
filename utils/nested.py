"""Nested JSON values: read from files, merged, compared."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import read_small


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `changes` over `base`, key by key; a component of another type replaces the old one whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("type", old.get("type")) == old.get("type", value.get("type"))
        ):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for each value in which two nested mappings differ."""
    lines = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {json.dumps(before)} -> {json.dumps(after)}")
    return lines


def read_json(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a configuration file and what it extends.

    Raises
    ------
    UserError
        The file is missing, no JSON object, has a key twice, or extends itself.
    """
    try:
        text = read_small(path).decode("utf-8")
        values = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=no_number)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name a configuration with -c.") from error
    except json.JSONDecodeError as error:
        before = text[: error.pos].rstrip()
        line = before.count("\n") + 1
        hint = f"; the comma at the end of line {line} may be one too many" if before.endswith(",") else ""
        raise UserError(f"{path}: no valid JSON ({error}{hint}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no valid JSON ({error}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no JSON object {{...}}.")
    if "extends" not in values:
        return values
    base = path.parent / str(values.pop("extends"))
    if "\0" in str(base) or not base.is_file():
        raise UserError(f"{path}: extends {str(base)!r}, which is no file. Name one, relative to this one.")
    if base.resolve() in seen:
        raise UserError(f"{path}: extends {base}, which extends it in turn.")
    return merge(read_json(base, (*seen, path.resolve())), values)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice in one object."""
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"the key {min(repeated)!r} stands twice")
    return dict(pairs)


def no_number(text: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{text} is no number")
