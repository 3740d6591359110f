"""Models of a whole night: they read what a network found in each sleep epoch, and the sleep epochs around it.

A class named in `__all__` can stand in the configuration's `context.model`. It is handed `n_inputs`, how many numbers
come in for each sleep epoch, and maps windows of consecutive sleep epochs to the logits of each of them.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from model.model import AttnSleep
from utils.errors import UserError
from utils.stages import N_STAGES

__all__ = ["NightGRU"]


class Summary(nn.Module):
    """What the model of a night reads of each sleep epoch: five logits and the F features after the TCE, pooled.

    Parameters
    ----------
    network : AttnSleep
    """

    def __init__(self, network: AttnSleep) -> None:
        super().__init__()
        self.network = network

    def forward(self, signal: Tensor) -> Tensor:
        """Map EEG, (B, 1, T), to logits and pooled features, (B, 5 + F)."""
        encoded = self.network.tce(self.network.features(signal))  # (B, F, L)
        return torch.cat([self.network.head(encoded.flatten(1)), encoded.mean(dim=2)], dim=1)


class NightGRU(nn.Module):
    """Bidirectional GRU along the night.

    Parameters
    ----------
    width : int
        Units of each direction.
    n_layers : int
    dropout : float
        Probability of a zero, of the inputs of each layer and of the head.
    n_inputs : int
        Numbers that come in for each sleep epoch.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64, n_layers: int = 2, dropout: float = 0.3, n_inputs: int = 35) -> None:
        super().__init__()
        if not (1 <= width <= 1024 and 1 <= n_layers <= 16):
            raise UserError(
                f"NightGRU takes width from 1 to 1024 and n_layers from 1 to 16, not {width} and {n_layers}."
            )
        self.register_buffer("mean", torch.zeros(n_inputs))
        self.register_buffer("std", torch.ones(n_inputs))
        self.dropout = nn.Dropout(dropout)
        between = dropout if n_layers > 1 else 0.0  # torch warns of a dropout that has no layer after it
        self.gru = nn.GRU(n_inputs, width, n_layers, bidirectional=True, dropout=between)
        self.head = nn.Linear(2 * width, N_STAGES)

    def standardise(self, inputs: Tensor) -> None:
        """Take mean and standard deviation, to which inputs are scaled, from those of the training set, (n, C)."""
        self.mean.copy_(inputs.mean(dim=0))
        self.std.copy_(inputs.std(dim=0).clamp_min(1e-6))

    def forward(self, windows: PackedSequence) -> Tensor:
        """Map the inputs of windows, (n, C) in packed order, to logits, (n, 5) in the same order."""
        scaled = (windows.data - self.mean) / self.std
        states, _ = self.gru(_with_data(windows, self.dropout(scaled)))  # (n, C) -> (n, 2 width)
        return self.head(self.dropout(states.data))


def _with_data(windows: PackedSequence, data: Tensor) -> PackedSequence:
    """Exchange the numbers of packed windows for others of the same sleep epochs."""
    return PackedSequence(data, windows.batch_sizes, windows.sorted_indices, windows.unsorted_indices)
