"""The log of a run: on the console, and in the folder of the fold that is being trained."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

LOG = logging.getLogger("attnsleep")

SUMMARY = logging.INFO + 5
"""Level of what is logged at every verbosity: the beginning and the result of a fold, the report."""

logging.addLevelName(SUMMARY, "INFO")

LEVELS = {0: SUMMARY, 1: logging.INFO, 2: logging.DEBUG}
"""Lowest level that is logged, by the configuration's verbosity."""


def log_to_console(verbosity: int) -> None:
    """Send the log to standard error: few lines (`verbosity` 0), one a training epoch (1), or all (2)."""
    LOG.handlers.clear()
    LOG.propagate = False
    LOG.setLevel(LEVELS[verbosity])
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    LOG.addHandler(console)


class _Output:
    """Standard output or error. When it cannot be written to any more, the rest goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text."""
        with self._or_nowhere():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits in the buffer."""
        with self._or_nowhere():
            self._stream.flush()

    @contextmanager
    def _or_nowhere(self) -> Iterator[None]:
        """Replace the stream by the null device if it cannot be written to."""
        try:
            yield
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


def never_fail_to_print() -> None:
    """Let no output end the program: a reader that has gone (`| head`), closed streams, file names that are no text.

    Call it first. Files that are opened later would take the places of closed streams, and be printed into.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # opens the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if stream is getattr(sys, f"__{name}__"):
                setattr(sys, name, _Output(stream))


def until(seconds: float) -> str:
    """Say in words how long something takes, and when it ends: `about 12 min, until 14:32`."""
    unit, size = next(
        (unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 1)) if seconds >= 2 * size or size == 1
    )
    end = datetime.now() + timedelta(seconds=seconds)
    return f"about {seconds / size:.0f} {unit}, until {end:%H:%M}" + (f" on {end:%d %b}" if seconds > 43_200 else "")


class _LogFile(logging.FileHandler):
    """A log file that ends the run when a line cannot be written, as on a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            error.filename = self.baseFilename  # the system does not name the file
            raise error
        super().handleError(record)

    def close(self) -> None:
        """Close the file; lines that could not be written have raised an error already."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append the log to `path` as well, with time stamps, during the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
