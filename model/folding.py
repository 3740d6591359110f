"""Batch norms folded into the convolutions before them: the same output in evaluation, a pass less over the data."""

from copy import deepcopy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.short_convolution import ShortConvolution

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, ShortConvolution)
"""Only these are folded: another class that is derived from torch's may compute something else."""


def folded(network: nn.Module) -> nn.Module:
    """Return a copy of `network` for evaluation in which no batch norm is left that follows a convolution.

    Parameters
    ----------
    network : nn.Module
        Its convolutions and batch norms stand one after the other in `nn.Sequential`. It stays as it is.

    Returns
    -------
    nn.Module
        In evaluation mode; its outputs differ by rounding alone.
    """
    copy = deepcopy(network).eval()
    for layers in [module for module in copy.modules() if isinstance(module, nn.Sequential)]:
        for k in range(len(layers) - 1):
            convolution, norm = layers[k], layers[k + 1]
            if (
                isinstance(convolution, nn.Conv1d | nn.Conv2d)
                and type(convolution) in _CONVOLUTIONS
                and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
                and norm.track_running_stats
            ):
                layers[k], layers[k + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return copy
