"""Averaged weights: an exponential moving average of a model's weights over the steps of training."""

import copy
from itertools import chain

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """A copy of a model that holds the average of its weights over the steps so far.

    After step n (0-based) the average A of weights W becomes d A + (1 - d) W, d = min(decay, n / (n + 9)): it begins
    as the weights after the first step, and spans about a tenth of the steps so far until `decay` limits it. Running
    statistics of batch norm are averaged like weights. Whole numbers, such as its counter, are those of the model.

    `torch.optim.swa_utils.AveragedModel` counts its steps in a tensor, for which a GPU is waited for after each step.
    Here nothing is.

    Parameters
    ----------
    model : nn.Module
    decay : float
        Between 0 and 1; 1 / (1 - decay) steps count when training is long.

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
        averages, values = (list(chain(each.parameters(), each.buffers())) for each in (self.model, model))
        pairs = list(zip(averages, values, strict=True))
        numbers = [pair for pair in pairs if pair[0].is_floating_point()]
        if numbers:
            get_ema_multi_avg_fn(decay)(*map(list, zip(*numbers, strict=True)), None)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
        self.n_steps += 1
