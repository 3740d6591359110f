import os
import signal

import pytest

from utils.stopping import Stopped, stoppable


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "SIGINT", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_signal_is_raised_with_its_name_and_exit_code(number, name, code):
    with pytest.raises(Stopped, match=f"^{name}$") as stop, stoppable():
        os.kill(os.getpid(), number)
    assert stop.value.exit_code == code


def test_while_the_process_ends_sigterm_is_ignored_and_a_second_ctrl_c_ends_it():
    with stoppable():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_afterwards_signals_do_what_they_did_and_ignored_ones_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
