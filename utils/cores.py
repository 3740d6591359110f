"""The cores of this machine, and sharing them with other programs."""

import os


def n_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores() -> None:
    """Let threads that wait for each other sleep soon, unless the user has decided. Call it before torch is loaded.

    The threads of one operation wait for the last of them, and spin meanwhile: by default for so long that, beside a
    single busy program, a training step takes three to twenty times as long. 4000 turns cost next to nothing alone.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = "4000"
