"""Windows of consecutive sleep epochs inside one recording, and batches of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from data_loader.data_loaders import SleepEpochs


def runs(sleep_epoch: np.ndarray) -> list[slice]:
    """Cut a recording where sleep epochs are missing.

    Parameters
    ----------
    sleep_epoch : ndarray of shape (n,), int
        Positions in the night, ascending.

    Returns
    -------
    list of slice
        Runs of sleep epochs without a gap, in the order of time; together they make up the recording.
    """
    ends = [*(np.flatnonzero(np.diff(sleep_epoch) != 1) + 1).tolist(), len(sleep_epoch)]
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


class Windows:
    """Batches of windows of consecutive sleep epochs: inputs for each sleep epoch, and its stage.

    A window never crosses a gap in the night or the end of a recording.

    Parameters
    ----------
    data : SleepEpochs
    inputs : Tensor of shape (n_sleep_epochs, C)
        Of all sleep epochs of `data`, on its device, such as the summaries of a network.
    recordings : sequence of str
    length : int or None
        Largest number of sleep epochs in a window. In each pass the windows begin at other sleep epochs and come in a
        new order, both drawn from torch's generator; every sleep epoch is in one window. None: the windows are the
        whole runs between gaps, in their order.
    batch_size : int
        Number of windows in a batch; 1 keeps the order of the sleep epochs.
    """

    def __init__(
        self, data: SleepEpochs, inputs: Tensor, recordings: Sequence[str], length: int | None, batch_size: int
    ) -> None:
        self.data, self.inputs, self.length, self.batch_size = data, inputs, length, batch_size
        self.indices = data.indices(recordings)
        self._runs = [
            data.indices([name])[run].to(data.device)
            for name in recordings
            for run in runs(data.outlines[name].sleep_epoch)
        ]
        self._windows = self._runs
        self._stages = data.stages.to(data.device)

    def __iter__(self) -> Iterator[tuple[PackedSequence, Tensor]]:
        """Yield inputs, packed (n, C), and stages (n,), in the same order, of each batch, on the device."""
        if self.length is not None:
            pieces = [piece for run in self._runs for piece in _cut(run, self.length)]
            self._windows = [pieces[position] for position in torch.randperm(len(pieces)).tolist()]
        return map(self._read, self._batches())

    def __len__(self) -> int:
        return len(self._batches())

    @property
    def stages(self) -> Tensor:
        """Stages of all sleep epochs, (n,), on the CPU."""
        return self.data.stages[self.indices]

    def recordings(self, number: int) -> list[str]:
        """Return the names of the recordings in a batch (0-based) of the last pass."""
        return self.data.recordings(torch.cat(self._batches()[number]))

    def _read(self, windows: list[Tensor]) -> tuple[PackedSequence, Tensor]:
        """Take the inputs and stages of some windows."""
        chosen = pack_sequence(windows, enforce_sorted=False)
        packed = chosen._replace(data=self.inputs[chosen.data])
        return packed, self._stages[chosen.data]

    def _batches(self) -> list[list[Tensor]]:
        """Group the windows into batches."""
        return [
            self._windows[begin : begin + self.batch_size] for begin in range(0, len(self._windows), self.batch_size)
        ]


def _cut(run: Tensor, length: int) -> list[Tensor]:
    """Cut a run into windows, the first of a random length."""
    first = int(torch.randint(1, length + 1, ()))
    return [run[:first], *(run[first:].split(length) if first < len(run) else ())]
