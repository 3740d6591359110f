"""Two processes at the same fold."""

import re
import signal

import pytest
from scripts import TRAIN, finish, run, settings, start, wait_until, write_nights

from utils.errors import UserError
from utils.lock import held


@pytest.fixture
def command(tmp_path):
    nights = write_nights(tmp_path / "npz")
    return [*TRAIN, "--fold_id", "0", "--device", "cpu", "--np_data_dir", nights, *settings(trainer__epochs=300)]


def test_the_second_of_two_says_who_is_at_work_and_ends_and_a_dead_ones_lock_is_taken_over(command, tmp_path):
    log = tmp_path / "saved/Exp1/fold_0/info.log"
    first = start(command, tmp_path)
    wait_until(first, lambda: log.exists() and "Held by" in log.read_text())
    first.send_signal(signal.SIGSTOP)  # at work, but slow
    before = {path: path.read_bytes() for path in log.parent.iterdir()}
    for further in ([], ["--overwrite"]):
        code, out, err = run([*command, *further], tmp_path)
        assert (code, out) == (1, "")
        assert re.search(rf"fold_0: process {first.pid} on \S+ is at work on it. Wait until it ends", err)
    assert {path: path.read_bytes() for path in log.parent.iterdir()} == before
    first.kill()
    finish(first)
    second = start(command, tmp_path)
    wait_until(second, lambda: f"process {second.pid} on" in log.read_text())
    second.kill()
    finish(second)


def test_a_log_without_a_holders_name_still_refuses_a_second_one(tmp_path):
    log = tmp_path / "fold_0/info.log"
    with held(log):
        log.write_bytes(b"\xff no name")
        with pytest.raises(UserError, match="fold_0: another process is at work on it"), held(log):
            pass
    with held(log):
        assert "Held by process" in log.read_text(errors="replace")
