"""The signals of prepared recordings: opened, and checked once."""

import mmap
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from utils.checked import mark, read_marks, write_marks
from utils.errors import UserError
from utils.recording import Outline, open_signal

MIN_STD_UV, MAX_STD_UV = 1.0, 1000.0
"""Standard deviation of a recording, in microvolts, that can be EEG."""

_ROUNDING = 1e-6
"""Deviation of a constant, relative to its value, that comes of rounding alone."""

_PIECE = 32
"""Sleep epochs that are looked at together."""

_MANY_FILES = 10_240
"""Open files that are asked for where there is no limit."""

_OTHER_FILES = 64
"""Open files besides recordings."""

_CHECK = f"CRC-32; finite; standard deviation of {MIN_STD_UV:g} to {MAX_STD_UV:g} uV"
"""What a signal passed whose file has a mark."""


def open_signals(outlines: Sequence[Outline]) -> list[np.ndarray]:
    """Open the signals of recordings of one folder; read and check those that have not passed as they are now.

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
        All signals that are damaged, or cannot be EEG in microvolts: not finite, constant, too small, too large.
    """
    _allow_open_files(len(outlines))
    folder = outlines[0].path.parent
    known = read_marks(folder, _CHECK)
    marks = {outline.path.name: mark(outline.path, outline.checksum) for outline in outlines}
    new = {name: made for name, made in marks.items() if made is None or known.get(name) != made}

    def opened(outline: Outline) -> np.ndarray | str:
        """Return the signal, or what is wrong with it."""
        name = outline.path.name
        try:
            signal = open_signal(outline, verify=name in new)
        except UserError as error:
            return str(error)
        return (name in new and signal_problem(name, signal)) or signal

    with ThreadPoolExecutor() as threads:  # checksums and sums let go of Python's lock
        found = dict(zip(marks, threads.map(opened, outlines), strict=True))
    problems = [text for text in found.values() if isinstance(text, str)]
    passed = {name: made for name, made in new.items() if made is not None and not isinstance(found[name], str)}
    if passed:
        write_marks(folder, _CHECK, known | passed)
    if problems:
        raise UserError("\n".join(problems))
    return [signal for signal in found.values() if not isinstance(signal, str)]


def reader_ahead(signal: np.ndarray) -> Callable[[int], None]:
    """Return what has the system begin to read one sleep epoch of a signal, and does not wait for it.

    By itself the system reads a mapped file only when a value is missing, and then far more of it than is asked for,
    which is wasted on sleep epochs in random order. What is not mapped is in memory, and there is nothing to do.
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
        """Have the pages of a row read."""
        first = begin + row * n_bytes
        page = first - first % mmap.PAGESIZE
        mapping.madvise(mmap.MADV_WILLNEED, page, first + n_bytes - page)

    return read_ahead


def _address(array: np.ndarray) -> int:
    """Where the values of an array begin in memory."""
    return array.__array_interface__["data"][0]


def signal_problem(name: str, signal: np.ndarray) -> str:
    """Say why the signal of a recording, (n_sleep_epochs, n_samples), cannot be EEG in microvolts; empty if it can."""
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
    """Compute both in one go over a signal (n_sleep_epochs, n_samples), in pieces that fit a processor's cache."""
    first, total, squares = signal[0, 0], 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinite values are told by their result
        for begin in range(0, len(signal), _PIECE):
            piece = (signal[begin : begin + _PIECE] - first).ravel()
            total += float(piece.sum())
            squares += float(piece @ piece)
        mean = total / signal.size
        return mean + float(first), float(np.sqrt(max(squares / signal.size - mean**2, 0.0)))


def _allow_open_files(n_files: int) -> None:
    """Allow as many open files as the system grants: a mapped recording keeps its file open."""
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
