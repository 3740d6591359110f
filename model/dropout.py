"""Dropout whose random numbers cost little on a CPU."""

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Module):
    """Set each element to zero with probability `p` in training, and scale the others by 1 / (1 - p).

    torch's own dropout draws one random number an element, on one thread of a CPU. Here one 64-bit number from
    torch's generator decides on four elements, 16 bits each, so `p` is rounded to a multiple of 1 / 65536. On other
    devices this is torch's dropout.

    Parameters
    ----------
    p : float
        Probability of a zero, from 0 to below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a dropout of {p} is not from 0 to below 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of `x` (any shape and memory format)."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.p)
        return x * self._scaled_mask(x)

    def _scaled_mask(self, x: Tensor) -> Tensor:
        """Draw 0 or 1 / (1 - p) for each element, laid out in memory like `x`."""
        n_dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), 2**63 - 1)
        levels = words.view(torch.int16)[: x.numel()]
        mask = (levels >= n_dropped - _LEVELS // 2).to(x.dtype).mul_(_LEVELS / (_LEVELS - n_dropped))
        return mask.as_strided(x.shape, torch.empty_like(x, device="meta").stride())
