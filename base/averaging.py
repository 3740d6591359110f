"""Averaged weights: an exponential moving average of a model's weights over the steps of training."""

import copy

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """A copy of a model that holds the average of its weights over the steps so far.

    After step n (0-based) the average A of weights W becomes d A + (1 - d) W, d = min(decay, n / (n + 9)): it begins
    as the weights after the first step, and spans about a tenth of the steps so far until `decay` limits it.

    The running statistics of batch norm, and all other buffers, are those of the model at its last step. They are an
    average already; averaged once more they would lag behind the weights, and evaluation was worse with them. A pass
    that computes them for the averaged weights (`torch.optim.swa_utils.update_bn`) was no better than these.

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
