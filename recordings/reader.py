"""Any recording to one channel in microvolts: EDF and BDF by the strict door, prepared npz, and what else MNE reads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recordings import edf
from recordings.channels import find_channel, find_derivation
from recordings.edf_header import ANONYMOUS, read_header
from utils.errors import UserError
from utils.files import require_file
from utils.recording import open_signal, read_outline

if TYPE_CHECKING:
    from mne.io import BaseRaw

SUFFIXES = (".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".fif.gz", ".cnt", ".mff", ".nedf", ".lay")
"""Endings of the recordings that are taken from a folder. MNE reads more, if they are named."""

_SKIPPED = "BAD_ACQ_SKIP"
"""Annotation under which MNE keeps what was not recorded."""

_LARGEST_RATIO = 1000
"""Of two sampling rates: no recording of EEG has less than 0.1 Hz, nor more than 100 kHz."""

_LARGEST_FACTOR = 100_000
"""Of a resampling, up or down: the length of its filter grows with it."""


@dataclass(frozen=True)
class Channel:
    """One channel of a recording.

    Attributes
    ----------
    signal : ndarray of shape (n,), float32
        Microvolts; NaN where nothing was recorded.
    fs : float
        Sampling rate in Hz.
    name : str
        As the user asked for it, such as `EEG Fpz-Cz` or `C4-M1`.
    start_time : str
        Start of the recording, ISO 8601; empty if not known.
    remarks : tuple of str
        What was done to it that the user should know.
    """

    signal: np.ndarray
    fs: float
    name: str
    start_time: str
    remarks: tuple[str, ...]


def read_channel(path: Path, channel: str, reference: str | None = None, fs: float | None = None) -> Channel:
    """Read one channel of a recording.

    Parameters
    ----------
    path : Path
        EDF, EDF+, BDF, a prepared npz, or what else MNE reads by its ending.
    channel : str
        See `channels.find_derivation`.
    reference : str or None
        Name of a channel to subtract.
    fs : float or None
        Sampling rate to resample to, in Hz; None: as it was recorded.

    Raises
    ------
    UserError
        The file cannot be read, has no such channel, or its values cannot be microvolts.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file.")
    read: Callable[[Path, str, str | None], Channel]
    read = {".npz": _from_npz, ".edf": _from_edf, ".bdf": _from_edf}.get(path.suffix.lower(), _from_other)
    if not path.is_dir():  # some systems record to folders
        require_file(path)
    found = read(path, channel, reference)
    if fs is None:
        return found
    n_samples, ratio = len(found.signal) * fs / found.fs, found.fs / fs
    if n_samples > edf.MAX_SAMPLES or not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        raise UserError(
            f"{path.name}: {len(found.signal)} samples at {found.fs:g} Hz cannot be resampled to {fs:g} Hz: at most "
            f"{edf.MAX_SAMPLES} samples, and a rate of at most {_LARGEST_RATIO} times the other. Is the rate right?"
        )
    return resampled(found, fs)


def is_recording(path: Path) -> bool:
    """Tell by its ending whether a file of a folder is a recording, and not a hypnogram beside one."""
    name = path.name.lower()
    return name.endswith(SUFFIXES) and not name.startswith(".") and not name.endswith("hypnogram.edf")


def from_raw(raw: "BaseRaw", channel: str, reference: str | None = None, source: str = "the recording") -> Channel:
    """Take one channel from what MNE has read; see `read_channel`. `source` names it in messages."""
    from mne.io.constants import FIFF

    labels = find_derivation(raw.ch_names, channel, reference, source)
    fs = float(raw.info["sfreq"])
    signals = []
    for label in labels:
        unit = raw.info["chs"][raw.ch_names.index(label)]["unit"]
        if unit != FIFF.FIFF_UNIT_V:
            kind = raw.get_channel_types([label])[0]
            unit_name = str(unit).partition("_UNIT_")[2].removesuffix(")")
            raise UserError(
                f"{source}: {label!r} is no voltage (its type is {kind}, its unit {unit_name}). "
                "Pass another channel with --select_ch."
            )
        signals.append((raw.get_data([label], verbose="ERROR")[0] * 1e6).astype(np.float32))
    signal, remarks = _difference(signals, labels, channel, reference)
    for onset_s, duration_s, text in zip(
        raw.annotations.onset - raw.first_time, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        if text == _SKIPPED:
            signal[max(round(onset_s * fs), 0) : max(round((onset_s + duration_s) * fs), 0)] = np.nan
    start = raw.info["meas_date"]
    start_time = (start.replace(tzinfo=None) + timedelta(seconds=raw.first_time)).isoformat() if start else ""
    return Channel(signal, fs, derivation_name(channel, reference), start_time, tuple(remarks))


def resampled(channel: Channel, fs: float) -> Channel:
    """Resample a channel to `fs` Hz if it has another rate.

    Polyphase, with scipy's low-pass below half the lower rate. What is missing is bridged by a line for the filter and
    missing again afterwards, so that it neither spreads nor moves anything.
    """
    if abs(channel.fs - fs) < 1e-9 * fs:
        return channel
    from scipy.signal import resample_poly

    ratio = (Fraction(fs) / Fraction(channel.fs).limit_denominator(1_000_000)).limit_denominator(_LARGEST_FACTOR)
    missing, position = np.isnan(channel.signal), np.arange(len(channel.signal))
    signal = channel.signal
    if missing.any() and not missing.all():
        signal = np.interp(position, position[~missing], signal[~missing]).astype(np.float32)
    if len(signal):
        mean = signal.mean(dtype=np.float64).astype(np.float32)  # an offset would leave the filter with a ripple
        signal = resample_poly(signal - mean, ratio.numerator, ratio.denominator, padtype="edge") + mean
    # A sample lies where its time lies, in the same sleep epoch at both rates.
    before = np.arange(len(signal)) * ratio.denominator // ratio.numerator
    signal[missing[before.clip(max=len(missing) - 1)]] = np.nan
    signal[(np.flatnonzero(missing) * ratio.numerator // ratio.denominator).clip(max=len(signal) - 1)] = np.nan
    remark = f"resampled from {channel.fs:g} to {fs:g} Hz"
    return replace(channel, signal=signal, fs=fs, remarks=(*channel.remarks, remark))


def _from_edf(path: Path, channel: str, reference: str | None) -> Channel:
    """Read EDF or BDF."""
    header = read_header(path)
    labels = find_derivation(header.labels, channel, reference, path.name)
    signals = [edf.read_channel(header, label, keep_gaps=True) for label in labels]
    rates = [header.fs(label) for label in labels]
    if rates[0] != rates[-1]:
        raise UserError(
            f"{path.name}: {labels[0]!r} has {rates[0]:g} Hz, but {labels[1]!r} {rates[1]:g} Hz. "
            "Pass two channels of one rate."
        )
    signal, remarks = _difference(signals, labels, channel, reference)
    converted = sorted({header.signal(label).dimension for label in labels} & {"mV", "V", "nV"})
    remarks += [f"converted from {' and '.join(converted)} to microvolts"] if converted else []
    missing_s = np.count_nonzero(np.isnan(signal)) / rates[0]
    remarks += [f"{missing_s:.0f} s between its data records were not recorded"] if missing_s else []
    if header.start is None:
        remarks.append("its header has no valid start time")
    elif header.start.date() == ANONYMOUS:
        remarks.append("its date was taken away (1 January 1985)")
    return Channel(signal, rates[0], derivation_name(channel, reference), header.start_time, tuple(remarks))


def _from_npz(path: Path, channel: str, reference: str | None) -> Channel:
    """Lay the sleep epochs of a prepared recording out in their night."""
    outline = read_outline(path)
    if outline.channel:
        find_channel([outline.channel], derivation_name(channel, reference), path.name)
    if len(outline.stages) == 0:
        raise UserError(f"{path.name}: no sleep epochs in it. Prepare it again.")
    night = np.full((outline.sleep_epoch.max() + 1, outline.n_samples), np.nan, np.float32)
    night[outline.sleep_epoch] = open_signal(outline)
    return Channel(night.ravel(), outline.fs, outline.channel or channel, outline.start_time, ())


def _from_other(path: Path, channel: str, reference: str | None) -> Channel:
    """Read what MNE reads by its ending."""
    import mne

    try:
        raw = mne.io.read_raw(path, verbose="ERROR")
        return from_raw(raw, channel, reference, path.name)
    except (UserError, MemoryError, OSError):
        raise
    except ImportError as error:
        raise UserError(f"{path.name}: {' '.join(str(error).split())}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path.name}: MNE cannot read it ({reason}). Get the file again.") from error


def _difference(
    signals: list[np.ndarray], labels: tuple[str, ...], channel: str, reference: str | None
) -> tuple[np.ndarray, list[str]]:
    """Subtract the second signal from the first, if there is one; say what was not as asked for."""
    if len(signals) == 2:
        return signals[0] - signals[1], [f"{derivation_name(channel, reference)} is {labels[0]!r} minus {labels[1]!r}"]
    return signals[0], [] if labels[0] == channel else [f"{labels[0]!r} taken for {channel!r}"]


def derivation_name(channel: str, reference: str | None) -> str:
    """Name of a channel or a difference of two."""
    return f"{channel}-{reference}" if reference else channel
