"""One function over many tasks, several of them at once."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def results(work: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Generator[R, None, None]:
    """Yield `work(task)` of all tasks, each as soon as it is finished. Closing the iterator ends the processes.

    Parameters
    ----------
    work : callable
        A function of a module, or a `functools.partial` of one, so that it can be sent to another process.
    tasks : sequence
    jobs : int
        Number of processes. With 1, all is done in this one.

    Raises
    ------
    BrokenProcessPool
        A process was killed.
    """
    if min(jobs, len(tasks)) <= 1:
        yield from map(work, tasks)
        return
    context = multiprocessing.get_context("spawn")  # the same on every system, and safe beside threads
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_end_with_parent) as pool:
        try:
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for this process alone
            try:
                futures = [pool.submit(work, task) for task in tasks]
            finally:
                signal.signal(signal.SIGINT, handler)
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _end_with_parent() -> None:
    """End this process when its parent has ended, even by a kill. The pool alone would leave it waiting forever."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
