"""Shards of Sleep-EDF and SHHS by real processes; those of any recordings are in test_prepare_recordings."""

import re

import pytest
from edf_writer import contents, run_script, start_script, write_night, write_profusion, write_psg

N = 7


def sleep_edf(folder, number):
    write_night(folder, f"SC40{number:02d}1")


def shhs(folder, number):
    write_psg(folder / f"shhs1-{200001 + number}.edf", labels=("EEG(sec)", "EEG"), fs=125, record_s=1)
    write_profusion(folder / f"shhs1-{200001 + number}-profusion.xml", [0, 0, 1, 2, 2, 3, 4, 5, 5, 0])


@pytest.fixture(params=[sleep_edf, shhs], ids=["prepare_physionet.py", "prepare_shhs.py"])
def nights(request, tmp_path):
    """A folder, what writes a night into it, and the script with its arguments but the output folder."""
    data = tmp_path / "data"
    data.mkdir()
    command = ["prepare_physionet.py", "--data_dir", data, "--jobs", "1"]
    if request.param is shhs:
        command = ["prepare_shhs.py", "--data_dir", data, "--ann_dir", data, "--recordings", "all", "--jobs", "1"]
    return data, request.param, [*command, "--output_dir"]


def at_once(*commands):
    """Run scripts at once; return what each said, and refuse any that failed."""
    told = []
    for process in [start_script(*command) for command in commands]:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        told.append(out)
    return told


def prepared(out):
    """Return how many recordings a run says that it prepared."""
    return int(re.search(r"^(\d+) prepared, \d+ kept, 0 with problems", out, re.MULTILINE)[1])


def test_shards_that_run_at_once_prepare_each_recording_once_as_one_run_does(nights, tmp_path):
    data, write, command = nights
    for number in range(N):
        write(data, number)
    assert run_script(*command, tmp_path / "whole")[0] == 0
    told = at_once(*([*command, tmp_path / "parts", "--shard", f"{k}/3"] for k in (1, 2, 3)))
    assert [prepared(out) for out in told] == [3, 2, 2]
    assert len(contents(tmp_path / "whole")) == N
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_recordings_that_come_between_are_prepared_when_the_shards_run_again(nights, tmp_path):
    data, write, command = nights
    for number in range(1, N):
        write(data, number)
    first, second = ([*command, tmp_path / "parts", "--shard", f"{k}/2"] for k in (1, 2))
    at_once(first)
    write(data, 0)  # comes first in the list, so that all others go to the other shard
    at_once(second)
    assert len(contents(tmp_path / "parts")) < N
    at_once(first, second)
    assert run_script(*command, tmp_path / "whole")[0] == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_runs_that_prepare_the_same_recordings_at_once_do_not_spoil_them(nights, tmp_path):
    data, write, command = nights
    for number in range(N):
        write(data, number)
    told = at_once(*[[*command, tmp_path / "npz"]] * 3)
    assert N <= sum(map(prepared, told)) <= 3 * N
    assert run_script(*command, tmp_path / "whole")[0] == 0
    assert contents(tmp_path / "npz") == contents(tmp_path / "whole")
