"""The signals of prepared recordings: opened and checked."""

import mmap
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.microvolts import mean_and_std, problem_of, without_signal
from utils.recording import Outline, open_signal

_MANY_FILES = 10_240
"""Number of open files to ask for where the system sets no limit."""

_OTHER_FILES = 64
"""Open files of this process besides recordings."""


def open_signals(outlines: Sequence[Outline]) -> tuple[list[np.ndarray], list[float], list[int]]:
    """Open the signals of recordings, and read each once to check it.

    Parameters
    ----------
    outlines : sequence of Outline
        At least one.

    Returns
    -------
    signals : list of ndarray of shape (n_sleep_epochs, n_samples), float32
        Microvolts, see `utils.recording.open_signal`.
    std_uv : list of float
        Their standard deviations in microvolts.
    n_empty : list of int
        Sleep epochs of each recording without signal, see `microvolts.without_signal`.

    Raises
    ------
    UserError
        Names all signals that are damaged or cannot be EEG in microvolts: not finite, constant, too small, too large.
    """
    _allow_open_files(len(outlines))

    def open_one(outline: Outline) -> tuple[np.ndarray, float, int] | str:
        """Return the signal, its standard deviation and number of empty sleep epochs, or what is wrong with it."""
        try:
            signal = open_signal(outline)
        except UserError as error:
            return str(error)
        mean, std = mean_and_std(signal)
        return problem_of(outline.path.name, mean, std) or (signal, std, int(without_signal(signal).sum()))

    with ThreadPoolExecutor() as threads:  # checksums and sums are computed without Python's lock
        opened = list(threads.map(open_one, outlines))
    if problems := [problem for problem in opened if isinstance(problem, str)]:
        raise UserError("\n".join(problems))
    signals, std_uv, n_empty = zip(*(each for each in opened if not isinstance(each, str)), strict=True)
    return list(signals), list(std_uv), list(n_empty)


def reader_ahead(signal: np.ndarray) -> Callable[[int], None]:
    """Make a function of a row: it asks the system to read this sleep epoch from the disk, and does not wait for it.

    By itself, the system reads a part of a mapped file only when a value of it is used, and then far more than that
    part, which is a waste where sleep epochs come in random order. For a signal in memory, the function does nothing.
    """
    mapping: Any = signal
    while isinstance(mapping, np.ndarray):
        mapping = mapping.base
    if not isinstance(mapping, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return lambda row: None
    mapping.madvise(mmap.MADV_RANDOM)
    begin = _address(signal) - _address(np.frombuffer(mapping, np.uint8))
    n_bytes = signal[0].nbytes

    def read_ahead(row: int) -> None:
        """Ask for the pages of memory that hold a row."""
        first = begin + row * n_bytes
        page = first - first % mmap.PAGESIZE
        mapping.madvise(mmap.MADV_WILLNEED, page, first + n_bytes - page)

    return read_ahead


def _address(array: np.ndarray) -> int:
    """Find where the values of an array begin in memory."""
    return array.__array_interface__["data"][0]


def _allow_open_files(n_files: int) -> None:
    """Raise this process's limit of open files as far as the system lets it: a mapped recording keeps its file open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = n_files + _OTHER_FILES
    wanted = max(needed, _MANY_FILES) if hard == resource.RLIM_INFINITY else hard
    with suppress(ValueError, OSError):  # some systems grant less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed < needed:
        raise UserError(
            f"{n_files} recordings are open at once, but a process may open {allowed} files here. "
            f"Have the limit raised to {needed} (ulimit -n)."
        )
