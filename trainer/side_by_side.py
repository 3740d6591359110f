"""Training in other processes: several folds at once, or one fold by several ranks."""

import logging
import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

import torch

from utils.cores import n_cores
from utils.errors import UserError
from utils.logs import LOG

_SHARED = ["torch._dynamo", "sklearn.metrics"]
"""Modules, with those that they load, that folds side by side have in common instead of each its own."""


def train_side_by_side(
    script: Path, arguments: Sequence[str], folds: Sequence[int], teams: Sequence[Sequence[torch.device]]
) -> list[int]:
    """Run `script` once for each fold, one at a time on each team, and show what they say with the fold before it.

    Parameters
    ----------
    script : Path
        train_Kfold_CV.py.
    arguments : sequence of str
        Of the command line; fold and devices are added.
    folds : sequence of int
        In this order; a team that is free takes the next one.
    teams : sequence of sequence of torch.device
        The cores are divided among them.

    Returns
    -------
    list of int
        Folds that failed, in the order of `folds`. One that fails stops no other.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_SHARED)
    n_threads = max(1, n_cores() // len(teams))
    free: SimpleQueue[Sequence[torch.device]] = SimpleQueue()
    for team in teams:
        free.put(team)
    running: set[BaseProcess] = set()
    stopped = threading.Event()

    def train(fold: int) -> bool:
        """Train one fold and tell whether that went well."""
        if stopped.is_set():
            return False
        team = free.get()
        command = [str(script), *arguments, "--fold_id", str(fold), *_device(team), "--one_of_several"]
        said, to_say = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(command, n_threads, to_say))
        process.start()
        to_say.close()
        running.add(process)
        if stopped.is_set():
            process.terminate()
        with open(said.fileno(), errors="replace", closefd=False) as lines:
            for line in lines:
                sys.stderr.write(f"[fold {fold}] {line.rstrip()}\n")
        process.join()
        running.discard(process)
        if (code := process.exitcode or 0) < 0:
            LOG.error(f"[fold {fold}] Ended by {signal.Signals(-code).name}.")
        free.put(team)
        return code == 0

    with ThreadPoolExecutor(len(teams)) as pool:
        try:
            results = list(pool.map(train, folds))
        except KeyboardInterrupt:
            stopped.set()
            for process in list(running):
                process.terminate()
            LOG.warning("Stopping the folds that are being trained.")
            raise
    return [fold for fold, well in zip(folds, results, strict=True) if not well]


def _run(command: Sequence[str], n_threads: int, stderr: Connection) -> None:
    """Be the process of a Python script, with so many threads, that says everything to `stderr`."""
    os.setsid()  # so that Ctrl-C reaches it once, from the process that started it
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    torch.set_num_threads(n_threads)
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")


def _device(team: Sequence[torch.device]) -> list[str]:
    """Name the GPUs of a team on the command line; what was not there stays as it was said."""
    return ["--device", ",".join(str(device.index) for device in team)] if team[0].type == "cuda" else []


def train_by_ranks(script: Path, arguments: Sequence[str], n_ranks: int) -> None:
    """Run `script` in several processes that train together, as torchrun does, with the cores divided among them.

    Parameters
    ----------
    script : Path
        train_Kfold_CV.py.
    arguments : sequence of str
        Of the command line.
    n_ranks : int

    Raises
    ------
    UserError
        One of the processes was killed; the others were ended.
    SystemExit
        One of them failed, or a signal stopped them, and they have said so.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // n_ranks))
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they tell is told below
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n_ranks,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="fold",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    try:
        elastic_launch(config, sys.executable)(str(script), *arguments, "--one_of_several")
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from error
        raise UserError(
            f"Rank {number} (process {failure.pid}) was ended by {failure.signal_name()}, and the other "
            f"{n_ranks - 1} with it. The same command goes on after the last finished training epoch."
        ) from error
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from error
