import mmap
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loader import signals
from data_loader.data_loaders import Batches, SleepEpochs, find_recordings
from data_loader.signals import open_signals, reader_ahead
from utils.errors import UserError
from utils.recording import write_recording

NAMES = ("a", "b", "c")


@pytest.fixture
def folder(prepared):
    return prepared(*NAMES)


def damage(path):
    """Turn over one bit in the middle of the signal."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_all_recordings_that_are_damaged_or_no_eeg_are_named_at_once(folder, make_recording):
    damage(folder / "a.npz")
    write_recording(folder / "c.npz", replace(make_recording(), signal=np.zeros((10, 3000), np.float32)))
    with pytest.raises(UserError, match=r"^a.npz: not a readable npz .*another checksum.*\nc.npz: the signal is const"):
        open_signals(find_recordings(folder))


def test_more_recordings_than_the_system_lets_a_process_open_are_refused(folder, monkeypatch):
    monkeypatch.setattr(signals, "_OTHER_FILES", 10**9)
    with pytest.raises(UserError, match=rf"^3 recordings are open at once, .* Have the limit raised to {10**9 + 3}"):
        open_signals(find_recordings(folder))


def forget(path):
    """Have the system drop what it holds of a file in memory."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_bytes():
    """Bytes that the system has read from disks for this process."""
    return int(re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bytes from disks are counted in /proc")
def test_sleep_epochs_in_random_order_are_read_from_the_disk_without_what_lies_between(tmp_path, make_recording):
    n = 500
    write_recording(tmp_path / "a.npz", make_recording(n))
    forget(tmp_path / "a.npz")
    before = read_bytes()
    with (tmp_path / "a.npz").open("rb") as file:
        file.seek(3_000_000)
        file.read(1)
    if read_bytes() == before:
        pytest.skip("this file system is in memory")
    forget(tmp_path / "a.npz")
    data = SleepEpochs(find_recordings(tmp_path), torch.device("cpu"))  # which reads all of it once
    mapping = data._signals[0]
    while isinstance(mapping, np.ndarray):
        mapping = mapping.base
    mapping.madvise(mmap.MADV_DONTNEED)
    forget(tmp_path / "a.npz")
    before = read_bytes()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))[:100]
    ((signal, _),) = Batches(data, order, 100, shuffle=False)
    read = read_bytes() - before
    assert signal.nbytes / 2 < read < 2 * signal.nbytes  # of 6 MB in all, which the system would read by itself
    np.testing.assert_array_equal(signal[:, 0], make_recording(n).signal[order])


def test_signals_that_are_in_memory_need_no_reading_ahead():
    reader_ahead(np.zeros((3, 300), np.float32))(2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mapped files are read from /proc")
def test_a_mapped_recording_is_read_when_it_is_used(folder):
    opened, *_ = open_signals(find_recordings(folder))
    assert re.search(rf"{re.escape(str(folder))}/b.npz$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert not opened[1].flags.writeable
