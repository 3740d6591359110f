"""Prepared recordings as numbered sleep epochs, and batches of them."""

import resource
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils import ranks
from utils.errors import UserError
from utils.recording import Outline, open_signal, read_outline
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES

MIN_STD_UV, MAX_STD_UV = 1.0, 1000.0
"""Standard deviation of a recording, in microvolts, that can be EEG."""

_ROUNDING = 1e-6
"""Deviation of a constant, relative to its value, that comes of rounding alone."""

_PIECE = 32
"""Sleep epochs that are looked at together."""

_MANY_FILES = 10_240
"""Open files that are asked for where there is no limit."""

_FREE_SHARE = 0.5
"""Share of a GPU's free memory that signals may take."""


def find_recordings(directory: Path) -> list[Outline]:
    """Read the outlines of all prepared recordings of a folder and check that they fit together.

    Parameters
    ----------
    directory : Path
        Folder with one npz file per recording.

    Returns
    -------
    list of Outline
        Sorted by name.

    Raises
    ------
    UserError
        All problems at once: no folder, no npz in it, damaged files, stages outside 0-4, unequal fs or length.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder. Pass the folder of the prepared npz files with --np_data_dir.")
    paths = sorted(path for path in directory.glob("*.npz") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{directory}: no npz files here. Prepare recordings first, see prepare_datasets.")
    outlines, problems = [], []
    for path in paths:
        try:
            outlines.append(read_outline(path))
        except UserError as error:
            problems.append(str(error))
    problems += [problem for outline in outlines for problem in _problems(outline, outlines[0])]
    if problems:
        raise UserError("\n".join([f"{directory}: {len(problems)} problems:", *(f"  {line}" for line in problems)]))
    return outlines


def _problems(outline: Outline, first: Outline) -> Iterator[str]:
    """Say what keeps a recording from being used beside the first one."""
    outside = sorted(set(outline.stages.tolist()) - set(range(N_STAGES)))
    if outside:
        yield f"{outline.path.name}: stages {outside} are not 0 to 4 ({', '.join(STAGE_NAMES)})."
    if len(outline.stages) == 0:
        yield f"{outline.path.name}: no sleep epochs in it."
    if outline.fs != first.fs:
        yield f"{outline.path.name}: {outline.fs:g} Hz, but {first.path.name} has {first.fs:g} Hz. Use one rate."
    elif outline.n_samples != round(SLEEP_EPOCH_S * outline.fs):
        yield (
            f"{outline.path.name}: {outline.n_samples} samples per sleep epoch, but 30 s at {outline.fs:g} Hz are "
            f"{round(SLEEP_EPOCH_S * outline.fs)}."
        )


def check_sampling_rate(outlines: Sequence[Outline], fs: float | None) -> None:
    """Refuse recordings whose sampling rate is not `fs`, the network's, in Hz.

    Raises
    ------
    UserError
        The rates differ.
    """
    if fs is not None and fs != outlines[0].fs:
        raise UserError(
            f"{outlines[0].path.name}: {outlines[0].fs:g} Hz, but arch.args.fs is {fs}. "
            f"Pass --set arch.args.fs={outlines[0].fs:g}, or prepare the recordings at {fs} Hz."
        )


class SleepEpochs:
    """All sleep epochs of some recordings, numbered one recording after the other.

    The signals stay in their files and are read through the system's page cache, which processes share; a GPU holds
    them all, if they fit.

    Parameters
    ----------
    outlines : sequence of Outline
        The recordings, at least one.
    device : torch.device
        Where batches are wanted.
    context : tuple of two int
        How many sleep epochs before and after each one go into its signal; see `neighbours`.
    resident : bool or None
        Whether the device holds all signals; None: if it is a GPU with room for them.

    Attributes
    ----------
    outlines : dict of str to Outline
        By name.
    device : torch.device
    stages : Tensor of shape (n_sleep_epochs,), int64
        On the CPU.

    Raises
    ------
    UserError
        All signals that cannot be EEG in microvolts: not finite, constant, too small, too large.
    """

    def __init__(
        self,
        outlines: Sequence[Outline],
        device: torch.device,
        context: tuple[int, int] = (0, 0),
        resident: bool | None = None,
    ) -> None:
        self.outlines = {outline.name: outline for outline in outlines}
        self.device = device
        self.stages = torch.from_numpy(np.concatenate([outline.stages for outline in outlines]))
        _allow_open_files()
        with ThreadPoolExecutor() as threads:  # checksums and sums let go of Python's lock
            self._signals = list(threads.map(open_signal, outlines))
            problems = list(threads.map(signal_problem, [outline.path.name for outline in outlines], self._signals))
        if any(problems):
            raise UserError("\n".join(problem for problem in problems if problem))
        lengths = [len(outline.stages) for outline in outlines]
        begins = np.cumsum([0, *lengths])
        self._where = {name: range(*begins[k : k + 2]) for k, name in enumerate(self.outlines)}
        self._recording = np.repeat(np.arange(len(outlines)), lengths)
        self._row = np.concatenate([np.arange(length) for length in lengths])
        self._neighbours = np.concatenate(
            [
                begin + neighbours(outline.sleep_epoch, *context)
                for begin, outline in zip(begins[:-1], outlines, strict=True)
            ]
        )
        fits = device.type == "cuda" and 4 * self._n_samples * len(self.stages) < _FREE_SHARE * _free_bytes(device)
        self._resident = self._all_on_device() if (fits if resident is None else resident) else None

    def indices(self, recordings: Sequence[str]) -> Tensor:
        """Give the numbers of all sleep epochs of `recordings`, in their order, shape (n,), int64."""
        return torch.cat([torch.arange(self._where[name].start, self._where[name].stop) for name in recordings])

    def recordings(self, indices: Tensor) -> list[str]:
        """Name the recordings, sorted, of the sleep epochs `indices`."""
        names = list(self.outlines)
        return sorted({names[number] for number in self._recording[indices.cpu().numpy()]})

    def class_counts(self, recordings: Iterable[str]) -> list[int]:
        """Count the sleep epochs of W, N1, N2, N3, REM in `recordings`."""
        return class_counts([self.outlines[name] for name in recordings])

    def batches(self, order: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield signal (B, 1, T), this rank's share of it, and stages (B,), on the device, in the order of `order`."""
        if self._resident is None:
            for chosen in order.split(batch_size):
                yield self._read(ranks.share(chosen).numpy()), self.stages[chosen].to(self.device, non_blocking=True)
        else:
            signal, stages, together = self._resident
            for chosen in order.to(self.device).split(batch_size):
                yield signal[together[ranks.share(chosen)]].flatten(1).unsqueeze(1), stages[chosen]

    @property
    def _n_samples(self) -> int:
        return self._signals[0].shape[1]

    def _read(self, chosen: np.ndarray) -> Tensor:
        """Read the signal of the sleep epochs `chosen` with their context, (B, 1, T), and send it to the device."""
        together = self._neighbours[chosen]
        signal = torch.empty((*together.shape, self._n_samples), pin_memory=self.device.type == "cuda")
        rows = signal.numpy().reshape(-1, self._n_samples)
        for row, number in zip(rows, together.ravel(), strict=True):
            row[:] = self._signals[self._recording[number]][self._row[number]]
        return signal.flatten(1).unsqueeze(1).to(self.device, non_blocking=True)

    def _all_on_device(self) -> tuple[Tensor, Tensor, Tensor]:
        """Copy signal (n, n_samples), stages (n,) and neighbours to the device, a recording at a time."""
        signal = torch.empty((len(self.stages), self._n_samples), device=self.device)
        for where, night in zip(self._where.values(), self._signals, strict=True):
            signal[where.start : where.stop] = torch.from_numpy(np.array(night))
        return signal, self.stages.to(self.device), torch.from_numpy(self._neighbours).to(self.device)


def neighbours(sleep_epoch: np.ndarray, before: int, after: int) -> np.ndarray:
    """Find the sleep epochs around each one of a recording.

    Parameters
    ----------
    sleep_epoch : ndarray of shape (n,), int
        Positions in the night, ascending.
    before, after : int
        How many on each side.

    Returns
    -------
    ndarray of shape (n, before + 1 + after), int64
        Indices, in the order of time. Where a neighbour is missing (dropped, or beyond an end of the recording), the
        nearest one that is there without a gap between stands in for it, in the end the centre itself.
    """
    centre = np.arange(len(sleep_epoch))
    columns = {0: centre}
    for step in (*range(-1, -before - 1, -1), *range(1, after + 1)):
        nearer = columns[step - np.sign(step)]
        wanted = np.clip(centre + step, 0, len(centre) - 1)
        touches = (wanted == centre + step) & (sleep_epoch[wanted] == sleep_epoch + step)
        columns[step] = np.where(touches, wanted, nearer)
    return np.stack([columns[step] for step in range(-before, after + 1)], axis=1)


def class_counts(outlines: Sequence[Outline]) -> list[int]:
    """Sleep epochs of W, N1, N2, N3, REM in some recordings."""
    return np.bincount(np.concatenate([outline.stages for outline in outlines]), minlength=N_STAGES).tolist()


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


def _allow_open_files() -> None:
    """Allow as many open files as the system grants: a mapped recording keeps its file open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else hard
    with suppress(ValueError, OSError):  # some systems grant less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _free_bytes(device: torch.device) -> int:
    """Free memory of a GPU, in bytes."""
    return torch.cuda.mem_get_info(device)[0]


class Batches:
    """Batches of sleep epochs.

    Parameters
    ----------
    data : SleepEpochs
    indices : Tensor of shape (n,), int64
        Which sleep epochs.
    batch_size : int
        The last batch may be shorter.
    shuffle : bool
        Draw a new order, from torch's generator, each time the batches are gone through.
    """

    def __init__(self, data: SleepEpochs, indices: Tensor, batch_size: int, shuffle: bool) -> None:
        self.data, self.indices, self.batch_size, self.shuffle = data, indices, batch_size, shuffle
        self._order = indices

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield signal (B, 1, T) and stages (B,), on the device; see `SleepEpochs.batches`."""
        self._order = self.indices[ranks.agreed(torch.randperm(len(self.indices)))] if self.shuffle else self.indices
        return self.data.batches(self._order, self.batch_size)

    def recordings(self, number: int) -> list[str]:
        """Name the recordings of a batch (0-based) of the last time the batches were gone through."""
        return self.data.recordings(self._order.split(self.batch_size)[number])
