"""One function over many tasks in several processes, whatever happens to them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def results(work: Callable[[T], R], tasks: Sequence[T], jobs: int, died: Callable[[T], R]) -> Generator[R, None, None]:
    """Yield `work(task)` for all tasks, as they are finished.

    A task during which its process dies is done once more in a process of its own; if that dies too, `died(task)`
    is yielded. Closing the iterator, as Ctrl-C does, ends the processes at once; so does the end of this process,
    however it comes.

    Parameters
    ----------
    work : callable
        Goes to the processes with its task: a function of a module, or a `functools.partial` of one. It should not
        raise.
    tasks : sequence
    jobs : int
        Processes; 1 is this one.
    died : callable
        What to yield for a task that ends its process.
    """
    if min(jobs, len(tasks)) <= 1:
        yield from map(work, tasks)
        return
    waiting = list(tasks)
    while waiting:
        unfinished = yield from _until_one_dies(work, waiting, jobs)
        # tasks are begun in order, so whichever ended its process is among the first
        for task in unfinished[:jobs]:
            if (yield from _until_one_dies(work, [task], 1)):
                yield died(task)
        waiting = unfinished[jobs:]


def _until_one_dies(work: Callable[[T], R], tasks: list[T], jobs: int) -> Generator[R, None, list[T]]:
    """Yield results until all are there or a process dies; return the tasks that are left."""
    # a fresh interpreter each: the same on every system, and safe beside threads
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_in_process) as pool:
        futures: dict[Future[R], int] = {}
        left = dict(enumerate(tasks))
        try:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the processes inherit
            try:
                with suppress(BrokenProcessPool):
                    for number, task in enumerate(tasks):
                        futures[pool.submit(work, task)] = number
            finally:
                signal.signal(signal.SIGINT, handler)
            for future in as_completed(futures):
                with suppress(BrokenProcessPool):
                    result = future.result()
                    del left[futures[future]]
                    yield result
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    return list(left.values())


def _in_process() -> None:
    """Prepare a process: Ctrl-C is for its parent, and it ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent's end, however it comes, and end this process then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
