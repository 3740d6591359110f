"""Ctrl-C, and SIGTERM, which a cluster sends before it takes a machine away: a stop that leaves nothing half done."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_told: "Stopped | None" = None
"""The stop that this process was told of."""

_undivided = False
"""Whether what is being done must be done as a whole."""


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
    global _told
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        _told = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undivided() -> Iterator[None]:
    """Hold a stop back until the end of the block; one that was told before and got lost is raised there as well."""
    global _undivided
    outer, _undivided = _undivided, True
    try:
        yield
    finally:
        _undivided = outer
    if _told and not outer:
        raise _told


def _stop(number: int, _: FrameType | None) -> None:
    """Raise `Stopped`, or leave it to the end of the undivided block."""
    global _told
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _told = Stopped(number)
    if not _undivided:
        raise _told
