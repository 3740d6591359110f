"""Times of day, and dates with times, to seconds from the start of a recording."""

import re
from collections.abc import Sequence
from datetime import datetime
from math import floor

from utils.errors import UserError
from utils.stages import SLEEP_EPOCH_S

DAY_S = 86400


def clock_s(text: str) -> float | None:
    """Return the seconds in `hh:mm` or `hh:mm:ss` with or without a fraction; None if it is neither."""
    found = re.fullmatch(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?", text)
    if not found:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float((found[3] or "0").replace(",", "."))


def onsets_from_dates(dates: Sequence[datetime], start: datetime | None, source: str) -> list[float]:
    """Turn dates with times into seconds from the start of the recording.

    Raises
    ------
    UserError
        The start is not known.
    """
    if start is None:
        raise UserError(f"{source}: gives dates and times, but its recording has no start time. Write seconds instead.")
    if not any(date.microsecond for date in dates):
        start = start.replace(microsecond=0)  # whole seconds: cut off, as the start's must be
    return [(date - start).total_seconds() for date in dates]


def onsets_from_clock(clocks: Sequence[float], start: datetime | None, n_sleep_epochs: int, source: str) -> list[float]:
    """Turn `hh:mm:ss` into seconds from the start of the recording.

    They may be times of day or times since the start; which of both is told by the recording, in which they must lie.

    Parameters
    ----------
    clocks : sequence of float
        Seconds, in the order of the night: one below that before it is of the next day.
    start : datetime or None
        Start of the recording, if known.
    n_sleep_epochs : int
        Whole sleep epochs that it has.
    source : str
        Name of the scoring, for messages.

    Raises
    ------
    UserError
        They lie in the recording as neither, or as both.
    """
    since_first, days_s = [0.0], 0
    for before, now in zip(clocks, clocks[1:], strict=False):
        days_s += DAY_S * (now < before)
        since_first.append(now + days_s - clocks[0])
    firsts = {clocks[0]}
    if start is not None:
        of_day_s = start.hour * 3600 + start.minute * 60 + start.second + start.microsecond * 1e-6
        if all(clock == floor(clock) for clock in clocks):
            of_day_s = floor(of_day_s)  # whole seconds: cut off, as the start's must be
        firsts.add(round(clocks[0] - of_day_s, 6) % DAY_S)
    elif clocks[0] != 0:
        firsts.clear()  # a scoring that begins at another time than 0:00 is hardly counted from the start
    fitting = [first for first in firsts if first + since_first[-1] <= n_sleep_epochs * SLEEP_EPOCH_S]
    if len(fitting) != 1:
        may_be = "times of day as well as times since the start of" if fitting else "no times within"
        raise UserError(
            f"{source}: the onsets can be {may_be} the recording, which starts at "
            f"{start.time() if start else 'an unknown time'} and has {n_sleep_epochs} sleep epochs. "
            "Write seconds since its start, or dates with times."
        )
    return [fitting[0] + seconds for seconds in since_first]
