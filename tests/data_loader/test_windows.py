import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_packed_sequence

from data_loader.data_loaders import SleepEpochs, find_recordings
from data_loader.windows import Windows, runs
from utils.recording import write_recording

GAPS = np.array([3, 4, 5, 9, 10, 12])


@pytest.fixture
def data(tmp_path, make_recording):
    """Nights of twelve, six and nine sleep epochs; the second has two gaps."""
    for name, n, others in (("a", 12, {}), ("b", 6, {"sleep_epoch": GAPS}), ("c", 9, {})):
        write_recording(tmp_path / f"{name}.npz", make_recording(n, seed=n, **others))
    return SleepEpochs(find_recordings(tmp_path), torch.device("cpu"))


def numbered(data):
    """Inputs that are the number of the sleep epoch."""
    return torch.arange(len(data.stages), dtype=torch.float32)[:, None]


def windows_of(windows):
    """Numbers of the sleep epochs in each window, as they come."""
    numbers = []
    for packed, _ in windows:
        padded, lengths = pad_packed_sequence(packed, batch_first=True)
        numbers += [window[:n, 0].long().tolist() for window, n in zip(padded, lengths.tolist(), strict=True)]
    return numbers


def test_a_recording_is_cut_where_sleep_epochs_are_missing():
    assert [GAPS[run].tolist() for run in runs(GAPS)] == [[3, 4, 5], [9, 10], [12]]
    assert runs(np.array([7])) == [slice(0, 1)]
    assert runs(np.arange(5, 9)) == [slice(0, 4)]


def test_every_sleep_epoch_is_in_one_window_which_crosses_no_gap_and_no_recording(data):
    torch.manual_seed(0)
    windows = Windows(data, numbered(data), ["a", "b", "c"], length=4, batch_size=3)
    parts = [set(range(12)), {12, 13, 14}, {15, 16}, {17}, set(range(18, 27))]
    for _ in range(20):
        numbers = windows_of(windows)
        assert sorted(sum(numbers, [])) == list(range(27))
        for window in numbers:
            assert len(window) <= 4
            assert window == list(range(window[0], window[0] + len(window)))
            assert any(set(window) <= part for part in parts)


def test_windows_are_cut_anew_each_time_as_the_seed_says(data):
    windows = Windows(data, numbered(data), ["a", "c"], length=4, batch_size=2)
    torch.manual_seed(1)
    first, second = windows_of(windows), windows_of(windows)
    torch.manual_seed(1)
    assert windows_of(windows) == first != second


def test_the_number_of_batches_is_that_of_the_last_pass(data):
    windows = Windows(data, numbered(data), ["a", "b"], length=5, batch_size=2)
    for _ in range(10):
        batches = list(windows)
        assert len(windows) == len(batches)
        assert sum(len(stages) for _, stages in batches) == 18


def test_whole_runs_come_in_the_order_of_the_sleep_epochs(data):
    windows = Windows(data, numbered(data), ["c", "b"], length=None, batch_size=1)
    assert windows_of(windows) == [[*range(18, 27)], [12, 13, 14], [15, 16], [17]]
    assert sum(windows_of(windows), []) == windows.indices.tolist()
    assert torch.equal(windows.stages, data.stages[windows.indices])


def test_stages_stand_in_the_order_of_the_packed_inputs(data):
    torch.manual_seed(2)
    for packed, stages in Windows(data, numbered(data), ["a", "b", "c"], length=5, batch_size=4):
        assert torch.equal(stages, data.stages[packed.data[:, 0].long()])


def test_a_batch_names_the_recordings_of_its_windows(data):
    torch.manual_seed(3)
    windows = Windows(data, numbered(data), ["a", "b", "c"], length=3, batch_size=2)
    batches = [set(packed.data[:, 0].long().tolist()) for packed, _ in windows]
    recordings = {"a": set(range(12)), "b": set(range(12, 18)), "c": set(range(18, 27))}
    for number, batch in enumerate(batches):
        assert windows.recordings(number) == [name for name, numbers in recordings.items() if batch & numbers]
