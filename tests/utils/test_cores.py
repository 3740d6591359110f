import os

import pytest

from utils.cores import n_cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs a system that binds processes to cores")
def test_the_cores_are_those_that_may_be_used():
    assert n_cores() == len(os.sched_getaffinity(0))
