"""Weights of the released network by a formula, and the network of the benchmarks as the reference for them."""

import math

import numpy as np
import torch

from benchmarks.textbook import AttnSleep

DEAD = (".self_attn.convs.0.", ".sublayer_output.0.")
"""Parts of the names of the released parameters that never reach the output. The reference network has none of them."""


def shapes(fs):
    """Shape of every weight of the released state dict, by name, for 100 or 125 Hz."""
    sizes = {name: tuple(value.shape) for name, value in AttnSleep(fs).state_dict().items()}
    (width,) = sizes["tce.norm.a_2"]
    for layer in ("tce.layers.0", "tce.layers.1"):
        sizes |= {f"{layer}.self_attn.convs.0.weight": (30, 30, 7), f"{layer}.self_attn.convs.0.bias": (30,)}
        sizes |= {f"{layer}.sublayer_output.0.norm.{part}": (width,) for part in ("a_2", "b_2")}
    return sizes


def is_dead(name):
    """Tell whether a released parameter never reaches the output."""
    return any(part in name for part in DEAD)


def reference(weights, fs):
    """Make the reference network with released weights, in evaluation mode."""
    network = AttnSleep(fs)
    network.load_state_dict({name: value for name, value in weights.items() if not is_dead(name)})
    return network.eval()


def weights_by_formula(fs):
    """Weights that anyone can compute again: sines of the position, sized by what the weight is for."""
    return {name: torch.from_numpy(_value(name, shape)) for name, shape in shapes(fs).items()}


def _value(name, shape):
    if name.endswith("num_batches_tracked"):
        return np.array(1)
    position = np.arange(math.prod(shape), dtype=np.float64)
    # 2.4 is no rational part of a turn and near a third of one: neighbours differ, and so do the rows of a matrix.
    wave = np.sin(2.4 * position + 0.001 * position**1.5 + len(name)).reshape(shape)
    if name.endswith("running_var"):
        return (1 + wave**2).astype(np.float32)
    if name.endswith("a_2") or (len(shape) == 1 and name.endswith("weight")):
        return (1 + 0.2 * wave).astype(np.float32)
    if len(shape) == 1:
        return (0.1 * wave).astype(np.float32)
    gain = 0.5 if name.startswith("fc") else 2
    return (wave * math.sqrt(gain / math.prod(shape[1:]))).astype(np.float32)


def signal_by_formula(fs, n_sleep_epochs):
    """Input that anyone can compute again, (n_sleep_epochs, 1, 30 fs): as rough as noise, around 30 in size."""
    position = np.arange(n_sleep_epochs * 30 * fs, dtype=np.float64)
    rough = np.sin(position**1.5) + np.sin(0.003 * position**1.5)
    return torch.from_numpy((30 * rough).astype(np.float32).reshape(n_sleep_epochs, 1, -1))
