import contextlib
import fcntl
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from edf_writer import (
    N_RECORDS_FIELD,
    NIGHT,
    ROOT,
    SHARED,
    START,
    contents,
    cut,
    edit,
    eeg_digits,
    microvolts,
    not_prepared,
    run_script,
    start_script,
    write_annotations,
    write_hypnogram,
    write_night,
    write_psg,
)
from in_process import call_script

from prepare_datasets.epoching import cut_sleep_epochs
from prepare_datasets.prepare_physionet import pair_files
from recordings.hypnograms import read_hypnogram
from recordings.reader import read_channel

SCRIPT = "prepare_physionet.py"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_a_night_is_resampled_to_the_rate_that_was_asked_for(data, tmp_path):
    write_night(data, "SC4001")
    assert call_script(SCRIPT, "--data_dir", data, "--output_dir", tmp_path / "100")[0] == 0
    code, out, err = call_script(SCRIPT, "--data_dir", data, "--output_dir", tmp_path / "125", "--fs", 125)
    assert (code, err) == (0, "")
    assert "resampled from 100 to 125 Hz" in out
    whole = read_channel(data / "SC4001E0-PSG.edf", "EEG Fpz-Cz", fs=125).signal
    whole = whole[: len(whole) // 3750 * 3750].reshape(-1, 3750, 1)
    with np.load(tmp_path / "100/SC4001E0.npz") as slow, np.load(tmp_path / "125/SC4001E0.npz") as fast:
        assert fast["fs"] == 125
        np.testing.assert_array_equal(fast["x"], whole[fast["sleep_epoch"]])
        for name in ("y", "sleep_epoch", "start_time"):
            np.testing.assert_array_equal(slow[name], fast[name])
        assert "fs" not in json.loads(str(slow["made_from"]))
        assert json.loads(str(fast["made_from"]))["fs"] == 125


def test_a_night_becomes_an_npz(data, tmp_path):
    # 3 sleep epochs of movement, and 20 that are not scored and have no signal
    runs = [*NIGHT[:2], ("Movement time", 3), *NIGHT[2:3], ("Sleep stage ?", 22)]
    write_night(data, "SC4001", runs)
    code, out, err = call_script(SCRIPT, "--data_dir", data, "--output_dir", tmp_path / "npz")
    assert (code, err) == (0, "")
    kept = [0, 1, 2, 6, 7, 8]
    with np.load(tmp_path / "npz" / "SC4001E0.npz", allow_pickle=False) as npz:
        keys = {"x", "y", "fs", "ch_label", "sleep_epoch", "start_time", "source_file", "made_from", "reference"}
        assert set(npz) == keys | {"subject", "stage_codes"}
        assert (str(npz["subject"]), str(npz["reference"])) == ("00", "")
        np.testing.assert_array_equal(npz["x"], microvolts(eeg_digits(30000)).reshape(10, 3000, 1)[kept])
        np.testing.assert_array_equal(npz["y"], [0, 0, 1, 2, 2, 2])
        np.testing.assert_array_equal(npz["sleep_epoch"], kept)
        assert (npz["x"].dtype, npz["y"].dtype) == (np.float32, np.int32)
        assert (npz["fs"], npz["ch_label"]) == (100, "EEG Fpz-Cz")
        assert (npz["start_time"], npz["source_file"]) == (START.isoformat(), "SC4001E0-PSG.edf")
    assert re.search(r"^SC4001E0 +2 +1 +3 +0 +0 +6 +0\.1 +\d+\.\d s$", out, re.MULTILINE)
    assert re.search(r"^total +2 +1 +3 +0 +0 +6 +0\.1$", out, re.MULTILINE)
    assert "1 prepared, 0 kept, 0 with problems" in out


@pytest.mark.parametrize("folder", [ROOT, ROOT / "prepare_datasets"])
def test_the_script_runs_from_the_root_and_from_its_folder_with_relative_paths(data, tmp_path, folder):
    write_night(data, "SC4001")
    output = os.path.relpath(tmp_path / "npz", folder)
    arguments = ["--data_dir", os.path.relpath(data, folder), "--output_dir", output, "--select_ch", "EEG", "Pz-Oz"]
    code, _, err = run_script(SCRIPT, *arguments, cwd=folder)
    assert (code, err) == (0, "")
    with np.load(tmp_path / "npz" / "SC4001E0.npz") as npz:
        assert npz["ch_label"] == "EEG Pz-Oz"
        np.testing.assert_array_equal(npz["x"].ravel(), microvolts(eeg_digits(30000, seed=1)))


def paths(*names):
    return [Path(name) for name in names]


def test_psg_and_hypnogram_are_paired_by_recording_never_by_order():
    files = paths(
        "SC4002EC-Hypnogram.edf", "SC4001E0-PSG.edf", "ST7011J0-PSG.edf", "SC4001EH-Hypnogram.edf",
        "ST7011JP-Hypnogram.edf", "SC4002E0-PSG.edf", "notes.edf",
    )  # fmt: skip
    pairs, problems = pair_files(files)
    assert pairs == {
        "SC4001E0": tuple(paths("SC4001E0-PSG.edf", "SC4001EH-Hypnogram.edf")),
        "SC4002E0": tuple(paths("SC4002E0-PSG.edf", "SC4002EC-Hypnogram.edf")),
        "ST7011J0": tuple(paths("ST7011J0-PSG.edf", "ST7011JP-Hypnogram.edf")),
    }
    assert problems == []


def no_such_channel(psg, hypnogram):
    write_psg(psg, labels=("EEG Fpz", "EEG Pz-Oz"))


def two_hypnograms(psg, hypnogram):
    write_hypnogram(hypnogram.with_name(hypnogram.name.replace("EC-", "EH-")))


def other_start(psg, hypnogram):
    write_hypnogram(hypnogram, start=START.replace(minute=14))


def annotated(*annotations):
    return lambda psg, hypnogram: write_annotations(hypnogram, annotations)


W = (0, 30, "Sleep stage W")
BAD = [
    (no_such_channel, "PSG.edf: no channel 'EEG Fpz-Cz'. The file has 'EEG Fpz', 'EEG Pz-Oz', .* with --select_ch"),
    (lambda psg, hypnogram: hypnogram.unlink(), "PSG.edf: 1 SC4...E.-PSG.edf and 0 SC4...E.-Hypnogram.edf. Add"),
    (lambda psg, hypnogram: psg.unlink(), "Hypnogram.edf: 0 SC4...E.-PSG.edf and 1 "),
    (two_hypnograms, "PSG.edf, .*EC-Hypnogram.edf, .*EH-Hypnogram.edf: 1 .* and 2 .*: there must be one of each."),
    (other_start, "Hypnogram.edf: starts at 1989-04-24T16:14:00, but its recording at 1989-04-24T16:13:00. They must "),
    (annotated(W, (30, 45, "Sleep stage 2"), (75, 30, "Sleep stage 1")), "Hypnogram.edf: .* are in one sleep epoch"),
    (annotated(W, (30, 30, "Visit")), r"Hypnogram.edf: unknown stages 'Visit' \(1\)"),
    (annotated((0, 300, "Sleep stage W")), r"Hypnogram.edf: no sleep at all .* \(10 sleep epochs of W\)"),
    (lambda psg, hypnogram: cut(psg, 100), "PSG.edf: cut off: .* Get it again."),
    (lambda psg, hypnogram: edit(psg, N_RECORDS_FIELD, "12"), "PSG.edf: cut off: its header promises 12 data records"),
    (lambda psg, hypnogram: edit(psg, N_RECORDS_FIELD, "0 "), "PSG.edf: no data records, only a header. Get it again."),
    (lambda psg, hypnogram: psg.write_text("Not found"), "PSG.edf: not an EDF file .* Get it again."),
    (lambda psg, hypnogram: psg.write_bytes(b""), "PSG.edf: the file is empty. Get it again."),
    (lambda psg, hypnogram: hypnogram.write_bytes(b""), "Hypnogram.edf: the file is empty. Get it again."),
    (lambda psg, hypnogram: cut(hypnogram, 30), "Hypnogram.edf: cut off: its header promises 1 data records"),
    (lambda psg, hypnogram: write_psg(hypnogram), "Hypnogram.edf: no annotations in it"),
    (lambda psg, hypnogram: write_psg(psg, fs=100.25, record_s=4), "PSG.edf: 100.25 Hz gives no whole"),
]  # fmt: skip


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory):
    """One run over a folder with a good recording and all bad ones; the bad ones are numbered from 10."""
    data, output = tmp_path_factory.mktemp("bad"), tmp_path_factory.mktemp("npz")
    write_night(data, "SC4001")
    for number, (spoil, _) in enumerate(BAD, start=10):
        spoil(*write_night(data, f"SC4{number}1"))
    return *run_script(SCRIPT, "--data_dir", data, "--output_dir", output, "--jobs", "2"), output


def test_bad_recordings_cost_no_other_recording(bad_run):
    code, out, err, output = bad_run
    assert code == 1
    assert list(contents(output)) == ["SC4001E0.npz"]
    assert f"1 prepared, 0 kept, {len(BAD)} with problems" in out
    assert len(not_prepared(err)) == len(BAD)
    assert "Traceback" not in out + err
    assert f"/{len(BAD) + 1}" not in out + err  # no progress bar in a pipe


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_bad_recording_gets_one_clear_line(bad_run, number):
    lines = [line for line in not_prepared(bad_run[2]) if line.startswith(f"SC4{number + 10}1E")]
    assert len(lines) == 1
    assert re.search(BAD[number][1], lines[0]), lines[0]


def test_a_folder_without_recordings_is_one_line(data, tmp_path):
    (data / "README.txt").touch()
    for folder, text in ((data, "no file *-PSG.edf in it"), (tmp_path / "nowhere", "No such file or directory")):
        code, out, err = call_script(SCRIPT, "--data_dir", folder, "--output_dir", tmp_path / "npz")
        assert (code, out) == (1, "")
        assert err.startswith(f"{folder}: {text}")
        assert err.count("\n") == 1
    assert not (tmp_path / "npz").exists()


def test_a_full_disk_is_told_and_leaves_nothing_that_looks_finished(data, tmp_path):
    for recording in ("SC4001", "SC4011"):
        write_night(data, recording)
    output = tmp_path / "npz"
    code, out, err = run_script(
        SCRIPT, "--data_dir", data, "--output_dir", output,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert code == 1
    assert [re.sub(str(output), "OUT", line) for line in not_prepared(err)] == [
        f"SC40{n}1E0.npz: File too large. The disk of OUT is full: make room and run the same command again; "
        "finished recordings are kept." for n in (0, 1)
    ]  # fmt: skip
    assert "Traceback" not in out + err
    assert "ignored" not in err
    assert contents(output) == {}
    assert call_script(SCRIPT, "--data_dir", data, "--output_dir", output)[0] == 0


def block(output, recording):
    """Hold the file that a recording is written to, so that writing it never begins; returns what lets go of it."""
    output.mkdir()
    file = (output / f".writing-{recording}E0.npz").open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file.close


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")


@pytest.fixture
def running(data, tmp_path):
    """Start a run that has prepared two recordings and cannot write the third one, until `unblock` is called."""
    for recording in ("SC4001", "SC4002", "SC4011"):
        write_night(data, recording)
    output = tmp_path / "npz"
    unblock = block(output, "SC4011")

    @contextlib.contextmanager
    def start(jobs):
        arguments = ["--data_dir", data, "--jobs", jobs, "--output_dir", output]
        with start_script(SCRIPT, *arguments, start_new_session=True) as process:
            wait_for(lambda: all((output / f"{name}E0.npz").exists() for name in ("SC4001", "SC4002")))
            workers = children(process.pid)
            yield process, workers
        wait_for(lambda: not any(map(is_alive, workers)))
        unblock()
        first = (output / "SC4001E0.npz").stat().st_mtime_ns
        code, out, err = call_script(SCRIPT, *arguments)
        assert (code, err) == (0, "")
        assert "1 prepared, 2 kept, 0 with problems" in out
        assert (output / "SC4001E0.npz").stat().st_mtime_ns == first
        assert call_script(SCRIPT, "--data_dir", data, "--output_dir", tmp_path / "whole")[0] == 0
        assert contents(output) == contents(tmp_path / "whole")

    return start


@needs_proc
def test_a_killed_run_takes_its_processes_along_and_goes_on_where_it_was(running):
    with running(jobs=2) as (process, _):
        process.kill()
        process.communicate(timeout=60)


@needs_proc
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_a_run_with_one_line(running, jobs):
    with running(jobs) as (process, _):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert err == "Interrupted. The same command goes on from here: finished recordings are kept.\n"


@needs_proc
def test_a_killed_worker_is_told_with_the_recordings_that_were_not_done(running):
    with running(jobs=2) as (process, workers):
        for pid in workers:
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():  # and not multiprocessing's own helper
                os.kill(pid, signal.SIGKILL)
                break
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "2 prepared, 0 kept, 0 with problems, 1 not done: " in out
        (problem,) = not_prepared(err)
        assert problem.startswith("SC4011E0: not done, because a process was killed.")
        assert "Traceback" not in err


def test_on_a_terminal_there_is_a_progress_bar(data, tmp_path):
    for recording in ("SC4001", "SC4002"):
        write_night(data, recording)
    arguments = ["--data_dir", data, "--output_dir", tmp_path / "npz"]
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    command = [sys.executable, ROOT / "prepare_datasets" / SCRIPT, *arguments]
    with subprocess.Popen(command, stdout=inside, stderr=inside) as process:
        os.close(inside)
        shown = b""
        while chunk := read_terminal(terminal):
            shown += chunk
    os.close(terminal)
    assert process.returncode == 0
    assert b"0/2" in shown


def read_terminal(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # what Linux says at its end
        return b""


HYPNOGRAMS = SHARED / "data/sleep_edf/hypnograms"
needs_shared = pytest.mark.skipif(not HYPNOGRAMS.is_dir(), reason="needs the hypnograms in ../shared/data")


@needs_shared
def test_all_real_hypnograms_give_the_stages_of_the_released_preparation():
    excerpts = sorted((SHARED / "data/sleep_edf/eeg_5s").glob("*.npz"))
    assert len(excerpts) == 20
    for path in excerpts:
        excerpt = np.load(path)
        n_sleep_epochs = int(excerpt["n_records"])
        night = read_hypnogram(next(HYPNOGRAMS.glob(f"{path.stem[:7]}*")), n_sleep_epochs)
        _, stages, _ = cut_sleep_epochs(np.zeros(n_sleep_epochs, np.float32), night, 1, path.stem)
        np.testing.assert_array_equal(stages, excerpt["stage"], err_msg=path.stem)


@needs_shared
def test_prepared_nights_of_real_size_are_their_excerpts_to_the_bit(data, tmp_path):
    nights = {"SC4001E0": 841, "SC4002E0": 1127}
    subprocess.run([sys.executable, SHARED / "tools/sleep_edf_recordings.py", data, *nights], check=True)
    code, _, err = call_script(SCRIPT, "--data_dir", data, "--output_dir", tmp_path / "npz")
    assert (code, err) == (0, "")
    for name, n_sleep_epochs in nights.items():
        excerpt = np.load(SHARED / f"data/sleep_edf/eeg_5s/{name}.npz")
        ranges = [(float(excerpt[f"{k}_min"]), float(excerpt[f"{k}_max"])) for k in ("physical", "digital")]
        with np.load(tmp_path / "npz" / f"{name}.npz") as npz:
            assert npz["x"].shape == (n_sleep_epochs, 3000, 1)
            expected = microvolts(np.tile(excerpt["digital"], 6), *ranges)
            np.testing.assert_array_equal(npz["x"][:, :, 0].view(np.int32), expected.view(np.int32))
            np.testing.assert_array_equal(npz["y"], excerpt["stage"])
            assert str(npz["start_time"])[4:] == str(excerpt["start"])[4:].replace(" ", "T")
        (data / f"{name}-PSG.edf").unlink()  # 50 MB


def test_a_night_whose_recording_has_changed_is_not_kept(data, tmp_path):
    psg, _ = write_night(data, "SC4001")
    arguments = ["--data_dir", data, "--output_dir", tmp_path / "npz"]
    assert call_script(SCRIPT, *arguments)[0] == 0
    edit(psg, psg.stat().st_size - 4, "x")
    code, _, err = call_script(SCRIPT, *arguments)
    assert code == 1
    assert "SC4001E0.npz: is there already, made from other files or options (recording.crc32: " in err
