"""The header of an EDF or BDF file, held against the file it heads.

MNE reads a damaged file as far as it goes and warns; here it is refused, by name and with what is wrong.
"""

import math
import re
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import require_file

ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
"""Labels of the signal that holds the annotations of an EDF+ or BDF+ file."""

ANONYMOUS = date(1985, 1, 1)
"""Stands in files from which the date was taken away."""

_NO_GAP_S = 1e-3
"""Difference in the time of a data record that comes of rounding."""

_OVERLAP_S = 0.01
"""By so much may a data record begin before the one before it ends: clocks round."""

_LONGEST_S, _MAX_RECORDS = 7 * 24 * 3600, 2 * 10**6
"""Data records that lie farther apart are not of one recording; nor are more of them, which take MNE seconds."""

_FIXED_BYTES = _SIGNAL_BYTES = 256
_SIGNAL_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes: label, transducer, dimension, ranges, filter, samples, -


@dataclass(frozen=True)
class Signal:
    """What the header says of one signal.

    Attributes
    ----------
    label : str
    dimension : str
        Physical dimension, such as uV.
    physical_range, digital_range : tuple of float
        Minimum and maximum; NaN where the header has no number.
    n_per_record : int
        Samples in one data record.
    """

    label: str
    dimension: str
    physical_range: tuple[float, float]
    digital_range: tuple[float, float]
    n_per_record: int


@dataclass(frozen=True)
class Header:
    """What the header says of a file that holds exactly the data it promises.

    Attributes
    ----------
    path : Path
    start : datetime or None
        None if the header has no valid date and time.
    discontinuous : bool
        EDF+D or BDF+D: the data records may have gaps between them.
    n_records : int
        At least 1.
    record_s : float
        Seconds in one data record; 0 in files of annotations.
    signals : tuple of Signal
        In the order of the file, annotations included.
    sample_bytes : int
        Of one digital value: 2 in EDF, 3 in BDF.
    """

    path: Path
    start: datetime | None
    discontinuous: bool
    n_records: int
    record_s: float
    signals: tuple[Signal, ...]
    sample_bytes: int

    @property
    def labels(self) -> list[str]:
        """Labels of all signals but the annotations."""
        return [signal.label for signal in self.signals if signal.label not in ANNOTATIONS]

    @property
    def start_time(self) -> str:
        """Start in ISO 8601; empty if the header has none."""
        return self.start.isoformat() if self.start else ""

    def fs(self, label: str) -> float:
        """Return the sampling rate in Hz of the signal called `label`."""
        return self.signal(label).n_per_record / self.record_s

    def signal(self, label: str) -> Signal:
        """Return the signal called `label`."""
        return next(signal for signal in self.signals if signal.label == label)


def read_header(path: Path) -> Header:
    """Read the header of an EDF, EDF+ or BDF file and hold it against the file's size.

    Raises
    ------
    UserError
        The file is empty, not what its name ends in, cut off, without data records, or of another size than its
        header promises.
    """
    require_file(path)
    is_bdf = path.suffix.lower() == ".bdf"
    with path.open("rb") as file:
        fixed, size = file.read(_FIXED_BYTES), path.stat().st_size
        if not fixed:
            raise UserError(f"{path.name}: the file is empty. Get it again.")
        if fixed[:8].strip(b" \0") != (b"\xffBIOSEMI" if is_bdf else b"0"):
            kind = "a BDF" if is_bdf else "an EDF"
            raise UserError(f"{path.name}: not {kind} file (it begins with {_text(fixed[:8])!r}). Get it again.")
        n_signals = _count(path, "number of signals", fixed[252:256]) if len(fixed) == _FIXED_BYTES else 1
        header_bytes = _FIXED_BYTES + n_signals * _SIGNAL_BYTES
        if size < header_bytes:
            raise UserError(f"{path.name}: cut off within its header ({size} of {header_bytes} bytes). Get it again.")
        described = file.read(n_signals * _SIGNAL_BYTES)
    if _count(path, "size of the header", fixed[184:192]) != header_bytes:
        said = _text(fixed[184:192])
        raise UserError(
            f"{path.name}: the header says that it has {said} bytes, but its {n_signals} signals "
            f"make {header_bytes}. Get the file again."
        )
    record_s = _number(fixed[244:252])
    if not record_s >= 0:
        raise UserError(f"{path.name}: data records of {_text(fixed[244:252])!r} s. Get the file again.")
    signals = _signals(path, described, n_signals)
    sample_bytes = 3 if is_bdf else 2
    record_bytes = sample_bytes * sum(signal.n_per_record for signal in signals)
    n_records = _n_records(path, fixed[236:244], size - header_bytes, record_bytes)
    discontinuous = fixed[192:197] in (b"EDF+D", b"BDF+D")
    return Header(path, _start(fixed), discontinuous, n_records, record_s, signals, sample_bytes)


def require_no_gaps(header: Header) -> None:
    """Refuse an EDF+D file whose data records do not follow each other without a gap.

    Raises
    ------
    UserError
        There is a gap; says before which data record.
    """
    if not header.discontinuous:
        return
    onsets_s = _onsets(header)
    expected_s = onsets_s[0] + np.arange(header.n_records) * header.record_s
    gap = np.flatnonzero(np.abs(onsets_s - expected_s) >= _NO_GAP_S)
    if len(gap):
        raise UserError(
            f"{header.path.name}: {_plus_d(header)} with a gap before data record {gap[0] + 1} of {header.n_records}. "
            "Only recordings without gaps can be prepared: cut it into files that have none."
        )


def record_onsets(header: Header) -> np.ndarray:
    """Read when each data record of an EDF+D file begins.

    Returns
    -------
    ndarray of shape (n_records,), float64
        Seconds from the start of the file, ascending by the duration of a data record or more.

    Raises
    ------
    UserError
        The times are missing, run back, or are too far apart to be of one recording.
    """
    onsets_s, name = _onsets(header), header.path.name
    for number, (before_s, onset_s) in enumerate(pairwise(onsets_s), 2):
        if not onset_s - before_s > header.record_s - _OVERLAP_S:
            raise UserError(
                f"{name}: data record {number} of {header.n_records} begins at {onset_s:g} s, but the one before it "
                f"at {before_s:g} s lasts {header.record_s:g} s. Get the file again."
            )
    if not (onsets_s[0] >= 0 and onsets_s[-1] < _LONGEST_S):
        raise UserError(f"{name}: its data records begin at {onsets_s[0]:g} to {onsets_s[-1]:g} s. Get it again.")
    return onsets_s


def _onsets(header: Header) -> np.ndarray:
    """Read the time in s that each data record of an EDF+D file says, NaN where it says none."""
    labels = [signal.label for signal in header.signals]
    times = next((number for number, label in enumerate(labels) if label in ANNOTATIONS), None)
    if times is None:
        raise UserError(
            f"{header.path.name}: {_plus_d(header)} without {ANNOTATIONS[0]!r}: its times are not known. Get it again."
        )
    return np.array([_onset(record.tobytes()) for record in signal_bytes(header, times)])


def signal_bytes(header: Header, number: int) -> np.ndarray:
    """Map what a file holds of signal `number`, counted from 0: (n_records, n_bytes) uint8."""
    sizes = [header.sample_bytes * signal.n_per_record for signal in header.signals]
    begin, shape = _FIXED_BYTES + len(sizes) * _SIGNAL_BYTES, (header.n_records, sum(sizes))
    return np.memmap(header.path, np.uint8, "r", begin, shape)[:, sum(sizes[:number]) :][:, : sizes[number]]


def _onset(annotations: bytes) -> float:
    """Return the time in s that the annotations of a data record begin with, NaN if there is none."""
    onset = re.match(rb"([+-][0-9]+(?:\.[0-9]*)?)\x14", annotations)
    return float(onset[1]) if onset else math.nan


def _plus_d(header: Header) -> str:
    """Name the kind of file whose data records may have gaps between them."""
    return "BDF+D" if header.sample_bytes == 3 else "EDF+D"


def _text(field: bytes) -> str:
    """Text of a header field, decoded as MNE does."""
    return field.strip().decode("latin-1")


def _number(field: bytes) -> float:
    """Return the number in a header field (comma or point), NaN if there is none."""
    try:
        number = float(_text(field).replace(",", "."))
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _count(path: Path, what: str, field: bytes) -> int:
    """Return the whole number in a header field."""
    text = _text(field)
    if not re.fullmatch("[0-9]+", text):
        raise UserError(f"{path.name}: the {what} in its header is {text!r}, not a number. Get the file again.")
    return int(text)


def _start(fixed: bytes) -> datetime | None:
    """Start date and time; two-digit years are 1985 to 2084, as EDF has it."""
    try:
        start = datetime.strptime(_text(fixed[168:184]), "%d.%m.%y%H.%M.%S")
    except ValueError:
        return None
    century = 1900 if start.year % 100 >= 85 else 2000
    return start.replace(year=century + start.year % 100)


def _signals(path: Path, described: bytes, n_signals: int) -> tuple[Signal, ...]:
    """Take apart the signals' part of the header: each field stands there for all signals before the next."""
    fields, begin = [], 0
    for width in _SIGNAL_FIELDS:
        fields.append([described[begin + i * width : begin + (i + 1) * width] for i in range(n_signals)])
        begin += n_signals * width
    return tuple(
        Signal(
            label=_text(label),
            dimension=_text(dimension),
            physical_range=(_number(physical_min), _number(physical_max)),
            digital_range=(_number(digital_min), _number(digital_max)),
            n_per_record=_count(path, f"samples per record of {_text(label)!r}", n_per_record),
        )
        for label, _, dimension, physical_min, physical_max, digital_min, digital_max, _, n_per_record, _ in zip(
            *fields, strict=True
        )
    )


def _n_records(path: Path, field: bytes, data_bytes: int, record_bytes: int) -> int:
    """Return the number of data records, which must be what the file's size makes it."""
    if _text(field) == "-1":
        raise UserError(
            f"{path.name}: the number of data records in its header is -1: the recording was never closed. "
            "Save it again with the program that recorded it."
        )
    promised = _count(path, "number of data records", field)
    if promised == 0 or record_bytes == 0:
        raise UserError(f"{path.name}: no data records, only a header. Get it again.")
    whole, rest = divmod(data_bytes, record_bytes)
    if whole < promised:
        problem = (
            f"cut off in the middle of data record {whole + 1} of {promised}"
            if rest
            else f"the header promises {promised} data records, but the file has {whole}"
        )
        raise UserError(f"{path.name}: {problem}. Get it again.")
    if data_bytes != promised * record_bytes:
        raise UserError(
            f"{path.name}: the file goes on for {data_bytes - promised * record_bytes} bytes after the {promised} "
            f"data records of {record_bytes} bytes that its header promises. Get it again."
        )
    if promised > _MAX_RECORDS:
        raise UserError(f"{path.name}: {promised} data records; at most {_MAX_RECORDS} are read. Make them longer.")
    return promised
