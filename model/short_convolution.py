"""Convolutions of eight taps with fewer multiplications.

Winograd's minimal filtering: four outputs of a filter of four taps need seven products instead of sixteen, because a
correlation becomes a product point by point where polynomials are evaluated and interpolated (Toom and Cook; Lavin and
Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016). A filter of eight taps is two of four, the second
applied four samples, that is one tile, later.

Shapes in the comments: B signals of L samples, N tiles of four samples in each, C channels that go in, O that come out.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_TAPS = 4
"""Of half a filter, and outputs of a tile."""

_POINTS = (0, 1, -1, 2, -2, 0.5)
"""Where the polynomials are evaluated, besides infinity."""

_N = len(_POINTS) + 1
_EVALUATION = np.vstack([np.vander(np.array(_POINTS), _N, increasing=True), np.eye(_N)[-1]])
_OF_FILTER = torch.from_numpy(np.vstack([_EVALUATION[:-1, :_TAPS], np.eye(_TAPS)[-1]])).float()  # (7, 4)
_OF_TILE = torch.from_numpy(np.linalg.inv(_EVALUATION).T).float()  # (7, 7): four samples and the three after them


class ShortConvolution(nn.Conv2d):
    """`nn.Conv2d`, faster for a kernel of (1, 8), padding (0, 4), stride 1 and no bias: the small-kernel branch's.

    In training, in float32 on a CPU, such a convolution takes 7 / 16 of the products and differs from torch's own by
    rounding. Everything else is torch's own. Without gradients, which are two thirds of the products, the fast way
    takes as long as torch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, 1, L) to (B, O, 1, L + 1)."""
        if not self._is_fast(x):
            return super().forward(x)
        n_signals, n_in, _, n_before = x.shape
        n_tiles = n_before // _TAPS + 1
        points = _Points.apply(x, n_tiles).view(n_signals, 1, n_tiles + 1, -1).permute(0, 3, 1, 2)  # (B, 7 C, 1, N + 1)
        halves = self.weight.view(-1, n_in, 2, _TAPS)
        filters = torch.einsum("pk,oihk->pohi", _OF_FILTER, halves).flatten(0, 1).unsqueeze(1).permute(0, 3, 1, 2)
        products = F.conv2d(points, filters, groups=_N)  # (B, 7 O, 1, N)
        products = products.permute(0, 2, 3, 1).reshape(n_signals * n_tiles, _N, -1)  # (B N, 7, O)
        outputs = torch.matmul(_OF_FILTER.T, products).view(n_signals, 1, _TAPS * n_tiles, -1)  # (B, 1, 4 N, O)
        signals = outputs[:, :, : n_before + 1].contiguous()  # (B, 1, L + 1, O): the channels last in memory
        return signals.permute(0, 3, 1, 2)  # (B, O, 1, L + 1)

    def _is_fast(self, x: Tensor) -> bool:
        """Tell whether the fast way applies."""
        has_shape = (self.kernel_size, self.padding, self.stride, self.bias) == (
            (1, 2 * _TAPS),
            (0, _TAPS),
            (1, 1),
            None,
        )
        fp32_on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return has_shape and fp32_on_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class _Points(torch.autograd.Function):
    """Evaluate the tiles of signals (B, C, 1, L), the first of them zeros, at seven points: (B (N + 1), 7, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, n_tiles: int) -> Tensor:
        """Stack all signals in one column. The last tile of a signal reads the zeros before the next one."""
        n_signals, n_in, _, ctx.n_before = x.shape
        column = x.new_empty(n_signals * _TAPS * (n_tiles + 1) + _TAPS, n_in)
        column[-_TAPS:] = 0
        signals = column[:-_TAPS].unflatten(0, (n_signals, -1))  # (B, 4 (N + 1), C)
        signals[:, :_TAPS] = 0
        signals[:, _TAPS : _TAPS + ctx.n_before] = x.squeeze(2).transpose(1, 2)
        signals[:, _TAPS + ctx.n_before :] = 0
        tiles = column.as_strided((n_signals * (n_tiles + 1), _N, n_in), (_TAPS * n_in, n_in, 1))  # overlapping by 3
        ctx.n_signals = n_signals
        return torch.matmul(_OF_TILE, tiles)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Add up what each sample gave to its own tile and to the one before."""
        of_points = gradients[0].contiguous()
        of_tiles = torch.matmul(_OF_TILE[:, :_TAPS].T, of_points)  # (B (N + 1), 4, C)
        of_tiles[1:, : _N - _TAPS] += torch.matmul(_OF_TILE[:, _TAPS:].T, of_points[:-1])
        of_signals = of_tiles.view(ctx.n_signals, 1, -1, of_tiles.shape[2])[:, :, _TAPS : _TAPS + ctx.n_before]
        return of_signals.permute(0, 3, 1, 2), None
