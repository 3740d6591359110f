"""Cut a night into sleep epochs, and keep those that count."""

import numpy as np

from recordings.stage_names import UNSCORED
from utils.errors import UserError
from utils.stages import SLEEP_EPOCH_S, W

N_WAKE = 60
"""Sleep epochs of wake (30 min) that are kept before the first and after the last sleep epoch of sleep."""


def samples_per_sleep_epoch(fs: float, source: str) -> int:
    """Return the number of samples in 30 s at `fs` Hz, the rate of the file `source`. It must be whole."""
    n_samples = round(fs * SLEEP_EPOCH_S)
    if n_samples < 1 or abs(fs * SLEEP_EPOCH_S - n_samples) > 1e-6:
        raise UserError(f"{source}: {fs:g} Hz gives no whole number of samples in 30 s. Resample it first.")
    return n_samples


def cut_sleep_epochs(
    signal: np.ndarray, stages: np.ndarray, n_samples: int, source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a night into sleep epochs and keep those that count.

    These are dropped, in this order: sleep epochs without a signal or without a stage at the end of the night; those
    that are not scored, or have gaps in their signal; of the rest, wake more than 60 sleep epochs before the first
    sleep or after the last.

    Parameters
    ----------
    signal : ndarray of shape (n,), float32
        Microvolts, from the start of the night; NaN where nothing was recorded.
    stages : ndarray of shape (m,), int32
        Stage of each sleep epoch from the start of the night: 0 to 4, or -1 where not scored.
    n_samples, source
        Samples per sleep epoch, and name of the hypnogram file.

    Returns
    -------
    signal : ndarray of shape (n_sleep_epochs, n_samples), float32
    stages : ndarray of shape (n_sleep_epochs,), int32
    sleep_epoch : ndarray of shape (n_sleep_epochs,), int32
        Position of each sleep epoch in the night.

    Raises
    ------
    UserError
        There is no sleep where there is signal.
    """
    n_sleep_epochs = min(len(signal) // n_samples, len(stages))
    sleep_epochs = signal[: n_sleep_epochs * n_samples].reshape(n_sleep_epochs, n_samples)
    recorded = ~np.isnan(sleep_epochs.min(axis=1))  # one NaN makes the minimum NaN
    scored = np.flatnonzero(recorded & (stages[:n_sleep_epochs] != UNSCORED))
    asleep = np.flatnonzero(stages[scored] != W)
    if len(asleep) == 0:
        raise UserError(
            f"{source}: no sleep at all where there is signal ({len(scored)} sleep epochs of W). Leave it out."
        )
    kept = scored[max(asleep[0] - N_WAKE, 0) : asleep[-1] + N_WAKE + 1]
    return sleep_epochs[kept], stages[kept].astype(np.int32), kept.astype(np.int32)
