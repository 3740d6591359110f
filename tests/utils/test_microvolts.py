import numpy as np
import pytest

from utils.microvolts import without_signal

N = 3000
POSITION = np.arange(N)


def noise(scale=20, n=1, seed=0):
    return np.random.default_rng(seed).normal(0, scale, (n, N)).astype(np.float32)


def with_samples(value, n):
    """Noise of which `n` samples, drawn at random, are `value`."""
    signal = noise()[0]
    signal[np.random.default_rng(1).permutation(N)[:n]] = value
    return signal


WITHOUT = {
    "zeros": np.zeros(N),
    "one value": np.full(N, -187.3),
    "rounding": np.full(N, 4000.0) + noise(1e-3)[0],
    "two neighbouring values": np.where(noise()[0] > 0, 100, 100 + 0.976),
    "clipped on one side": np.minimum(noise()[0] + 400, 350),
    "clipped on both sides in turn": np.where(POSITION % 200 < 100, 192, -192),
    "clipped for most of it": with_samples(192, 1600),
    "clipped on both sides for most of it": np.clip(5000 * np.sin(POSITION / 150), -192, 192),
}
WITH = {
    "noise": noise()[0],
    "little": noise(0.3)[0],
    "coarse": np.round(noise(8)[0] / 8) * 8,
    "very coarse": np.round(noise(8)[0] / 20) * 20,
    "clipped for less than half of it": with_samples(192, 1400),
    "flat for most of it": np.where(POSITION < 2000, 0, noise()[0]),
    "a sine": 50 * np.sin(2 * np.pi * 25 * POSITION / 100),
    "a gap": np.where(POSITION < 5, np.nan, 3),
    "an infinite value": np.where(POSITION < 5, np.inf, 3),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_flat_and_clipped_sleep_epochs_are_without_signal(name):
    night = np.stack([noise()[0], WITHOUT[name], noise()[0]]).astype(np.float32)
    assert without_signal(night).tolist() == [False, True, False]


@pytest.mark.parametrize("name", WITH)
def test_whatever_may_be_eeg_has_a_signal(name):
    night = np.stack([np.zeros(N), WITH[name], np.zeros(N)]).astype(np.float32)
    assert without_signal(night).tolist() == [True, False, True]


def test_a_step_of_the_converter_counts_up_to_a_range_that_eeg_can_have():
    night = np.clip(noise(0.5), -1, 1) * np.linspace(0.9, 1, N, dtype=np.float32)  # 2 microvolts
    assert [without_signal(night, step).tolist() for step in (0, 1.9, 2, 4)] == [[False], [False], [True], [True]]
    assert without_signal(10 * night, 100).tolist() == [False]
