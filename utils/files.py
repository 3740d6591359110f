"""Writing files so that a reader finds the old one or the new one, never a part."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well.

    The temporary name is the same every time, so that a run that was killed leaves at most one
    such file, and the next run takes it over. Of several processes that write one file at once, each
    waits for the one before it, wherever the file system has locks.

    Parameters
    ----------
    path : Path
        The file to write or to replace. Its directory is made if it is missing.

    Yields
    ------
    Path
        Where to write. It ends in the suffix of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{path.name}")
    try:
        with _open_alone(temporary):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say what could not be written
        raise


def _open_alone(path: Path) -> IO[bytes]:
    """Open a file that is about to be written, made if it is missing, once no other process has it open so."""
    while True:
        file = path.open("ab")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # it was moved into its place, or removed, by whoever had it


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8) in one move."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
