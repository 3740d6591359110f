"""What every form of a scoring is read into."""

from collections.abc import Sequence
from typing import NamedTuple

from utils.errors import UserError
from utils.stages import SLEEP_EPOCH_S


class Event(NamedTuple):
    """One line, annotation or event of a scoring.

    Attributes
    ----------
    onset_s : float
        From the start of the recording.
    duration_s : float
        0 if it does not say.
    name : str
        As it stands there, without spaces around it.
    """

    onset_s: float
    duration_s: float
    name: str


def consecutive_events(
    names: Sequence[str], n_sleep_epochs: int, source: str, each_s: float | None = None
) -> list[Event]:
    """Lay names out one after the other from the start of the recording to its end.

    Parameters
    ----------
    names : sequence of str
    n_sleep_epochs : int
        Whole sleep epochs that the recording has; a part of one may follow them.
    source : str
        Name of the scoring, for messages.
    each_s : float, optional
        How long each lasts. If not given, it is the length of which they make the recording: 30 s or a part of it.

    Raises
    ------
    UserError
        They are not as many as the recording is long.
    """
    for length_s in [each_s] if each_s else (30, 15, 10, 6, 5, 3, 2, 1):
        if n_sleep_epochs * SLEEP_EPOCH_S <= len(names) * length_s <= (n_sleep_epochs + 1) * SLEEP_EPOCH_S:
            return [Event(position * length_s, length_s, name) for position, name in enumerate(names)]
    of = f" of {each_s:g} s" if each_s else ""
    raise UserError(
        f"{source}: {len(names)} stages{of}, but the recording has {n_sleep_epochs} sleep epochs of {SLEEP_EPOCH_S} s. "
        "They must be of one night, and begin and end with it: get both files again, or add ? where nothing is scored."
    )
