"""Training in other processes: several folds at once, or one fold by several ranks."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from data_loader.folds import Fold
from utils.cores import n_cores
from utils.device import Team
from utils.errors import UserError
from utils.logs import LOG, SUMMARY, until


def train_elsewhere(
    script: Path, arguments: Sequence[str], folds: Sequence[Fold], teams: Sequence[Team], n_at_once: int
) -> None:
    """Train folds in other processes: on one team by a process for each of its GPUs, on several teams side by side.

    Parameters
    ----------
    script, arguments, folds, teams
        See `train_side_by_side`.
    n_at_once : int
        Folds at once that the user asks for, of which the last ones may be fewer. Each has its share of the cores.

    Raises
    ------
    UserError
        Names the folds that failed.
    SystemExit
        A rank failed and has said why.
    """
    if len(teams) == 1:
        train_by_ranks(script, [*arguments, "--jobs", "1"], len(teams[0]), n_at_once)
        return
    further = [*arguments, "--jobs", str(n_at_once)]  # by which a process knows its share of the cores
    if failed := train_side_by_side(script, further, [fold.number for fold in folds], teams):
        raise UserError(f"Folds that failed: {', '.join(map(str, failed))}. The same command goes on with them.")


def train_side_by_side(
    script: Path, arguments: Sequence[str], folds: Sequence[int], teams: Sequence[Team]
) -> list[int]:
    """Run `script` once for each fold, one fold at a time on each team; lines of output begin with the fold.

    Parameters
    ----------
    script : Path
        train_Kfold_CV.py.
    arguments : sequence of str
        Of its command line; fold and devices are added.
    folds : sequence of int
        A team that is free takes the next one.
    teams : sequence of list of torch.device

    Returns
    -------
    list of int
        Folds that failed, ascending. One that fails does not stop the others.
    """
    waiting, running, trained, stopping = iter(folds), set[subprocess.Popen[str]](), set[int](), threading.Event()

    begin = time.perf_counter()

    def train(team: Team) -> None:
        """Train folds on one team until none is left."""
        gpus = [str(device.index) for device in team if device.type == "cuda"]
        device = ["--device", ",".join(gpus)] if gpus else []
        for fold in waiting:
            command = [sys.executable, str(script), *arguments, "--fold_id", str(fold), *device]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
                running.add(process)
                if stopping.is_set():
                    process.terminate()
                for line in process.stderr or ():
                    with suppress(OSError):  # nobody reads it any more: the folds are trained all the same
                        sys.stderr.write(f"[fold {fold}] {line}")
            running.discard(process)
            if process.returncode == 0:
                trained.add(fold)
                if n_left := len(folds) - len(trained):
                    seconds = n_left * (time.perf_counter() - begin) / len(trained)
                    LOG.log(SUMMARY, f"{len(trained)} of {len(folds)} folds done, {n_left} to go: {until(seconds)}.")
            if process.returncode < 0:
                LOG.error("[fold %d] Ended by %s.", fold, signal.Signals(-process.returncode).name)
            if stopping.is_set():
                return

    threads = [threading.Thread(target=train, args=[team], daemon=True) for team in teams]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        stopping.set()
        for process in list(running):
            process.terminate()
        for thread in threads:
            thread.join()
        raise
    return sorted(set(folds) - trained)


def train_by_ranks(script: Path, arguments: Sequence[str], n_ranks: int, n_at_once: int = 1) -> None:
    """Run `script` in several processes that train one fold together: torchrun --standalone --nproc_per_node N.

    They have one of `n_at_once` shares of the cores.

    Raises
    ------
    SystemExit
        One of them failed, or a signal stopped them, and they have said so.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    os.environ["OMP_NUM_THREADS"] = str(max(1, n_cores() // (n_ranks * n_at_once)))
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the ranks say themselves why they end
    try:
        torchrun(["--standalone", f"--nproc_per_node={n_ranks}", str(script), *arguments])
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode < 0:
            LOG.error("Rank %d was ended by %s, and the others with it.", number, failure.signal_name())
        raise SystemExit(failure.exitcode if failure.exitcode > 0 else 1) from error
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from error
