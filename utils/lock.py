"""One process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds `path`, and hold it; the end of a process, however it comes, lets go of it.

    Parameters
    ----------
    path : Path
        A file that is appended to and never replaced, such as a log. It is made if it is missing.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
