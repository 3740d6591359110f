"""The released network, written a second time straight from the table of its layers, without any module of torch's.

It takes the released state dict, dead parameters included, and is slow and plain on purpose.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

SMALL, WIDE, AFR = "mrcnn.features1", "mrcnn.features2", "mrcnn.AFR.0"
N_LAYERS, N_HEADS = 2, 5


def shapes(fs):
    """Shape of every weight of the released state dict, by name, for 100 or 125 Hz."""
    width, kernel = (80, 7) if fs == 100 else (100, 6)
    sizes = {}
    for branch, first, others in ((SMALL, 50, 8), (WIDE, 400, kernel)):
        for position, (n_out, n_in, size) in {0: (64, 1, first), 5: (128, 64, others), 8: (128, 128, others)}.items():
            sizes[f"{branch}.{position}.weight"] = (n_out, n_in, size)
            sizes |= _batch_norm(f"{branch}.{position + 1}", n_out)
    sizes |= {f"{AFR}.conv1.weight": (30, 128, 1), f"{AFR}.conv1.bias": (30,)} | _batch_norm(f"{AFR}.bn1", 30)
    sizes |= {f"{AFR}.conv2.weight": (30, 30, 1), f"{AFR}.conv2.bias": (30,)} | _batch_norm(f"{AFR}.bn2", 30)
    sizes |= {f"{AFR}.se.fc.0.weight": (1, 30), f"{AFR}.se.fc.2.weight": (30, 1)}
    sizes |= {f"{AFR}.downsample.0.weight": (30, 128, 1)} | _batch_norm(f"{AFR}.downsample.1", 30)
    for layer in (f"tce.layers.{number}" for number in range(N_LAYERS)):
        for part in ("conv", *(f"self_attn.convs.{number}" for number in range(3))):
            sizes |= {f"{layer}.{part}.weight": (30, 30, 7), f"{layer}.{part}.bias": (30,)}
        for part, n_out, n_in in (
            ("self_attn.linear", width, width),
            ("feed_forward.w_1", 120, width),
            ("feed_forward.w_2", width, 120),
        ):
            sizes |= {f"{layer}.{part}.weight": (n_out, n_in), f"{layer}.{part}.bias": (n_out,)}
        for part in ("sublayer_output.0.norm", "sublayer_output.1.norm"):
            sizes |= {f"{layer}.{part}.a_2": (width,), f"{layer}.{part}.b_2": (width,)}
    sizes |= {"tce.norm.a_2": (width,), "tce.norm.b_2": (width,)}
    return sizes | {"fc.weight": (5, 30 * width), "fc.bias": (5,)}


def _batch_norm(name, n):
    sizes = {f"{name}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")}
    return sizes | {f"{name}.num_batches_tracked": ()}


def is_dead(name):
    """Tell whether a released parameter never reaches the output."""
    return ".self_attn.convs.0." in name or ".sublayer_output.0." in name


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
    if name.endswith(("a_2",)) or (len(shape) == 1 and name.endswith("weight")):
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


def features(weights, x, training=False):
    """MRCNN and AFR: (B, 1, T) -> (B, 30, d)."""
    w = _Weights(weights, training)
    small = w.convolution(x, f"{SMALL}.0", stride=6, padding=24)
    small = F.max_pool1d(small, 8, 2, 4)
    small = w.convolution(small, f"{SMALL}.5", padding=4)
    small = w.convolution(small, f"{SMALL}.8", padding=4)
    small = F.max_pool1d(small, 4, 4, 2)
    wide = w.convolution(x, f"{WIDE}.0", stride=50, padding=200)
    wide = F.max_pool1d(wide, 4, 2, 2)
    wide = w.convolution(wide, f"{WIDE}.5", padding=3)
    wide = w.convolution(wide, f"{WIDE}.8", padding=3)
    wide = F.max_pool1d(wide, 2, 2, 1)
    joined = torch.cat([small, wide], dim=2)

    y = w.norm(F.conv1d(joined, w[f"{AFR}.conv1.weight"], w[f"{AFR}.conv1.bias"]), f"{AFR}.bn1")
    y = w.norm(F.conv1d(y.relu(), w[f"{AFR}.conv2.weight"], w[f"{AFR}.conv2.bias"]), f"{AFR}.bn2")
    excitation = (y.mean(2) @ w[f"{AFR}.se.fc.0.weight"].T).relu() @ w[f"{AFR}.se.fc.2.weight"].T
    shortcut = w.norm(F.conv1d(joined, w[f"{AFR}.downsample.0.weight"]), f"{AFR}.downsample.1")
    return (y * excitation.sigmoid()[:, :, None] + shortcut).relu()


def encoded(weights, x):
    """TCE and its last LayerNorm: (B, 30, d) -> (B, 30, d)."""
    for layer in (f"tce.layers.{number}" for number in range(N_LAYERS)):
        x = tce_layer({name.removeprefix(f"{layer}."): value for name, value in weights.items()}, x)
    return layer_norm(x, weights["tce.norm.a_2"], weights["tce.norm.b_2"])


def tce_layer(w, x):
    """One layer of the TCE; `w` by name within the layer."""
    query = causal(x, w["conv.weight"], w["conv.bias"])
    keys = causal(x, w["self_attn.convs.1.weight"], w["self_attn.convs.1.bias"])
    values = causal(x, w["self_attn.convs.2.weight"], w["self_attn.convs.2.bias"])
    size = x.shape[2] // N_HEADS
    heads = []
    for head in range(N_HEADS):
        q, k, v = (part[:, :, head * size : (head + 1) * size] for part in (query, keys, values))
        heads.append(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(size), dim=2) @ v)
    attention = torch.cat(heads, dim=2) @ w["self_attn.linear.weight"].T + w["self_attn.linear.bias"]
    h = query + attention
    y = layer_norm(h, w["sublayer_output.1.norm.a_2"], w["sublayer_output.1.norm.b_2"])
    y = (y @ w["feed_forward.w_1.weight"].T + w["feed_forward.w_1.bias"]).relu()
    return h + y @ w["feed_forward.w_2.weight"].T + w["feed_forward.w_2.bias"]


def causal(x, weight, bias):
    """Write the convolution out: position i is a sum over i - 6 to i; what is before the first position is 0."""
    kernel, length = weight.shape[2], x.shape[2]
    before = torch.zeros(x.shape[0], x.shape[1], kernel - 1, dtype=x.dtype)
    padded = torch.cat([before, x], dim=2)
    return sum(weight[:, :, lag] @ padded[:, :, lag : lag + length] for lag in range(kernel)) + bias[:, None]


def layer_norm(x, a, b):
    """a (x - mean) / (std + 1e-6) + b with the unbiased std."""
    return a * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + b


def logits(weights, x, training=False):
    """(B, 1, T) -> (B, 5); in training, every dropout is 0 and the batch norms use the batch."""
    y = encoded(weights, features(weights, x, training))
    return y.flatten(1) @ weights["fc.weight"].T + weights["fc.bias"]


class _Weights(dict):
    def __init__(self, weights, training):
        super().__init__(weights)
        self.training = training

    def convolution(self, x, name, stride=1, padding=0):
        """Convolution without bias, batch norm and exact GELU."""
        branch, _, position = name.rpartition(".")
        y = F.conv1d(x, self[f"{name}.weight"], stride=stride, padding=padding)
        y = self.norm(y, f"{branch}.{int(position) + 1}")
        return y * (1 + torch.erf(y / math.sqrt(2))) / 2

    def norm(self, x, name):
        mean, variance = self[f"{name}.running_mean"], self[f"{name}.running_var"]
        if self.training:
            mean, variance = x.mean((0, 2)), x.var((0, 2), unbiased=False)
        normal = (x - mean[:, None]) / torch.sqrt(variance[:, None] + 1e-5)
        return normal * self[f"{name}.weight"][:, None] + self[f"{name}.bias"][:, None]
