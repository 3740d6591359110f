"""What a result is made from: its files by name, size and checksum, and the options that decide it."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.files import require_file

_BESIDE = {".vhdr": (".vmrk", ".eeg", ".dat"), ".set": (".fdt",), ".lay": (".dat",)}
"""Suffixes of the files that hold the rest of a recording, by the suffix of the file that is named."""

_CHUNK_BYTES = 2**20


def made_from(files: Mapping[str, Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe in plain values what a result is made from.

    Parameters
    ----------
    files : mapping of str to Path
        By what they are, such as `recording` and `hypnogram`.
    options : mapping of str to plain values
        What else decides the result, such as the channel.
    """
    return {what: fingerprint(path) for what, path in files.items()} | dict(options)


def fingerprint(path: Path) -> dict[str, Any]:
    """Return name, size in bytes and CRC-32 of a recording or a hypnogram.

    A recording may be a folder, or a header with its signal in a file beside it: all of its files count.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    else:
        beside = [path.with_suffix(suffix) for suffix in _BESIDE.get(path.suffix.lower(), ())]
        files = [path, *(file for file in beside if file.is_file())]
    n_bytes = crc32 = 0
    for file in files:
        require_file(file)
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                crc32 = zlib.crc32(chunk, crc32)
                n_bytes += len(chunk)
    return {"name": path.name, "bytes": n_bytes, "crc32": f"{crc32:08x}"}
