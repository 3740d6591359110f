"""The one door to MNE: a channel by its name, in microvolts, and the annotations of EDF+ files.

What MNE has to say about dates and filters does not touch the values and is kept quiet; whatever does touch them is
checked before, here and in `edf_header`.
"""

import math
import re
from pathlib import Path

import numpy as np

from recordings.edf_header import (
    ANNOTATIONS,
    Header,
    Signal,
    read_header,
    record_onsets,
    require_no_gaps,
    signal_bytes,
)
from utils.errors import UserError

MAX_SAMPLES = 10**8
"""Of one channel, which takes 1.2 GB to read: a day at 1000 Hz and more."""

_MAX_ANNOTATION_BYTES, _MAX_ANNOTATIONS = 2**26, 2**19
"""Of a file: data records of a second, with a kilobyte each, for most of a day."""

_END_OF_TEXT = 0x14
"""Ends onset and text of each annotation."""

# From what MNE returns to microvolts, by the header's dimension (bytes read as Latin-1). MNE turns uV and mV into
# volts and takes any other dimension for volts, nanovolts and a micro sign in UTF-8 among them.
_TO_MICROVOLTS = {
    "uV": 1e6,
    "\u00b5V": 1e6,
    "\u00c2\u00b5V": 1.0,
    "\u00ce\u00bcV": 1.0,
    "mV": 1e6,
    "V": 1e6,
    "nV": 1e-3,
}

# Onset, duration and texts of a list of annotations (Kemp and Olivan, Clin Neurophysiol 2003), without its final zero.
_ANNOTATION = re.compile(rb"[+-]\d+(\.\d*)?(\x15\d+(\.\d*)?)?\x14(.*\x14)?", re.DOTALL)


def read_channel(header: Header, label: str, keep_gaps: bool = False) -> np.ndarray:
    """Read one channel, and nothing else, as it was recorded: not filtered, not resampled.

    Parameters
    ----------
    header : Header
        From `read_header`.
    label : str
        From `channels.find_channel`.
    keep_gaps : bool
        Whether gaps between the data records come back as NaN; otherwise a recording that has one is refused.

    Returns
    -------
    ndarray of shape (n,), float32
        Microvolts at `header.fs(label)` Hz, from the start of the file to the end of the last data record.

    Raises
    ------
    UserError
        The dimension is no voltage, ranges or the records' duration make no sense, records have gaps, or MNE fails.
    """
    path, signal = header.path, header.signal(label)
    _require_sense(header, signal)
    if not keep_gaps:
        require_no_gaps(header)
    import mne  # here, so that --help need not wait for it

    try:
        # Latin-1 decodes whatever annotations the file may have; they are not used
        read = mne.io.read_raw_bdf if header.sample_bytes == 3 else mne.io.read_raw_edf
        raw = read(path, include=[label], stim_channel=None, encoding="latin1", verbose="ERROR")
        values = raw.get_data(verbose="ERROR")[0]
    except MemoryError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    if len(values) != header.n_records * signal.n_per_record:
        raise UserError(f"{path.name}: MNE read {len(values)} samples of {label!r}, not all. Get the file again.")
    values *= _TO_MICROVOLTS[signal.dimension]
    microvolts = values.astype(np.float32)
    return _with_gaps(header, microvolts, signal.n_per_record) if keep_gaps and header.discontinuous else microvolts


def read_annotations(path: Path) -> list[tuple[float, float, str]]:
    """Read the annotations of an EDF+ or BDF+ file.

    Returns
    -------
    list of tuple
        Onset in s from the start of the file, duration in s (0 if it does not say), text; in the order of their onsets.

    Raises
    ------
    UserError
        There are none, or they cannot be read.
    """
    import mne  # here, so that --help need not wait for it

    header = read_header(path)
    _require_few_annotations(header)
    read = mne.io.read_raw_bdf if header.sample_bytes == 3 else mne.io.read_raw_edf
    try:
        if header.labels:
            found = read(path, stim_channel=None, encoding="latin1", verbose="ERROR").annotations
        else:  # MNE looks among all bytes of the file, which is safe where there is nothing else
            found = mne.read_annotations(path, encoding="latin1")
    except MemoryError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error
    if len(found) == 0:
        raise UserError(
            f"{path.name}: no annotations in it. Sleep stages must be there, or in a scoring file beside it."
        )
    if not header.labels:
        _require_whole(path)
    return [
        (float(onset_s), float(duration_s), _decoded(str(text)).strip())
        for onset_s, duration_s, text in zip(found.onset, found.duration, found.description, strict=True)
    ]


def _require_few_annotations(header: Header) -> None:
    """Refuse annotations that would fill the memory."""
    kept = [
        signal_bytes(header, number)
        for number, signal in enumerate(header.signals)
        if signal.label in ANNOTATIONS and signal.n_per_record
    ]
    n_bytes = sum(part.size for part in kept)
    if n_bytes > _MAX_ANNOTATION_BYTES:
        raise UserError(
            f"{header.path.name}: {n_bytes} bytes of annotations; at most {_MAX_ANNOTATION_BYTES} are read. "
            "Pass the scoring in a file of its own."
        )
    n = sum(np.count_nonzero(part == _END_OF_TEXT) for part in kept)
    if n > _MAX_ANNOTATIONS:
        raise UserError(
            f"{header.path.name}: {n} texts of annotations; at most {_MAX_ANNOTATIONS} are read. "
            "Pass the scoring in a file of its own."
        )


def _require_whole(path: Path) -> None:
    """Refuse a file of annotations alone with one that MNE, which looks for what it knows, passes over in silence."""
    content = path.read_bytes()
    header_bytes = 256 * (1 + int(content[252:256]))
    for annotation in content[header_bytes:].split(b"\0"):
        if annotation and not _ANNOTATION.fullmatch(annotation):
            raise UserError(f"{path.name}: cannot be read as an annotation: {annotation[:60]!r}. Get the file again.")


def _decoded(latin1: str) -> str:
    """Decode an annotation as UTF-8, as EDF+ wants it; where that fails, it was written in Latin-1."""
    try:
        return latin1.encode("latin1").decode("utf-8")
    except UnicodeDecodeError:
        return latin1


def _with_gaps(header: Header, signal: np.ndarray, n_per_record: int) -> np.ndarray:
    """Lay data records, (n_records * n_per_record,), out in time, NaN between them."""
    fs, onsets_s = n_per_record / header.record_s, record_onsets(header)
    late_s = onsets_s - onsets_s[0] % 1 - np.arange(len(onsets_s)) * header.record_s  # a file may start within a second
    if late_s.max() * fs > MAX_SAMPLES:
        raise UserError(
            f"{header.path.name}: gaps of {late_s.max() * fs:.3g} samples; at most {MAX_SAMPLES} are read. "
            "Cut the recording there."
        )
    begins, gap_s = np.empty(len(onsets_s), int), late_s[0]
    for record, late in enumerate(late_s):
        if late - gap_s >= 1 / fs:  # less is the rounding of a clock
            gap_s = late
        begins[record] = record * n_per_record + round(gap_s * fs)
    laid_out = np.full(begins[-1] + n_per_record, np.nan, np.float32)
    for begin, samples in zip(begins, signal.reshape(-1, n_per_record), strict=True):
        laid_out[begin : begin + n_per_record] = samples
    return laid_out


def _require_sense(header: Header, signal: Signal) -> None:
    """Refuse what would make microvolts or seconds of this signal meaningless."""
    name = f"{header.path.name}: {signal.label!r}"
    if signal.dimension not in _TO_MICROVOLTS:
        raise UserError(
            f"{name} is in {signal.dimension!r}, which is no voltage. "
            "The header must say uV, mV, V or nV; pass another channel with --select_ch, or correct the header."
        )
    if not header.record_s > 0 or signal.n_per_record == 0:
        raise UserError(
            f"{name} has {signal.n_per_record} samples in data records of {header.record_s:g} s, "
            "which gives no sampling rate. Correct the header."
        )
    if header.n_records * signal.n_per_record > MAX_SAMPLES:
        raise UserError(
            f"{name} has {header.n_records * signal.n_per_record} samples; at most {MAX_SAMPLES} are read. "
            "Cut the recording, or resample it."
        )
    for kind, (low, high) in {"physical": signal.physical_range, "digital": signal.digital_range}.items():
        if math.isnan(low) or math.isnan(high) or low == high or (kind == "digital" and low > high):
            raise UserError(f"{name} has a {kind} range from {low:g} to {high:g}. Correct the header.")


def unreadable(path: Path, error: Exception) -> UserError:
    """Return what MNE raised as one line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path.name}: MNE cannot read it ({reason}). Get the file again.")
