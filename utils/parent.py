"""A process that was started for a part of the work ends when the one that started it is gone."""

import multiprocessing
import os
import signal
import threading
import time

_LOOK_S, _GRACE_S = 0.5, 30


def end_with_parent() -> None:
    """Watch for the end of the process that started this one, and then stop as at SIGTERM."""
    threading.Thread(target=_watch, args=[os.getppid()], daemon=True).start()


def _watch(parent: int) -> None:
    if (started_by := multiprocessing.parent_process()) is not None:
        started_by.join()
    else:  # started by torchrun, or by a test
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # wakes it from whatever it waits for
    time.sleep(_GRACE_S)
    os._exit(1)  # the main thread waits for something that does not come, such as another rank
