"""Read one channel of any recording in microvolts: EDF and BDF, a prepared npz, or another format through MNE."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recordings import edf
from recordings.channels import find_channel, find_derivation
from recordings.edf_header import ANONYMOUS, read_header
from recordings.edf_header import SUFFIXES as EDF_SUFFIXES
from recordings.pauses import find_pauses, lay_pauses, refuse_marks
from utils.errors import UserError
from utils.files import require_file
from utils.microvolts import without_signal
from utils.recording import open_signal, read_outline
from utils.stages import SLEEP_EPOCH_S

if TYPE_CHECKING:
    from mne.io import BaseRaw

SUFFIXES = (*EDF_SUFFIXES, ".gdf", ".vhdr", ".set", ".fif", ".fif.gz", ".cnt", ".mff", ".nedf", ".lay")
"""Suffixes of the recordings in a folder. MNE reads more formats, if their files are named."""

_IN_UTC = (".fif", ".fif.gz", ".mff", ".nedf", ".mefd", ".ns3")
"""Suffixes of formats that state their start in UTC. The others state what the recorder's clock showed."""

_LARGEST_RATIO = 1000  # of two sampling rates: EEG has no less than 0.1 Hz and no more than 100 kHz
_LARGEST_FACTOR = 100_000  # of resampling, up or down: the filter grows with it


@dataclass(frozen=True)
class Recorded:
    """A signal as it was recorded: microvolts of shape (n,), `fs` in Hz, and a step of the converter (0: not known)."""

    signal: np.ndarray
    fs: float
    step_uv: float = 0.0

    def without_signal(self, n_sleep_epochs: int, begin_s: float) -> np.ndarray:
        """Tell which of the sleep epochs from `begin_s` on are flat or clipped, (n_sleep_epochs,), bool."""
        n_samples = min(round(SLEEP_EPOCH_S * self.fs), len(self.signal))
        begins = np.round((begin_s + SLEEP_EPOCH_S * np.arange(n_sleep_epochs)) * self.fs).astype(int)
        windows = np.lib.stride_tricks.sliding_window_view(self.signal, n_samples)
        return without_signal(windows[begins.clip(max=len(windows) - 1)], self.step_uv)


@dataclass(frozen=True)
class Channel:
    """One channel of a recording."""

    signal: np.ndarray  # (n,), float32, in microvolts; NaN where nothing was recorded
    fs: float  # sampling rate in Hz
    name: str  # as the user asked for it, such as `EEG Fpz-Cz` or `C4-M1`
    start_time: str  # ISO 8601, with an offset if that is known; empty if not known
    remarks: tuple[str, ...]  # what was assumed about the file or changed in the signal
    reference: str = ""  # label of the channel that was subtracted, if one was
    recorded: tuple[Recorded, ...] = ()  # what the signal was made of, where it is not that itself
    begin_s: float = 0.0  # where the signal begins in what was recorded

    def without_signal(self) -> np.ndarray:
        """Tell which whole sleep epochs are flat or clipped as recorded, (n_sleep_epochs,), bool.

        See `microvolts.without_signal`. A signal that was resampled, or another subtracted, may not show it any more.
        """
        n_samples = round(SLEEP_EPOCH_S * self.fs)
        n = len(self.signal) // n_samples
        whole = np.isfinite(self.signal[: n * n_samples].reshape(n, n_samples)).all(axis=1)
        recorded = self.recorded or (Recorded(self.signal, self.fs),)
        own, *of_reference = (one.without_signal(n, self.begin_s) for one in recorded)
        # Some recorders store the electrode that they refer to as zeros throughout.
        return whole & np.any([own, *(flat for flat in of_reference if not flat[whole].all())], axis=0)


def read_channel(path: Path, name: str, reference: str | None = None, fs: float | None = None) -> Channel:
    """Read one channel of a recording.

    Parameters
    ----------
    path : Path
        EDF, BDF, a prepared npz, or another format that MNE knows by its suffix.
    name, reference : str
        Name of the channel, and of a channel to subtract; see `channels.find_derivation`.
    fs : float or None
        Sampling rate in Hz to resample to. None keeps the recorded rate.

    Raises
    ------
    UserError
        The file cannot be read, has no such channel, or its values are no voltages.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file.")
    if not path.is_dir():  # some systems record to folders
        require_file(path)
    suffix = path.suffix.lower()
    read = _from_npz if suffix == ".npz" else _from_edf if suffix in EDF_SUFFIXES else _from_mne
    return at_rate(read(path, name, reference), fs, path.name)


def is_recording(path: Path) -> bool:
    """Tell by its name whether a file in a folder is a recording, and not the hypnogram of one."""
    name = path.name.lower()
    return (
        name.endswith(SUFFIXES)
        and not name.startswith(".")
        and not name.endswith(tuple(f"hypnogram{suffix}" for suffix in EDF_SUFFIXES))
    )


def from_raw(raw: "BaseRaw", name: str, reference: str | None = None, source: str = "the recording") -> Channel:
    """Take one channel of a recording that MNE has read; see `read_channel`. Messages call the recording `source`."""
    from mne.io.constants import FIFF

    labels = find_derivation(raw.ch_names, name, reference, source)
    fs = float(raw.info["sfreq"])
    signals = []
    for label in labels:
        unit = raw.info["chs"][raw.ch_names.index(label)]["unit"]
        if unit != FIFF.FIFF_UNIT_V:
            kind = raw.get_channel_types([label])[0]
            raise UserError(f"{source}: {label!r} is no voltage (type {kind}, unit {unit}). Pass another channel.")
        signals.append((raw.get_data([label], verbose="ERROR")[0] * 1e6).astype(np.float32))
    signal, remarks = _difference(signals, labels, name, reference)
    recorded = tuple(Recorded(one, fs) for one in signals)
    for annotation in raw.annotations:
        onset_s = annotation["onset"] - raw.first_time
        if annotation["description"] == "BAD_ACQ_SKIP":  # MNE's name for what was not recorded
            signal[max(round(onset_s * fs), 0) : max(round((onset_s + annotation["duration"]) * fs), 0)] = np.nan
    start = raw.info["meas_date"]
    start_time = (start.replace(tzinfo=None) + timedelta(seconds=raw.first_time)).isoformat() if start else ""
    name = derivation_name(name, reference)
    return Channel(signal, fs, name, start_time, tuple(remarks), _subtracted(labels), recorded)


def at_rate(channel: Channel, fs: float | None, source: str) -> Channel:
    """Resample a channel to `fs` Hz, if that is not None; refuse rates that cannot be right. Messages name `source`."""
    if fs is None:
        return channel
    n_samples, ratio = len(channel.signal) * fs / channel.fs, channel.fs / fs
    if n_samples > edf.MAX_SAMPLES or not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        raise UserError(
            f"{source}: {len(channel.signal)} samples at {channel.fs:g} Hz cannot be resampled to {fs:g} Hz: at "
            f"most {edf.MAX_SAMPLES} samples, and a rate of at most {_LARGEST_RATIO} times the other. Is it right?"
        )
    return resampled(channel, fs)


def resampled(channel: Channel, fs: float) -> Channel:
    """Resample a channel to `fs` Hz if it has another rate.

    The filter is scipy's polyphase low-pass below half the lower rate. Missing samples are interpolated for the filter
    and are missing again afterwards, so that gaps neither grow nor move.
    """
    if abs(channel.fs - fs) < 1e-9 * fs:
        return channel
    from scipy.signal import resample_poly

    ratio = (Fraction(fs) / Fraction(channel.fs).limit_denominator(1_000_000)).limit_denominator(_LARGEST_FACTOR)
    signal = channel.signal
    missing, position = np.isnan(signal), np.arange(len(signal))
    if missing.any() and not missing.all():
        signal = np.interp(position, position[~missing], signal[~missing]).astype(np.float32)
    if len(signal):
        mean = signal.mean(dtype=np.float64).astype(np.float32)  # the filter makes a ripple of an offset
        signal = resample_poly(signal - mean, ratio.numerator, ratio.denominator, padtype="edge") + mean
    # A sample stays in its sleep epoch: positions are rounded down at both rates.
    before = np.arange(len(signal)) * ratio.denominator // ratio.numerator
    signal[missing[before.clip(max=len(missing) - 1)]] = np.nan
    signal[(np.flatnonzero(missing) * ratio.numerator // ratio.denominator).clip(max=len(signal) - 1)] = np.nan
    remarks = (*channel.remarks, f"resampled from {channel.fs:g} to {fs:g} Hz")
    recorded = channel.recorded or (Recorded(channel.signal, channel.fs),)
    return replace(channel, signal=signal, fs=fs, remarks=remarks, recorded=recorded)


def derivation_name(name: str, reference: str | None) -> str:
    """Name a channel, or the difference of two."""
    return f"{name}-{reference}" if reference else name


def _from_edf(path: Path, name: str, reference: str | None) -> Channel:
    """Read EDF or BDF."""
    header = read_header(path)
    if edf.states_gaps(header):
        header = replace(header, discontinuous=True)
    labels = find_derivation(header.labels, name, reference, path.name)
    signals = [edf.read_channel(header, label, keep_gaps=True) for label in labels]
    rates = [header.fs(label) for label in labels]
    if rates[0] != rates[-1]:
        raise UserError(
            f"{path.name}: {labels[0]!r} has {rates[0]:g} Hz, but {labels[1]!r} {rates[1]:g} Hz. Pass two of one rate."
        )
    signal, remarks = _difference(signals, labels, name, reference)
    if converted := sorted({header.signal(label).dimension for label in labels} & {"mV", "V", "nV"}):
        remarks.append(f"converted from {' and '.join(converted)} to microvolts")
    if missing_s := np.count_nonzero(np.isnan(signal)) / rates[0]:
        remarks.append(f"{missing_s:.0f} s between its data records were not recorded")
    if header.start is None:
        remarks.append("its header has no valid start time")
    elif header.start.date() == ANONYMOUS:
        remarks.append("its date is not known (1 January 1985 stands for it)")
    if not header.discontinuous:
        refuse_marks(_annotations(path), header.n_records * header.record_s, path.name)
    recorded = tuple(
        Recorded(signal, rate, edf.step_uv(header.signal(label)))
        for signal, rate, label in zip(signals, rates, labels, strict=True)
    )
    name = derivation_name(name, reference)
    return Channel(signal, rates[0], name, header.start_time, tuple(remarks), _subtracted(labels), recorded)


def _subtracted(labels: Sequence[str]) -> str:
    """Take the label of the channel that is subtracted; empty if none is."""
    return labels[1] if len(labels) == 2 else ""


def _annotations(path: Path) -> list[tuple[float, float, str]]:
    """Read the annotations of an EDF file, if it has any that can be read."""
    try:
        return edf.read_annotations(path)
    except UserError:  # they matter only to who asks for the hypnogram in them
        return []


def _from_npz(path: Path, name: str, reference: str | None) -> Channel:
    """Read a prepared recording; what was cut away is missing in the signal."""
    outline = read_outline(path)
    if outline.channel:
        find_channel([outline.channel], derivation_name(name, reference), path.name)
    if len(outline.stages) == 0:
        raise UserError(f"{path.name}: no sleep epochs in it. Prepare it again.")
    night = np.full((outline.sleep_epoch.max() + 1, outline.n_samples), np.nan, np.float32)
    night[outline.sleep_epoch] = open_signal(outline)
    return Channel(night.ravel(), outline.fs, outline.channel or name, outline.start_time, ())


def _from_mne(path: Path, name: str, reference: str | None) -> Channel:
    """Read another format, which MNE knows by its suffix."""
    if sys.flags.optimize > 1:
        raise UserError(f"{path.name}: MNE reads it, which does not run under PYTHONOPTIMIZE=2 (-OO). Unset that.")
    import mne

    suffix = path.suffix.lower()
    try:
        raw = mne.io.read_raw(path, verbose="ERROR")
        # Of EEGLAB's annotations, the recording keeps only what lies before its end.
        rows, first_s = (mne.read_annotations(path), 0) if suffix == ".set" else (raw.annotations, raw.first_time)
        annotations = [(row["onset"] - first_s, row["duration"], row["description"]) for row in rows]
        pauses = find_pauses(path, annotations, float(raw.info["sfreq"]), raw.n_times)
        channel = from_raw(raw, name, reference, path.name)
    except (UserError, MemoryError, OSError):
        raise
    except ImportError as error:
        raise UserError(f"{path.name}: {' '.join(str(error).split())}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path.name}: MNE cannot read it ({reason}). Get the file again.") from error
    n_missing = sum(duration_s for _, duration_s in pauses) * channel.fs
    if n_missing > edf.MAX_SAMPLES:
        raise UserError(
            f"{path.name}: pauses of {n_missing:.3g} samples; at most {edf.MAX_SAMPLES} are read. Cut it there."
        )
    signal, remarks = lay_pauses(channel.signal, pauses, channel.fs), list(channel.remarks)
    if missing_s := np.count_nonzero(np.isnan(signal)) / channel.fs:
        remarks.append(f"{missing_s:.0f} s within it were not recorded")
    start_time = channel.start_time
    recorded = tuple(replace(one, signal=lay_pauses(one.signal, pauses, one.fs)) for one in channel.recorded)
    if start_time and path.name.lower().endswith(_IN_UTC):
        start = _local(datetime.fromisoformat(start_time).replace(tzinfo=UTC), raw.info["utc_offset"])
        start_time = start.isoformat()
        if not start.utcoffset():
            remarks.append("its start is in UTC")
    return replace(channel, signal=signal, start_time=start_time, remarks=tuple(remarks), recorded=recorded)


def _local(start: datetime, utc_offset: str | None) -> datetime:
    """Convert a time in UTC to that of the recorder's clock, if its offset (`+0100`, `UTC+01:00`) is known."""
    offset = re.search(r"([+-])(\d\d):?(\d\d)$", utc_offset or "")
    if not offset:
        return start
    minutes = int(f"{offset[1]}{60 * int(offset[2]) + int(offset[3])}")
    return start.astimezone(timezone(timedelta(minutes=minutes)))


def _difference(
    signals: list[np.ndarray], labels: tuple[str, ...], name: str, reference: str | None
) -> tuple[np.ndarray, list[str]]:
    """Subtract the second signal, if there is one, from the first; remark on labels other than those asked for."""
    if len(signals) == 2:
        return signals[0] - signals[1], [f"{derivation_name(name, reference)} is {labels[0]!r} minus {labels[1]!r}"]
    return signals[0], [] if labels[0] == name else [f"{labels[0]!r} taken for {name!r}"]
