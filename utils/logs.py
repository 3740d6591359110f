"""The log of a run: on the console, and in the folder of the fold that is being trained."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

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


def print_any_name() -> None:
    """Print the bytes of file names that are no valid text as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
