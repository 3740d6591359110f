"""How the benchmarks measure: each task in a process of its own, in turn with those that it is compared with."""

import resource
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from utils.cores import share_cores

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZE = 128
N_BATCHES = 4
"""Batches that a task trains on or evaluates."""

Name = TypeVar("Name", bound=Hashable)
_task: Callable[[], Any]


class Timed(NamedTuple):
    """One run of a task: its time, and how much the process's peak of memory grew."""

    seconds: float
    peak_bytes: int


def worker(task: str, *arguments: object, threads: int = 2, shares_cores: bool = False) -> ProcessPoolExecutor:
    """Make a process in which `run` runs one task.

    Parameters
    ----------
    task : str
        Name of a function of `benchmarks.tasks`.
    *arguments : object
        Of that function.
    threads : int
        Of torch.
    shares_cores : bool
        Whether its threads wait as those of the scripts do, see `utils.cores`.
    """
    settings = (task, arguments, threads, shares_cores)
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_set_up, initargs=settings)


def _set_up(task: str, arguments: Sequence[object], threads: int, shares_cores: bool) -> None:
    """Make the task of this process."""
    if shares_cores:
        share_cores()
    import torch  # a process that only compares does not load it

    from benchmarks import tasks

    global _task
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    _task = getattr(tasks, task)(*arguments)


def run() -> Timed:
    """Run the task of this process once."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    result = _task()
    seconds = time.perf_counter() - begin
    del result
    return Timed(seconds, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def seconds_of(*workers: ProcessPoolExecutor) -> float:
    """Run the tasks of some workers at once; return the seconds until the last one is done."""
    begin = time.perf_counter()
    runs = [process.submit(run) for process in workers]
    wait(runs)
    seconds = time.perf_counter() - begin
    for each in runs:
        each.result()  # raises what the task raised
    return seconds


def compare(measures: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, float]:
    """Take every measure once in each round, after one round to warm up; return the medians."""
    values: dict[Name, list[float]] = {name: [] for name in measures}
    for _ in range(rounds + 1):
        for name, measure in measures.items():
            values[name].append(measure())
    return {name: statistics.median(of_name[1:]) for name, of_name in values.items()}
