import os
import signal
from contextlib import suppress

import pytest

from utils.stopping import Stopped, stoppable, undivided


def tell(*numbers):
    """Send signals to this process; their handlers have run when this returns."""
    for number in numbers:
        os.kill(os.getpid(), number)


def in_one(done, *numbers, error=None):
    """Do something that is not divided, in which signals come."""
    with undivided():
        tell(*numbers)
        if error:
            raise error
        done.append(numbers)


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "SIGINT", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_signal_is_raised_with_its_name_and_exit_code(number, name, code):
    with pytest.raises(Stopped, match=f"^{name}$") as stop, stoppable():
        tell(number)
    assert stop.value.exit_code == code


def test_in_what_is_not_divided_a_stop_waits_for_the_end():
    done = []
    with stoppable():
        with pytest.raises(Stopped, match="SIGTERM"):
            in_one(done, signal.SIGTERM)
    assert done == [(signal.SIGTERM,)]
    with stoppable():
        in_one(done)
    assert done == [(signal.SIGTERM,), ()]


def test_a_stop_that_got_lost_on_its_way_is_raised_at_the_next_end():
    done = []
    with stoppable():
        with suppress(Stopped):
            tell(signal.SIGTERM)
        with pytest.raises(Stopped):
            in_one(done)
    assert done == [()]


def test_blocks_inside_each_other_are_one():
    done = []

    def outer():
        with undivided():
            in_one(done, signal.SIGTERM)
            done.append("the rest")

    with stoppable(), pytest.raises(Stopped):
        outer()
    assert done == [(signal.SIGTERM,), "the rest"]


def test_an_error_in_what_is_not_divided_is_told_and_not_the_stop():
    with stoppable():
        with pytest.raises(ValueError, match="odd"):
            in_one([], signal.SIGTERM, error=ValueError("odd"))


def test_a_sigterm_that_is_told_again_is_ignored_and_a_second_ctrl_c_ends_the_process():
    with stoppable():
        with pytest.raises(Stopped):
            in_one([], signal.SIGTERM, signal.SIGTERM)
        tell(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_afterwards_signals_do_what_they_did_and_ignored_ones_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Stopped), stoppable():
            tell(signal.SIGINT, signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
