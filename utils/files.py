"""Files: written so that a reader sees the old content or the new one, never a part of it."""

import csv
import fcntl
import io
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import UserError

MAX_TEXT_BYTES = 2**24
"""Largest hypnogram or configuration that is read: more than a week of lines, one a second."""


MAX_NAME_BYTES = 255
"""Longest file name that file systems take."""

WRITING = ".writing-"
"""Beginning of the name of a file that is being written."""


def name_problem(path: Path) -> str:
    """Say why logs and reports cannot show the name of a recording; empty if they can."""
    if not is_printable(path.name):
        return f"{str(path)!r}: its name has line breaks or invalid characters. Rename it."
    return ""


def is_printable(text: str) -> bool:
    """Tell whether logs, pages and workbooks can hold a text: neither control characters nor what XML forbids."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") or letter in "\ufffe\uffff" for letter in text)


def require_file(path: Path) -> None:
    """Refuse folders, pipes and devices: reading a pipe or a device might never end.

    Raises
    ------
    UserError
        `path` exists and is no file.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path.name}: a folder, pipe or device, not a file. Remove it, or put a file there.")


def read_small(path: Path) -> bytes:
    """Read a hypnogram or a configuration.

    Raises
    ------
    UserError
        The file has more than MAX_TEXT_BYTES.
    """
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise UserError(f"{path.name}: more than {MAX_TEXT_BYTES} bytes, which is no hypnogram and no configuration.")
    return content


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well.

    The temporary name is always the same, so a run that was killed leaves at most one such file, which the next run
    uses again. Several processes that write one file do so one after the other, where the file system has locks.

    Parameters
    ----------
    path : Path
        The file to write or to replace. Its folder is created if it does not exist.

    Yields
    ------
    Path
        Where to write. It ends in the suffix of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{WRITING}{path.name}")
    with _alone(temporary):
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)  # the system does not name the file on a full disk
            raise


@contextmanager
def _alone(temporary: Path) -> Iterator[None]:
    """Hold a temporary file, which is created if it does not exist and is never a link to another file."""
    while True:
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(temporary, file):  # whoever held it before may have moved it into place
                yield
                return
        finally:
            os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8, odd bytes of file names escaped) in one move."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the same keys, at least one, as CSV in one move."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
