"""Tell whether a signal can be EEG in microvolts, how large it is, and which sleep epochs are without any signal."""

from collections.abc import Iterable

import numpy as np

MIN_STD_UV, MAX_STD_UV = 2.0, 1000.0
"""Limits of the standard deviation that the EEG of a recording can have, in microvolts; z-scored EEG has 1."""

NOT_MICROVOLTS = "Are the values z-scored, in volts or raw digits? They must be microvolts."

FLAT_UV, MAX_FLAT_UV = 0.5, 5.0
"""Ranges of a sleep epoch, peak to peak in microvolts: up to the first it is flat, above the second it never is.

The noise of an amplifier alone has more than the first; 10 microvolts are little for EEG.
"""

_ROUNDING = 1e-6
"""Standard deviation of a constant signal relative to its value, which is rounding alone."""

_EVERY = 61
"""Of so many samples one is looked at first; no divisor of a sampling rate, so that no regular signal hides in it."""

_PIECE = 32
"""Sleep epochs that are summed together: they fit a processor's cache."""


def signal_problem(name: str, signal: np.ndarray, hint: str = NOT_MICROVOLTS) -> str:
    """Say why a recording's signal, (n_sleep_epochs, n_samples), cannot be EEG in microvolts; empty if it can.

    `hint` follows where the values are too small or too large, and says what to do.
    """
    return problem_of(name, *mean_and_std(signal), hint)


def problem_of(name: str, mean: float, std: float, hint: str = NOT_MICROVOLTS) -> str:
    """Say the same of a signal whose mean and standard deviation are known, in microvolts."""
    if not np.isfinite(std):
        return f"{name}: the signal holds NaN or infinite values. Prepare the recording again or leave it out."
    if std <= _ROUNDING * abs(mean):
        return f"{name}: the signal is constant. Was the channel recorded? Leave the recording out."
    if not MIN_STD_UV <= std <= MAX_STD_UV:
        return (
            f"{name}: the signal's standard deviation is {std:.3g}; EEG in microvolts has {MIN_STD_UV:g} to "
            f"{MAX_STD_UV:g}. {hint}"
        )
    return ""


def without_signal(sleep_epochs: np.ndarray, step_uv: float = 0.0) -> np.ndarray:
    """Tell which sleep epochs hold no signal: those that are flat, or clipped for most of their length.

    Flat: no two values differ by more than a step of the converter (up to `MAX_FLAT_UV`), or by more than `FLAT_UV`.
    Clipped: more than half of the values are the lowest or the highest one of the sleep epoch. This needs no limits of
    the recorder, so it holds for any array, and also where an amplifier reached its limits before the file did. EEG is
    at its own extremes for a few samples in 30 s. A sleep epoch with a gap (NaN) is neither.

    Parameters
    ----------
    sleep_epochs : ndarray of shape (n_sleep_epochs, n_samples)
        Microvolts, as they were recorded: resampling rounds the edges of what is flat or clipped.
    step_uv : float
        A step of the converter in microvolts; 0 if it is not known.

    Returns
    -------
    ndarray of shape (n_sleep_epochs,), bool
    """
    flat_uv = min(max(FLAT_UV, 1.01 * step_uv), MAX_FLAT_UV)  # 1 % for the rounding of float32
    width, share = _range_and_share_at_extremes(np.ascontiguousarray(sleep_epochs[:, ::_EVERY]))
    rows = np.flatnonzero((width <= flat_uv) | (share > 0.25))  # nearly none of EEG, so that most need not be read
    width, share = _range_and_share_at_extremes(sleep_epochs[rows])
    empty = np.zeros(len(sleep_epochs), bool)
    empty[rows] = np.isfinite(width) & ((width <= flat_uv) | (share > 0.5))
    return empty


def _range_and_share_at_extremes(sleep_epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute of each sleep epoch the range, and the share of samples that are its lowest or highest value."""
    low, high = sleep_epochs.min(axis=1), sleep_epochs.max(axis=1)
    at_extremes = (sleep_epochs == low[:, None]) | (sleep_epochs == high[:, None])
    with np.errstate(invalid="ignore"):  # infinite values are gaps
        return high - low, at_extremes.mean(axis=1)


def without_signal_remark(n: int, n_sleep_epochs: int) -> str:
    """Say how many of the sleep epochs of a recording are without signal."""
    share = 100 * n / n_sleep_epochs
    return f"{n:,} of {n_sleep_epochs:,} sleep epochs ({share:.1f} %) are without signal (flat or clipped)"


def amplitude(std_uv: Iterable[float]) -> dict[str, float]:
    """Sum up the standard deviations of some recordings, at least one, in microvolts: `median`, `low` and `high`."""
    values = sorted(std_uv)
    return {"median": round(float(np.median(values)), 2), "low": round(values[0], 2), "high": round(values[-1], 2)}


def mean_and_std(signal: np.ndarray) -> tuple[float, float]:
    """Compute mean and standard deviation of a signal, (n_sleep_epochs, n_samples), reading it once."""
    first, total, squares = signal[0, 0], 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # the caller sees NaN and infinite values by the result
        for begin in range(0, len(signal), _PIECE):
            piece = (signal[begin : begin + _PIECE] - first).ravel()
            total += float(piece.sum())
            squares += float(piece @ piece)
        mean = total / signal.size
        return mean + float(first), float(np.sqrt(max(squares / signal.size - mean**2, 0.0)))
