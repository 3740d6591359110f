"""Locks between processes."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from utils.errors import UserError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` during the block, once no other process holds it. A lock ends with its process.

    Parameters
    ----------
    path : Path
        A file that is appended to and never replaced, such as a log. Created if it does not exist.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold `path` during the block; raise an error at once if another process holds it.

    Parameters
    ----------
    path : Path
        A log. The process that holds it writes a line that says so. Created if it does not exist.

    Raises
    ------
    UserError
        Names the process that holds it, and its machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holders = re.findall(r"Held by (process \d+ on .+)", file.read())
            raise UserError(
                f"{path.parent}: {holders[-1] if holders else 'another process'} is at work on it. "
                "Wait until it ends, or end it: the same command goes on from there."
            ) from error
        file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} Held by process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
