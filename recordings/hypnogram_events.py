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


def consecutive_events(
    names: Sequence[str], n_sleep_epochs: int, source: str, duration_s: float | None = None
) -> list[Event]:
    """Give each stage of a list its time: one after the other from the start of the recording to its end.

    Parameters
    ----------
    names, source
        Names of the stages, and of the hypnogram.
    n_sleep_epochs : int
        Whole sleep epochs of the recording, which may end with a part of one.
    duration_s : float, optional
        Duration of each stage in s. By default 30 s or a whole part of it, such that the list is as long as the
        recording.
    """
    for each_s in [duration_s] if duration_s else (30, 15, 10, 6, 5, 3, 2, 1):
        if n_sleep_epochs * SLEEP_EPOCH_S <= len(names) * each_s <= (n_sleep_epochs + 1) * SLEEP_EPOCH_S:
            return [Event(position * each_s, each_s, name) for position, name in enumerate(names)]
    of = f" of {duration_s:g} s" if duration_s else ""
    raise UserError(
        f"{source}: {len(names)} stages{of}, but the recording has {n_sleep_epochs} sleep epochs of {SLEEP_EPOCH_S} s. "
        "Both must be of the same night and equally long: get both files again, or add ? for what is not scored."
    )
