"""Weights of the released research code, by its state-dict names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.model import WIDE_BRANCH_KERNEL, AttnSleep
from utils.errors import UserError

_NAMES = {
    "mrcnn.small": "mrcnn.features1",
    "mrcnn.wide": "mrcnn.features2",
    "afr.convolutions.0": "mrcnn.AFR.0.conv1",
    "afr.convolutions.1": "mrcnn.AFR.0.bn1",
    "afr.convolutions.3": "mrcnn.AFR.0.conv2",
    "afr.convolutions.4": "mrcnn.AFR.0.bn2",
    "afr.excitation": "mrcnn.AFR.0.se.fc",
    "afr.shortcut": "mrcnn.AFR.0.downsample",
    "attention_output.0": "self_attn.linear",
    "feed_forward.0.weight": "sublayer_output.1.norm.a_2",
    "feed_forward.0.bias": "sublayer_output.1.norm.b_2",
    "feed_forward.1": "feed_forward.w_1",
    "feed_forward.4": "feed_forward.w_2",
    "tce.norm.weight": "tce.norm.a_2",
    "tce.norm.bias": "tce.norm.b_2",
    "head": "fc",
}
"""Part of a name here -> the same in the released code."""

_QUERIES_KEYS_VALUES = ("conv", "self_attn.convs.1", "self_attn.convs.2")
"""The released convolutions that are one convolution here; self_attn.convs.0 never reaches the output."""


def from_original_state_dict(state_dict: Mapping[str, Tensor]) -> AttnSleep:
    """Build the network with the weights of a model of the released code.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Released names, with or without the `module.` of a DataParallel model. Parameters that never reach the
        released network's output are passed over. Sampling rate and sizes follow from the shapes; heads (5) and
        activation (GELU) leave no trace in a state dict and are the published ones.

    Returns
    -------
    AttnSleep
        In evaluation mode.

    Raises
    ------
    UserError
        A name is missing or a shape does not fit.
    """
    original = _without_prefix(state_dict)
    try:
        fs = original_fs(original)
        n_layers = len({name.split(".")[2] for name in original if name.startswith("tce.layers.")})
        d_ff = original["tce.layers.0.feed_forward.w_1.weight"].shape[0]
        model = AttnSleep(fs=fs, n_tce_layers=n_layers, d_ff=d_ff)
        model.load_state_dict({name: _value(name, original) for name in model.state_dict()})
    except KeyError as error:
        raise UserError(f"the state dict is not one of the released AttnSleep: it has no {error}.") from error
    except (RuntimeError, IndexError, AttributeError) as error:
        raise UserError(f"the state dict is not one of the released AttnSleep: {error}") from error
    return model.eval()


def original_fs(state_dict: Mapping[str, Tensor]) -> int:
    """Tell the sampling rate (Hz) of a model of the released code by the kernel of its wide branch.

    Raises
    ------
    UserError
        There is no network with such a kernel.
    """
    name = "mrcnn.features2.5.weight"
    kernel = _without_prefix(state_dict)[name].shape[2]
    for fs, width in WIDE_BRANCH_KERNEL.items():
        if width == kernel:
            return fs
    raise UserError(f"{name} has a kernel of {kernel}; AttnSleep has 7 (100 Hz) or 6 (125 Hz).")


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take away the `module.` that a DataParallel model puts before each name."""
    return {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}


def _value(name: str, original: Mapping[str, Tensor]) -> Tensor:
    """Find the released code's value of our parameter `name`."""
    if ".queries_keys_values." in name:
        return torch.cat([original[name.replace("queries_keys_values", part)] for part in _QUERIES_KEYS_VALUES])
    part = next(part for part in _NAMES if part in name)
    value = original[name.replace(part, _NAMES[part])]
    # A 1-d convolution of the MRCNN is a 2-d one of height 1 here.
    return value.unsqueeze(2) if name.startswith("mrcnn.") and value.ndim == 3 else value
