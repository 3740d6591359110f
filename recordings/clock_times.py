"""Convert times of day, and dates with times, to seconds from the start of a recording."""

import re
from collections.abc import Sequence
from datetime import datetime
from math import floor

from utils.errors import UserError
from utils.stages import SLEEP_EPOCH_S

DAY_S = 86400


def clock_s(text: str) -> float | None:
    """Convert `hh:mm` or `hh:mm:ss`, with or without a fraction, to seconds; None if the text is neither."""
    match = re.fullmatch(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?", text)
    if not match:
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float((match[3] or "0").replace(",", "."))


def onsets_from_dates(dates: Sequence[datetime], start: datetime | None, source: str) -> list[float]:
    """Convert dates with times to seconds from the start of the recording, which must be known."""
    if start is None:
        raise UserError(f"{source}: gives dates and times, but its recording has no start time. Write seconds instead.")
    if not any(date.microsecond for date in dates):
        start = start.replace(microsecond=0)  # the dates were cut to whole seconds
    return [(date - start).total_seconds() for date in dates]


def onsets_from_clock(clocks: Sequence[float], start: datetime | None, n_sleep_epochs: int, source: str) -> list[float]:
    """Convert `hh:mm:ss` to seconds from the start of the recording.

    The times (`clocks`, in s) are in the order of the night, each less than a day after the one before it. They may be
    times of day or times since the start of the recording. Only one of the two may lie within its whole sleep epochs.
    """
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
    possible = [first for first in firsts if first + since_first[-1] <= n_sleep_epochs * SLEEP_EPOCH_S]
    if len(possible) != 1:
        may_be = "times of day as well as times since the start of" if possible else "no times within"
        raise UserError(
            f"{source}: the onsets can be {may_be} the recording, which starts at "
            f"{start.time() if start else 'an unknown time'} and has {n_sleep_epochs} sleep epochs. "
            "Write seconds since its start, or dates with times."
        )
    return [possible[0] + seconds for seconds in since_first]
