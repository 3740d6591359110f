"""Read the header of an EDF or BDF file and check it against the rest of the file.

Libraries (MNE, edfio) read as much of a damaged file as they can and warn. Here it is refused, with its name and what
is wrong with it.
"""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import accumulate
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import require_file

SUFFIXES = (".edf", ".bdf", ".rec")
"""Suffixes of EDF and BDF files in lower case; some laboratories call theirs .rec."""

ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
"""Labels of the signals that hold the annotations of an EDF+ or BDF+ file."""

ANONYMOUS = date(1985, 1, 1)
"""Date of files whose real date was removed or cannot be read."""

_MAX_RECORDS = 2 * 10**6  # a week has 604,800 s
_FIXED_BYTES = _SIGNAL_BYTES = 256
_SIGNAL_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes of the fields of one signal; `_signals` names them


@dataclass(frozen=True)
class Signal:
    """One signal, as the header describes it."""

    label: str
    dimension: str  # physical dimension, such as uV
    physical_range: tuple[float, float]  # minimum and maximum; NaN where the header has no number
    digital_range: tuple[float, float]
    n_per_record: int  # samples in one data record
    position: int  # samples of other signals before it in each data record


@dataclass(frozen=True)
class Header:
    """The header of a file that has exactly the size that its header gives."""

    path: Path
    start: datetime | None  # None if the header has no valid time; on 1 January 1985 if it has no valid date
    discontinuous: bool  # EDF+D or BDF+D: there may be gaps between the data records
    n_records: int  # at least 1
    record_s: float  # duration of one data record; 0 in files that hold annotations alone
    signals: tuple[Signal, ...]  # in the order of the file, with those that hold annotations
    sample_bytes: int  # 2 in EDF, 3 in BDF

    @property
    def labels(self) -> list[str]:
        """Labels of all signals but the annotations."""
        return [signal.label for signal in self.signals if signal.label not in ANNOTATIONS]

    @property
    def start_time(self) -> str:
        """Start in ISO 8601; empty if the header has none."""
        return self.start.isoformat() if self.start else ""

    def fs(self, label: str) -> float:
        """Return the sampling rate in Hz of the signal with this label."""
        return self.signal(label).n_per_record / self.record_s

    def signal(self, label: str) -> Signal:
        """Return the first signal with this label."""
        return next(signal for signal in self.signals if signal.label == label)

    def data(self, signal: Signal) -> np.ndarray:
        """Map the bytes of one signal: ndarray of shape (n_records, n_bytes), uint8."""
        begin, n_bytes = self.sample_bytes * signal.position, self.sample_bytes * signal.n_per_record
        header_bytes = _FIXED_BYTES + _SIGNAL_BYTES * len(self.signals)
        record_bytes = self.sample_bytes * sum(other.n_per_record for other in self.signals)
        records = np.memmap(self.path, np.uint8, "r", header_bytes, (self.n_records, record_bytes))
        return records[:, begin : begin + n_bytes]


def read_header(path: Path) -> Header:
    """Read the header of an EDF, EDF+, BDF or BDF+ file; refuse a file that is not what its header says."""
    require_file(path)
    with path.open("rb") as file:
        fixed, size = file.read(_FIXED_BYTES), path.stat().st_size
        suffix = path.suffix.lower()
        is_bdf = suffix == ".bdf" or (suffix == ".rec" and fixed.startswith(b"\xffBIOSEMI"))
        if not fixed:
            raise UserError(f"{path.name}: the file is empty. Get it again.")
        if fixed[:8].strip(b" \0") != (b"\xffBIOSEMI" if is_bdf else b"0"):
            kind = "a BDF" if is_bdf else "an EDF"
            raise UserError(f"{path.name}: not {kind} file (it begins with {_text(fixed[:8])!r}). Get it again.")
        n_signals = _count(path, "number of signals", _text(fixed[252:256])) if len(fixed) == _FIXED_BYTES else 1
        header_bytes = _FIXED_BYTES + n_signals * _SIGNAL_BYTES
        if size < header_bytes:
            raise UserError(f"{path.name}: cut off within its header ({size} of {header_bytes} bytes). Get it again.")
        signal_fields = file.read(n_signals * _SIGNAL_BYTES)
    stated_bytes = _count(path, "size of the header", _text(fixed[184:192]))
    if stated_bytes != header_bytes:
        raise UserError(f"{path.name}: a header of {stated_bytes} bytes, not {header_bytes}. Get the file again.")
    record_s = _number(_text(fixed[244:252]))
    if not record_s >= 0:
        raise UserError(f"{path.name}: data records of {_text(fixed[244:252])!r} s. Get the file again.")
    sample_bytes = 3 if is_bdf else 2
    record_samples = (size - header_bytes) / sample_bytes / (_number(_text(fixed[236:244])) or math.nan)
    signals = _signals(path, signal_fields, n_signals, record_samples)
    record_bytes = sample_bytes * sum(signal.n_per_record for signal in signals)
    n_records = _n_records(path, _text(fixed[236:244]), size - header_bytes, record_bytes)
    discontinuous = fixed[192:197] in (b"EDF+D", b"BDF+D")
    return Header(path, _start(fixed), discontinuous, n_records, record_s, signals, sample_bytes)


def _start(fixed: bytes) -> datetime | None:
    """Read date and time of the start, with any marks between the numbers of the time."""
    clock = re.fullmatch(r"(\d\d?)\D(\d\d?)\D(\d\d?)\D*", _text(fixed[176:184]))
    if not clock:
        return None
    try:
        return datetime.combine(_date(fixed), time(int(clock[1]), int(clock[2]), int(clock[3])))
    except ValueError:  # such as 24:00:00
        return None


def _date(fixed: bytes) -> date:
    """Read the date of the start: that of EDF, 1985 to 2084, else that of EDF+; `ANONYMOUS` if neither is valid."""
    day = re.fullmatch(r"(\d\d?)[.:-](\d\d?)[.:-](\d\d)", _text(fixed[168:176]))
    edf_plus = re.search(r"\bStartdate (\d\d-[A-Z]{3}-\d{4})\b", _text(fixed[88:168]))
    with suppress(ValueError):
        if day:
            year = int(day[3])
            return date(year + (1900 if year >= 85 else 2000), int(day[2]), int(day[1]))
    with suppress(ValueError):
        if edf_plus:
            return datetime.strptime(edf_plus[1], "%d-%b-%Y").date()
    return ANONYMOUS


def _signals(path: Path, content: bytes, n_signals: int, record_samples: float) -> tuple[Signal, ...]:
    """Read the header of all signals: first the labels of all, then the transducers of all, and so on.

    `record_samples` is the number of samples in one data record by the size of the file.
    """
    columns, begin = [], 0
    for width in _SIGNAL_WIDTHS:
        columns.append([_text(content[begin + i * width :][:width]) for i in range(n_signals)])
        begin += n_signals * width
    labels, _, dimensions, *ranges, _, counts, _ = columns
    physical_min, physical_max, digital_min, digital_max = ([_number(text) for text in column] for column in ranges)
    broken = [i for i, count in enumerate(counts) if not re.fullmatch("[0-9]+", count)]
    if len(broken) == 1:  # what the others leave of a data record
        rest = record_samples - sum(int(count) for count in counts if count != counts[broken[0]])
        if rest > 0 and rest.is_integer():
            counts[broken[0]] = str(int(rest))
    n_per_record = [
        _count(path, f"samples per record of {label!r}", count) for label, count in zip(labels, counts, strict=True)
    ]
    positions = accumulate(n_per_record[:-1], initial=0)
    physical, digital = zip(physical_min, physical_max, strict=True), zip(digital_min, digital_max, strict=True)
    return tuple(map(Signal, labels, dimensions, physical, digital, n_per_record, positions))


def _n_records(path: Path, text: str, data_bytes: int, record_bytes: int) -> int:
    """Read the number of data records and check it against the size of the file."""
    if text == "-1":
        raise UserError(f"{path.name}: -1 data records: it was never closed. Save it again where it was recorded.")
    n_records = _count(path, "number of data records", text)
    if n_records == 0 or record_bytes == 0:
        raise UserError(f"{path.name}: no data records, only a header. Get it again.")
    if data_bytes != n_records * record_bytes:
        problem = "cut off" if data_bytes < n_records * record_bytes else "too long"
        raise UserError(
            f"{path.name}: {problem}: its header promises {n_records} data records of {record_bytes} bytes, "
            f"{n_records * record_bytes} bytes in all, but {data_bytes} are there. Get it again."
        )
    if n_records > _MAX_RECORDS:
        raise UserError(f"{path.name}: {n_records} data records; at most {_MAX_RECORDS} are read. Make them longer.")
    return n_records


def _text(field: bytes) -> str:
    """Decode a header field, up to the NUL bytes that some programs write after the text."""
    return field.lstrip(b" \0").partition(b"\0")[0].strip().decode("latin-1")


def _number(text: str) -> float:
    """Parse a finite number with a point or a comma; NaN if the text is none."""
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _count(path: Path, what: str, text: str) -> int:
    """Parse a whole number; `what` names it in messages."""
    if not re.fullmatch("[0-9]+", text):
        raise UserError(f"{path.name}: the {what} in its header is {text!r}, not a number. Get the file again.")
    return int(text)
