"""Folds side by side, with a script in the place of the training that does what a test asks of it in no time."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainer.side_by_side import train_by_ranks, train_side_by_side

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import argparse, os, signal, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--fold_id")
parser.add_argument("--device")
of = parser.parse_args()
"""
MEET = """
begin = time.monotonic()
time.sleep(0.3)
with open("used", "a") as file:
    file.write(f"{of.fold_id} {of.device} {begin} {time.monotonic()}\\n")
"""
TALK = """
for line in range(300):
    for part in ("fold ", of.fold_id, f" line {line}", "\\n"):
        sys.stderr.write(part)
        sys.stderr.flush()
sys.stderr.write("the last words of " + of.fold_id + "\\n")
"""
FAIL = """
if of.fold_id == "1":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(of.fold_id == "3")
"""
STAY = """
def stop(*_):
    open(f"stopped {of.fold_id}", "w").close()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
open(f"started {of.fold_id}", "w").close()
time.sleep(100)
"""
DRIVER = """
import sys
from pathlib import Path
import torch
from trainer.side_by_side import train_side_by_side
from utils.stopping import stoppable
try:
    with stoppable():
        train_side_by_side(Path("script.py"), [], [0, 1, 2], 2 * [[torch.device("cpu")]])
except KeyboardInterrupt as stop:
    sys.exit(stop.exit_code)
"""
RANK = """
import os, signal, sys, time
do, _ = sys.argv[1:], open(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", "w").close()
if do != ["end"]:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL) if do == ["kill"] else sys.exit("the reason")
    time.sleep(100)
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Write the script and give its path; the working directory is that of its files."""
    monkeypatch.chdir(tmp_path)

    def write(rest, head=SCRIPT):
        (tmp_path / "script.py").write_text(head + rest)
        return tmp_path / "script.py"

    return write


def gpus(*numbers):
    return [torch.device("cuda", number) for number in numbers]


def test_every_fold_is_trained_once_and_a_team_trains_one_at_a_time(script, tmp_path):
    assert train_side_by_side(script(MEET), [], range(6), [gpus(0), gpus(1, 2)]) == []
    used = [line.split() for line in (tmp_path / "used").read_text().splitlines()]
    assert sorted(fold for fold, *_ in used) == list("012345")
    assert {device for _, device, *_ in used} == {"0", "1,2"}
    for name in ("0", "1,2"):
        times = sorted((float(begin), float(end)) for _, device, begin, end in used if device == name)
        assert all(end <= begin for (_, end), (begin, _) in zip(times[:-1], times[1:], strict=True))
    begins, ends = ([float(row[column]) for row in used] for column in (2, 3))
    assert sorted(begins)[1] < min(ends), "the two teams never worked at the same time"


def test_on_the_cpu_the_device_stays_as_the_user_said_it(script, tmp_path):
    train_side_by_side(script(MEET), ["--device", "99"], range(2), 2 * [[torch.device("cpu")]])
    assert {line.split()[1] for line in (tmp_path / "used").read_text().splitlines()} == {"99"}


def test_what_folds_say_comes_in_whole_lines_with_the_fold_before_it(script, capsys):
    train_side_by_side(script(TALK), [], range(4), [gpus(number) for number in range(4)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 * 301
    for line in lines:
        assert re.fullmatch(r"\[fold (\d)\] (fold \1 line \d+|the last words of \1)", line)


def test_folds_that_fail_or_are_killed_stop_no_other_and_are_named(script, log):
    assert train_side_by_side(script(FAIL), [], range(5), [gpus(0), gpus(1)]) == [1, 3]
    assert "[fold 1] Ended by SIGKILL." in log.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_stops_the_folds_at_work_and_begins_no_other(script, tmp_path, number):
    script(STAY)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], env=os.environ | {"PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 100
    while len(list(tmp_path.glob("started *"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    driver.send_signal(number)
    assert driver.wait(timeout=60) == 128 + number
    assert len(list(tmp_path.glob("started *"))) == len(list(tmp_path.glob("stopped *"))) == 2


@pytest.fixture
def _signals_as_they_were():
    """Undo what torchrun does to the signals of its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_as_they_were")
@pytest.mark.parametrize(("do", "code"), [("end", None), ("fail", 1), ("kill", 1)])
def test_ranks_are_started_and_one_that_ends_early_ends_the_others(script, tmp_path, capfd, log, do, code):
    path = script(RANK, head="")
    if code is None:
        train_by_ranks(path, [do], 2)
    else:
        with pytest.raises(SystemExit) as ended:
            train_by_ranks(path, [do], 2)
        assert ended.value.code == code
    assert {path.name for path in tmp_path.glob("rank*")} == {"rank 0 of 2", "rank 1 of 2"}
    assert "Traceback" not in capfd.readouterr().err
    assert ("Rank 1 was ended by SIGKILL, and the others with it." in log.text) == (do == "kill")
