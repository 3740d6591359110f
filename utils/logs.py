"""The log of a run: on the console, and in the folder of the fold that is being trained."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def log_to_file(path: Path, remarks: Sequence[str] = ()) -> Iterator[None]:
    """Append the log to `path` as well, with time stamps, after remarks that the console has had already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for remark in remarks:
        handler.handle(LOG.makeRecord(LOG.name, logging.WARNING, __file__, 0, remark, (), None))
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
