"""Which files of a folder have passed a check, so that only new and changed files are checked again."""

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
"""Files younger than this, in s, get no mark: the clocks of some file systems are too coarse to show a change."""

Mark = list[int | str]
"""What identifies the content of a file: its checksum as stated in it, size, times of change (ns) and inode."""


def mark(path: Path, checksum: str) -> Mark | None:
    """Make the mark of a file as it is now, before it is checked; None if it changed just now."""
    found = path.stat()
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < YOUNG_S * 1e9:
        return None
    return [checksum, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def read_marks(folder: Path, check: str) -> dict[str, Mark]:
    """Read the marks of the files of a folder that have passed a check, by file name; none if they cannot be read.

    Parameters
    ----------
    folder : Path
    check : str
        Describes the check. Marks of another check do not count.
    """
    with suppress(Exception):  # whatever is in that file: at worst all files are checked again
        kept = json.loads(_place(folder).read_text(encoding="utf-8"))
        if kept["check"] == check:
            return dict(kept["passed"])
    return {}


def write_marks(folder: Path, check: str, marks: Mapping[str, Mark]) -> None:
    """Write marks. Files whose marks cannot be written, or are overwritten by another process, are checked again."""
    with suppress(OSError):
        write_text(_place(folder), json.dumps({"check": check, "passed": marks}) + "\n")


def _place(folder: Path) -> Path:
    """Place of the marks: the folder or, if it is not writable, the user's cache."""
    if os.access(folder, os.W_OK):
        return folder / FILE
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return cache / "attnsleep" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"
