"""Ctrl-C, and SIGTERM, which a cluster sends before it takes a machine away: a stop that leaves nothing half done."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_held_back: list["Stopped"] | None = None
"""Stops that came in the midst of what is not divided; None outside of it."""


class Stopped(KeyboardInterrupt):
    """Tells that the process is asked to end.

    Parameters
    ----------
    number : int
        Of the signal.

    Attributes
    ----------
    exit_code : int
        As a shell gives it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` at Ctrl-C and SIGTERM, once: SIGTERM told again is ignored, Ctrl-C pressed again ends at once.

    Yields
    ------
    None
        Signals that are ignored already, as Ctrl-C is in a shell's background, stay so.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undivided() -> Iterator[None]:
    """Hold a stop back until the end of the block; such blocks are not nested."""
    global _held_back
    stops: list[Stopped] = []
    _held_back = stops
    try:
        yield
    finally:
        _held_back = None
    if stops:
        raise stops[0]


def _stop(number: int, _: FrameType | None) -> None:
    """Raise `Stopped`, or leave it to the end of the undivided block."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _held_back is None:
        raise Stopped(number)
    _held_back.append(Stopped(number))
