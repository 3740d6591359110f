"""Convolutions of eight taps with fewer multiplications, for networks that score and are not trained.

Winograd's minimal filtering: four outputs of a filter of four taps need seven products instead of sixteen, because a
correlation becomes a product point by point where polynomials are evaluated and interpolated (Toom and Cook; Lavin and
Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016). A filter of eight taps is two of four, the second
applied four samples, that is one tile, later.
"""

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_TAPS = 4
"""Of half a filter, and outputs of a tile."""

_POINTS = (0, 1, -1, 2, -2, 0.5)
"""Where the polynomials are evaluated, besides infinity."""

_N = 2 * _TAPS - 1


def shortened(network: nn.Module) -> nn.Module:
    """Return a copy of `network` with its convolutions of eight taps computed in fewer products.

    Parameters
    ----------
    network : nn.Module
        It stays as it is.

    Returns
    -------
    nn.Module
        In evaluation mode; its outputs differ by rounding alone.
    """
    copy = deepcopy(network).eval()
    for layers in [module for module in copy.modules() if isinstance(module, nn.Sequential)]:
        for k, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d) and _can_be_short(layer):
                layers[k] = ShortConvolution(layer)
    return copy


def _can_be_short(convolution: nn.Conv2d) -> bool:
    """Tell whether `ShortConvolution` can stand for a convolution."""
    kernel, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    return kernel == (1, 2 * _TAPS) and stride == (1, 1) and padding[0] == 0 and int(padding[1]) >= _TAPS - 1


class ShortConvolution(nn.Module):
    """A convolution of height 1, stride 1 and eight taps along time.

    Parameters
    ----------
    convolution : nn.Conv2d
        Padded with three zeros or more at both ends.
    """

    weight: Tensor
    bias: Tensor
    into_points: Tensor
    from_points: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        n_out, n_in = convolution.weight.shape[:2]
        self.padding = int(convolution.padding[1])
        evaluation = np.vstack([np.vander(np.array(_POINTS), _N, increasing=True), np.eye(_N)[-1]])
        taps = np.vstack([evaluation[:-1, :_TAPS], np.eye(_TAPS)[-1]])
        halves = convolution.weight.detach().double().reshape(n_out, n_in, 2, _TAPS)
        weight = torch.einsum("pk,oihk->poih", torch.from_numpy(taps), halves).reshape(_N * n_out, n_in, 1, 2)
        bias = torch.zeros(_N, n_out)
        if convolution.bias is not None:
            bias[_POINTS.index(1)] = convolution.bias.detach()  # the value at 1 goes into each output once
        self.register_buffer("weight", weight.float().contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias.flatten())
        self.register_buffer("into_points", torch.from_numpy(np.linalg.inv(evaluation).T).float())
        self.register_buffer("from_points", torch.from_numpy(taps.T).float())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, 1, L) to (B, O, 1, L'), as the convolution does."""
        n_batch, n_in, _, n_before = x.shape
        length = n_before + 2 * self.padding - 2 * _TAPS + 1
        n_tiles = -(-length // _TAPS)
        # All signals in one column: what the last tile of one reads of the next are the zeros before that.
        column = x.new_zeros(n_batch * _TAPS * (n_tiles + 1) + _TAPS, n_in)
        signal = column[:-_TAPS].unflatten(0, (n_batch, -1))  # (B, 4 (tiles + 1), C)
        signal[:, self.padding : self.padding + n_before] = x.squeeze(2).transpose(1, 2)
        tiles = column.as_strided((n_batch * (n_tiles + 1), _N, n_in), (_TAPS * n_in, n_in, 1))  # overlapping by 3
        points = torch.matmul(self.into_points, tiles)  # (B (tiles + 1), 7, C)
        points = points.view(n_batch, 1, n_tiles + 1, -1).permute(0, 3, 1, 2)  # (B, 7 C, 1, tiles + 1)
        products = F.conv2d(points, self.weight, self.bias, groups=_N)  # (B, 7 O, 1, tiles)
        products = products.permute(0, 2, 3, 1).reshape(n_batch * n_tiles, _N, -1)  # (B tiles, 7, O)
        outputs = torch.matmul(self.from_points, products).view(n_batch, _TAPS * n_tiles, -1)  # (B, 4 tiles, O)
        return outputs[:, :length].transpose(1, 2).unsqueeze(2)
