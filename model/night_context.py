"""Models of a whole night. They read a summary of each sleep epoch, and of the sleep epochs around it.

A class named in `__all__` can stand in the configuration's `context.model`. Its constructor is given `n_inputs`, the
length C of a network's `summary` (see `model.model`). It maps windows of consecutive sleep epochs to their logits. A
method `standardise`, if it has one, is given the summaries of the training set, (n, C), before training.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from utils.errors import UserError
from utils.stages import N_STAGES

__all__ = ["NightGRU"]


class NightGRU(nn.Module):
    """Bidirectional GRU along the night.

    Parameters
    ----------
    width : int
        Units of each direction.
    n_layers : int
    dropout : float
        Probability of a zero in the inputs of each layer and of the head.
    n_inputs : int
        Length C of the summary of a sleep epoch.

    Raises
    ------
    UserError
        `width` or `n_layers` is out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64, n_layers: int = 2, dropout: float = 0.3, n_inputs: int = 35) -> None:
        super().__init__()
        if not (1 <= width <= 1024 and 1 <= n_layers <= 16):
            raise UserError(f"NightGRU takes width from 1 to 1024, n_layers from 1 to 16, not {width} and {n_layers}.")
        self.register_buffer("mean", torch.zeros(n_inputs))
        self.register_buffer("std", torch.ones(n_inputs))
        self.dropout = nn.Dropout(dropout)
        between = dropout if n_layers > 1 else 0.0  # torch warns of a dropout that has no layer after it
        self.gru = nn.GRU(n_inputs, width, n_layers, bidirectional=True, dropout=between)
        self.head = nn.Linear(2 * width, N_STAGES)

    def standardise(self, inputs: Tensor) -> None:
        """Scale inputs from now on by mean and standard deviation of those of the training set, (n, C)."""
        self.mean.copy_(inputs.mean(dim=0))
        self.std.copy_(inputs.std(dim=0).clamp_min(1e-6))

    def forward(self, windows: PackedSequence) -> Tensor:
        """Map the inputs of windows, (n, C) in packed order, to logits, (n, 5) in the same order."""
        scaled = (windows.data - self.mean) / self.std
        # Between layers cuDNN drops by random numbers of its own, which the seed of a training epoch does not reach.
        with torch.backends.cudnn.flags(enabled=False, allow_tf32=False) if self.gru.dropout else nullcontext():
            states, _ = self.gru(_with_data(windows, self.dropout(scaled)))  # (n, C) -> (n, 2 width)
        return self.head(self.dropout(states.data))


def _with_data(windows: PackedSequence, data: Tensor) -> PackedSequence:
    """Pack other numbers, (n, C), of the same sleep epochs in the same order."""
    return PackedSequence(data, windows.batch_sizes, windows.sorted_indices, windows.unsorted_indices)
