"""Prepared recordings as numbered sleep epochs, and batches of them."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_loader.signals import open_signals, reader_ahead
from utils import ranks
from utils.device import alone_on
from utils.errors import UserError
from utils.recording import Outline, read_outline, source_checksum
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES

_FREE_SHARE = 0.5
"""Share of a GPU's free memory that signals may take."""

_MPS_BYTES = 2**32
"""Largest tensor that mps is trusted with."""


def find_recordings(directory: Path, fs: float | None = None) -> list[Outline]:
    """Read the outlines of all prepared recordings of a folder, and check that they can be used together.

    Parameters
    ----------
    directory : Path
        Folder with one npz file per recording.
    fs : float or None
        Sampling rate in Hz that they must have; None: any.

    Returns
    -------
    list of Outline
        Sorted by name.

    Raises
    ------
    UserError
        There is no folder or no npz in it; or all problems at once: damaged files, stages outside 0-4, another fs, the
        same night twice.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder. Pass the folder of the prepared npz files with --np_data_dir.")
    paths = sorted(
        path for path in directory.iterdir() if path.suffix.lower() == ".npz" and not path.name.startswith(".")
    )
    if not paths:
        raise UserError(f"{directory}: no npz files here. Prepare recordings first, see prepare_datasets.")
    outlines, problems = [], []
    for path in paths:
        try:
            outlines.append(read_outline(path))
        except UserError as error:
            problems.append(str(error))
    problems += [problem for outline in outlines for problem in _problems(outline, outlines[0])]
    problems += _repeated(outlines)
    if problems:
        raise UserError("\n".join([f"{directory}: {len(problems)} problems:", *(f"  {line}" for line in problems)]))
    if fs is not None and fs != outlines[0].fs:
        raise UserError(
            f"{outlines[0].path.name}: {outlines[0].fs:g} Hz, but data_loader.args.fs is {fs:g}. "
            f"Pass --set data_loader.args.fs={outlines[0].fs:g}, or prepare the recordings at {fs:g} Hz."
        )
    return outlines


def _problems(outline: Outline, first: Outline) -> Iterator[str]:
    """Say why a recording cannot be used together with the first one."""
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


def _repeated(outlines: Sequence[Outline]) -> Iterator[str]:
    """Name the nights that are there twice, by signal, recording, or a name in two spellings; each pair once."""
    told = set()
    for what, key in (
        ("the same signal", lambda outline: outline.checksum.partition("-")[0]),
        ("prepared from the same recording", _recording_of),
        ("the same name in two spellings", lambda outline: unicodedata.normalize("NFC", outline.name).casefold()),
    ):
        groups = defaultdict(list)
        for outline in outlines:
            if value := key(outline):
                groups[value].append(outline.path.name)
        for names in groups.values():
            if len(names) > 1 and tuple(names) not in told:
                told.add(tuple(names))
                yield f"{', '.join(names)}: {what}. Leave one of them, so that no night is on both sides of a fold."


def _recording_of(outline: Outline) -> str:
    """Tell which recording an npz was prepared from, and of which channel; empty if that is not known."""
    source = source_checksum(outline.made_from)
    return f"{source} {outline.channel}" if source else ""


def channels_of(outlines: Iterable[Outline]) -> dict[str, list[str]]:
    """List the names of the recordings of each EEG channel."""
    names = defaultdict(list)
    for outline in outlines:
        names[outline.channel].append(outline.name)
    return dict(names)


class SleepEpochs:
    """All sleep epochs of some recordings, numbered from 0, one recording after the other.

    The signals stay in their files and are read through the system's page cache: processes share it, and it shrinks
    when memory runs short. A GPU holds all signals in its memory if they fit.

    Parameters
    ----------
    outlines : sequence of Outline
        The recordings, at least one.
    device : torch.device
        Where the batches go.
    context : tuple of two int
        How many sleep epochs before and after each one go into its signal, see `neighbours`.
    resident : bool or None
        Whether the device's memory holds all signals; None: if the device is a GPU with enough free memory.

    Attributes
    ----------
    outlines : dict of str to Outline
        By name.
    device : torch.device
    n_empty : dict of str to int
        Sleep epochs without signal (flat or clipped) of each recording.
    stages : Tensor of shape (n_sleep_epochs,), int64
        On the CPU.
    index_device : torch.device
        Where the indices that `read` takes must be.
    std_uv : dict of str to float
        Standard deviation of each recording's signal in microvolts, by name.

    Raises
    ------
    UserError
        Names all signals that are damaged or cannot be EEG in microvolts, see `open_signals`; or the signals are to be
        resident and do not fit into memory.
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
        self._signals, std_uv, n_empty = open_signals(outlines)
        self.std_uv = dict(zip(self.outlines, std_uv, strict=True))
        self.n_empty = dict(zip(self.outlines, n_empty, strict=True))
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
        self._n_samples = outlines[0].n_samples
        with alone_on(device):
            self._resident = self._all_on_device() if self._is_resident(resident) else None
        self.index_device = device if self._resident else torch.device("cpu")
        self._is_pinned = device.type == "cuda"  # copies to other devices wait, so that no freed memory is read
        self._read_ahead = [reader_ahead(signal) for signal in self._signals]

    def indices(self, recordings: Sequence[str]) -> Tensor:
        """Return the indices of all sleep epochs of `recordings`, in their order, (n,), int64."""
        return torch.cat([torch.arange(self._where[name].start, self._where[name].stop) for name in recordings])

    def recordings(self, indices: Tensor) -> list[str]:
        """Return the names of the recordings of some sleep epochs, sorted."""
        names = list(self.outlines)
        return sorted({names[number] for number in self._recording[indices.cpu().numpy()]})

    def class_counts(self, recordings: Iterable[str]) -> list[int]:
        """Count the sleep epochs of W, N1, N2, N3, REM in `recordings`."""
        return class_counts([self.outlines[name] for name in recordings])

    def read(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Read some sleep epochs.

        Parameters
        ----------
        chosen : Tensor of shape (B,), int64
            Their indices, on `index_device`.

        Returns
        -------
        signal : Tensor of shape (B, 1, T), float32
            Microvolts, with the context, on the device.
        stages : Tensor of shape (B,), int64
            On the device.
        """
        if self._resident is None:
            return self._read(chosen.numpy()), self.stages[chosen].to(self.device, non_blocking=self._is_pinned)
        signal, stages, neighbours = self._resident
        return signal[neighbours[chosen]].flatten(1).unsqueeze(1), stages[chosen]

    def _read(self, chosen: np.ndarray) -> Tensor:
        """Read the signal of some sleep epochs with their context from the files, (B, 1, T) on the device."""
        together = self._neighbours[chosen]
        places = [(self._recording[number], self._row[number]) for number in together.ravel().tolist()]
        for recording, row in places:
            self._read_ahead[recording](row)
        signal = torch.empty((*together.shape, self._n_samples), pin_memory=self._is_pinned)
        rows = signal.numpy().reshape(-1, self._n_samples)
        for values, (recording, row) in zip(rows, places, strict=True):
            values[:] = self._signals[recording][row]
        return signal.flatten(1).unsqueeze(1).to(self.device, non_blocking=self._is_pinned)

    def _is_resident(self, resident: bool | None) -> bool:
        """Decide whether the device holds all signals; raise if it is asked to and they do not fit."""
        n_bytes, room = 4 * self._n_samples * len(self.stages), _memory_bytes(self.device)
        if resident and n_bytes > room:
            raise UserError(
                f"data_loader.args.resident is true, but the signals take {n_bytes / 1e9:.1f} GB and {self.device} has "
                f"{room / 1e9:.1f} GB. Pass --set data_loader.args.resident=null."
            )
        return resident if resident is not None else self.device.type != "cpu" and n_bytes < _FREE_SHARE * room

    def _all_on_device(self) -> tuple[Tensor, Tensor, Tensor]:
        """Copy signal (n, n_samples), stages (n,) and neighbours to the device, a recording at a time."""
        signal = torch.empty((len(self.stages), self._n_samples), device=self.device)
        for where, night in zip(self._where.values(), self._signals, strict=True):
            signal[where.start : where.stop] = torch.from_numpy(np.array(night))
        self._signals = []  # closes the files
        return signal, self.stages.to(self.device), torch.from_numpy(self._neighbours).to(self.device)


def neighbours(sleep_epoch: np.ndarray, before: int, after: int) -> np.ndarray:
    """Find the sleep epochs before and after each sleep epoch of a recording.

    Parameters
    ----------
    sleep_epoch : ndarray of shape (n,), int
        Positions in the night, ascending.
    before, after : int
        How many to find on each side.

    Returns
    -------
    ndarray of shape (n, before + 1 + after), int64
        Indices, in the order of time. Where a neighbour is missing (it was dropped, or lies beyond an end of the
        recording), the last one before the gap stands in for it; this may be the sleep epoch itself.
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
    """Count the sleep epochs of W, N1, N2, N3, REM in some recordings."""
    return np.bincount(np.concatenate([outline.stages for outline in outlines]), minlength=N_STAGES).tolist()


def _memory_bytes(device: torch.device) -> int:
    """Return the free memory of a CUDA GPU, or all memory of this machine, of which mps takes a part, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(memory, int(_MPS_BYTES / _FREE_SHARE)) if device.type == "mps" else memory


class Batches:
    """Batches of sleep epochs.

    Where several ranks train together, each takes its share: of every batch if they are shuffled, otherwise a run of
    consecutive sleep epochs.

    Parameters
    ----------
    data : SleepEpochs
    indices : Tensor of shape (n,), int64
        The sleep epochs to go through.
    batch_size : int
        Of all ranks together if shuffled. The last batch may be shorter.
    shuffle : bool
        Whether to draw a new order, from torch's generator, in each pass.
    """

    def __init__(self, data: SleepEpochs, indices: Tensor, batch_size: int, shuffle: bool) -> None:
        self.data, self.indices, self.batch_size, self.shuffle = data, indices, batch_size, shuffle
        self._order = indices

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield signal (B, 1, T) and stages (B,) of each batch, on the device."""
        if self.shuffle:
            self._order = self.indices[ranks.from_first(torch.randperm(len(self.indices)))].to(self.data.index_device)
            shares = (_share(batch) for batch in self._order.split(self.batch_size))
        else:
            own = self.indices.tensor_split(ranks.world_size())[ranks.rank()]
            shares = iter(own.to(self.data.index_device).split(self.batch_size))
        return map(self.data.read, shares)

    @property
    def stages(self) -> Tensor:
        """Stages of all sleep epochs, of all ranks, in the order of `indices`, (n,), on the CPU."""
        return self.data.stages[self.indices]

    def recordings(self, number: int) -> list[str]:
        """Return the names of the recordings in a batch (0-based) of the last pass."""
        return self.data.recordings(self._order.split(self.batch_size)[number])


def _share(batch: Tensor) -> Tensor:
    """Take this rank's share of a batch, (B,); one sleep epoch at least, as all ranks must take each step."""
    own = batch.tensor_split(ranks.world_size())[ranks.rank()]
    return own if len(own) else batch[:1]
