"""Losses. A class named in `__all__`, or one of torch.nn such as CrossEntropyLoss, can stand in the configuration.

A loss is a torch module that takes logits (B, 5) and stages (B,) and returns a scalar. If its constructor has a
parameter `class_counts`, it is given the number of sleep epochs of each stage. `recordable` is explained in
`model.model`.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from utils.stages import N1, N3, N_STAGES

__all__ = ["ClassAwareLoss", "FocalLoss"]


def class_aware_weights(counts: Sequence[int], a: float = 1.0, b: float = 1.5, c: float = 2.0) -> list[float]:
    """Weights of the class-aware loss (paper, section II-E, as the released code computes them).

    Parameters
    ----------
    counts : sequence of 5 int
        Sleep epochs of W, N1, N2, N3, REM. A stage that never occurs counts as occurring once.
    a, b, c : float
        Constant of N3; of W, N2 and REM; of N1.

    Returns
    -------
    list of 5 float
        mu * max(1, ln(mu * M / M_k)) with mu = constant / 5, rounded to 2 decimals, in the order of `counts`.

    Raises
    ------
    ValueError
        `counts` are not five numbers from 0 up, or a constant is not above 0.
    """
    if len(counts) != N_STAGES or min(counts) < 0:
        raise ValueError(f"class_aware_weights takes {N_STAGES} counts from 0 up, not {list(counts)}")
    if min(a, b, c) <= 0:
        raise ValueError(f"the constants of the class-aware loss must be above 0, not {a}, {b}, {c}")
    constants = [b] * N_STAGES
    constants[N3], constants[N1] = a, c
    total = sum(counts)
    weights = []
    for constant, count in zip(constants, counts, strict=True):
        mu = constant / N_STAGES
        ratio = mu * total / max(count, 1)
        weights.append(round(mu * max(1.0, math.log(ratio)) if ratio > 0 else mu, 2))
    return weights


class ClassAwareLoss(nn.CrossEntropyLoss):
    """Cross-entropy with class-aware weights, reduced as torch does: a weighted mean.

    Parameters
    ----------
    class_counts : sequence of 5 int
        Sleep epochs of W, N1, N2, N3, REM.
    a, b, c : float
        Constants, see `class_aware_weights`.
    """

    recordable = True

    def __init__(self, class_counts: Sequence[int], a: float = 1.0, b: float = 1.5, c: float = 2.0) -> None:
        super().__init__(weight=torch.tensor(class_aware_weights(class_counts, a, b, c)))


class FocalLoss(nn.Module):
    """Cross-entropy times (1 - p)^gamma, p the probability of the true stage (Lin et al., ICCV 2017).

    Parameters
    ----------
    gamma : float
        From 0, which gives the plain cross-entropy; larger values look more at what is hard.

    Raises
    ------
    ValueError
        `gamma` is below 0.
    """

    recordable = True

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"a gamma of {gamma} is not from 0 up")
        self.gamma = gamma

    def forward(self, logits: Tensor, stages: Tensor) -> Tensor:
        """Mean focal loss of logits (B, 5) and stages (B,)."""
        cross_entropy = F.cross_entropy(logits, stages, reduction="none")
        # expm1 keeps 1 - p exact near 0, where a power below 1 has no gradient: hence the bound.
        missed = (-torch.expm1(-cross_entropy)).clamp_min(torch.finfo(logits.dtype).tiny)
        return (missed**self.gamma * cross_entropy).mean()
