"""Convert times of day, and dates with times, to seconds from the start of a recording."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import floor

from recordings.edf_header import ANONYMOUS
from utils.errors import UserError
from utils.stages import SLEEP_EPOCH_S

DAY_S = 86400

# A time in a line of text, such as 22:30:20, 22h30 or 10:30:20 PM; other forms only if the line tells that it is a time
_CLOCK = r"(?<![\d:.])([01]?\d|2[0-4])[:h]([0-5]\d)(?:[:m]([0-5]\d))?(?!\d)(?:[.,]\d+)?(?:\s*(?P<half>[ap])\.?m\b)?"
_OTHER_CLOCK = r"(?<![\d.-])(?:\d{8}[T ]?)?([01]\d|2[0-4])[.-]?([0-5]\d)[.-]?([0-5]\d)(?![\d-]|\.\d\d)(?P<half>)"
_MAY_START = "start|begin|onset|time|clock|zeit|uhr|anfang|heure|debut|début|hora|inicio|lights"
_NO_START = "dur|length|dauer|länge|laenge|export|print|creat|erstellt|generat|saved|modified"


def clock_s(text: str) -> float | None:
    """Convert `hh:mm` or `hh:mm:ss`, with or without a fraction, to seconds; None if the text is neither."""
    match = re.fullmatch(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?", text)
    if not match:
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float((match[3] or "0").replace(",", "."))


def refuse_unread_start(lines: Iterable[str], start_time: str, source: str) -> None:
    """Refuse a scoring without onsets if a line that is not read holds a time other than the recording's start.

    Such a time may be that at which the scoring begins. Times of an export and durations do not matter.
    """
    start = datetime.fromisoformat(start_time) if start_time else None
    for line in lines:
        if re.search(_NO_START, line, re.IGNORECASE) and not re.search(_MAY_START, line, re.IGNORECASE):
            continue
        match = re.search(_CLOCK, line, re.IGNORECASE)
        if not match and re.search(_MAY_START, line, re.IGNORECASE):
            match = re.search(_OTHER_CLOCK, line)
        if not match:
            continue
        hour, minute, second = (int(match[i] or 0) for i in (1, 2, 3))
        if match["half"]:
            hour = hour % 12 + 12 * (match["half"] in "pP")
        clock = (hour, minute, second) if match[3] else (hour, minute)
        if start is None or (start.hour, start.minute, start.second)[: len(clock)] != clock:
            raise UserError(
                f"{source}: {line.strip()[:80]!r} holds a time, and the stages have none. If the scoring begins then, "
                f"give each stage its onset; else remove this line. The recording starts at "
                f"{start.time().isoformat() if start else 'an unknown time'}."
            )


def onsets_from_dates(
    dates: Sequence[datetime], start: datetime | None, source: str, durations_s: Sequence[float] = ()
) -> list[float]:
    """Convert dates with times to seconds from the start of the recording, which must be known.

    If only the dates or only the start have a time zone, it is not known what the clock of one showed at a time of the
    other. Then they are taken for one clock only if the first date lies in the first sleep epoch. A start in UTC is the
    same as one without a zone here, for it does not tell the time of day at that place.
    """
    if start is None:
        raise UserError(f"{source}: gives dates and times, but its recording has no start time. Write seconds instead.")
    zones = {date.tzinfo is not None for date in dates}
    if len(zones) > 1:
        raise UserError(f"{source}: some of its dates have a time zone and some have none. Write all in one form.")
    has_zones = True in zones
    if not any(date.microsecond for date in dates):
        start = start.replace(microsecond=0)  # the dates were cut to whole seconds
    first, known = min(dates), start.tzinfo is not None if has_zones else not in_utc(start)
    if not has_zones or not known:
        start = start.replace(tzinfo=first.tzinfo)
    if start.date() == ANONYMOUS != first.date():
        days = (first - start) // timedelta(days=1)  # the recording began less than a day before the first date
        start += timedelta(days=days)
    onsets_s = [(date - start).total_seconds() for date in dates]
    if not known and not -1 < min(onsets_s) < SLEEP_EPOCH_S:
        raise UserError(
            f"{source}: begins at {first.isoformat()}, and its recording at {start.replace(tzinfo=None).isoformat()}, "
            f"{'whose time zone is not known' if has_zones else 'in UTC'}, so what lies between them is not known. "
            "Write seconds since the start of the recording, or times of its own clock."
        )
    if not has_zones:
        _refuse_clock_change(onsets_s, durations_s, source)
    return onsets_s


def in_utc(start: datetime) -> bool:
    """Tell whether a start is in UTC, and not in the time of day at its place."""
    return start.utcoffset() == timedelta(0)


def onsets_from_clock(
    clocks: Sequence[float],
    start: datetime | None,
    n_sleep_epochs: int,
    source: str,
    durations_s: Sequence[float] = (),
) -> list[float]:
    """Convert `hh:mm:ss` to seconds from the start of the recording.

    The times (`clocks`, in s) are in the order of the night, each less than a day after the one before it. They may be
    times of day or times since the start of the recording. Only one of the two may lie within its whole sleep epochs.
    A start in UTC does not tell the time of day at its place: then the first must lie in the first sleep epoch.
    """
    _refuse_clock_change(clocks, durations_s, source)
    since_first, days_s = [0.0], 0
    for before, now in zip(clocks, clocks[1:], strict=False):
        days_s += DAY_S * (now < before)
        since_first.append(now + days_s - clocks[0])
    firsts = {clocks[0]}
    if start is not None:
        start_s = start.hour * 3600 + start.minute * 60 + start.second + start.microsecond * 1e-6
        if all(clock == floor(clock) for clock in clocks):
            start_s = floor(start_s)  # the times were cut to whole seconds
        firsts.add(round(clocks[0] - start_s, 6) % DAY_S)
    elif clocks[0] != 0:
        firsts.clear()  # times since the start begin at 0:00
    if start is not None and in_utc(start):
        firsts = {first for first in firsts if first < SLEEP_EPOCH_S}
    possible = [first for first in firsts if first + since_first[-1] <= n_sleep_epochs * SLEEP_EPOCH_S]
    if len(possible) != 1:
        may_be = "times of day as well as times since the start of" if possible else "no times within"
        raise UserError(
            f"{source}: the onsets can be {may_be} the recording, which starts at "
            f"{start.timetz() if start else 'an unknown time'} and has {n_sleep_epochs} sleep epochs. "
            "Write seconds since its start, or dates with times."
        )
    return [possible[0] + seconds for seconds in since_first]


def _refuse_clock_change(times_s: Sequence[float], durations_s: Sequence[float], source: str) -> None:
    """Refuse times of a clock that jump by an hour, forward or back, from the end of one stage to the next.

    A duration of 0 is that of a sleep epoch.
    """
    durations_s = durations_s or [0.0] * len(times_s)
    for number, (before_s, duration_s, time_s) in enumerate(zip(times_s, durations_s, times_s[1:], strict=False), 1):
        jump_s = (time_s - before_s - (duration_s or SLEEP_EPOCH_S) + DAY_S / 2) % DAY_S - DAY_S / 2
        if abs(abs(jump_s) - 3600) < 1:
            raise UserError(
                f"{source}: an hour is {'missing' if jump_s > 0 else 'there twice'} between its times {number} and "
                f"{number + 1}, as when the clocks change. Write seconds since the start of the recording, or dates "
                "with times and their time zone (2020-03-29T01:59:30+01:00)."
            )
