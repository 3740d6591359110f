"""Read hypnograms in text files: tables with onset, duration and stage, and lists of one stage a line.

- A header that names columns for stage and onset: BIDS events, EDFbrowser, U-Sleep's tsv, this project's own csv.
- A header that names a column for the stage but none for the onset: a list, as YASA's csv.
- Three columns without a header, onset, duration and stage: U-Sleep's ids.
- Two columns without a header, the stage and the second at which it ends: Visbrain's txt. Lines with * are comments.
- One column, a list: YASA, U-Sleep's hyp, Visbrain's older txt with its _description.txt.
- First line time_base, and a list after the line epoch_list: Elan's hyp.
"""

import csv
import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from recordings.clock_times import DAY_S, clock_s, onsets_from_clock, onsets_from_dates
from recordings.hypnogram_events import Event, consecutive_events
from utils.errors import UserError
from utils.files import read_small

STAGE_COLUMNS = (
    "stage", "stages", "sleep_stage", "hypnogram", "annotation", "annotations", "description", "trial_type", "label",
    "event", "value",
)  # fmt: skip
ONSET_COLUMNS = ("recording_onset", "onset", "init", "start", "begin", "time")
DURATION_COLUMNS = ("duration",)
"""Names of columns in lower case, without units. The first that a file has is used."""

_MAX_CELLS = 10**7
_N_SHOWN = 3  # onsets in a message


def read_text(path: Path, n_sleep_epochs: int, start_time: str) -> tuple[list[Event], bool]:
    """Read the stages of a text file; see `hypnograms.load_hypnogram` for the parameters.

    The second value is true if numbers are Rechtschaffen & Kales' codes; see `stage_names.resolve`.
    """
    rows = _rows(path)
    header = [_column_name(cell) for cell in rows[0]]
    stage, onset = _first(STAGE_COLUMNS, header), _first(ONSET_COLUMNS, header)
    if rows[0][0].startswith("time_base "):
        codes = rows[rows.index(["epoch_list"]) + 1 :] if ["epoch_list"] in rows else []
        return consecutive_events([row[0] for row in codes], n_sleep_epochs, path.name), True
    if stage is not None:
        if onset is None:
            return consecutive_events([row[stage] for row in rows[1:]], n_sleep_epochs, path.name), False
        columns = (onset, _first(DURATION_COLUMNS, header), stage)
        return _table_events(path, rows[1:], columns, n_sleep_epochs, start_time), False
    if len(rows[0]) == 1:
        return _list_events(path, [row[0] for row in rows], n_sleep_epochs), False
    if len(rows[0]) == 2 and _number(rows[0][0]) is None and _number(rows[0][1]) is not None:
        return _events_with_ends(path, rows), False
    if len(rows[0]) == 3 and None not in map(_number, rows[0][:2]):
        return _table_events(path, rows, (0, 1, 2), n_sleep_epochs, start_time), False
    raise UserError(
        f"{path.name}: the first line is {', '.join(map(repr, rows[0]))}, in which no column is known for the stage. "
        f"Call it stage (or {', '.join(STAGE_COLUMNS[1:])}), and the others onset and duration."
    )


def _rows(path: Path) -> list[list[str]]:
    """Read the cells of each line, without comments and empty lines, all lines as long as the longest."""
    content = read_small(path)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", "replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] not in "#*"]
    if not lines:
        raise UserError(f"{path.name}: no stages in it. Pass the hypnogram of this recording.")
    delimiter = next((mark for mark in "\t|;," if mark in lines[0]), ",")
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise UserError(f"{path.name}: no table ({error}). Export the hypnogram again.") from error
    width = max(map(len, rows))
    if len(rows) * width > _MAX_CELLS:
        raise UserError(f"{path.name}: {len(rows)} lines, one of which has {width} cells. Export the hypnogram again.")
    return [row + [""] * (width - len(row)) for row in rows]


def _column_name(cell: str) -> str:
    """Strip a column's name of its unit: `Duration [s]` and `duration_sec` are duration."""
    words = re.sub(r"[\s_()\[\]]+", "_", cell.casefold()).strip("_")
    return re.sub("_(s|sec|seconds)$", "", words)


def _first(names: Sequence[str], header: Sequence[str]) -> int | None:
    """Find the first of `names` that is in `header`; return its position."""
    return next((header.index(name) for name in names if name in header), None)


def _number(text: str) -> float | None:
    """Parse a finite number with a point or a comma; None if the text is none."""
    number = float(text.replace(",", ".")) if re.fullmatch(r"[+-]?\d+([.,]\d*)?", text) else math.inf
    return number if math.isfinite(number) else None


def _list_events(path: Path, names: list[str], n_sleep_epochs: int) -> list[Event]:
    """Give each stage of a list its time, and its name if a file beside it explains the codes."""
    description = path.with_name(f"{path.stem}_description.txt")  # Visbrain's
    if not description.is_file():
        return consecutive_events(names, n_sleep_epochs, path.name)
    lines = [line.split() for line in read_small(description).decode("latin-1").splitlines()]
    pairs = [line for line in lines if len(line) == 2]
    name_of = {code: name for name, code in pairs if name != "time"}
    duration_s = next((_number(value) for name, value in pairs if name == "time"), None)
    return consecutive_events([name_of.get(name, name) for name in names], n_sleep_epochs, path.name, duration_s)


def _events_with_ends(path: Path, rows: list[list[str]]) -> list[Event]:
    """Read stages that are given with their ends: each begins where the one before it ends."""
    events, begin_s = [], 0.0
    for name, cell in rows:
        end_s = _number(cell)
        if end_s is None or not end_s > begin_s:
            raise UserError(f"{path.name}: {name!r} ends at {cell!r}, not after {begin_s:g} s. Export it again.")
        events.append(Event(begin_s, end_s - begin_s, name))
        begin_s = end_s
    return events


def _table_events(
    path: Path, rows: list[list[str]], columns: tuple[int, int | None, int], n_sleep_epochs: int, start_time: str
) -> list[Event]:
    """Read each row's onset, duration and stage, which are in these columns."""
    onset, duration, stage = columns
    durations_s = [0.0 if duration is None else _duration_s(path, row[duration]) for row in rows]
    onsets_s = _onsets_s(path, [row[onset] for row in rows], durations_s, n_sleep_epochs, start_time)
    return list(map(Event, onsets_s, durations_s, [row[stage] for row in rows]))


def _onsets_s(
    path: Path, cells: list[str], durations_s: list[float], n_sleep_epochs: int, start_time: str
) -> list[float]:
    """Read onsets: all of them seconds, clock times, or dates with times."""
    numbers = [number for cell in cells if (number := _number(cell)) is not None]
    if len(numbers) == len(cells):
        return numbers
    start = datetime.fromisoformat(start_time) if start_time else None
    clocks = [seconds for cell in cells if (seconds := clock_s(cell)) is not None]
    if len(clocks) == len(cells):
        return onsets_from_clock(clocks, start, n_sleep_epochs, path.name, durations_s)
    try:
        dates = [datetime.fromisoformat(cell) for cell in cells]
    except ValueError:
        examples = {re.sub("[0-9]+", "0", cell): cell for cell in reversed(cells)}  # one of each form
        raise UserError(
            f"{path.name}: onsets such as {', '.join(map(repr, list(examples.values())[:_N_SHOWN]))}. "
            "All must be seconds, or clock times hh:mm:ss, or dates with times yyyy-mm-ddThh:mm:ss."
        ) from None
    return onsets_from_dates(dates, start, path.name, durations_s)


def _duration_s(path: Path, cell: str) -> float:
    """Read a duration; 0 if there is none: an empty cell, n/a, or EDFbrowser's -1."""
    seconds = 0.0 if cell.casefold() in ("", "n/a") else _number(cell)
    if seconds is None or not -1 <= seconds < DAY_S:
        raise UserError(f"{path.name}: duration {cell!r} is no number of seconds. Correct it.")
    return max(seconds, 0.0)
