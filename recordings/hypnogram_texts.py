"""Scorings as text: tables with onset, duration and stage, and lists of one stage a line.

- A header with columns for stage and onset: BIDS events, EDFbrowser, U-Sleep's tsv, this project's own.
- A header with a column for the stage alone, which makes it a list: YASA's csv.
- Three cells without a header, onset, duration and stage: U-Sleep's ids.
- Two cells without a header, a stage and the second where it ends: Visbrain's txt. What begins with * is passed over.
- One cell, a list: YASA, U-Sleep's hyp, Visbrain's older txt with its _description.txt.
- time_base on the first line, the list after epoch_list: Elan's hyp.
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
"""Names of columns in lower case, without units; the first that is there is taken."""

N_SHOWN = 3

_MAX_CELLS = 10**7

DESCRIPTION = "_description.txt"
"""Ends the name of the file beside a list of Visbrain's that says what its codes stand for."""


def read_text(path: Path, n_sleep_epochs: int, start_time: str) -> tuple[list[Event], bool]:
    """Read the stages of a text file.

    Parameters
    ----------
    path : Path
    n_sleep_epochs : int
        Whole sleep epochs that the recording has.
    start_time : str
        Start of the recording, ISO 8601; empty if not known.

    Returns
    -------
    scored : list of Event
    rk : bool
        Whether numbers are Rechtschaffen & Kales' codes whichever occur.

    Raises
    ------
    UserError
        The file is none of the known forms, a time is none, or a list is not as long as the recording.
    """
    rows = _rows(path)
    header = [_column(cell) for cell in rows[0]]
    stage, onset = _first(STAGE_COLUMNS, header), _first(ONSET_COLUMNS, header)
    if rows[0][0].startswith("time_base "):
        codes = rows[rows.index(["epoch_list"]) + 1 :] if ["epoch_list"] in rows else []
        return consecutive_events([row[0] for row in codes], n_sleep_epochs, path.name), True
    if stage is not None and onset is None:
        return consecutive_events([row[stage] for row in rows[1:]], n_sleep_epochs, path.name), False
    if stage is not None and onset is not None:
        columns = (onset, _first(DURATION_COLUMNS, header), stage)
        return _table(path, rows[1:], columns, n_sleep_epochs, start_time), False
    if len(rows[0]) == 1:
        return _list(path, [row[0] for row in rows], n_sleep_epochs), False
    if len(rows[0]) == 2 and _number(rows[0][0]) is None and _number(rows[0][1]) is not None:
        return _ends(path, rows), False
    if len(rows[0]) == 3 and None not in map(_number, rows[0][:2]):
        return _table(path, rows, (0, 1, 2), n_sleep_epochs, start_time), False
    raise UserError(
        f"{path.name}: its first line is {', '.join(map(repr, rows[0]))}, in which no column is known for the stage. "
        f"Call it stage (or {', '.join(STAGE_COLUMNS[1:])}), and the others onset and duration."
    )


def _rows(path: Path) -> list[list[str]]:
    """Read the cells of each line; comments and empty lines are passed over, short lines filled up."""
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
        raise UserError(f"{path.name}: no stages in it. Pass the scoring of this recording.")
    delimiter = next((mark for mark in "\t|;," if mark in lines[0]), ",")
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise UserError(f"{path.name}: no table ({error}). Export the scoring again.") from error
    width = max(map(len, rows))
    if len(rows) * width > _MAX_CELLS:
        raise UserError(f"{path.name}: {len(rows)} lines, one of which has {width} cells. Export the scoring again.")
    return [row + [""] * (width - len(row)) for row in rows]


def _column(cell: str) -> str:
    """Leave of a column's name what tells it: `Duration [s]` and `duration_sec` are duration."""
    words = re.sub(r"[\s_()\[\]]+", "_", cell.casefold()).strip("_")
    return re.sub("_(s|sec|seconds)$", "", words)


def _first(names: Sequence[str], header: Sequence[str]) -> int | None:
    """Return the position of the first of `names` that is in `header`."""
    return next((header.index(name) for name in names if name in header), None)


def _number(text: str) -> float | None:
    """Return the number that `text` is, with a point or a comma."""
    number = float(text.replace(",", ".")) if re.fullmatch(r"[+-]?\d+([.,]\d*)?", text) else math.inf
    return number if math.isfinite(number) else None


def _list(path: Path, names: list[str], n_sleep_epochs: int) -> list[Event]:
    """Lay out a list of stages, by the file beside it that describes its codes if there is one."""
    description = path.with_name(path.stem + DESCRIPTION)
    if not description.is_file():
        return consecutive_events(names, n_sleep_epochs, path.name)
    words = [line.split() for line in read_small(description).decode("latin-1").splitlines()]
    name_of = {pair[1]: pair[0] for pair in words if len(pair) == 2 and pair[0] != "time"}
    each_s = next((_number(pair[1]) for pair in words if len(pair) == 2 and pair[0] == "time"), None)
    return consecutive_events([name_of.get(name, name) for name in names], n_sleep_epochs, path.name, each_s)


def _ends(path: Path, rows: list[list[str]]) -> list[Event]:
    """Lay out stages that say where they end: at their last sample, a little before the next begins."""
    scored, begin_s = [], 0.0
    for name, cell in rows:
        end_s = _number(cell)
        if end_s is None or not end_s > begin_s:
            raise UserError(f"{path.name}: {name!r} ends at {cell!r}, not after {begin_s:g} s. Export it again.")
        scored.append(Event(begin_s, end_s - begin_s, name))
        begin_s = end_s
    return scored


def _table(
    path: Path, rows: list[list[str]], columns: tuple[int, int | None, int], n_sleep_epochs: int, start_time: str
) -> list[Event]:
    """Read onset, duration and stage of each row."""
    onset, duration, stage = columns
    onsets_s = _onsets_s(path, [row[onset] for row in rows], n_sleep_epochs, start_time)
    durations_s = [0.0 if duration is None else _duration_s(path, row[duration]) for row in rows]
    names = [row[stage] for row in rows]
    return [Event(*values) for values in zip(onsets_s, durations_s, names, strict=True)]


def _onsets_s(path: Path, cells: list[str], n_sleep_epochs: int, start_time: str) -> list[float]:
    """Read onsets: all of them seconds, clock times, or dates with times."""
    numbers = [number for cell in cells if (number := _number(cell)) is not None]
    if len(numbers) == len(cells):
        return numbers
    start = datetime.fromisoformat(start_time).replace(tzinfo=None) if start_time else None
    clocks = [seconds for cell in cells if (seconds := clock_s(cell)) is not None]
    if len(clocks) == len(cells):
        return onsets_from_clock(clocks, start, n_sleep_epochs, path.name)
    try:
        dates = [datetime.fromisoformat(cell).replace(tzinfo=None) for cell in cells]
    except ValueError:
        forms = {re.sub("[0-9]+", "0", cell): cell for cell in reversed(cells)}
        raise UserError(
            f"{path.name}: onsets such as {', '.join(map(repr, list(forms.values())[:N_SHOWN]))}. "
            "All must be seconds, or clock times hh:mm:ss, or dates with times yyyy-mm-ddThh:mm:ss."
        ) from None
    return onsets_from_dates(dates, start, path.name)


def _duration_s(path: Path, cell: str) -> float:
    """Read a duration; 0 if the cell does not say: empty, n/a, or EDFbrowser's -1."""
    seconds = 0.0 if cell.casefold() in ("", "n/a") else _number(cell)
    if seconds is None or not -1 <= seconds < DAY_S:
        raise UserError(f"{path.name}: duration {cell!r} is no number of seconds. Correct it.")
    return max(seconds, 0.0)
