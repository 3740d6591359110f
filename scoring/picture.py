"""The picture of a scored night: spectrogram, hypnograms and hypnodensity on one time axis."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recordings.stage_names import UNSCORED
from scoring.night import Night
from scoring.summary import headline
from utils.drawing import BLUE, GREY, INK, draw_hypnodensity, draw_hypnogram, label_time, styled
from utils.files import replacing
from utils.stages import SLEEP_EPOCH_S

MAX_HZ = 30
_WINDOW_S = 4  # of one spectrum
_MAX_COLUMNS = 900  # of the spectrogram, about as many as the printed figure has dots; each is a mean of spectra
_NO_POWER = 1e-9  # microvolts squared per Hz; lower power comes from rounding, where the signal is flat
_COLOUR_RANGE = (2, 99)  # percentiles of the decibels that have the first and the last colour
_ANONYMOUS_YEAR = 1985  # in EDF files whose date was removed
_SMALL = 7.5  # points, of the line of figures
_HOURS = SLEEP_EPOCH_S / 3600  # in one sleep epoch


def write_picture(path: Path, night: Night, signal: np.ndarray, fs: float) -> None:
    """Draw a night and write it as PNG (200 dpi); `signal` is in microvolts, NaN where nothing was recorded."""
    with styled(), replacing(path) as temporary:
        draw_night(night, signal, fs).savefig(temporary, format="png", dpi=200, metadata={"Software": None})


def draw_night(night: Night, signal: np.ndarray, fs: float) -> Figure:
    """Draw spectrogram, hypnograms and hypnodensity of a night."""
    hypnograms = [("Scored stages", night.scoring.stages, BLUE)]
    if night.agreement and night.hypnogram is not None:
        share, n = 100 * night.agreement["accuracy"], night.agreement["n"]
        title = (
            f"Scored stages: as in the hypnogram in {share:.1f} % of {n:,} sleep epochs, "
            f"kappa {night.agreement['kappa']:.2f}"
        )
        if night.training_overlap:
            title += "\n({})".format(night.training_overlap.replace("; ", ";\n"))
        source = f"Majority of {len(night.scorers)} scorers" if night.scorers else "Stages of the hypnogram"
        hypnograms = [(source, night.hypnogram, INK), (title, night.scoring.stages, BLUE)]
    figure = Figure(figsize=(9, 5.2 + 1.3 * (len(hypnograms) - 1)))
    heights = [1.3, *[1] * len(hypnograms), 1]
    top, *middle, bottom = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_spectrogram(top, night, signal, fs)
    for axes, (title, stages, colour) in zip(middle, hypnograms, strict=True):
        position = np.flatnonzero(stages != UNSCORED)
        draw_hypnogram(axes, position, stages[position], colour)
        axes.set_title(title)
    draw_hypnodensity(bottom, night.scored, night.scoring.probabilities[night.scored])
    bottom.set_title("Probability of each stage")
    label_time(bottom, night.start)
    span = "" if night.in_bed else " (TIB: the scored span)"
    figure.supxlabel(headline(night.sleep_statistics) + span, x=0.01, ha="left", size=_SMALL, color=INK)
    _shade_empty([top, *middle, bottom], night)
    return figure


def _shade_empty(all_axes: Sequence[Axes], night: Night) -> None:
    """Shade the sleep epochs without signal between the first and the last scored one, and label them at the top."""
    begin, end = night.scored[0], night.scored[-1] + 1
    position = np.flatnonzero(night.empty) if night.empty is not None else np.array([], int)
    position = position[(position >= begin) & (position < end)]
    runs = [run for run in np.split(position, np.flatnonzero(np.diff(position) != 1) + 1) if len(run)]
    for run in runs:
        for axes in all_axes:
            axes.axvspan(run[0] * _HOURS, (run[-1] + 1) * _HOURS, color=GREY, alpha=0.35, lw=0)
    if runs:
        longest = max(runs, key=len)
        middle = (longest[0] + longest[-1] + 1) / 2 * _HOURS
        all_axes[0].text(middle, MAX_HZ / 2, "no signal", rotation=90, ha="center", va="center", color=INK)


def _draw_spectrogram(axes: Axes, night: Night, signal: np.ndarray, fs: float) -> None:
    """Draw power in decibels by time and frequency over the scored span; flat and missing parts stay blank."""
    begin, end = night.scored[0], night.scored[-1] + 1
    n_samples = round(SLEEP_EPOCH_S * fs)
    span = signal[begin * n_samples : end * n_samples]
    if night.empty is not None:
        span = span.copy()
        span.reshape(-1, n_samples)[night.empty[begin:end]] = np.nan
    frequency, power = power_spectra(span, fs)
    n_together = -(-power.shape[1] // _MAX_COLUMNS)
    power = power[:, : power.shape[1] // n_together * n_together]
    columns = power.reshape(len(frequency), -1, n_together).mean(axis=2)
    decibels, low, high = in_decibels(columns)
    last = begin + columns.shape[1] * n_together * _WINDOW_S / SLEEP_EPOCH_S
    half_bin = frequency[0] / 2
    extent = (begin * _HOURS, last * _HOURS, half_bin, frequency[-1] + half_bin)
    image = axes.imshow(decibels, "magma", aspect="auto", origin="lower", extent=extent, vmin=low, vmax=high,
                        interpolation="nearest")  # fmt: skip
    date = f", {night.start.day} {night.start:%B %Y}" if night.start and has_date(night.start) else ""
    axes.set(ylabel="Frequency (Hz)", title=f"{night.name}: {night.channel}{date}", ylim=(0, MAX_HZ))
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.015, 0, 0.012, 1)))
    bar.set_label("Power (dB, µV²/Hz)")
    bar.outline.set_visible(False)


def has_date(start: datetime) -> bool:
    """Tell whether the date of a start was not removed."""
    return start.year > _ANONYMOUS_YEAR


def power_spectra(signal: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the power in windows of 4 s, up to 30 Hz.

    Parameters
    ----------
    signal : ndarray of shape (..., n_samples)
        In microvolts; a window with NaN gives NaN.
    fs : float
        In Hz.

    Returns
    -------
    frequency : ndarray of shape (n_frequencies,)
        In Hz, without 0.
    power : ndarray of shape (..., n_frequencies, n_windows)
        In microvolts squared per Hz.
    """
    from scipy.signal import spectrogram

    frequency, _, power = spectrogram(signal, fs, nperseg=round(_WINDOW_S * fs), noverlap=0)
    shown = (frequency > 0) & (frequency <= MAX_HZ)
    return frequency[shown], power[..., shown, :]


def in_decibels(power: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Convert power to decibels, NaN where the signal is flat; return the first and the last to be coloured besides."""
    decibels = 10 * np.log10(np.where(power > _NO_POWER, power, np.nan))
    low, high = np.nanpercentile(decibels, _COLOUR_RANGE) if np.isfinite(decibels).any() else (0, 1)
    return decibels, float(low), float(high)
