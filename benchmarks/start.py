"""Start training, end it after its first step, and say what that took."""

import os
import re
import subprocess
import sys
import tempfile
import time
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
    with tempfile.TemporaryDirectory() as save_dir:
        command = [sys.executable, str(ROOT / "train_Kfold_CV.py"), "--fold_id", "0", "--np_data_dir", str(folder)]
        command += [word for setting in (f"trainer.save_dir={save_dir}", *settings) for word in ("--set", setting)]
        begin = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = ""
        for line in process.stderr or ():
            said += line
            if "First training step" in line:
                break
        else:
            raise RuntimeError(f"{command} ended before its first step: {said}")
        seconds, status = time.perf_counter() - begin, Path(f"/proc/{process.pid}/status")
        memory = dict(re.findall(r"(\w+):\s+(\d+) kB", status.read_text() if status.exists() else ""))
        process.kill()
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = code
        process.communicate()
    own, peak = (1024 * int(memory.get(kind, 0)) for kind in ("RssAnon", "VmHWM"))
    return Started(seconds, used.ru_utime + used.ru_stime, own, peak)
