"""Read hypnograms in text files: tables with onset, duration and stage, and lists of one stage a line.

- A header that names columns: BIDS events, EDFbrowser, RemLogic, U-Sleep's tsv, YASA's and GSSC's csv, MNE's
  annotations, this project's own csv; see `hypnogram_columns`. Lines before it are left away.
- Two or three columns without a header: U-Sleep's ids (onset, duration, stage), Visbrain's txt (the stage and the
  second at which it ends; lines with * are comments), number and stage.
- One column, or one line, a list: YASA, U-Sleep's hyp, Luna's eannot, Visbrain's older txt with its _description.txt.
- First line time_base, and a list after the line epoch_list: Elan's hyp.
- Luna's annot: class, start and stop, perhaps with instance, channel and meta.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path

from recordings.clock_times import DAY_S, clock_s, onsets_from_clock, onsets_from_dates, refuse_unread_start
from recordings.hypnogram_columns import (
    ROLES,
    Table,
    equally_long,
    find_table,
    is_numbering,
    is_time_of_day,
    parse_number,
    split,
)
from recordings.hypnogram_events import Event, Reading, consecutive_events, stage_duration_s
from recordings.stage_names import is_known
from utils.errors import UserError
from utils.files import read_small
from utils.stages import SLEEP_EPOCH_S

NOT_SCORED = "?"
_N_SHOWN = 3  # onsets in a message
_LAST_S, _LEAST_GAP_S, _NEARLY_ALL = 1.0, 0.05, 0.9  # ends that are the last second of a stage
_SLACK_S = 1.0  # between the end in a table, and its onset and duration

_DATE_AND_CLOCK = re.compile(
    r"(?:(?P<a>\d{1,4})[./-](?P<b>\d{1,2})[./-](?P<c>\d{1,4})[ T]+)?"
    r"(?P<hour>\d{1,2})(?P<sign>[:.])(?P<minute>\d\d)(?:(?P=sign)(?P<second>\d\d)(?P<fraction>[.,]\d+)?)?"
    r"\s*(?P<half>[ap]\.?m\.?)?",
    re.IGNORECASE,
)


def read_text(
    path: Path,
    n_sleep_epochs: int,
    start_time: str,
    stage_names: Mapping[str, int | None] | None = None,
    columns: Mapping[str, str] | None = None,
    has_rest: bool = False,
) -> Reading:
    """Read the stages of a text file; see `hypnograms.load_hypnogram` for the parameters."""
    listed, comments, origin = _lines(path)
    first = next(i for i, line in enumerate(listed) if line.strip())
    lines, length = listed[first:], (n_sleep_epochs, has_rest)
    if path.suffix.casefold() == ".annot":
        return _table_events(path, _luna_table(path, lines), length, start_time)
    if lines[0].startswith("time_base "):
        codes = [line.strip() for line in lines if line.strip()]
        begin = codes.index("epoch_list") + 1 if "epoch_list" in codes else len(codes)
        refuse_unread_start([*comments, *codes[:begin]], start_time, path.name)
        codes = codes[begin:]
        return consecutive_events(codes, n_sleep_epochs, path.name, None, has_rest)._replace(rk=True)
    table = find_table(lines, path.name, columns, stage_names)
    if table is None and not _is_list(lines, stage_names):
        rows = _rows(path, lines, stage_names)
        wide = [row for row in rows if row[1]] if len(rows[0]) > 1 else []
        if len(wide) == 1 and len(wide[0]) > 3 and all(is_known(cell, stage_names) for cell in wide[0]):
            comments, listed = [*comments, *lines], wide[0]  # all in one line
        elif len(rows[0]) > 1:
            table = _table_without_header(path, rows, length, stage_names)
    if table is None:
        names = [line.strip(" \t,;|\"'") for line in listed]
        reading, head = _list_events(path, names, length, stage_names)
        refuse_unread_start([*comments, *listed[:head]], start_time, path.name)
        return reading
    if "onset" not in table.columns:
        refuse_unread_start([*comments, *table.preamble], start_time, path.name)
    if origin and "onset" in table.columns:
        offset_s = onsets_from_dates([origin], _start(start_time), path.name)[0]
        reading = _table_events(path, table, length, start_time)
        moved = [event._replace(onset_s=event.onset_s + offset_s) for event in reading.events]
        return reading._replace(events=moved)
    return _table_events(path, table, length, start_time)


def _lines(path: Path) -> tuple[list[str], list[str], datetime | None]:
    """Read the lines, the comments, and the time from which MNE's onsets count, if a comment gives one."""
    content = read_small(path)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", "replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    lines, comments, origin = [], [], None
    for line in text.splitlines():
        if match := re.fullmatch(r"# orig_time : (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?)", line.strip()):
            try:
                origin = datetime.fromisoformat(match[1])
            except ValueError as error:
                raise UserError(f"{path.name}: orig_time {match[1]} is no date with a time. Correct it.") from error
        if _is_comment(line):
            comments.append(line)
        elif not re.fullmatch("sep=.", line.strip()):
            lines.append(line)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{path.name}: no stages in it. Pass the hypnogram of this recording.")
    return lines, comments, origin


def _is_comment(line: str) -> bool:
    """Tell whether a line is a comment. A cell of only `*` or `#` is none: it may be a stage that is not scored."""
    return line.lstrip().startswith(("#", "*")) and not re.fullmatch(r"\s*[#*]\s*([\t,;|].*)?", line)


def _is_list(lines: Sequence[str], stage_names: Mapping[str, int | None] | None) -> bool:
    """Tell whether all lines but the first few are names of stages, such as `Sleep stage W`."""
    return len(lines) > 1 and all(not line.strip() or is_known(line.strip(), stage_names) for line in lines[-2:])


def _rows(path: Path, lines: Sequence[str], stage_names: Mapping[str, int | None] | None) -> list[list[str]]:
    """Split lines without a header into cells, all rows as long as the longest, without columns that are empty."""
    lines = [line.strip("[]() ") for line in lines if line.strip()]
    delimiter = next((mark for mark in "\t|;," if mark in lines[-1]), None)
    numbered = [line.split(maxsplit=1) for line in lines]
    if all(len(row) == 2 and _is_timelike(row[:1]) and is_known(row[1], stage_names) for row in numbered):
        return numbered  # a number, and a name of perhaps several words
    rows = equally_long(split(lines, delimiter, path.name), path.name)
    if delimiter is None and len(rows) > 1 and not any(map(_is_timelike, zip(*rows, strict=True))):
        rows = [[line] for line in lines]  # names of several words
    filled = [i for i in range(len(rows[0])) if any(row[i] for row in rows)]
    return [[row[i] for i in filled] for row in rows]


def _table_without_header(
    path: Path, rows: list[list[str]], length: tuple[int, bool], stage_names: Mapping[str, int | None] | None
) -> Table:
    """Tell by what they hold which column is which."""
    columns = list(zip(*rows, strict=True))
    numbers = [[parse_number(cell.rstrip(".:)")) for cell in column] for column in columns]
    counts = [None not in column for column in numbers]
    times = [i for i, column in enumerate(columns) if all(map(is_time_of_day, column))]
    stages = [i for i, column in enumerate(columns) if not counts[i] and all(is_known(c, stage_names) for c in column)]
    numbering = [i for i in range(len(columns)) if counts[i] and _is_counted(numbers[i])]
    fits = bool(stage_duration_s(len(rows), *length))
    if len(columns) == 2:
        if numbering and fits and numbering != [1, 0] and is_known(rows[0][1 - numbering[0]], stage_names):
            for row in rows:
                row[numbering[0]] = row[numbering[0]].rstrip(".:)")
            return Table(rows, {"epoch": numbering[0], "stage": 1 - numbering[0]})
        if not counts[0] and numbers[1][0] is not None and not times:
            return Table(rows, {"stage": 0, "end": 1})
        if stages == [1] and (times == [0] or (counts[0] and numbers[0][0] == 0)):
            return Table(rows, {"onset": 0, "stage": 1})
    if len(columns) == 3:
        if len(times) == len(stages) == 1 and 3 - times[0] - stages[0] in numbering:
            return Table(rows, {"onset": times[0], "stage": stages[0]})
        if counts[0] and counts[1]:
            onsets, seconds = ([number or 0.0 for number in numbers[i]] for i in (0, 1))
            is_end = len(rows) > 1 and seconds[:-1] == onsets[1:]
            return Table(rows, {"onset": 0, "end" if is_end else "duration": 1, "stage": 2})
    raise UserError(
        f"{path.name}: the first line is {', '.join(map(repr, rows[0]))}, in which no column is known for the stage. "
        "Write a first line with the names of the columns, such as onset,duration,stage, or name those that it has: "
        '--columns onset="...",stage="..."'
    )


def _is_timelike(column: Sequence[str]) -> bool:
    """Tell whether all cells of a column are numbers or clock times."""
    return all(is_time_of_day(cell) or parse_number(cell.rstrip(".:)")) is not None for cell in column)


def _is_counted(numbers: Sequence[float | None]) -> bool:
    """Tell whether numbers go up by one from 0 or 1."""
    return numbers[0] in (0, 1) and list(numbers) == [numbers[0] + i for i in range(len(numbers))]


def _luna_table(path: Path, lines: Sequence[str]) -> Table:
    """Read Luna's annot: class, start and stop in 3, 4 or 6 columns, perhaps with a header.

    Times are seconds, clock times, `0+hh:mm:ss` since the start, or sleep epochs `e:1`. A stop may also be a duration
    `+30`, or `...`: until the next line.
    """
    lines = [line for line in lines if line.strip()]
    rows = equally_long(split(lines, "\t" if "\t" in lines[-1] else None, path.name), path.name)
    width = len(rows[0])
    names = {3: ("class", "start", "stop"), 4: ("class", "instance", "start", "stop")}
    header = names.get(width, ("class", "instance", "channel", "start", "stop", "meta"))
    if len(header) != width:
        raise UserError(f"{path.name}: {width} columns, but Luna's annot has 3, 4 or 6. Export it again.")
    if rows[0][0].casefold() == "class":
        rows = rows[1:]
    events = []
    for number, row in enumerate(rows):
        name, (start, stop) = row[0], [row[header.index(key)] for key in ("start", "stop")]
        if name == "L":
            name = "Lights on"
        first, last = _luna_epoch(start), _luna_epoch(stop)
        if first:
            start, end = f"{first[0]:g}", last[1] if last else first[1]
            events.append([start, "", f"{end - first[0]:g}", name])
            continue
        if stop == "...":
            following = rows[number + 1][header.index("start")] if number + 1 < len(rows) else ""
            events.append([_since_zero(start), _since_zero(following), "", name])
        elif stop.startswith("+"):
            events.append([_since_zero(start), "", stop[1:], name])
        else:
            events.append([_since_zero(start), "" if stop == "." else _since_zero(stop), "", name])
    return Table(events, {"onset": 0, "end": 1, "duration": 2, "stage": 3})


def _luna_epoch(text: str) -> tuple[float, float] | None:
    """Return the begin and the end in s of Luna's `e:2`, `e:2:20` or `e:2:30:15`; None if the text is none."""
    match = re.fullmatch(r"e:([1-9]\d{0,6})(?::(\d{1,4}))?(?::(\d{1,4}))?", text)
    if not match:
        return None
    duration_s = int(match[2] or SLEEP_EPOCH_S)
    begin_s = (int(match[1]) - 1) * int(match[3] or duration_s)
    return begin_s, begin_s + duration_s


def _since_zero(text: str) -> str:
    """Convert Luna's `0+hh:mm:ss` to seconds."""
    seconds = clock_s(text[2:]) if text.startswith("0+") else None
    return text if seconds is None else f"{seconds:g}"


def _list_events(
    path: Path, names: list[str], length: tuple[int, bool], stage_names: Mapping[str, int | None] | None
) -> tuple[Reading, int]:
    """Give each stage of a list its time, and its name if a file beside it explains the codes.

    Return also the number of lines before the list.
    """
    name_of, duration_s = _description(path)
    if path.suffix.casefold() == ".eannot":
        name_of["L"] = "Lights on"
    known = [name in name_of or is_known(name, stage_names) for name in names]

    def fits(stages: Sequence[str]) -> bool:
        return bool(stage_duration_s(len(stages), *length, duration_s))

    def without_blanks(names: Sequence[str]) -> list[list[str]]:
        """Return the list with its blank lines, without the first of them, and without any, if it fits then."""
        leading = next((i for i, name in enumerate(names) if name), 0)
        lists = [list(names[i:]) for i in range(leading + 1)]
        lists.append([name for name in names if name])
        return [names for i, names in enumerate(lists) if fits(names) and names not in lists[:i]]

    remarks = []
    filled = next(i for i, name in enumerate(names) if name)
    head, word = 0, re.sub(r"[\W_]+", "_", names[filled].casefold()).strip("_")
    if not known[filled] and word in ROLES["stage"]:
        head = filled + 1
    elif not fits(names) or _is_lone_number(names):
        first = max((i + 1 for i, is_name in enumerate(known) if not is_name and names[i]), default=0)
        head = first if without_blanks(names[first:]) else 0
    is_zero = not head and names[0] == "0" and fits(names[1:])  # pandas' name of a column without one
    if is_zero and "0" not in names[1:]:
        head = 1
    elif is_zero and (not fits(names) or path.suffix.casefold() == ".csv"):
        raise UserError(
            f"{path.name}: its first line, 0, is the first stage or, as pandas writes it, the head of the list, with "
            f"{len(names)} lines for {length[0]} sleep epochs. Remove it if it is the head, or write Stage above it."
        )
    elif not head and fits(names) and fits(names[1:]):
        _refuse_head(path, names, known)
    if head:
        remarks.append(f"{head} lines before the list were left away" if head > 1 else "the first line is its head")
    names = names[head:]
    if blank := names.count(""):
        lists = without_blanks(names)
        if len(lists) > 1:
            raise UserError(
                f"{path.name}: its length fits with and without its blank lines ({blank}). Write ? for a "
                "sleep epoch that is not scored, and remove the other blank lines."
            )
        names = lists[0] if lists else [name for name in names if name]
        if unscored := names.count(""):
            remarks.append(f"blank lines ({unscored}) are sleep epochs that are not scored")
        if blank > unscored:
            remarks.append(
                f"blank lines ({blank - unscored}) were left away: without them it is as long as the recording"
            )
    names = [name_of.get(name, name) or NOT_SCORED for name in names]
    reading = consecutive_events(names, length[0], path.name, duration_s, length[1])
    return reading._replace(remarks=(*remarks, *reading.remarks)), head


def _refuse_head(path: Path, names: Sequence[str], known: Sequence[bool]) -> None:
    """Refuse a list that is as long as its recording with and without the first line, if that may be its head.

    It may be a number other than the next, REM, with which no night begins, or a text that is not known.
    """
    first = names[0]
    if not first or first in names[1:2]:
        return
    if not known[0] and first not in names[1:] or re.fullmatch(r"\d+|r|rem", first, re.IGNORECASE):
        raise UserError(
            f"{path.name}: its first line, {first}, is the first stage or the head of the list, which fits the "
            "recording with and without it. Remove it if it is the head, or write Stage above it."
        )


def _is_lone_number(names: Sequence[str]) -> bool:
    """Tell whether the first of several names is a number and no other is."""
    is_number = [parse_number(name) is not None for name in names]
    return len(names) > 2 and is_number[0] and not any(is_number[1:])


def _description(path: Path) -> tuple[dict[str, str], float | None]:
    """Read Visbrain's description of a list, if there is one: the name of each code, and the duration of each stage."""
    description = path.with_name(f"{path.stem}_description.txt")
    if not description.is_file():
        return {}, None
    lines = [line.split() for line in read_small(description).decode("latin-1").splitlines()]
    pairs = [line for line in lines if len(line) == 2]
    duration_s = next((parse_number(value) for name, value in pairs if name == "time"), None)
    return {code: name for name, code in pairs if name != "time"}, duration_s


def _table_events(path: Path, table: Table, length: tuple[int, bool], start_time: str) -> Reading:
    """Read each row's stage and its time."""
    if not table.rows:
        raise UserError(f"{path.name}: no stages in it. Pass the hypnogram of this recording.")
    remarks: list[str] = []
    if blank := table.cells("stage").count(""):
        remarks.append(f"rows without a stage ({blank}) are not scored")
    if "epoch" in table.columns and is_numbering(table.cells("epoch")):
        table.rows.sort(key=lambda row: parse_number(row[table.columns["epoch"]]) or 0.0)
    names = [name or NOT_SCORED for name in table.cells("stage")]
    durations_s, columns = [0.0] * len(names), table.columns.keys()
    if "duration" in columns:
        durations_s = [_duration_s(path, cell) * table.units_s.get("duration", 1) for cell in table.cells("duration")]
        if any(seconds >= DAY_S for seconds in durations_s):
            raise UserError(f"{path.name}: a duration of {max(durations_s):g} s. Correct it.")
    if "onset" not in columns:
        reading = _without_onsets(path, table, names, durations_s, length)
        return reading._replace(remarks=(*remarks, *reading.remarks))
    cells, unit_s = table.cells("onset"), table.units_s.get("onset", 1)
    if remark := _zero_date(cells):
        remarks.append(remark)
        start_time = "1970-01-01T00:00:00"
    if "end" in columns:
        units_s = unit_s, table.units_s.get("end", 1)
        for i, end in enumerate(table.cells("end")):
            if end.casefold() in ("", "n/a", "nan"):
                continue
            seconds = _seconds_between(path, cells[i], end, units_s, start_time)
            if durations_s[i] and abs(seconds - durations_s[i]) > _SLACK_S:
                raise UserError(f"{path.name}: from {cells[i]!r} to {end!r} are not {durations_s[i]:g} s. Correct it.")
            durations_s[i] = durations_s[i] or seconds
    onsets_s = [onset_s * unit_s for onset_s in _onsets_s(path, cells, durations_s, length[0], start_time)]
    if "end" in columns and "duration" not in columns and _ends_are_inclusive(onsets_s, durations_s):
        if table.units_s.get("onset", 1) == 1 and parse_number(cells[0]) == 1:
            raise UserError(
                f"{path.name}: its first stage begins at 1, and each ends one before the next begins, so the times "
                "seem to be counted from 1. Write the onsets in seconds from 0 on, and ends equal to the next onset."
            )
        durations_s = [seconds + _LAST_S for seconds in durations_s]
        remarks.append("each stage ends 1 s before the next begins: its end is read as its last second")
    return Reading(list(map(Event, onsets_s, durations_s, names)), tuple(remarks))


def _ends_are_inclusive(onsets_s: Sequence[float], durations_s: Sequence[float]) -> bool:
    """Tell whether nearly all stages end one second before the next begins, so that the end is their last second."""
    gaps = [after - begin - each for begin, each, after in zip(onsets_s, durations_s, onsets_s[1:], strict=False)]
    n_inclusive = sum(abs(gap_s - _LAST_S) < _LEAST_GAP_S for gap_s in gaps)
    return bool(gaps) and n_inclusive >= _NEARLY_ALL * len(gaps) and min(gaps) > _LEAST_GAP_S


def _without_onsets(
    path: Path, table: Table, names: list[str], durations_s: list[float], length: tuple[int, bool]
) -> Reading:
    """Give the rows of a table without onsets their times: by their ends, durations, numbers or order."""
    n_sleep_epochs, has_rest = length
    if "end" in table.columns:
        return Reading(_events_with_ends(path, table, names))
    if all(durations_s) and len(set(durations_s)) > 1:
        ends_s = list(accumulate(durations_s))
        if not n_sleep_epochs * SLEEP_EPOCH_S <= ends_s[-1] <= (n_sleep_epochs + has_rest) * SLEEP_EPOCH_S:
            raise UserError(
                f"{path.name}: its durations are {ends_s[-1]:g} s in all, but the recording has {n_sleep_epochs} sleep "
                f"epochs of {SLEEP_EPOCH_S} s. Add a column with the onset of each."
            )
        begins_s = [0.0, *ends_s]
        return Reading(
            list(map(Event, begins_s, durations_s, names)),
            ("it has durations but no onsets: each stage begins where the one before it ends",),
        )
    numbers = [parse_number(cell) for cell in table.cells("epoch")] if "epoch" in table.columns else []
    if numbers and not _is_counted(numbers):
        return _numbered_events(path, numbers, names, length)
    return consecutive_events(names, n_sleep_epochs, path.name, durations_s[0] or None, has_rest)


def _numbered_events(
    path: Path, numbers: Sequence[float | None], names: Sequence[str], length: tuple[int, bool]
) -> Reading:
    """Place stages by the number of their sleep epoch; it must be clear whether counting begins at 0 or at 1."""
    n_places = length[0] + length[1]
    whole = [int(number) for number in numbers if number is not None and number.is_integer()]
    bases = [base for base in (0, 1) if whole and min(whole) >= base and max(whole) - base < n_places]
    if len(whole) < len(names) or len(set(whole)) < len(whole) or len(bases) != 1:
        numbered = f"from {min(whole)} to {max(whole)}" if whole else "in another way"
        raise UserError(
            f"{path.name}: its {len(names)} rows are numbered {numbered}, but the recording has {length[0]} sleep "
            f"epochs of {SLEEP_EPOCH_S} s. Each number must stand once, and be counted from 0 or from 1: add the rows "
            "that are missing, or a column with onsets in seconds."
        )
    events = [Event((n - bases[0]) * SLEEP_EPOCH_S, SLEEP_EPOCH_S, x) for n, x in zip(whole, names, strict=True)]
    return Reading(events, (f"its sleep epochs are counted from {bases[0]}",))


def _events_with_ends(path: Path, table: Table, names: Sequence[str]) -> list[Event]:
    """Read stages that are given with their ends: each begins where the one before it ends."""
    events, begin_s = [], 0.0
    for name, cell in zip(names, table.cells("end"), strict=True):
        end_s = parse_number(cell)
        end_s = None if end_s is None else end_s * table.units_s.get("end", 1)
        if end_s is None or not end_s > begin_s:
            raise UserError(f"{path.name}: {name!r} ends at {cell!r}, not after {begin_s:g} s. Export it again.")
        events.append(Event(begin_s, end_s - begin_s, name))
        begin_s = end_s
    return events


def _onsets_s(
    path: Path, cells: list[str], durations_s: list[float], n_sleep_epochs: int, start_time: str
) -> list[float]:
    """Read onsets: all of them seconds, clock times, or dates with times."""
    numbers = [number for cell in cells if (number := parse_number(cell)) is not None]
    if len(numbers) == len(cells):
        return numbers
    start = datetime.fromisoformat(start_time) if start_time else None
    cells = [_plain_time(cell, _start(start_time)) for cell in cells]
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


def _start(start_time: str) -> datetime | None:
    """Parse the start of the recording."""
    return datetime.fromisoformat(start_time).replace(tzinfo=None) if start_time else None


def _plain_time(cell: str, start: datetime | None) -> str:
    """Write other forms of clock times and dates, such as `3/4/2020 10:30:20 PM`, as `hh:mm:ss` or in ISO 8601.

    Whether the day or the month comes first follows from the start of the recording: the nearer date is meant.
    """
    match = _DATE_AND_CLOCK.fullmatch(cell)
    if not match or (match["sign"] == "." and match["second"] is None):
        return cell
    hour = int(match["hour"]) if not match["half"] else int(match["hour"]) % 12 + 12 * (match["half"][0] in "pP")
    fraction = (match["fraction"] or "").replace(",", ".")
    clock = f"{hour:02d}:{match['minute']}:{match['second'] or '00'}{fraction}"
    if not match["a"]:
        return clock
    a, b, c = (int(match[key]) for key in "abc")
    orders = [(a, b, c)] if len(match["a"]) == 4 else [(c + 2000 * (c < 100), b, a), (c + 2000 * (c < 100), a, b)]
    dates = []
    for year, month, day in orders:
        try:
            dates.append(datetime(year, month, day))
        except ValueError:
            continue
    if not dates or (len(set(dates)) > 1 and start is None):
        return cell
    date = min(dates, key=lambda date: abs(date - start)) if start else dates[0]
    return f"{date:%Y-%m-%d}T{clock}"


def _zero_date(cells: Sequence[str]) -> str:
    """Recognise MNE's annotations without a start: dates counted from 1970. Say so, or return an empty text."""
    zero = all(re.match("1970-01-(01|02|03)[ T]", cell) for cell in cells)
    return "its times are counted from 1970-01-01, as MNE writes those since the start of the recording" if zero else ""


def _seconds_between(path: Path, onset: str, end: str, units_s: tuple[float, float], start_time: str) -> float:
    """Return the seconds from an onset to an end, both of them seconds, clock times, or dates with times."""
    numbers = parse_number(onset), parse_number(end)
    texts = [_plain_time(cell, _start(start_time)) for cell in (onset, end)]
    clocks = [clock_s(text) for text in texts]
    if None not in numbers:
        seconds = (numbers[1] or 0.0) * units_s[1] - (numbers[0] or 0.0) * units_s[0]
    elif None not in clocks:
        seconds = ((clocks[1] or 0.0) - (clocks[0] or 0.0)) % DAY_S
    else:
        try:
            seconds = (datetime.fromisoformat(texts[1]) - datetime.fromisoformat(texts[0])).total_seconds()
        except (ValueError, TypeError):
            seconds = -1.0
    if not 0 < seconds < DAY_S:
        raise UserError(f"{path.name}: from {onset!r} to {end!r} is no time that a stage can last. Correct it.")
    return seconds


def _duration_s(path: Path, cell: str) -> float:
    """Read a duration; 0 if there is none: an empty cell, n/a, or EDFbrowser's -1."""
    seconds = 0.0 if cell.casefold() in ("", "n/a") else parse_number(cell)
    seconds = clock_s(cell) if seconds is None else seconds
    if seconds is None or not -1 <= seconds < DAY_S * 1000:
        raise UserError(f"{path.name}: duration {cell!r} is no number of seconds. Correct it.")
    return max(seconds, 0.0)
