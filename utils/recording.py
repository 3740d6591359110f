"""The npz layout of one prepared recording (one night), shared with DeepSleepNet and TinySleepNet."""

import json
import math
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, cast

import numpy as np

from utils.errors import UserError
from utils.files import name_problem, replacing, require_file

MAX_UNPACKED_BYTES = 2**29
"""Largest array that is unpacked into memory: more than ten days at 100 Hz in double precision."""

MAX_SLEEP_EPOCHS = 30_000
"""Ten days: the largest distance of a sleep epoch from the start of its recording."""


@dataclass(frozen=True)
class Recording:
    """One prepared night.

    Attributes
    ----------
    signal : ndarray of shape (n_sleep_epochs, n_samples), float32
        EEG of each sleep epoch in microvolts.
    stages : ndarray of shape (n_sleep_epochs,), int32
        0 W, 1 N1, 2 N2, 3 N3, 4 REM.
    fs : float
        Sampling rate in Hz.
    channel : str
        Name of the EEG channel as the user asked for it.
    sleep_epoch : ndarray of shape (n_sleep_epochs,), int32
        Position of each sleep epoch in the night: it begins 30 * sleep_epoch s after `start_time`.
    start_time : str
        Start of the recording, ISO 8601; empty if not known.
    source_file : str
        Name of the file that held the signal; empty if not known.
    remarks : tuple of str
        What was done to it that its user should know; printed, not written.
    made_from : str
        Files and options that it was made from, as JSON (see `recordings.sources`); empty if not known.
    reference : str
        Label of the channel that was subtracted; empty if none was.
    subject : str
        Whose night it is; empty if not known.
    stage_codes : mapping of str to str
        Which name or code of the hypnogram became which stage: W to REM, `?` (not scored) or `-` (no stage). Written as
        JSON.
    """

    signal: np.ndarray
    stages: np.ndarray
    fs: float
    channel: str
    sleep_epoch: np.ndarray
    start_time: str = ""
    source_file: str = ""
    remarks: tuple[str, ...] = ()
    made_from: str = ""
    reference: str = ""
    subject: str = ""
    stage_codes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outline:
    """A prepared recording without its signal.

    Attributes
    ----------
    path : Path
        The npz file; its stem is the recording's name.
    stages : ndarray of shape (n_sleep_epochs,), int64
    sleep_epoch : ndarray of shape (n_sleep_epochs,), int32
    n_samples : int
        Samples per sleep epoch.
    fs : float
        Hz.
    channel : str
    checksum : str
        CRC-32 of all that is read of the npz file, as stated there: of the signal first; then, after `of`, that of the
        recording which it was prepared from, if known.
    start_time : str
        Start of the recording, ISO 8601; empty if not known.
    made_from : str
        Files and options that it was made from, as JSON; empty if not known.
    subject : str
        Whose night it is; empty if not known.
    """

    path: Path
    stages: np.ndarray
    sleep_epoch: np.ndarray
    n_samples: int
    fs: float
    channel: str
    checksum: str
    start_time: str = ""
    made_from: str = ""
    subject: str = ""

    @property
    def name(self) -> str:
        """Name of the recording."""
        return self.path.stem


def write_recording(path: Path, recording: Recording) -> None:
    """Write `recording` as an uncompressed npz without pickles, in one move."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            x=np.ascontiguousarray(recording.signal, np.float32)[:, :, None],
            y=recording.stages.astype(np.int32),
            fs=np.float64(recording.fs),
            ch_label=np.array(recording.channel),
            sleep_epoch=recording.sleep_epoch.astype(np.int32),
            start_time=np.array(recording.start_time),
            source_file=np.array(recording.source_file),
            made_from=np.array(recording.made_from),
            reference=np.array(recording.reference),
            subject=np.array(recording.subject),
            stage_codes=np.array(json.dumps(dict(recording.stage_codes))),
        )


def read_outline(path: Path) -> Outline:
    """Read everything but the signal of a prepared recording.

    Raises
    ------
    UserError
        The file is no npz of this layout.
    """
    if problem := name_problem(path):
        raise UserError(problem)
    with _npz(path) as (npz, archive):
        _require(path, npz)
        _require_size(path, npz, archive)
        shape = _signal_shape(path, archive)
        stages = np.asarray(npz["y"]).reshape(-1)
        with np.errstate(invalid="ignore"):  # whatever NaN becomes differs from it
            whole = stages.astype(np.int64)
        if not np.array_equal(stages, whole):
            raise UserError(f"{path.name}: y holds stages that are not whole numbers. Prepare it again.")
        if shape[0] != len(stages):
            raise UserError(f"{path.name}: {shape[0]} sleep epochs of signal (x) but {len(stages)} stages (y).")
        sleep_epoch = (
            _positions(path, npz["sleep_epoch"], len(stages)) if "sleep_epoch" in npz else np.arange(len(stages))
        )
        fs = float(np.asarray(npz["fs"]).reshape(-1)[0])
        if not 0 < fs < np.inf:
            raise UserError(f"{path.name}: fs is {fs:g}, which is no sampling rate in Hz. Prepare it again.")
        channel, start_time, made_from, subject = (
            str(np.asarray(npz[key]).reshape(-1)[0]) if key in npz else ""
            for key in ("ch_label", "start_time", "made_from", "subject")
        )
        if start_time and not _is_time(start_time):
            raise UserError(f"{path.name}: start_time is {start_time[:60]!r}, no time in ISO 8601. Prepare it again.")
        read = [key for key in ("x", "y", "sleep_epoch", "fs", "ch_label") if key in npz]
        parts = [f"{archive.getinfo(f'{key}.npy').CRC:08x}" for key in read]
        checksum = "-".join([*parts, *([f"of{source}"] if (source := source_checksum(made_from)) else [])])
        return Outline(
            path, whole, sleep_epoch.astype(np.int32), shape[1], fs, channel, checksum, start_time, made_from, subject
        )


def open_signal(outline: Outline) -> np.ndarray:
    """Open the signal of a prepared recording, and compare it with its checksum.

    Returns
    -------
    ndarray of shape (n_sleep_epochs, n_samples), float32
        Microvolts, read-only. It is mapped from the file, and read when it is used, unless the npz is compressed or
        has another number format.

    Raises
    ------
    UserError
        The file cannot be read.
    """
    shape = (len(outline.stages), outline.n_samples)
    with _npz(outline.path) as (_, archive):
        info = archive.getinfo("x.npy")
        with archive.open(info) as member, np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            stored, fortran, dtype = _array_header(member)
            header_bytes = member.tell()
            if info.compress_type != zipfile.ZIP_STORED or dtype != np.dtype("<f4") or fortran:
                values = np.frombuffer(member.read(), dtype).reshape(stored, order="F" if fortran else "C")
                return values.reshape(shape).astype(np.float32)
        mapped = np.memmap(outline.path, np.uint8, "r", _member_begin(outline.path, info), (info.file_size,))
        if zlib.crc32(mapped.data) != info.CRC:
            raise ValueError("its signal has another checksum than it says")
        return mapped[header_bytes:].view(np.float32).reshape(shape)


def is_same_data(one: str, other: str) -> bool:
    """Tell whether two checksums are of the same data as far as both go; those of earlier versions go less far."""
    parts = [[part for part in checksum.split("-") if not part.startswith("of")] for checksum in (one, other)]
    n = min(map(len, parts))
    return parts[0][:n] == parts[1][:n]


def source_checksum(made_from: str) -> str:
    """Take the checksum of the recording that an npz was prepared from; empty if it is not known."""
    try:
        return str(json.loads(made_from)["recording"]["crc32"])
    except (ValueError, LookupError, TypeError, RecursionError):  # anything may stand there
        return ""


def _is_time(text: str) -> bool:
    """Tell whether a text is a date, or a date and time, of a plausible year."""
    try:
        return 1900 <= datetime.fromisoformat(text).year < 2200
    except ValueError:
        return False


def _positions(path: Path, positions: np.ndarray, n: int) -> np.ndarray:
    """Check the positions of `n` sleep epochs in their night, and return them."""
    if len(positions) != n:
        raise UserError(f"{path.name}: {len(positions)} positions (sleep_epoch) but {n} stages (y).")
    whole = positions.ndim == 1 and positions.dtype.kind in "iu"
    if (
        not whole
        or (np.diff(positions.astype(float), prepend=-1) <= 0).any()
        or (positions[-1:] >= MAX_SLEEP_EPOCHS).any()
    ):
        raise UserError(
            f"{path.name}: its positions (sleep_epoch) are not whole numbers from 0 to {MAX_SLEEP_EPOCHS - 1}, each "
            "above the one before it. Prepare it again."
        )
    return positions


def _require(path: Path, npz: np.lib.npyio.NpzFile) -> None:
    missing = [key for key in ("x", "y", "fs") if key not in npz]
    if missing:
        raise UserError(
            f"{path.name}: no {', '.join(missing)} in it; it has {', '.join(npz) or 'nothing'}. "
            "A prepared recording has x (n_sleep_epochs, n_samples, 1), y (n_sleep_epochs,) and fs."
        )


def _require_size(path: Path, npz: np.lib.npyio.NpzFile, archive: zipfile.ZipFile) -> None:
    """Refuse arrays that would fill the memory when unpacked, and those that are shorter than they say."""
    known = ("x", "y", "fs", "sleep_epoch", "ch_label", "start_time", "source_file", "made_from", "subject")
    for key in (key for key in npz if key in known):
        info = archive.getinfo(f"{key}.npy")
        with archive.open(info) as member:
            shape, _, dtype = _array_header(member)
            promised, there = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
        plain = info.compress_type == zipfile.ZIP_STORED and key == "x" and dtype == np.dtype("<f4")
        if promised > there and not dtype.hasobject:
            raise UserError(
                f"{path.name}: {key} should have {promised} bytes, but {there} are there. Prepare it again."
            )
        if not plain and info.file_size > MAX_UNPACKED_BYTES:
            raise UserError(
                f"{path.name}: {key} takes {info.file_size} bytes when it is read, and at most {MAX_UNPACKED_BYTES} "
                "are read. Save x uncompressed as float32, or cut the recording."
            )


def _signal_shape(path: Path, archive: zipfile.ZipFile) -> tuple[int, int]:
    """Read the shape (n_sleep_epochs, n_samples) of x from its header alone."""
    with archive.open("x.npy") as member:
        shape, _, dtype = _array_header(member)
    sides = [side for side in shape[1:] if side != 1]
    if dtype.kind not in "fiu" or len(shape) not in (2, 3) or len(sides) != 1:
        raise UserError(
            f"{path.name}: x is {dtype} of shape {shape}, not numbers of shape (n_sleep_epochs, n_samples, 1)."
        )
    return shape[0], sides[0]


def _array_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, Fortran order and type of the array in an npy file, up to where its values begin."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with _PARSING:
        return read(member)


_PARSING = threading.Lock()
"""numpy reads a header by Python's parser of literals, which may fail in several threads at once (CPython 106905)."""


def _member_begin(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where the bytes of a member of a zip file begin: after its local header, name and extra field."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        n_name, n_extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + n_name + n_extra


@contextmanager
def _npz(path: Path) -> Iterator[tuple[np.lib.npyio.NpzFile, zipfile.ZipFile]]:
    """Open an npz file and the zip file that it is; the errors of a damaged one become a sentence with its name."""
    try:
        require_file(path)
        # The file is opened here because numpy leaves it open if it is none that it can read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            yield npz, cast(zipfile.ZipFile, npz.zip)
    except UserError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds on damaged bytes
        raise UserError(f"{path.name}: not a readable npz file ({error}). Prepare it again.") from error
