"""Folds side by side, with a script in the place of the training that does what a test asks of it in no time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainer.side_by_side import train_side_by_side
from utils.cores import n_cores

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import argparse, os, signal, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--fold_id")
parser.add_argument("--device")
parser.add_argument("--one_of_several", action="store_true")
parser.add_argument("--do")
of = parser.parse_args()
"""
MEET = """
begin = time.monotonic()
time.sleep(0.3)
with open("used", "a") as file:
    file.write(f"{of.fold_id} {of.device} {os.environ['OMP_NUM_THREADS']} {begin} {time.monotonic()}\\n")
"""
TALK = """
sys.stderr.reconfigure(errors="backslashreplace")
for line in range(300):
    for part in ("fold ", of.fold_id, f" line {line}", "\\n"):
        sys.stderr.write(part)
        sys.stderr.flush()
sys.stderr.write("the last words of " + of.fold_id)
"""
FAIL = """
if of.fold_id == "1":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(of.fold_id == "3")
"""
STAY = """
sys.path.insert(0, of.do)
from utils.parent import end_with_parent
from utils.stopping import Stopped, stoppable
end_with_parent()
try:
    with stoppable():
        open(f"started {of.fold_id}", "w").close()
        time.sleep(100)
except Stopped:
    open(f"stopped {of.fold_id}", "w").close()
    sys.exit(130)
"""
DRIVER = """
import sys
from pathlib import Path
import torch
from trainer.side_by_side import train_side_by_side
try:
    train_side_by_side(Path("script.py"), ["--do", sys.argv[1]], [0, 1, 2], 2 * [[torch.device("cpu")]])
except KeyboardInterrupt:
    sys.exit(130)
"""

RANK = """
open(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} on {os.environ['OMP_NUM_THREADS']}", "w").close()
if of.do != "end":
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL) if of.do == "kill" else sys.exit("the reason")
    time.sleep(100)
"""
BY_RANKS = """
sys.path.insert(0, of.do)
from pathlib import Path
from trainer.side_by_side import train_by_ranks
train_by_ranks(Path("rank.py"), ["--do", "end"], 2)
"""
POOLS = """
import scipy.linalg, sklearn.metrics, threadpoolctl, torch
print([pool["num_threads"] for pool in threadpoolctl.threadpool_info()], file=sys.stderr)
"""
RANKS_DRIVER = """
import sys
from pathlib import Path
from trainer.side_by_side import train_by_ranks
from utils.errors import UserError
try:
    train_by_ranks(Path("script.py"), ["--do", sys.argv[1]], 2)
except UserError as error:
    sys.exit(f"told: {error}")
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Write the script and give its path; the working directory is that of its files."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "script.py").write_text(SCRIPT + text)
        return tmp_path / "script.py"

    return write


def gpus(*numbers):
    return [torch.device("cuda", number) for number in numbers]


def test_each_team_has_one_fold_at_a_time_and_takes_the_next_when_it_is_free(script, tmp_path):
    assert train_side_by_side(script(MEET), ["--device", "0,1,2"], range(6), [gpus(0), gpus(1, 2)]) == []
    used = [line.split() for line in (tmp_path / "used").read_text().splitlines()]
    assert sorted(fold for fold, *_ in used) == list("012345")
    assert {device for _, device, *_ in used} == {"0", "1,2"}
    assert {n_threads for _, _, n_threads, *_ in used} == {str(max(1, n_cores() // 2))}
    for name in ("0", "1,2"):
        times = sorted((float(begin), float(end)) for _, device, _, begin, end in used if device == name)
        assert all(end <= begin for (_, end), (begin, _) in zip(times[:-1], times[1:], strict=True))
    begins, ends = ([float(row[column]) for row in used] for column in (3, 4))
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


def test_files_in_the_working_directory_are_not_taken_for_modules(script, tmp_path):
    script("import random, sklearn, torch\nsys.exit(not hasattr(torch, 'Tensor'))")
    for name in ("random", "sklearn", "torch", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for a module')")
    command = [sys.executable, "-c", "import sys; sys.path.remove('');" + DRIVER, ROOT]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_of_many_short_folds_are_seen_to_end_well(script):
    assert train_side_by_side(script(""), [], range(40), [gpus(number) for number in range(6)]) == []


@pytest.mark.parametrize("threads", [{}, {"OMP_NUM_THREADS": "7"}], ids=["", "user's"])
def test_the_libraries_of_a_fold_have_its_share_of_the_cores(script, threads):
    path = script(POOLS)
    code = (
        "import sys; from test_side_by_side import Path, gpus, train_side_by_side;"
        "train_side_by_side(Path(sys.argv[1]), [], [0, 1], [gpus(0), gpus(1)])"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", **threads}
    done = subprocess.run([sys.executable, "-c", code, path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stderr.splitlines():
        assert set(json.loads(line.partition("] ")[2])) == {max(1, n_cores() // 2)}
    assert len(done.stderr.splitlines()) == 2


def test_a_fold_can_be_trained_by_ranks(script, tmp_path):
    (tmp_path / "rank.py").write_text(SCRIPT + RANK)
    assert train_side_by_side(script(BY_RANKS), ["--do", str(ROOT)], [0], [gpus(0, 1)]) == []
    assert len(list(tmp_path.glob("rank ? of 2 *"))) == 2


KILL_SERVER = """
import os, signal, sys, threading, time
from multiprocessing.forkserver import ForkServer, _forkserver
from pathlib import Path
from test_side_by_side import gpus, train_side_by_side
from utils.errors import UserError
from utils.logs import log_to_console
ensure_running = ForkServer.ensure_running
def kill():
    os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
def ensure_running_and_kill(self):
    ensure_running(self)
    kill()
def kill_later():
    while len(list(Path().glob("started *"))) < 2:
        time.sleep(0.05)
    kill()
if sys.argv[1] == "at once":
    ForkServer.ensure_running = ensure_running_and_kill
else:
    threading.Thread(target=kill_later).start()
log_to_console(1)
try:
    print(train_side_by_side(Path("script.py"), [], [0, 1], [gpus(0), gpus(1)]))
except UserError as error:
    sys.exit(f"told: {error}")
"""


@pytest.mark.parametrize(
    ("moment", "code", "out", "said"),
    [
        ("at once", 1, "", "told: The process that folds are forked from was killed."),
        ("later", 0, "[0, 1]\n", "[fold 1] How it ended is not known: the process it was forked from was killed."),
    ],
)
def test_a_server_that_is_killed_is_told(script, moment, code, out, said):
    script("open(f'started {of.fold_id}', 'w').close(); time.sleep(2)")
    environment = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    command = [sys.executable, "-c", KILL_SERVER, moment]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert said in done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("delay_s", [0, 0.5, 1, 2])
def test_a_signal_to_all_processes_while_folds_begin_stops_them(script, tmp_path, number, delay_s):
    script(STAY)
    code = DRIVER.replace("try:", "from utils.stopping import stoppable\ntry:\n  with stoppable():")
    command = [sys.executable, "-c", code, ROOT]
    driver = subprocess.Popen(
        command, env={"PYTHONPATH": str(ROOT)}, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    _wait(lambda: len(_children(driver.pid)) > 0)  # the server, and what looks after its files
    time.sleep(delay_s)
    os.killpg(driver.pid, number)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130, said
    assert "Traceback" not in said
    assert "was killed" not in said
    assert len(list(tmp_path.glob("started *"))) == len(list(tmp_path.glob("stopped *")))


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_folds_that_fail_or_are_killed_stop_no_other_and_are_named(script, log):
    assert train_side_by_side(script(FAIL), [], range(5), [gpus(0), gpus(1)]) == [1, 3]
    assert "[fold 1] Ended by SIGKILL." in log.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_however_the_process_that_started_them_ends_no_fold_is_left(script, tmp_path, number):
    script(STAY)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, ROOT], env={"PYTHONPATH": str(ROOT)})
    try:
        _wait(lambda: len(list(tmp_path.glob("started *"))) == 2)
    finally:
        driver.send_signal(number)
    assert driver.wait(timeout=60) == (130 if number == signal.SIGINT else -number)
    _wait(lambda: len(list(tmp_path.glob("stopped *"))) == 2)
    assert len(list(tmp_path.glob("started *"))) == 2


def _wait(happened):
    end = time.monotonic() + 100
    while not happened():
        assert time.monotonic() < end, "the moment did not come"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("do", "code", "said"),
    [
        ("end", 0, ""),
        ("fail", 1, "the reason\n"),
        ("kill", 1, r"told: Rank 1 \(process \d+\) was ended by SIGKILL, and the other 1 with it. The same .*\n"),
    ],
)
def test_ranks_share_the_cores_and_one_that_ends_early_ends_the_others(script, tmp_path, do, code, said):
    script(RANK)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", RANKS_DRIVER, do],
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert re.fullmatch(said, done.stderr), done.stderr
    assert time.monotonic() - begin < 90
    assert {path.name for path in tmp_path.glob("rank*")} == {"rank 0 of 2 on 1", "rank 1 of 2 on 1"}
