"""Hypnogram and EEG of a simulated night: plausible enough to learn from. They say nothing about sleep.

The stages are those of Rechtschaffen & Kales, as Sleep-EDF and SHHS are scored: 0 W, 1 to 4 NREM, 5 REM.
"""

import numpy as np

from utils.stages import N1, N2, N3, REM, SLEEP_EPOCH_S, W

RK_W, RK_1, RK_2, RK_3, RK_4, RK_REM = range(6)

STAGE_OF_RK = np.array([W, N1, N2, N3, N3, REM])

MAX_ASLEEP, CYCLE = 960, 180
"""Sleep epochs from falling asleep to the last awakening, at most (8 h), and of one sleep cycle (90 min)."""

# Frequency and bandwidth in Hz; root mean square in microvolts in W, stages 1 to 4 and REM.
# fmt: off
RHYTHMS = (
    # Hz   width    W     1     2     3     4    REM
    ( 1.1,  0.5, ( 3.5,  5.0,  8.0, 22.0, 34.0,  4.0)),  # slow waves
    ( 3.0,  0.5, ( 1.5,  3.0,  4.0,  5.0,  5.0,  5.0)),  # sawtooth waves of REM
    ( 5.5,  1.2, ( 2.5,  5.5,  4.5,  4.0,  4.0,  5.0)),  # theta
    (10.0,  0.8, (10.0,  3.0,  1.5,  1.0,  1.0,  2.0)),  # alpha
    (13.0,  0.5, ( 0.5,  1.0,  4.0,  3.0,  1.5,  0.6)),  # spindles
    (30.0, 12.0, ( 3.0,  1.7,  1.0,  0.7,  0.7,  1.0)),  # muscle
)
# fmt: on
BACKGROUND_UV = 6.0
"""Root mean square of noise with a spectrum of 1/f, the same in every stage."""

UNEVENNESS = 0.55
"""Standard deviation of the logarithm of a rhythm's strength among the sleep epochs of one stage."""


def simulate_hypnogram(n_sleep_epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the stages of one night: wake, two or more sleep cycles, wake.

    From cycle to cycle there is less of stages 3 and 4 and more REM. Brief awakenings interrupt stage 2 and REM.

    Returns
    -------
    ndarray of shape (n_sleep_epochs,), int64
        R&K stages, 0 to 5. There are at least 60 (half an hour).
    """
    n_asleep = min(round(0.85 * n_sleep_epochs), MAX_ASLEEP)
    n_cycles = max(2, round(n_asleep / CYCLE))
    cycles = []
    for progress in np.linspace(0, 1, n_cycles):
        shares = np.array([0.09, 0.27, 0.13, 0.18, 0.19, 0.14]) + progress * np.array([0, 0.11, -0.1, -0.17, 0, 0.16])
        lengths = np.maximum(shares * n_asleep / n_cycles * rng.uniform(0.8, 1.2, 6), 2).round().astype(int)
        cycles.append(np.repeat([RK_1, RK_2, RK_3, RK_4, RK_2, RK_REM], lengths))
    asleep = np.concatenate(cycles)[:n_asleep]
    for begin in np.flatnonzero((rng.random(len(asleep)) < 0.04) & np.isin(asleep, [RK_2, RK_REM])):
        light = begin + rng.integers(0, 3)
        asleep[begin:light] = RK_W
        asleep[light : light + rng.integers(1, 4)] = RK_1
    n_awake = n_sleep_epochs - len(asleep)
    n_before = round(n_awake * rng.uniform(0.45, 0.55))
    return np.pad(asleep, (n_before, n_awake - n_before), constant_values=RK_W)


def simulate_eeg(stages: np.ndarray, fs: int, subject: np.random.Generator, rng: np.random.Generator) -> np.ndarray:
    """Make one EEG channel, the sum of rhythms whose strength depends on the stage.

    Parameters
    ----------
    stages : ndarray of shape (n_sleep_epochs,)
        R&K stages, 0 to 5.
    fs
        Sampling rate in Hz.
    subject, rng
        Random numbers of the subject, the same for each of its channels, and of this channel.

    Returns
    -------
    ndarray of shape (n_sleep_epochs * 30 * fs,)
        Microvolts.
    """
    n_samples = len(stages) * SLEEP_EPOCH_S * fs
    hz = np.fft.rfftfreq(n_samples, 1 / fs)
    position = np.arange(n_samples) / (SLEEP_EPOCH_S * fs) - 0.5  # whole numbers in the middle of a sleep epoch
    eeg = BACKGROUND_UV * _noise(np.maximum(hz, 0.5) ** -0.6, n_samples, rng)
    for middle, width, microvolts in RHYTHMS:
        middle, strength = middle * subject.uniform(0.95, 1.05), np.exp(subject.normal(0, 0.12))
        levels = strength * np.take(microvolts, stages) * np.exp(rng.normal(0, UNEVENNESS, len(stages)))
        noise = _noise(np.exp(-(((hz - middle) / width) ** 2) / 2), n_samples, rng)
        eeg += noise * np.interp(position, np.arange(len(stages)), levels)
    return eeg * np.exp(subject.uniform(-0.2, 0.2))


def _noise(spectrum: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise of this amplitude spectrum, without an offset, of variance 1: (n_samples,)."""
    bins = spectrum * rng.standard_normal(2 * len(spectrum)).view(complex)
    bins[0] = 0
    noise = np.fft.irfft(bins, n_samples)
    return noise / noise.std()
