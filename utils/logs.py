"""The log of a run: on the console, and in the folder of the fold that is being trained."""

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LOG = logging.getLogger("attnsleep")

SUMMARY = logging.INFO + 5
"""Level of what is said at every verbosity: the beginning and the result of a fold, the report."""

logging.addLevelName(SUMMARY, "INFO")

LEVELS = {0: SUMMARY, 1: logging.INFO, 2: logging.DEBUG}
"""Lowest level that is shown, by the configuration's verbosity."""


def log_to_console(verbosity: int) -> None:
    """Send the log to standard error, from the level of `verbosity` (0 few, 1, 2 all) up."""
    LOG.handlers.clear()
    LOG.propagate = False
    LOG.setLevel(LEVELS[verbosity])
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    LOG.addHandler(console)


def print_any_name() -> None:
    """Let whatever a file is called be printed: a name may hold bytes that are no text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _LogFile(logging.FileHandler):
    """A log file; what keeps a line from being written ends the run instead of a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            error.filename = self.baseFilename  # a full disk does not say what could not be written
            raise error
        super().handleError(record)

    def close(self) -> None:
        """Close the file; lines that could not be written were told when they could not."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_to_file(path: Path, remarks: Sequence[str] = ()) -> Iterator[None]:
    """Append the log to `path` as well, with time stamps, after remarks that the console has had already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for remark in remarks:
        handler.handle(LOG.makeRecord(LOG.name, logging.WARNING, __file__, 0, remark, (), None))
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
