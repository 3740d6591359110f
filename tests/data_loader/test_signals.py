import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loader import signals
from data_loader.data_loaders import Batches, SleepEpochs, find_recordings
from data_loader.signals import open_signals, reader_ahead
from utils import checked
from utils.checked import FILE
from utils.errors import UserError
from utils.recording import open_signal, write_recording

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("a", "b", "c")


@pytest.fixture
def folder(prepared, monkeypatch):
    """Three prepared recordings, old enough to be marked."""
    monkeypatch.setattr(checked, "YOUNG_S", 0.0)
    return prepared(*NAMES)


@pytest.fixture
def verified(monkeypatch):
    """Names of the recordings that are read whole."""
    names = []

    def spy(outline, verify):
        names.extend([outline.name] * verify)
        return open_signal(outline, verify)

    monkeypatch.setattr(signals, "open_signal", spy)
    return names


def damage(path):
    """Turn over one bit in the middle of the signal, and leave size and time of change as they were."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_recordings_are_read_whole_once_and_the_signals_are_the_same(folder, verified):
    first = open_signals(find_recordings(folder))
    assert sorted(verified) == list(NAMES)
    second = open_signals(find_recordings(folder))
    assert sorted(verified) == list(NAMES)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_a_new_and_a_changed_recording_are_read_again(folder, verified, prepared):
    open_signals(find_recordings(folder))
    verified.clear()
    os.utime(folder / "c.npz", (1, 1))
    prepared("d")
    open_signals(find_recordings(folder))
    assert sorted(verified) == ["c", "d"]


def test_recordings_written_just_now_are_read_again(prepared, verified):
    folder = prepared(*NAMES)
    for _ in range(2):
        open_signals(find_recordings(folder))
    assert sorted(verified) == sorted(NAMES * 2)
    assert not (folder / FILE).exists()


def test_a_recording_that_was_damaged_after_it_passed_is_refused(folder):
    open_signals(find_recordings(folder))
    damage(folder / "b.npz")
    for _ in range(2):
        with pytest.raises(UserError, match=r"^b.npz: not a readable npz file \(its signal has another checksum"):
            open_signals(find_recordings(folder))


def test_all_damaged_recordings_are_named_at_once_and_the_sound_ones_are_not_read_again(folder, verified):
    damage(folder / "a.npz")
    damage(folder / "c.npz")
    for _ in range(2):
        with pytest.raises(UserError, match=r"^a.npz: not a readable .*\nc.npz: not a readable .*$"):
            open_signals(find_recordings(folder))
    assert verified.count("b") == 1
    assert verified.count("a") == verified.count("c") == 2


def test_without_a_place_for_marks_all_is_as_before_and_read_each_time(folder, verified):
    (folder / FILE / "in the way").mkdir(parents=True)
    for _ in range(2):
        assert len(open_signals(find_recordings(folder))) == 3
    assert sorted(verified) == sorted(NAMES * 2)


OPEN = """
import sys
from pathlib import Path
from data_loader.signals import open_signals
from utils import checked
from utils.recording import read_outline

checked.YOUNG_S = 0.0
outlines = [read_outline(path) for path in sorted(Path(sys.argv[1]).glob("*.npz"))]
print("ready", flush=True)
sys.stdin.read()
print(sum(float(abs(signal).sum()) > 0 for signal in open_signals(outlines)))
"""


def test_processes_that_begin_at_once_do_not_disturb_each_other(folder):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, folder], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.close()
    for process in running:
        assert process.stdout.read() == "3\n"
        process.stdout.close()
        assert process.wait() == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.npz", "b.npz", "c.npz", FILE]
    marks = checked.read_marks(folder, signals._CHECK)
    assert marks == {f"{name}.npz": checked.mark(folder / f"{name}.npz", marks[f"{name}.npz"][0]) for name in NAMES}


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
def test_sleep_epochs_in_random_order_are_read_from_the_disk_without_what_lies_between(
    tmp_path, make_recording, monkeypatch
):
    monkeypatch.setattr(checked, "YOUNG_S", 0.0)
    n = 500
    write_recording(tmp_path / "a.npz", make_recording(n))
    open_signals(find_recordings(tmp_path))  # which passes
    forget(tmp_path / "a.npz")
    before = read_bytes()
    with (tmp_path / "a.npz").open("rb") as file:
        file.seek(3_000_000)
        file.read(1)
    if read_bytes() == before:
        pytest.skip("this file system is in memory")
    forget(tmp_path / "a.npz")
    data = SleepEpochs(find_recordings(tmp_path), torch.device("cpu"))
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
    opened = open_signals(find_recordings(folder))
    assert re.search(rf"{re.escape(str(folder))}/b.npz$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert not opened[1].flags.writeable
