"""Averaged weights: an exponential moving average of a model's weights over the steps of training."""

import copy
from collections.abc import Iterable
from itertools import islice
from typing import Any

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn

N_BATCHES = 40
"""Training batches on which the statistics of batch norm are computed: with the published 128, 5120 sleep epochs."""


class AveragedWeights:
    """A copy of a model that holds the average of its weights over the steps so far.

    After step n (0-based) the average A of weights W becomes d A + (1 - d) W, d = min(decay, n / (n + 9)): it begins
    as the weights after the first step, and spans about a tenth of the steps so far until `decay` limits it.

    Buffers are those of the model at its last step. The running statistics of batch norm among them do not fit the
    averaged weights, and averaged ones lag behind: `fit_statistics` computes them, before the average is evaluated.

    `torch.optim.swa_utils.AveragedModel` counts its steps in a tensor, for which a GPU is waited for after each step.
    Here nothing is.

    Parameters
    ----------
    model : nn.Module
    decay : float
        Between 0 and 1; about 1 / (1 - decay) steps count when training is long.

    Attributes
    ----------
    model : nn.Module
        With the averaged weights.
    n_steps : int
        Steps that are in the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.n_steps = decay, 0

    def update(self, model: nn.Module) -> None:
        """Let the weights after one more step into the average."""
        decay = min(self.decay, self.n_steps / (self.n_steps + 9))
        get_ema_multi_avg_fn(decay)(list(self.model.parameters()), list(model.parameters()), None)
        for own, current in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(current)
        self.n_steps += 1

    def fit_statistics(self, batches: Iterable[tuple[Any, ...]]) -> None:
        """Compute the running statistics of batch norm for the averaged weights.

        Parameters
        ----------
        batches : iterable of tuple
            Of the training set, the model's input first. The first N_BATCHES are read, if there is a batch norm at all.
        """
        update_bn(islice(batches, N_BATCHES), self.model)
