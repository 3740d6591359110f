import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from utils.processes import results


def where(task):
    return task, os.getpid()


def kill_at_3(task):
    if task == 3:
        time.sleep(0.5)  # until the others are finished
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def sleep_long(task):
    time.sleep(task)
    return task


def test_one_job_is_done_here_and_in_order():
    assert list(results(where, [3, 1, 2], 1)) == [(3, os.getpid()), (1, os.getpid()), (2, os.getpid())]


def test_one_task_needs_no_other_process_and_no_task_is_no_work():
    assert list(results(where, ["a"], 8)) == [("a", os.getpid())]
    assert list(results(where, [], 8)) == []


def test_several_jobs_are_done_in_other_processes():
    process_of = dict(results(where, range(6), 2))
    assert sorted(process_of) == list(range(6))
    assert os.getpid() not in process_of.values()


def test_a_killed_process_is_an_error_after_the_results_that_are_finished():
    finished = []
    with pytest.raises(BrokenProcessPool):
        finished.extend(results(kill_at_3, range(4), 2))  # extend keeps what came before the error
    assert sorted(finished) == [0, 1, 2]


def test_closing_the_iterator_ends_the_processes_at_once():
    running = results(sleep_long, [0, 600, 600], 2)
    assert next(running) == 0
    begin = time.monotonic()
    running.close()
    assert time.monotonic() - begin < 30
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
