"""Start training, end it after its first step, and say what that took."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.worker import ROOT


class Started(NamedTuple):
    """What training took up to its first step: time, its own memory, and the most memory with the mapped files.

    Memory is known on Linux alone; elsewhere it is 0.
    """

    seconds: float
    own_bytes: int
    peak_bytes: int


def first_step(folder: Path, *settings: str) -> Started:
    """Train on a folder, with some settings of the configuration, up to the first step."""
    with tempfile.TemporaryDirectory() as save_dir:
        command = [sys.executable, str(ROOT / "train_Kfold_CV.py"), "--fold_id", "0", "--np_data_dir", str(folder)]
        command += [word for setting in (f"trainer.save_dir={save_dir}", *settings) for word in ("--set", setting)]
        begin = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        output = ""
        for line in process.stderr or ():
            output += line
            if "First training step" in line:
                break
        else:
            raise RuntimeError(f"{command} ended before its first step: {output}")
        seconds, status = time.perf_counter() - begin, Path(f"/proc/{process.pid}/status")
        memory = dict(re.findall(r"(\w+):\s+(\d+) kB", status.read_text() if status.exists() else ""))
        process.kill()
        process.communicate()
    return Started(seconds, 1024 * int(memory.get("RssAnon", 0)), 1024 * int(memory.get("VmHWM", 0)))
