"""Tell whether a signal can be EEG in microvolts, and how large it is."""

from collections.abc import Iterable

import numpy as np

MIN_STD_UV, MAX_STD_UV = 2.0, 1000.0
"""Limits of the standard deviation that the EEG of a recording can have, in microvolts; z-scored EEG has 1."""

NOT_MICROVOLTS = "Are the values z-scored, in volts or raw digits? They must be microvolts."

_ROUNDING = 1e-6
"""Standard deviation of a constant signal relative to its value, which is rounding alone."""

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
