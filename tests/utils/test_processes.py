import os
import signal
import time
from functools import partial

from utils.processes import results


def where(task):
    return task, os.getpid()


def survive_unless(odd, task):
    if task == odd:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def survive_once(mark, task):
    if task == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def sleep_long(task):
    time.sleep(task)
    return task


def died(task):
    return f"{task} died"


def test_one_job_is_done_here_and_in_order():
    assert list(results(where, [3, 1, 2], 1, died)) == [(3, os.getpid()), (1, os.getpid()), (2, os.getpid())]


def test_one_task_needs_no_other_process_and_no_task_is_no_work():
    assert list(results(where, ["a"], 8, died)) == [("a", os.getpid())]
    assert list(results(where, [], 8, died)) == []


def test_several_jobs_are_done_in_other_processes():
    found = dict(results(where, range(6), 2, died))
    assert sorted(found) == list(range(6))
    assert os.getpid() not in found.values()


def test_a_task_that_ends_its_process_is_named_and_the_others_are_done():
    assert sorted(results(partial(survive_unless, 1), range(6), 2, died), key=str) == [0, "1 died", 2, 3, 4, 5]


def test_a_task_whose_process_was_ended_by_chance_is_done_once_more(tmp_path):
    assert sorted(results(partial(survive_once, tmp_path / "mark"), range(3), 2, died)) == [0, 1, 2]


def test_closing_the_iterator_ends_the_processes_at_once():
    running = results(sleep_long, [0, 600, 600], 2, died)
    assert next(running) == 0
    begin = time.monotonic()
    running.close()
    assert time.monotonic() - begin < 30
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
