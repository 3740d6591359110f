"""The signals of prepared recordings: opened and checked."""

import mmap
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.recording import Outline, open_signal

MIN_STD_UV, MAX_STD_UV = 1.0, 1000.0
"""Limits of the standard deviation that the EEG of a recording can have, in microvolts."""

_ROUNDING = 1e-6
"""Standard deviation of a constant signal relative to its value, which is rounding alone."""

_PIECE = 32
"""Sleep epochs that are summed together: they fit a processor's cache."""

_MANY_FILES = 10_240
"""Number of open files to ask for where the system sets no limit."""

_OTHER_FILES = 64
"""Open files of this process besides recordings."""


def open_signals(outlines: Sequence[Outline]) -> list[np.ndarray]:
    """Open the signals of recordings, and read each once to check it.

    Parameters
    ----------
    outlines : sequence of Outline
        At least one.

    Returns
    -------
    list of ndarray of shape (n_sleep_epochs, n_samples), float32
        Microvolts, see `utils.recording.open_signal`.

    Raises
    ------
    UserError
        Names all signals that are damaged or cannot be EEG in microvolts: not finite, constant, too small, too large.
    """
    _allow_open_files(len(outlines))

    def open_one(outline: Outline) -> np.ndarray | str:
        """Return the signal, or what is wrong with it."""
        try:
            signal = open_signal(outline)
        except UserError as error:
            return str(error)
        return signal_problem(outline.path.name, signal) or signal

    with ThreadPoolExecutor() as threads:  # checksums and sums are computed without Python's lock
        opened = list(threads.map(open_one, outlines))
    if problems := [problem for problem in opened if isinstance(problem, str)]:
        raise UserError("\n".join(problems))
    return [signal for signal in opened if not isinstance(signal, str)]


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


def signal_problem(name: str, signal: np.ndarray) -> str:
    """Say why a recording's signal, (n_sleep_epochs, n_samples), cannot be EEG in microvolts; empty if it can."""
    mean, std = _mean_and_std(signal)
    if not np.isfinite(std):
        return f"{name}: the signal holds NaN or infinite values. Prepare the recording again or leave it out."
    if std <= _ROUNDING * abs(mean):
        return f"{name}: the signal is constant. Was the channel recorded? Leave the recording out."
    if not MIN_STD_UV <= std <= MAX_STD_UV:
        return (
            f"{name}: the signal's standard deviation is {std:.3g}; EEG in microvolts has {MIN_STD_UV:g} to "
            f"{MAX_STD_UV:g}. Are the values in volts or raw digits? They must be microvolts."
        )
    return ""


def _mean_and_std(signal: np.ndarray) -> tuple[float, float]:
    """Compute mean and standard deviation of a signal, (n_sleep_epochs, n_samples), reading it once."""
    first, total, squares = signal[0, 0], 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # the caller sees NaN and infinite values by the result
        for begin in range(0, len(signal), _PIECE):
            piece = (signal[begin : begin + _PIECE] - first).ravel()
            total += float(piece.sum())
            squares += float(piece @ piece)
        mean = total / signal.size
        return mean + float(first), float(np.sqrt(max(squares / signal.size - mean**2, 0.0)))


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
