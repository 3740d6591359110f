import numpy as np
import pytest

from prepare_datasets.epoching import cut_sleep_epochs, samples_per_sleep_epoch
from utils.errors import UserError

N_SAMPLES = 3


def night(*runs):
    stages = np.concatenate([np.full(n, stage, np.int32) for stage, n in runs])
    return np.arange(len(stages) * N_SAMPLES, dtype=np.float32), stages


def test_wake_is_kept_for_60_sleep_epochs_before_and_after_sleep():
    signal, stages = night((0, 100), (2, 5), (0, 10), (4, 1), (0, 200))
    x, y, position = cut_sleep_epochs(signal, stages, N_SAMPLES, "here")
    np.testing.assert_array_equal(position, np.arange(40, 176))
    np.testing.assert_array_equal(y, stages[40:176])
    np.testing.assert_array_equal(x, signal.reshape(-1, N_SAMPLES)[40:176])
    assert (x.dtype, y.dtype, position.dtype) == (np.float32, np.int32, np.int32)


def test_wake_is_kept_as_far_as_there_is_any():
    signal, stages = night((0, 3), (1, 1), (0, 59))
    assert len(cut_sleep_epochs(signal, stages, N_SAMPLES, "here")[1]) == 63


def test_the_60_are_counted_after_what_is_not_scored_is_gone():
    signal, stages = night((0, 70), (-1, 20), (3, 2), (-1, 5), (3, 1), (-1, 30), (0, 70))
    _, y, position = cut_sleep_epochs(signal, stages, N_SAMPLES, "here")
    assert len(y) == 60 + 3 + 60
    assert (y >= 0).all()
    np.testing.assert_array_equal(position, [*range(10, 70), 90, 91, 97, *range(128, 188)])


def test_sleep_epochs_with_gaps_in_their_signal_are_dropped_like_those_that_are_not_scored():
    signal, stages = night((0, 70), (2, 3), (0, 70))
    signal[[71 * N_SAMPLES, 74 * N_SAMPLES - 1, 76 * N_SAMPLES]] = np.nan
    x, y, position = cut_sleep_epochs(signal, stages, N_SAMPLES, "here")
    np.testing.assert_array_equal(position, [*range(10, 71), 72, 74, 75, *range(77, 135)])
    np.testing.assert_array_equal(y, stages[position])
    assert np.isfinite(x).all()
    with pytest.raises(UserError, match="here: no sleep at all where there is signal"):
        cut_sleep_epochs(np.full_like(signal, np.nan), stages, N_SAMPLES, "here")


def test_movement_at_the_edge_of_sleep_is_no_sleep():
    signal, stages = night((0, 100), (-1, 1), (1, 1), (-1, 1), (0, 100))
    assert len(cut_sleep_epochs(signal, stages, N_SAMPLES, "here")[1]) == 121


@pytest.mark.parametrize("n_signal", [7, 7.9])
def test_stages_without_signal_are_dropped_at_the_tail(n_signal):
    signal, stages = night((0, 2), (2, 20))
    x, y, _ = cut_sleep_epochs(signal[: int(n_signal * N_SAMPLES)], stages, N_SAMPLES, "here")
    assert x.shape == (7, N_SAMPLES)
    np.testing.assert_array_equal(y, stages[:7])


def test_signal_without_stages_is_dropped_at_the_tail():
    signal, stages = night((0, 2), (2, 20))
    assert len(cut_sleep_epochs(signal, stages[:9], N_SAMPLES, "here")[0]) == 9


@pytest.mark.parametrize("runs", [[(0, 10)], [(-1, 10)], [(0, 5), (-1, 5)]])
def test_a_night_without_sleep_is_refused(runs):
    with pytest.raises(UserError, match="here: no sleep at all"):
        cut_sleep_epochs(*night(*runs), N_SAMPLES, "here")


def test_sleep_beyond_the_signal_is_no_sleep():
    signal, stages = night((0, 10), (2, 10))
    with pytest.raises(UserError, match="no sleep at all where there is signal"):
        cut_sleep_epochs(signal[: 10 * N_SAMPLES], stages, N_SAMPLES, "here")


@pytest.mark.parametrize(("fs", "n_samples"), [(100, 3000), (125, 3750), (0.1, 3), (256 / 30 * 0.5, 128)])
def test_samples_of_a_sleep_epoch(fs, n_samples):
    assert samples_per_sleep_epoch(fs, "here") == n_samples


@pytest.mark.parametrize("fs", [100.01, 0.001, 0])
def test_a_rate_without_whole_sleep_epochs_is_refused(fs):
    with pytest.raises(UserError, match="here: .* no whole number"):
        samples_per_sleep_epoch(fs, "here")
