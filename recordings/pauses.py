"""Find the pauses of a recording that MNE reads as if nothing were missing, and lay them as gaps.

What each format states of a pause:

- BrainVision: a marker `New Segment` with the date and time at which the recording went on.
- EEGLAB: an event `boundary` with the number of samples that are missing there.
- Persyst: the time of some samples. Programs that cut such files do not correct them, so a pause is refused.
- Other formats: a mark without a duration, such as MNE's `BAD boundary`, or GDF's event 0x7FFE. It is refused.
"""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from utils.errors import UserError

Pause = tuple[int, float]
"""Sample before which a recording was interrupted, and for how long in s."""

_MARK = re.compile(r"(BAD |EDGE )?boundary|(.*/)?New Segment/.*|-99(\.0+)?|32766", re.IGNORECASE)
_EEGLAB_MARK = re.compile(r"boundary|-99(\.0+)?", re.IGNORECASE)
_SEGMENT = re.compile(
    r"^Mk\d+ *= *New Segment *,[^,]*, *(\d+) *,[^,]*,[^,\r\n]*(?:, *(\d*))?", re.MULTILINE | re.IGNORECASE
)
_LOST = re.compile(r"^Mk\d+ *=[^,]*, *(Lost *Samples[^,]*),", re.MULTILINE | re.IGNORECASE)
_SAMPLE_TIME = re.compile(r"^(\d+)=(\d+(?:\.\d*)?)\s*$", re.MULTILINE)

_CLOCK_S = 1.0  # error of the clock from which the time of a segment is taken


def find_pauses(path: Path, annotations: Sequence[tuple[float, float, str]], fs: float, n_samples: int) -> list[Pause]:
    """Find the pauses of a recording that are not among the samples which MNE has read from `path`, in order.

    Parameters
    ----------
    annotations : sequence of tuple
        Onset in s from the first sample, duration in s, and text, of all annotations of the file.
    fs, n_samples
        Sampling rate in Hz, and number of samples.

    Raises
    ------
    UserError
        The file does not say how long a pause was.
    """
    suffix = path.suffix.lower()
    if suffix in (".vhdr", ".ahdr"):
        return _between_segments(path, fs, n_samples)
    if suffix == ".set":
        return _eeglab_pauses(path, annotations, fs, n_samples)
    if suffix == ".lay":
        _refuse_persyst_pauses(path, fs, n_samples)
    refuse_marks(annotations, n_samples / fs, path.name)
    return []


def refuse_marks(annotations: Iterable[tuple[float, float, str]], end_s: float, source: str) -> None:
    """Refuse a recording of `end_s` s in which an annotation marks a pause of unknown length; see `find_pauses`."""
    for onset_s, _, text in annotations:
        if 0 < onset_s < end_s and _MARK.fullmatch(text):
            raise _unknown(source, text, onset_s)


def lay_pauses(signal: np.ndarray, pauses: Sequence[Pause], fs: float) -> np.ndarray:
    """Insert NaN into a signal of shape (n,) for as long as each pause lasts."""
    if not pauses:
        return signal
    positions, durations_s = zip(*pauses, strict=True)
    n_missing = np.diff(np.round(np.cumsum(durations_s) * fs), prepend=0).astype(int)
    return np.insert(signal, np.repeat(positions, n_missing), np.nan)


def _between_segments(header: Path, fs: float, n_samples: int) -> list[Pause]:
    """Compute the pauses of a BrainVision recording from the times at which its segments begin."""
    named = re.search(r"^MarkerFile=(.*)$", header.read_text(encoding="latin-1"), re.MULTILINE)
    markers = header.with_name(named[1].strip().replace("$b", header.stem)) if named else header
    if not markers.is_file():
        markers = header.with_suffix(".vmrk")  # as MNE does for a file that was renamed
    if not markers.is_file():
        return []
    text = markers.read_text(encoding="latin-1")
    if lost := _LOST.search(text):
        raise UserError(
            f"{header.name}: {markers.name} says {lost[1].strip()!r}, and what is missing there cannot be placed. "
            "Cut the recording there and pass each part with its own hypnogram."
        )
    found = _SEGMENT.findall(text)
    segments = [(int(position) - 1, _segment_time(text)) for position, text in found if int(position) <= n_samples]
    segments.sort(key=lambda segment: segment[0])
    pauses = []
    for (begin, began), (position, time) in zip(segments, segments[1:], strict=False):
        if began is None or time is None:
            raise _unknown(header.name, "New Segment", position / fs)
        pause_s = (time - began).total_seconds() - (position - begin) / fs
        if pause_s < -_CLOCK_S:
            raise UserError(
                f"{header.name}: the segment at {position / fs:g} s began at {time}, but the one before it, which "
                f"began at {began}, lasts {(position - begin) / fs:g} s. Correct the times in {markers.name}."
            )
        pauses.append((position, max(pause_s, 0.0)))
    return pauses


def _segment_time(text: str) -> datetime | None:
    """Parse yyyymmddhhmmss and six digits of a second; None if it is no time."""
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S%f") if len(text) == 20 else None
    except ValueError:  # such as 20 zeros
        return None


def _eeglab_pauses(
    path: Path, annotations: Iterable[tuple[float, float, str]], fs: float, n_samples: int
) -> list[Pause]:
    """Read the pauses of an EEGLAB data set."""
    pauses = []
    for onset_s, duration_s, text in sorted(annotations):
        position = max(math.ceil(onset_s * fs - 1e-6), 0)  # a pause lies between two samples, at n + 0.5
        if not _EEGLAB_MARK.fullmatch(text.strip()) or position >= n_samples:
            continue
        if duration_s > 0:
            pauses.append((position, duration_s))
        elif position > 0:
            raise _unknown(path.name, text, onset_s)
    return pauses


def _refuse_persyst_pauses(path: Path, fs: float, n_samples: int) -> None:
    """Refuse a Persyst recording whose samples are later than their number says."""
    section = path.read_text(encoding="latin-1").partition("[SampleTimes]")[2].partition("[")[0]
    times = [(int(sample), float(time)) for sample, time in _SAMPLE_TIME.findall(section) if int(sample) < n_samples]
    for (before, before_s), (sample, time_s) in zip(times, times[1:], strict=False):
        if abs(time_s - before_s - (sample - before) / fs) > _CLOCK_S:
            raise _unknown(path.name, "SampleTimes", sample / fs)


def _unknown(source: str, mark: str, onset_s: float) -> UserError:
    return UserError(
        f"{source}: {mark!r} at {onset_s:g} s marks a pause, and how long it was is not known. Cut the recording there "
        "and pass each part with its own hypnogram; if nothing is missing, remove the mark."
    )
