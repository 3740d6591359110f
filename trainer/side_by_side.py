"""Training in other processes: several folds at once, or one fold by several ranks."""

import logging
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

import torch

from utils.cores import n_cores
from utils.errors import UserError
from utils.logs import LOG
from utils.stopping import undivided

_CONTEXT = multiprocessing.get_context("forkserver")

_STOPS = {signal.SIGINT, signal.SIGTERM}

_UNKNOWN = 255
"""Exit code of a process whose end the server did not live to see."""

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

    Raises
    ------
    UserError
        The process that the folds are forked from was killed.
    """
    n_threads = max(1, n_cores() // len(teams))
    waiting, free = list(folds), list(teams)
    running: dict[Connection, _Fold] = {}
    failed = set()

    def train() -> None:
        """Start folds as teams are free, tell what they say, and see how they end."""
        while running or waiting:
            while waiting and free:
                with undivided():
                    fold = _Fold(waiting.pop(0), free.pop(0), script, arguments, n_threads)
                    running[fold.said] = fold
            for said in wait(list(running)):
                fold = running[cast(Connection, said)]
                if fold.tell():
                    continue
                with undivided():
                    del running[fold.said]
                    free.append(fold.team)
                    if not fold.went_well():
                        failed.add(fold.number)

    try:
        train()
    except KeyboardInterrupt:
        waiting.clear()
        for fold in running.values():
            fold.process.terminate()
        LOG.warning("Stopping the folds that are being trained.")
        train()
        raise
    return [fold for fold in folds if fold in failed]


class _Fold:
    """A fold that is trained in a process of its own."""

    def __init__(
        self, number: int, team: Sequence[torch.device], script: Path, arguments: Sequence[str], n_threads: int
    ) -> None:
        self.number, self.team = number, team
        command = [str(script), *arguments, "--fold_id", str(number), *_device(team), "--one_of_several"]
        self.said, to_say = _CONTEXT.Pipe(duplex=False)
        self.process = _CONTEXT.Process(target=_run, args=(command, n_threads, to_say), daemon=True)
        try:
            with _forked_from_server(n_threads):
                self.process.start()
        except (EOFError, ConnectionError) as error:
            raise UserError("The process that folds are forked from was killed. Did memory run short?") from error
        to_say.close()
        self._unfinished_line = b""

    def tell(self) -> bool:
        """Show whole lines of what the fold has said; return False when it has said all."""
        heard = os.read(self.said.fileno(), 1 << 16)
        *lines, self._unfinished_line = (self._unfinished_line + heard).split(b"\n")
        if not heard and self._unfinished_line:
            lines.append(self._unfinished_line)
        with suppress(OSError):  # nobody reads it: folds are trained all the same
            for line in lines:
                sys.stderr.write(f"[fold {self.number}] {line.decode(errors='replace').rstrip()}\n")
        return bool(heard)

    def went_well(self) -> bool:
        """Wait for the end of the process, and tell whether the fold is trained."""
        self.process.join()
        self.said.close()
        code = self.process.exitcode
        if code is not None and code < 0:
            LOG.error(f"[fold {self.number}] Ended by {signal.Signals(-code).name}.")
        if code == _UNKNOWN:
            LOG.error(f"[fold {self.number}] How it ended is not known: the process it was forked from was killed.")
        return code == 0


@contextmanager
def _forked_from_server(n_threads: int) -> Iterator[None]:
    """Start processes in the block; the first one starts the server that has loaded what all of them share."""
    # Libraries read the first one when the server loads them; without the second one it would take files in the
    # working directory for modules.
    environment = {"OMP_NUM_THREADS": str(n_threads), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    resource_tracker.ensure_running()  # here, as it unblocks signals
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # inherited, so that what stops this process ends no other
    # On macOS a process may not fork once system libraries are loaded.
    _CONTEXT.set_forkserver_preload(_SHARED if sys.platform == "linux" else [])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _run(command: Sequence[str], n_threads: int, stderr: Connection) -> None:
    """Run a Python script in this process, with so many threads; what it says goes to `stderr`."""
    os.setsid()  # so that Ctrl-C reaches it once, from the process that started it
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    os.environ.pop("PYTHONSAFEPATH", None)
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
