"""Start training, end it after its first steps, and say what that took."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Started(NamedTuple):
    """What a training took up to its first step.

    Attributes
    ----------
    seconds, processor_s : float
        By the clock, and of all cores together.
    own_bytes, peak_bytes : int
        Memory of its own, and the most with the mapped files. Linux alone tells them; elsewhere they are 0.
    """

    seconds: float
    processor_s: float
    own_bytes: int
    peak_bytes: int


def first_step(folder: Path, *settings: str) -> Started:
    """Train on a folder, with some settings of the configuration, up to the first step."""
    begin = time.perf_counter()
    with _started(folder, ["--fold_id", "0"], settings) as process:
        seconds, status = time.perf_counter() - begin, Path(f"/proc/{process.pid}/status")
        memory = dict(re.findall(r"(\w+):\s+(\d+) kB", status.read_text() if status.exists() else ""))
        process.kill()
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = code
    own, peak = (1024 * int(memory.get(kind, 0)) for kind in ("RssAnon", "VmHWM"))
    return Started(seconds, used.ru_utime + used.ru_stime, own, peak)


def private_bytes(folder: Path, jobs: int, seconds: float, *settings: str) -> int:
    """Train so many folds at once; return the most memory that their processes, all together, shared with no other.

    Parameters
    ----------
    folder : Path
    jobs : int
        1 trains one fold by itself; from 2 on the process that starts the folds counts as well.
    seconds : float
        How long to look, from the first training step on.
    *settings : str
        Of the configuration.
    """
    most, folds = 0, ["--fold_id", "0"] if jobs == 1 else ["--fold_id", "all", "--jobs", str(jobs)]
    with _started(folder, folds, settings) as process:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            most = max(most, sum(map(_private_bytes, _with_children(process.pid))))
            time.sleep(0.2)
    return most


@contextmanager
def _started(folder: Path, folds: list[str], settings: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Train up to the first step; at the end of the block kill the training and what it started."""
    with tempfile.TemporaryDirectory() as save_dir:
        command = [sys.executable, str(ROOT / "train_Kfold_CV.py"), *folds, "--np_data_dir", str(folder)]
        command += [word for setting in (f"trainer.save_dir={save_dir}", *settings) for word in ("--set", setting)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = ""
        for line in process.stderr or ():
            said += line
            if "First training step" in line:
                break
        else:
            raise RuntimeError(f"{command} ended before its first step: {said}")
        try:
            yield process
        finally:
            for pid in _with_children(process.pid) if process.poll() is None else []:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate()


def _with_children(pid: int) -> list[int]:
    """Return the number of a process and of all that it started, on Linux."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _with_children(int(child))
    return found


def _private_bytes(pid: int) -> int:
    """Memory that a process shares with no other, files that it alone has mapped included; 0 if it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(map(int, re.findall(r"Private_(?:Clean|Dirty):\s+(\d+) kB", rollup)))
