"""Read hypnograms that are no text for people: numpy's npy, YASA's JSON, and annotations that MNE saved as fif."""

import io
import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from recordings.clock_times import onsets_from_dates, refuse_unread_start
from recordings.hypnogram_columns import column_role
from recordings.hypnogram_events import Event, Reading, consecutive_events
from utils.errors import UserError
from utils.files import read_small
from utils.stages import N_STAGES, STAGE_NAMES

SUFFIXES = (".npy", ".json", ".fif", ".fif.gz")

_VALUES = ("values", "hypnogram", "stages", "hypno")  # keys of a list of stages in JSON; the first is YASA's
_SHIFTS = ("offset", "shift", "delay", "t0", "start_offset", "offset_s", "scoring_start", "recording_start", "first")


def read_array(path: Path, n_sleep_epochs: int, start_time: str, has_rest: bool = False) -> Reading:
    """Read the stages of an npy, JSON or fif file; see `hypnograms.load_hypnogram` for the parameters."""
    suffix = path.suffix.casefold()
    if suffix == ".npy":
        return _from_npy(path, n_sleep_epochs, has_rest)
    return _from_json(path, n_sleep_epochs, start_time, has_rest) if suffix == ".json" else _from_fif(path, start_time)


def holds_stages(path: Path) -> bool:
    """Tell whether a JSON file holds a list of stages, as other JSON files beside a recording do not."""
    try:
        return _json_values(json.loads(read_small(path))) is not None
    except (UserError, OSError, ValueError, RecursionError):
        return False


def _from_npy(path: Path, n_sleep_epochs: int, has_rest: bool) -> Reading:
    """Read one stage, or the probabilities of the five (as SLEEPYLAND writes them), for each sleep epoch."""
    try:
        array = np.load(io.BytesIO(read_small(path)), allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # numpy raises many kinds on damaged bytes
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path.name}: not a npy file that can be read ({reason}). Save stages as numbers or texts."
        ) from error
    if array.ndim == 2 and array.shape[1] == N_STAGES and array.dtype.kind in "fiu" and len(array):
        sums = array.sum(axis=1)
        if not (np.isfinite(sums).all() and (array >= 0).all() and sums[0] > 0 and np.allclose(sums, sums[0], 1e-2)):
            raise UserError(
                f"{path.name}: {array.shape} numbers that are no probabilities: each row must have the same sum. Save "
                "one stage for each sleep epoch."
            )
        remark = f"its columns are the probabilities of {', '.join(STAGE_NAMES)}, of which the largest is taken"
        names = [STAGE_NAMES[stage] for stage in array.argmax(axis=1)]
        reading = consecutive_events(names, n_sleep_epochs, path.name, None, has_rest)
        return reading._replace(remarks=(remark, *reading.remarks))
    if array.size != max(array.shape, default=0) or array.dtype.kind not in "fiubUS":
        raise UserError(
            f"{path.name}: {array.dtype} of shape {array.shape}, not one stage for each sleep epoch. Save stages as "
            "numbers or texts of shape (n_sleep_epochs,)."
        )
    if array.dtype.kind == "U" and array.dtype.itemsize and array.size:
        letters = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if letters.max() > sys.maxunicode:  # Python crashes on them
            raise UserError(f"{path.name}: texts with letters that do not exist. Get the file again.")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "latin-1")
    names = [str(value).strip() or "?" for value in array.ravel().tolist()]
    return consecutive_events(names, n_sleep_epochs, path.name, None, has_rest)


def _from_json(path: Path, n_sleep_epochs: int, start_time: str, has_rest: bool) -> Reading:
    """Read a list of stages, or YASA's object with `values`, `freq` and `start`."""
    try:
        content = json.loads(read_small(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name}: no JSON ({error}). Correct it.") from error
    values = _json_values(content)
    if values is None:
        raise UserError(f"{path.name}: no list of stages in it, called {', '.join(_VALUES)}. Pass another file.")
    names = ["?" if value is None else str(value).strip() for value in values]
    about = content if isinstance(content, dict) else {}
    duration_s = _duration_s(path, about["freq"]) if about.get("freq") else None
    if not about.get("start"):
        _refuse_unread_start(path, [(key, x) for key, x in about.items() if x is not values], start_time)
        return consecutive_events(names, n_sleep_epochs, path.name, duration_s, has_rest)
    try:
        start = datetime.fromisoformat(str(about["start"]))
    except ValueError as error:
        raise UserError(f"{path.name}: start {str(about['start'])[:60]!r} is no date with a time.") from error
    recorded = datetime.fromisoformat(start_time) if start_time else None
    begin_s = onsets_from_dates([start], recorded, path.name)[0]
    each_s = duration_s or 30.0
    return Reading([Event(begin_s + i * each_s, each_s, name) for i, name in enumerate(names)])


def _refuse_unread_start(path: Path, unread: list[tuple[str, Any]], start_time: str) -> None:
    """Refuse JSON of which a value that is not read may be the onset of the scoring: a time, or seconds."""
    while unread:
        key, value = unread.pop()
        if isinstance(value, dict):
            unread.extend(value.items())
        elif isinstance(value, list):
            unread.extend((key, item) for item in value)
        elif isinstance(value, str):
            refuse_unread_start([f"{key}: {value}"], start_time, path.name)
        elif value and isinstance(value, int | float) and (column_role(key) == "onset" or key.casefold() in _SHIFTS):
            raise UserError(
                f"{path.name}: {key!r} ({value!r}) may tell when the scoring begins, but it is not read. Call the "
                "start of the scoring start, and write it as a date with a time; else remove this key."
            )


def _json_values(content: Any) -> list[Any] | None:  # noqa: ANN401 - whatever JSON holds
    """Find the list of stages in what a JSON file holds."""
    lists = [content.get(key) for key in _VALUES] if isinstance(content, dict) else [content]
    return next((x for x in lists if isinstance(x, list) and x and all(_is_stage(value) for value in x)), None)


def _is_stage(value: object) -> bool:
    """Tell whether a value in JSON may be a stage: a text, a whole number, or null."""
    return value is None or isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _duration_s(path: Path, freq: object) -> float:
    """Convert a duration as pandas writes it, such as 30s or 1min, to seconds."""
    match = re.fullmatch(r"(\d{0,4})(s|min)", str(freq).casefold())
    if not match or match[1] == "0":
        raise UserError(f"{path.name}: freq {str(freq)[:60]!r} is no duration such as 30s. Correct it.")
    return int(match[1] or 1) * (60.0 if match[2] == "min" else 1.0)


def _from_fif(path: Path, start_time: str) -> Reading:
    """Read annotations that MNE saved."""
    import mne

    try:
        annotations = mne.read_annotations(path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path.name}: MNE cannot read annotations from it ({reason}). Get the file again.") from error
    begin_s = 0.0
    if annotations.orig_time is not None:
        recorded = datetime.fromisoformat(start_time) if start_time else None
        begin_s = onsets_from_dates([annotations.orig_time], recorded, path.name)[0]
    rows = zip(annotations.onset, annotations.duration, annotations.description, strict=True)
    return Reading(
        [Event(begin_s + float(onset_s), float(each_s), str(name).strip()) for onset_s, each_s, name in rows]
    )
