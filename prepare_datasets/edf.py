"""The one door to MNE: a channel by its name, in microvolts, and the annotations of EDF+ files.

What MNE has to say about dates and filters does not touch the values and is kept quiet; whatever does touch them is
checked before, here and in `edf_header`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from prepare_datasets.edf_header import ANNOTATIONS, Header, Signal, require_no_gaps
from utils.errors import UserError

MAX_SAMPLES = 10**8
"""Of one channel, which takes 1.2 GB to read: a day at 1000 Hz and more."""

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


def resolve_channel(header: Header, name: str, aliases: Mapping[str, Sequence[str]] | None = None) -> str:
    """Find the label of the channel a user asked for.

    Parameters
    ----------
    header : Header
    name : str
        An exact label of the file, or a key of `aliases`.
    aliases : mapping of str to sequence of str, optional
        Labels under which a data set stores a channel, in upper or lower case. `name` itself goes before them.

    Returns
    -------
    str
        The label.

    Raises
    ------
    UserError
        There is no such channel (shows those that are), or more than one.
    """
    labels = [signal.label for signal in header.signals if signal.label != ANNOTATIONS]
    others = {alias.casefold() for alias in (aliases or {}).get(name, ())}
    found = [label for label in labels if label == name] or [label for label in labels if label.casefold() in others]
    if not found:
        known_as = f" (nor {', '.join(map(repr, aliases[name]))})" if others and aliases else ""
        there = ", ".join(map(repr, labels)) or "none at all"
        raise UserError(
            f"{header.path.name}: no channel {name!r}{known_as}. The file has {there}. Pass one with --select_ch."
        )
    if len(found) > 1:
        raise UserError(
            f"{header.path.name}: {len(found)} channels go by {name!r} ({', '.join(map(repr, found))}). "
            "Give them different labels, or pass another with --select_ch."
        )
    return found[0]


def read_channel(header: Header, label: str) -> np.ndarray:
    """Read one channel, and nothing else, as it was recorded: not filtered, not resampled.

    Parameters
    ----------
    header : Header
        From `read_header`.
    label : str
        From `resolve_channel`.

    Returns
    -------
    ndarray of shape (n,), float32
        Microvolts at `header.fs(label)` Hz, to the last data record.

    Raises
    ------
    UserError
        The dimension is no voltage, ranges or the records' duration make no sense, records have gaps, or MNE fails.
    """
    path, signal = header.path, header.signal(label)
    _require_sense(header, signal)
    require_no_gaps(header)
    import mne  # here, so that --help need not wait for it

    try:
        # Latin-1 decodes whatever annotations the file may have; they are not used
        raw = mne.io.read_raw_edf(path, include=[label], stim_channel=None, encoding="latin1", verbose="ERROR")
        values = raw.get_data(verbose="ERROR")[0]
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    if len(values) != header.n_records * signal.n_per_record:
        raise UserError(f"{path.name}: MNE read {len(values)} samples of {label!r}, not all. Get the file again.")
    values *= _TO_MICROVOLTS[signal.dimension]
    return values.astype(np.float32)


def read_annotations(path: Path) -> list[tuple[float, float, str]]:
    """Read the annotations of an EDF+ file.

    Returns
    -------
    list of tuple
        Onset in s from the start of the file, duration in s, text; in the order of their onsets.

    Raises
    ------
    UserError
        There are none, or they cannot be read.
    """
    import mne  # here, so that --help need not wait for it

    try:
        found = mne.read_annotations(path)
    except Exception as error:
        raise _unreadable(path, error) from error
    if len(found) == 0:
        raise UserError(f"{path.name}: no annotations in it. It should be an EDF+ file with sleep stages.")
    return [
        (float(onset_s), float(duration_s), str(text))
        for onset_s, duration_s, text in zip(found.onset, found.duration, found.description, strict=True)
    ]


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


def _unreadable(path: Path, error: Exception) -> UserError:
    """Return what MNE raised as one line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path.name}: MNE cannot read it ({reason}). Get the file again.")
