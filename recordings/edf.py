"""Read EDF and BDF files: one channel in microvolts, and the annotations of EDF+ and BDF+."""

import math
import re
from itertools import chain
from pathlib import Path

import numpy as np

from recordings.edf_header import ANNOTATIONS, Header, Signal, read_header
from utils.errors import UserError

MAX_SAMPLES = 10**8
"""Samples of one channel, which take 1.2 GB to read: more than a day at 1000 Hz."""

# Of one file: a kilobyte in each second of most of a day.
_MAX_ANNOTATION_BYTES, _MAX_ANNOTATIONS = 2**26, 2**19

# Of the times of data records in EDF+D.
_ROUNDING_S, _MAX_OVERLAP_S, _LONGEST_S = 1e-3, 0.01, 7 * 24 * 3600
_CLOCK_S = 1.0  # by which the clock of a continuous recording may be late

# Volts by physical dimension. The header is decoded as Latin-1, in which a micro sign or a mu in UTF-8 is two letters.
_VOLTS = {"uV": 1e-6, "\u00b5V": 1e-6, "\u00c2\u00b5V": 1e-6, "\u00ce\u00bcV": 1e-6, "mV": 1e-3, "V": 1.0, "nV": 1e-9}

# Onset, duration and texts of one list of annotations (Kemp and Olivan, Clin Neurophysiol 2003)
_ANNOTATION = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14(?:(.*)\x14)?", re.DOTALL)


def read_channel(header: Header, label: str, keep_gaps: bool = False) -> np.ndarray:
    """Read one channel, and nothing else, as it was recorded: not filtered, not resampled.

    A recording with gaps between its data records is refused, unless `keep_gaps` is true: then they are NaN.

    Returns
    -------
    ndarray of shape (n,), float32
        Microvolts at `header.fs(label)` Hz, from the start of the file to the end of the last data record.

    Raises
    ------
    UserError
        The dimension is no voltage, the ranges or the duration of the data records make no sense, or there are gaps.
    """
    signal = header.signal(label)
    _check_signal(header, signal)
    if header.discontinuous and not keep_gaps:
        _check_no_gaps(header)
    values = _digital_values(header, signal).astype(np.float64)
    (physical_min, physical_max), (digital_min, digital_max) = signal.physical_range, signal.digital_range
    gain = (physical_max - physical_min) / (digital_max - digital_min)
    values *= gain
    values += physical_min - digital_min * gain
    values *= _VOLTS[signal.dimension]  # volts first, as MNE has them: the published preparation, to the last bit
    values *= 1e6
    microvolts = values.astype(np.float32)
    return _with_gaps(header, microvolts, signal.n_per_record) if header.discontinuous and keep_gaps else microvolts


def step_uv(signal: Signal) -> float:
    """Return the distance of two neighbouring digital values in microvolts."""
    (physical_min, physical_max), (digital_min, digital_max) = signal.physical_range, signal.digital_range
    return abs(physical_max - physical_min) / (digital_max - digital_min) * _VOLTS[signal.dimension] * 1e6


def read_annotations(path: Path) -> list[tuple[float, float, str]]:
    """Read the annotations of an EDF+ or BDF+ file.

    Returns
    -------
    list of tuple
        Onset in s from the start of the recording, duration in s (0 if there is none) and text, ordered by onset.
    """
    header = read_header(path)
    signals = [signal for signal in header.signals if signal.label in ANNOTATIONS]
    n_bytes = header.sample_bytes * header.n_records * sum(signal.n_per_record for signal in signals)
    if n_bytes > _MAX_ANNOTATION_BYTES:
        raise UserError(
            f"{path.name}: {n_bytes} bytes of annotations; at most {_MAX_ANNOTATION_BYTES} are read. "
            "Pass the hypnogram in another file."
        )
    annotations, start_s = [], 0.0
    lists = chain.from_iterable(re.finditer(rb"[^\0]+", header.data(signal).tobytes()) for signal in signals)
    for number, content in enumerate(lists):
        match = _ANNOTATION.fullmatch(content[0])
        if not match:
            raise UserError(f"{path.name}: cannot be read as an annotation: {content[0][:60]!r}. Get the file again.")
        onset_s, duration_s, texts = float(match[1]), float(match[2] or 0), (match[3] or b"").split(b"\x14")
        if number == 0 and not texts[0]:  # the time of the first data record, where the recording begins
            start_s = onset_s % 1 if header.discontinuous else onset_s
        annotations += [(onset_s - start_s, duration_s, _decoded(text, header)) for text in texts if text]
        if len(annotations) > _MAX_ANNOTATIONS:
            raise UserError(
                f"{path.name}: more than {_MAX_ANNOTATIONS} annotations. Pass the hypnogram in another file."
            )
    if not annotations:
        raise UserError(f"{path.name}: no annotations in it. Sleep stages must be there, or in a file beside it.")
    return sorted(annotations, key=lambda annotation: annotation[:2])


def _digital_values(header: Header, signal: Signal) -> np.ndarray:
    """Read the samples of a signal as whole numbers: ndarray of shape (n,), int16 or int32."""
    samples = np.ascontiguousarray(header.data(signal))
    if header.sample_bytes == 2:
        return samples.view("<i2").ravel()
    shifted = np.zeros((samples.size // 3, 4), np.uint8)
    shifted[:, 1:] = samples.reshape(-1, 3)  # the upper three of four bytes, which hold the sign
    return shifted.view("<i4").ravel() >> 8


def _decoded(content: bytes, header: Header) -> str:
    """Decode the text of an annotation (UTF-8 in EDF+, else Latin-1), without the channel that may follow @@."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    before, _, channel = text.partition("@@")
    return (before if channel in header.labels else text).strip()


def _check_signal(header: Header, signal: Signal) -> None:
    """Refuse a signal that cannot become microvolts at some sampling rate."""
    name, n_samples = f"{header.path.name}: {signal.label!r}", header.n_records * signal.n_per_record
    if signal.dimension not in _VOLTS:
        raise UserError(
            f"{name} is in {signal.dimension!r}, which is no voltage (uV, mV, V or nV). "
            "Pass another channel with --select_ch, or correct the header."
        )
    if not header.record_s > 0 or signal.n_per_record == 0:
        n_per_record, record_s = signal.n_per_record, header.record_s
        raise UserError(f"{name} has {n_per_record} samples in data records of {record_s:g} s. Correct the header.")
    if n_samples > MAX_SAMPLES:
        raise UserError(f"{name} has {n_samples} samples; at most {MAX_SAMPLES} are read. Cut or resample it.")
    for kind, (low, high) in {"physical": signal.physical_range, "digital": signal.digital_range}.items():
        if math.isnan(low) or math.isnan(high) or low == high or (kind == "digital" and low > high):
            raise UserError(f"{name} has a {kind} range from {low:g} to {high:g}. Correct the header.")


def _check_no_gaps(header: Header) -> None:
    """Refuse an EDF+D file whose data records do not follow each other."""
    onsets_s = _record_onsets(header)
    expected_s = onsets_s[0] + np.arange(header.n_records) * header.record_s
    gaps = np.flatnonzero(~(np.abs(onsets_s - expected_s) < _ROUNDING_S))  # also where no time is given
    if len(gaps):
        raise UserError(
            f"{header.path.name}: a gap before data record {gaps[0] + 1} of {header.n_records}. "
            "Only recordings without gaps can be prepared: cut it into files that have none."
        )


def _with_gaps(header: Header, signal: np.ndarray, n_per_record: int) -> np.ndarray:
    """Place the data records of a signal, shape (n_records * n_per_record,), at their times, with NaN between them."""
    name, fs, onsets_s = header.path.name, n_per_record / header.record_s, _record_onsets(header)
    backward = np.flatnonzero(~(np.diff(onsets_s) > header.record_s - _MAX_OVERLAP_S))
    if len(backward):
        before_s, onset_s = onsets_s[backward[0] :][:2]
        raise UserError(
            f"{name}: data record {backward[0] + 2} of {header.n_records} begins at {onset_s:g} s, but the one before "
            f"it at {before_s:g} s lasts {header.record_s:g} s. Get the file again."
        )
    if not (onsets_s[0] >= 0 and onsets_s[-1] < _LONGEST_S):
        raise UserError(f"{name}: its data records begin at {onsets_s[0]:g} to {onsets_s[-1]:g} s. Get it again.")
    late_s = onsets_s - onsets_s[0] % 1 - np.arange(header.n_records) * header.record_s  # % 1: a start within a second
    if late_s.max() * fs > MAX_SAMPLES:
        raise UserError(
            f"{name}: gaps of {late_s.max() * fs:.3g} samples; at most {MAX_SAMPLES} are read. Cut the recording there."
        )
    begins, gaps_s = [], late_s[0]
    for record, record_late_s in enumerate(late_s):
        if record_late_s - gaps_s >= 1 / fs:  # less than a sample is the rounding of a clock
            gaps_s = record_late_s
        begins.append(record * n_per_record + round(gaps_s * fs))
    night = np.full(begins[-1] + n_per_record, np.nan, np.float32)
    for begin, samples in zip(begins, signal.reshape(-1, n_per_record), strict=True):
        night[begin : begin + n_per_record] = samples
    return night


def states_gaps(header: Header) -> bool:
    """Tell whether the data records of an EDF+C file begin later than they can without a gap: then it is an EDF+D."""
    times = next((signal for signal in header.signals if signal.label in ANNOTATIONS), None)
    if times is None or header.discontinuous or header.record_s == 0:
        return False
    onsets_s = _record_onsets(header)
    late_s = onsets_s - onsets_s[0] - np.arange(header.n_records) * header.record_s
    return bool(np.isfinite(late_s).all() and (np.diff(onsets_s) > 0).all() and late_s.max() > _CLOCK_S)


def _record_onsets(header: Header) -> np.ndarray:
    """Read when each data record of an EDF+D file begins: (n_records,), in s, NaN where the file does not say."""
    times = next((signal for signal in header.signals if signal.label in ANNOTATIONS), None)
    if times is None:
        raise UserError(
            f"{header.path.name}: EDF+D without {ANNOTATIONS[0]!r}, so its times are not known. Get it again."
        )
    matches = (re.match(rb"([+-][0-9]+(?:\.[0-9]*)?)\x14", record.tobytes()) for record in header.data(times))
    return np.array([float(match[1]) if match else math.nan for match in matches])
