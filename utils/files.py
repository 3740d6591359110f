"""Writing files so that a reader finds the old one or the new one, never a part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well.

    The temporary name is the same every time, so that a run that was killed leaves at most one
    such file, and the next run takes it over.

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
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say what could not be written
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8) in one move."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
