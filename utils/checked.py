"""Which files of a folder passed a check, so that only new and changed ones are read for it again."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from utils.files import write_text

FILE = "checked.json"
"""File in the folder that keeps the marks."""

YOUNG_S = 2.0
"""Age in seconds below which a file gets no mark: some file systems would not tell its next change by their clock."""

Mark = list[int | str]
"""What tells a file from a changed one: its checksum as it states it, size, times of change (ns) and inode."""


def mark(path: Path, checksum: str) -> Mark | None:
    """Make the mark of a file as it is now; take it before the file is checked. None if it changed just now."""
    found = path.stat()
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < YOUNG_S * 1e9:
        return None
    return [checksum, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def read_marks(folder: Path, check: str) -> dict[str, Mark]:
    """Read the marks, by file name, of the files of a folder that passed a check; none if they cannot be read.

    Parameters
    ----------
    folder : Path
    check : str
        Says what was checked. Marks of another check are none.
    """
    with suppress(Exception):  # whatever is in that file: the worst that comes of it is that all are read again
        kept = json.loads(_place(folder).read_text(encoding="utf-8"))
        if kept["check"] == check:
            return dict(kept["passed"])
    return {}


def write_marks(folder: Path, check: str, marks: Mapping[str, Mark]) -> None:
    """Write marks in one move. Where that is not possible, every file is read again next time, and that is all.

    Of processes that write at once, the last one's marks stay; files whose marks are lost are read again.
    """
    with suppress(OSError):
        write_text(_place(folder), json.dumps({"check": check, "passed": marks}) + "\n")


def _place(folder: Path) -> Path:
    """Say where the marks are: in the folder or, if nothing may be written there, in the user's cache."""
    if os.access(folder, os.W_OK):
        return folder / FILE
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return cache / "attnsleep" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"
