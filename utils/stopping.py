"""Ctrl-C, and SIGTERM, which a cluster sends before it takes a machine away."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The process is asked to end.

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
    """Raise `Stopped` at Ctrl-C or SIGTERM during the block.

    While the process ends, further SIGTERMs are ignored, and a second Ctrl-C ends it at once. Signals that are ignored
    already, as Ctrl-C is in a shell's background, stay so.
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


def _stop(number: int, _: FrameType | None) -> None:
    """Raise `Stopped`, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise Stopped(number)
