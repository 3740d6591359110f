"""Events: what the readers of all forms of hypnograms return."""

from collections.abc import Sequence
from typing import NamedTuple

from utils.errors import UserError
from utils.stages import SLEEP_EPOCH_S


class Event(NamedTuple):
    """One stage, or something else that a scorer noted, for as long as it lasts."""

    onset_s: float  # from the start of the recording
    duration_s: float  # 0 if the file gives none
    name: str  # as in the file, without spaces around it


class Reading(NamedTuple):
    """What a file holds, and how it was read."""

    events: list[Event]
    remarks: tuple[str, ...] = ()  # what was assumed
    rk: bool = False  # numbers are Rechtschaffen & Kales' codes in any case; see `stage_names.resolve`


def stage_duration_s(n_stages: int, n_sleep_epochs: int, has_rest: bool, duration_s: float | None = None) -> float:
    """Return the duration of each stage in s with which a list is as long as its recording; 0 if there is none.

    The durations that programs use are tried, or only `duration_s`. The list may also cover the part of a sleep epoch
    at the end of the recording, if there is one (`has_rest`).
    """
    for each_s in [duration_s] if duration_s else (30, 20, 15, 10, 6, 5, 3, 2, 1):
        if n_sleep_epochs * SLEEP_EPOCH_S <= n_stages * each_s <= (n_sleep_epochs + has_rest) * SLEEP_EPOCH_S:
            return each_s
    return 0


def consecutive_events(
    names: Sequence[str], n_sleep_epochs: int, source: str, duration_s: float | None = None, has_rest: bool = False
) -> Reading:
    """Give each stage of a list its time: one after the other from the start of the recording to its end.

    Parameters
    ----------
    names, source
        Names of the stages, and of the hypnogram.
    n_sleep_epochs : int
        Whole sleep epochs of the recording.
    duration_s : float, optional
        Duration of each stage in s. By default 30 s or less, such that the list is as long as the recording.
    has_rest : bool
        The recording ends with a part of a sleep epoch, which the list may have too.
    """
    each_s = stage_duration_s(len(names), n_sleep_epochs, has_rest, duration_s)
    if not each_s:
        of = f" of {duration_s:g} s" if duration_s else ""
        rest = " and a part of one" if has_rest else ""
        raise UserError(
            f"{source}: {len(names)} stages{of}, but the recording has {n_sleep_epochs} sleep epochs of "
            f"{SLEEP_EPOCH_S} s{rest}. Both must be of the same night and equally long: get both files again, or add ? "
            "for what is not scored."
        )
    remarks = [] if each_s == SLEEP_EPOCH_S else [f"it has a stage for each {each_s:g} s"]
    if len(names) * each_s > n_sleep_epochs * SLEEP_EPOCH_S:
        remarks.append("its last stage is that of the part of a sleep epoch at the end, which is left away")
    return Reading([Event(i * each_s, each_s, name) for i, name in enumerate(names)], tuple(remarks))
