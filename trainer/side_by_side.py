"""Several folds at once, each in a process of its own that has a share of the cores."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from utils.cores import n_cores
from utils.logs import LOG


def train_side_by_side(script: Path, arguments: Sequence[str], folds: Sequence[int], jobs: int) -> list[int]:
    """Run `script` once for each fold, `jobs` at a time, and show what they say with the fold's number before it.

    Parameters
    ----------
    script : Path
        train_Kfold_CV.py.
    arguments : sequence of str
        Of the command line; the fold is added.
    folds : sequence of int
    jobs : int
        Processes at a time; the cores are divided among them.

    Returns
    -------
    list of int
        Folds that failed, ascending. One that fails stops no other.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, n_cores() // jobs))}
    running: set[subprocess.Popen[str]] = set()
    stopped = threading.Event()

    def train(fold: int) -> bool:
        """Train one fold and tell whether that went well."""
        if stopped.is_set():
            return False
        command = [sys.executable, str(script), *arguments, "--fold_id", str(fold), "--jobs", "1", "--one_of_several"]
        # In a session of its own, so that Ctrl-C reaches it once, from here.
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            running.add(process)
            for line in process.stderr or ():
                sys.stderr.write(f"[fold {fold}] {line}")
        running.discard(process)
        return process.returncode == 0

    with ThreadPoolExecutor(jobs) as pool:
        try:
            results = list(pool.map(train, folds))
        except KeyboardInterrupt:
            stopped.set()
            for process in list(running):
                process.send_signal(signal.SIGTERM)
            LOG.warning("Stopping the folds that are being trained.")
            raise
    return [fold for fold, well in zip(folds, results, strict=True) if not well]
