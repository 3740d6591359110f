"""Hypnogram and EEG of one simulated subject: what a scorer looks for in each stage, and nothing else.

Signals made here exercise the software. They say nothing about sleep.

A hypnogram holds the six stages of Rechtschaffen & Kales, as 0 W, 1 to 4 NREM, 5 REM: Sleep-EDF and SHHS files
are scored so. The tables below have one column for each of them. The signs are those of the AASM manual.
"""

from dataclasses import dataclass

import numpy as np

from utils.stages import N1, N2, N3, REM, SLEEP_EPOCH_S, W

STAGE_OF_RK = np.array([W, N1, N2, N3, N3, REM])
"""The stage of each R&K stage: 3 and 4 merge into N3."""

RK_W, RK_1, RK_2, RK_3, RK_4, RK_R = range(6)

EPOCHS_PER_HOUR = 3600 // SLEEP_EPOCH_S

# Hours of the recording, and how many of them lie between falling asleep and the last awakening.
# From 8 h on, more than 30 min of wake lie on each side; never more than 8 h of sleep.
RECORDED_H, ASLEEP_H = (0.5, 2.0, 8.0, 10.0), (0.4, 1.7, 6.5, 8.0)

CYCLE_H = 1.5

# How much of each stage's signs (columns) the epochs scored as one stage (rows) show on average. N1 lies between
# W, N2 and REM, and is the hardest to score, for people too; slow waves grow by degrees from stage 2 to 4.
# fmt: off
SHOWN = np.array([
    #  W     1     2     3     4     R
    [0.78, 0.18, 0.00, 0.00, 0.00, 0.04],
    [0.14, 0.58, 0.14, 0.00, 0.00, 0.14],
    [0.00, 0.09, 0.82, 0.06, 0.00, 0.03],
    [0.00, 0.00, 0.18, 0.72, 0.10, 0.00],
    [0.00, 0.00, 0.05, 0.15, 0.80, 0.00],
    [0.03, 0.14, 0.04, 0.00, 0.00, 0.79],
])
CONSISTENCY = 5.0  # of a Dirichlet distribution around SHOWN; the higher, the more alike the epochs of a stage

# Rhythms: microvolts (root mean square) by stage.
RHYTHMS_UV = {
    #              W     1    2    3    4    R
    "broadband": (7.0, 6.0, 7.0, 8.0, 8.0, 5.5),  # 1/f, in every stage; lowest in REM ("low-amplitude mixed")
    "alpha":     (11., 2.5, 0.8, 0.8, 0.8, 1.5),  # 8-13 Hz, more than half of an epoch with the eyes closed: W
    "theta":     (1.5, 5.5, 4.0, 4.0, 4.0, 4.0),  # 4-7 Hz, takes the place of alpha: N1
    "delta":     (1.5, 2.0, 5.0, 9.0, 12., 2.0),  # below the 75 microvolts of a slow wave
    "muscle":    (3.0, 1.5, 0.8, 0.5, 0.5, 0.7),  # of the forehead; least in REM
}

# Events: how many a minute, by stage.
EVENTS_PER_MIN = {
    #               W    1    2    3    4    R
    "blink":      (7.0, 0.3, 0.0, 0.0, 0.0, 0.6),  # eyes open: W; a few rapid eye movements reach Fpz in REM
    "vertex":     (0.0, 2.5, 0.5, 0.0, 0.0, 0.0),  # sharp, shorter than 0.5 s: late N1
    "sawtooth":   (0.0, 0.1, 0.0, 0.0, 0.0, 2.5),  # trains of 2-6 Hz, notched: REM
    "spindle":    (0.0, 0.2, 4.5, 3.0, 1.0, 0.0),  # 11-16 Hz, at least 0.5 s: N2
    "k_complex":  (0.0, 0.0, 1.8, 1.0, 0.5, 0.0),  # negative, then positive, at least 0.5 s: N2
    "slow_waves": (0.0, 0.0, 0.3, 9.0, 22., 0.0),  # trains; they fill 20-50 % of stage 3, more than half of stage 4
}
# fmt: on

SLOW_WAVE_UV = 75.0
"""What a slow wave (0.5 to 2 Hz) must exceed from peak to peak."""

UNEVENNESS = 0.35
"""Standard deviation of the logarithm of how strongly one epoch shows a rhythm or an event."""


@dataclass(frozen=True)
class Subject:
    """What differs between subjects.

    Attributes
    ----------
    amplitude : float
        Factor on every signal.
    alpha_hz, theta_hz, spindle_hz : float
        Where these rhythms peak.
    slope : float
        Power of the broadband noise falls as 1 / f ** slope.
    strength : dict of str to float
        Factor on each rhythm and on the number of each event.
    """

    amplitude: float
    alpha_hz: float
    theta_hz: float
    spindle_hz: float
    slope: float
    strength: dict[str, float]


def draw_subject(rng: np.random.Generator) -> Subject:
    """Draw a subject."""
    return Subject(
        amplitude=float(np.exp(rng.uniform(np.log(0.7), np.log(1.4)))),
        alpha_hz=rng.uniform(8.8, 11.0),
        theta_hz=rng.uniform(5.0, 6.2),
        spindle_hz=rng.uniform(12.2, 13.8),
        slope=rng.uniform(0.9, 1.4),
        strength={sign: float(np.exp(rng.normal(0, 0.2))) for sign in (*RHYTHMS_UV, *EVENTS_PER_MIN)},
    )


def simulate_hypnogram(n_sleep_epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the R&K stages of one night: wake, cycles with less N3 and more REM towards morning, wake.

    A recording too short for two cycles of 90 min has two shorter ones, so that every stage occurs.

    Parameters
    ----------
    n_sleep_epochs : int
        Length of the recording, at least 60 (half an hour).
    rng : Generator

    Returns
    -------
    ndarray of shape (n_sleep_epochs,), int64
        0 W, 1 to 4 NREM, 5 REM.
    """
    n_asleep = round(np.interp(n_sleep_epochs / EPOCHS_PER_HOUR, RECORDED_H, ASLEEP_H) * EPOCHS_PER_HOUR)
    n_cycles = max(2, round(n_asleep / EPOCHS_PER_HOUR / CYCLE_H))
    cuts = (np.arange(1, n_cycles) + rng.uniform(-0.1, 0.1, n_cycles - 1)) * n_asleep / n_cycles
    lengths = np.diff(np.concatenate([[0], cuts.astype(int), [n_asleep]]))
    night = np.concatenate([_cycle(length, k / (n_cycles - 1), rng) for k, length in enumerate(lengths)])
    _interrupt(night, rng)
    n_before = round((n_sleep_epochs - n_asleep) * rng.uniform(0.45, 0.55))
    return np.pad(night, (n_before, n_sleep_epochs - n_asleep - n_before), constant_values=RK_W)


def simulate_eeg(rk_stages: np.ndarray, subject: Subject, fs: int, rng: np.random.Generator) -> np.ndarray:
    """Make one EEG channel that shows the signs of each stage.

    Parameters
    ----------
    rk_stages : ndarray of shape (n_sleep_epochs,)
        0 W, 1 to 4 NREM, 5 REM.
    subject : Subject
    fs : int
        Sampling rate in Hz.
    rng : Generator

    Returns
    -------
    ndarray of shape (n_sleep_epochs * 30 * fs,)
        Microvolts.
    """
    shown = rng.standard_gamma(CONSISTENCY * SHOWN[rk_stages])
    shown /= shown.sum(axis=1, keepdims=True)
    n_samples = len(rk_stages) * SLEEP_EPOCH_S * fs
    n_whole = -(-len(rk_stages) // 64) * 64 * SLEEP_EPOCH_S * fs  # the Fourier transform is slow on large primes
    eeg, hz = np.zeros(n_samples), np.fft.rfftfreq(n_whole, 1 / fs)
    for name, microvolts in RHYTHMS_UV.items():
        noise = _noise(_spectrum(name, hz, subject), rng)
        eeg += noise[:n_samples] * _over_time(_level(shown, name, microvolts, subject, rng), SLEEP_EPOCH_S * fs)
    eeg *= subject.amplitude
    for name, per_min in EVENTS_PER_MIN.items():
        n_events = rng.poisson(_level(shown, name, per_min, subject, rng) * SLEEP_EPOCH_S / 60)
        onset_s = SLEEP_EPOCH_S * (np.repeat(np.arange(len(rk_stages)), n_events) + rng.random(n_events.sum()))
        _add(eeg, (onset_s * fs).astype(int), _waves(name, len(onset_s), subject, fs, rng))
    return eeg


def _cycle(n_sleep_epochs: int, progress: float, rng: np.random.Generator) -> np.ndarray:
    """R&K stages of one sleep cycle; `progress` through the night runs from 0 to 1."""
    n_light = 3 + rng.binomial(n_sleep_epochs // 12, 0.5)
    n_deep = round(n_sleep_epochs * (0.36 - 0.28 * progress) * rng.uniform(0.8, 1.2))
    n_rem = round(n_sleep_epochs * (0.14 + 0.20 * progress) * rng.uniform(0.8, 1.2))
    n_between = n_sleep_epochs - n_light - n_deep - n_rem
    n_down = n_between * 2 // 3
    depth = np.sin(np.linspace(0, np.pi, n_deep)) + rng.normal(0, 0.3, n_deep)
    deep = np.select([depth > 0.8, depth > 0.0], [RK_4, RK_3], RK_2)
    before = np.repeat([RK_1, RK_2], [n_light, n_down])
    after = np.repeat([RK_2, RK_R], [n_between - n_down, n_rem])
    return np.concatenate([before, deep, after])


def _interrupt(night: np.ndarray, rng: np.random.Generator) -> None:
    """Put brief awakenings and returns to N1 into stage 2 and REM, in place."""
    for start in np.flatnonzero(rng.random(len(night)) < 0.04):
        if night[start] in (RK_2, RK_R):
            n_awake, n_light = rng.integers(0, 3), rng.integers(1, 4)
            night[start : start + n_awake] = RK_W
            night[start + n_awake : start + n_awake + n_light] = RK_1


def _level(
    shown: np.ndarray, name: str, by_stage: tuple[float, ...], subject: Subject, rng: np.random.Generator
) -> np.ndarray:
    """How much of one sign each epoch shows: (n_sleep_epochs,), in the unit of `by_stage`."""
    return shown @ by_stage * subject.strength[name] * np.exp(rng.normal(0, UNEVENNESS, len(shown)))


def _over_time(level: np.ndarray, n_samples: int) -> np.ndarray:
    """One value per epoch -> one per sample, blending from the middle of an epoch to that of the next."""
    return np.interp(np.arange(len(level) * n_samples) / n_samples - 0.5, np.arange(len(level)), level)


def _spectrum(rhythm: str, hz: np.ndarray, subject: Subject) -> np.ndarray:
    """Amplitude of a rhythm at each frequency."""
    if rhythm == "broadband":
        return (hz > 0.4) * np.maximum(hz, 0.4) ** (-subject.slope / 2)
    if rhythm == "muscle":
        return (hz > 18) * np.exp(-(((hz - 30) / 12) ** 2))
    middle, width = {
        "alpha": (subject.alpha_hz, 0.8),
        "theta": (subject.theta_hz, 1.2),
        "delta": (1.2, 0.7),
    }[rhythm]
    return (hz > 0.4) * np.exp(-(((hz - middle) / width) ** 2) / 2)


def _noise(spectrum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a given spectrum and of variance 1; a narrow spectrum waxes and wanes by itself."""
    present = np.flatnonzero(spectrum > 1e-3 * spectrum.max())
    bins = np.zeros(len(spectrum), complex)
    bins[present] = spectrum[present] * rng.standard_normal(2 * len(present)).view(complex)
    noise = np.fft.irfft(bins)
    return noise / noise.std()


def _waves(event: str, n: int, subject: Subject, fs: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` events of one kind: (n, samples), microvolts."""

    def between(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (n, 1))

    t = np.arange(5 * fs) / fs
    size = subject.amplitude * np.exp(rng.normal(0, 0.25, (n, 1)))
    match event:
        case "blink":  # the cornea, positive, turns up to Fpz
            return 80 * size * _bump(t, 0.3, between(0.05, 0.09))
        case "vertex":
            return 55 * size * (0.4 * _bump(t, 0.5, 0.07) - _bump(t, 0.3, between(0.04, 0.06)))
        case "k_complex":
            return 65 * size * (0.8 * _bump(t, 0.85, between(0.14, 0.22)) - _bump(t, 0.4, between(0.08, 0.12)))
        case "spindle":
            hz, length = subject.spindle_hz + between(-0.4, 0.4), between(0.6, 1.6)
            return 17 * size * _fade(t, length) * np.sin(2 * np.pi * hz * t)
        case "sawtooth":
            return 20 * size * _fade(t, between(2, 4)) * (1 - 2 * (between(2.5, 4.5) * t % 1))
        case "slow_waves":  # the 75 microvolts hold for everybody: only what exceeds them differs
            half = (SLOW_WAVE_UV + 15 + 45 * size) / 2
            hz, n_waves = between(0.6, 1.3), rng.integers(1, 4, (n, 1))
            return half * _fade(t, n_waves / hz) * np.sin(2 * np.pi * hz * t)
    raise ValueError(event)


def _bump(t: np.ndarray, middle_s: float, width_s: np.ndarray | float) -> np.ndarray:
    """Deflection of height 1."""
    return np.exp(-(((t - middle_s) / width_s) ** 2))


def _fade(t: np.ndarray, length_s: np.ndarray) -> np.ndarray:
    """Envelope that rises from 0 to 1 and falls to 0 again at `length_s`."""
    return np.sqrt(np.sin(np.pi * np.minimum(t / length_s, 1)).clip(0))


def _add(eeg: np.ndarray, start: np.ndarray, waves: np.ndarray) -> None:
    """Add each of the `waves` from its first sample on, in place; those that would not fit are left out."""
    fits = start + waves.shape[1] <= len(eeg)
    np.add.at(eeg, start[fits, None] + np.arange(waves.shape[1]), waves[fits])
