"""The networks that `arch.type` of the configuration can name: the classes in `__all__`. Add yours here.

A network is a torch module that maps a signal, (B, 1, T) in microvolts, to logits of W, N1, N2, N3, REM, (B, 5).
T = 30 * fs * n_sleep_epochs: 3000 for one sleep epoch at 100 Hz. Training, resume, report, `predict.py` and export need
no more than that. When the configuration is checked, the network goes forward and backward once on two sleep epochs.

The constructor takes `arch.args`. If it names them, it is also given

    fs              sampling rate of the recordings in Hz, `data_loader.args.fs`
    n_sleep_epochs  consecutive sleep epochs in one signal: 1, and those that `data_loader.args.context` adds around it

A network may have a method `summary(signal)`, (B, 1, T) -> (B, C), such as logits and features. The night context
(`configs/night_context.json`) reads it and refuses networks without it.

The layer that gives the logits may be named `head`. Training on from other weights can then leave all else as it is
(`initial.layers`), or train it at a lower rate than the head (`initial.lr_factor`).

A class that says `recordable = True` trains faster on a GPU, which then repeats the training step without Python (see
`trainer.recorded_step`). Its forward must do the same each time: random numbers by torch and on the signal's device
alone, no counters, no choice by a value that a tensor holds. The class of the loss must be one of torch or say so too.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from model.dropout import Dropout
from model.short_convolution import ShortConvolution
from utils.errors import UserError
from utils.stages import N_STAGES, SLEEP_EPOCH_S

__all__ = ["AttnSleep"]

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}
WIDE_BRANCH_KERNEL = {100: 7, 125: 6}
"""Kernel of the wide-kernel branch's second and third convolution, by sampling rate in Hz."""

N_MRCNN_FEATURES = 128
N_AFR_FEATURES = 30
CAUSAL_KERNEL = 7


class AttnSleep(nn.Module):
    """The network of the paper's figure 1 (Eldele et al., IEEE TNSRE 29:809-818, 2021).

        EEG (B, 1, T) -> MRCNN (B, 128, L) -> AFR (B, F, L) -> TCE (B, F, L) -> head (B, 5)

    Shapes in the comments: B sleep epochs, T samples, F feature maps (the tokens of the TCE), L positions (the width d
    of the TCE), H heads. The published sizes are T 3000, F 30, L 80, H 5 at 100 Hz and T 3750, L 100 at 125 Hz.

    The 1-d convolutions are written as 2-d ones of height 1, channels last in memory: a CPU computes them faster so.

    Parameters
    ----------
    fs : int
        Sampling rate, 100 or 125 Hz.
    n_heads : int
        Heads of the attention; they must divide the TCE's width L.
    n_tce_layers : int
        Layers of the TCE.
    d_ff : int
        Width of the TCE's feed-forward layers.
    dropout_mrcnn, dropout_tce : float
        Probabilities of a zero, from 0 to below 1.
    activation : {"gelu", "relu", "leaky_relu"}
        Of the MRCNN.
    afr, tce : bool
        Whether the adaptive feature recalibration and the temporal context encoder are there (the paper's ablations).
    n_sleep_epochs : int
        Consecutive sleep epochs in one input, the paper's 3-epoch input for instance; T = 30 fs n_sleep_epochs.

    Raises
    ------
    UserError
        An argument has a value that the network cannot take; says which would do.
    """

    recordable = True

    def __init__(
        self,
        fs: int = 100,
        n_heads: int = 5,
        n_tce_layers: int = 2,
        d_ff: int = 120,
        dropout_mrcnn: float = 0.5,
        dropout_tce: float = 0.1,
        activation: str = "gelu",
        afr: bool = True,
        tce: bool = True,
        n_sleep_epochs: int = 1,
    ) -> None:
        super().__init__()
        if fs not in WIDE_BRANCH_KERNEL:
            raise UserError(f"AttnSleep takes fs 100 or 125 Hz, not {fs}.")
        if activation not in ACTIVATIONS:
            raise UserError(f"AttnSleep has no activation {activation!r}; it has {', '.join(ACTIVATIONS)}.")
        if not (1 <= n_tce_layers <= 64 and 1 <= d_ff <= 10_000):
            raise UserError(
                f"AttnSleep takes n_tce_layers from 1 to 64 and d_ff from 1 to 10000, not {n_tce_layers} and {d_ff}."
            )
        self.mrcnn = MRCNN(int(fs), ACTIVATIONS[activation], dropout_mrcnn)
        n_features = N_AFR_FEATURES if afr else N_MRCNN_FEATURES
        width = self.mrcnn.output_length(SLEEP_EPOCH_S * int(fs) * n_sleep_epochs)
        self.afr = AFR(N_MRCNN_FEATURES, n_features) if afr else nn.Identity()
        self.tce = TCE(n_features, width, n_heads, n_tce_layers, d_ff, dropout_tce) if tce else nn.Identity()
        self.head = nn.Linear(n_features * width, N_STAGES)

    def forward(self, signal: Tensor) -> Tensor:
        """Map EEG in microvolts, (B, 1, T), to logits in the order W, N1, N2, N3, REM, (B, 5)."""
        return self.head(self.encode(signal).flatten(1))  # (B, F, L) -> (B, F L) -> (B, 5)

    def encode(self, signal: Tensor) -> Tensor:
        """Map EEG, (B, 1, T), to the features that the head reads, (B, F, L)."""
        features = self.mrcnn(signal)  # (B, 128, L)
        recalibrated = self.afr(features)  # (B, F, L)
        return self.tce(recalibrated)  # (B, F, L)

    def summary(self, signal: Tensor) -> Tensor:
        """Map EEG, (B, 1, T), to what the night context reads: logits, and features averaged over L, (B, 5 + F)."""
        encoded = self.encode(signal)  # (B, F, L)
        return torch.cat([self.head(encoded.flatten(1)), encoded.mean(dim=2)], dim=1)


class MRCNN(nn.Module):
    """Multi-resolution CNN (paper, section II-B.1): a small and a wide kernel look at the same signal.

    Parameters
    ----------
    fs : int
        Sampling rate, 100 or 125 Hz.
    activation : type
        Class of the activation.
    dropout : float
        Probability of a zero.
    """

    def __init__(self, fs: int, activation: type[nn.Module], dropout: float) -> None:
        super().__init__()
        kernel = WIDE_BRANCH_KERNEL[fs]
        self.small = nn.Sequential(
            *_normalised(nn.Conv2d(1, 64, (1, 50), stride=(1, 6), padding=(0, 24), bias=False), activation),
            nn.MaxPool2d((1, 8), (1, 2), (0, 4)),
            Dropout(dropout),
            *_normalised(ShortConvolution(64, 128, (1, 8), padding=(0, 4), bias=False), activation),
            *_normalised(ShortConvolution(128, 128, (1, 8), padding=(0, 4), bias=False), activation),
            nn.MaxPool2d((1, 4), (1, 4), (0, 2)),
        )
        self.wide = nn.Sequential(
            *_normalised(nn.Conv2d(1, 64, (1, 400), stride=(1, 50), padding=(0, 200), bias=False), activation),
            nn.MaxPool2d((1, 4), (1, 2), (0, 2)),
            Dropout(dropout),
            *_normalised(nn.Conv2d(64, 128, (1, kernel), padding=(0, 3), bias=False), activation),
            *_normalised(nn.Conv2d(128, 128, (1, kernel), padding=(0, 3), bias=False), activation),
            nn.MaxPool2d((1, 2), (1, 2), (0, 1)),
        )
        self.dropout = Dropout(dropout)

    def forward(self, signal: Tensor) -> Tensor:
        """Map EEG, (B, 1, T), to features of both resolutions one after the other in time, (B, 128, L)."""
        # (B, 1, T) -> (B, 1, T, 1) -> (B, 1, 1, T). With one channel and height 1 every layout is contiguous: only the
        # strides that the permutation leaves tell torch that the channels are last, and all layers that follow keep it.
        image = signal.contiguous().unsqueeze(3).permute(0, 3, 1, 2)
        joined = torch.cat([self.small(image), self.wide(image)], dim=3)  # (B, 128, 1, L)
        if joined.requires_grad:  # the gradients of the layers above keep the layout as well
            joined.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return self.dropout(joined.squeeze(2))  # (B, 128, L)

    def output_length(self, n_samples: int) -> int:
        """Positions L that come out when `n_samples` go in."""
        return sum(_output_length(branch, n_samples) for branch in (self.small, self.wide))


class AFR(nn.Module):
    """Adaptive feature recalibration (paper, section II-B.2): a residual squeeze-and-excitation block.

    Parameters
    ----------
    n_in, n_out : int
        Feature maps that go in and come out.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            _initialised(nn.Conv1d(n_in, n_out, 1)),
            _initialised(nn.BatchNorm1d(n_out)),
            nn.ReLU(),
            _initialised(nn.Conv1d(n_out, n_out, 1)),
            _initialised(nn.BatchNorm1d(n_out)),
        )
        self.excitation = nn.Sequential(
            nn.Linear(n_out, 1, bias=False), nn.ReLU(), nn.Linear(1, n_out, bias=False), nn.Sigmoid()
        )
        self.shortcut = nn.Sequential(
            _initialised(nn.Conv1d(n_in, n_out, 1, bias=False)), _initialised(nn.BatchNorm1d(n_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 128, L) to (B, F, L)."""
        features = self.convolutions(x)  # (B, F, L)
        weights = self.excitation(features.mean(dim=2)).unsqueeze(2)  # (B, F) -> (B, F, 1)
        return F.relu(features * weights + self.shortcut(x))


class TCE(nn.Module):
    """Temporal context encoder (paper, section II-C): the F feature maps are the tokens, L is the width.

    Parameters
    ----------
    n_tokens, width, n_heads, n_layers, d_ff : int
        F, L, H, number of layers, width of the feed-forward layers.
    dropout : float
        Probability of a zero.

    Raises
    ------
    UserError
        The heads do not divide the width; names those that do.
    """

    def __init__(self, n_tokens: int, width: int, n_heads: int, n_layers: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        if n_heads < 1 or width % n_heads:
            divisors = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
            raise UserError(f"{n_heads} heads do not divide the TCE's width of {width}; these do: {divisors}.")
        self.layers = nn.Sequential(*(TCELayer(n_tokens, width, n_heads, d_ff, dropout) for _ in range(n_layers)))
        self.norm = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, F, L) to (B, F, L)."""
        return self.norm(self.layers(x))


class TCELayer(nn.Module):
    """One layer of the TCE: multi-head attention over causal convolutions, then a feed-forward network.

    Parameters
    ----------
    n_tokens, width, n_heads, d_ff : int
        F, L, H, width of the feed-forward network.
    dropout : float
        Probability of a zero.
    """

    def __init__(self, n_tokens: int, width: int, n_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        # Queries, keys and values are three causal convolutions of the same input: one with three times the outputs.
        self.queries_keys_values = nn.Conv1d(n_tokens, 3 * n_tokens, CAUSAL_KERNEL)
        self.attention_dropout = Dropout(dropout)
        self.attention_output = nn.Sequential(nn.Linear(width, width), Dropout(dropout))
        self.feed_forward = nn.Sequential(
            LayerNorm(width),
            nn.Linear(width, d_ff),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(d_ff, width),
            Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, F, L) to (B, F, L)."""
        # Padded on the left alone, position i sees i - 6 to i.
        queries, keys, values = self.queries_keys_values(F.pad(x, (CAUSAL_KERNEL - 1, 0))).chunk(3, dim=1)
        # The released code adds the attention to the queries, not to x, and has no LayerNorm before it.
        h = queries + self.attention_output(self._attend(queries, keys, values))
        return h + self.feed_forward(h)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Scaled dot-product attention of H heads side by side; all (B, F, L)."""
        queries, keys, values = (self._split(x) for x in (queries, keys, values))  # (B, H, F, L / H)
        scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])  # (B, H, F, F)
        weights = self.attention_dropout(scores.softmax(dim=3))
        return (weights @ values).transpose(1, 2).flatten(2)  # (B, F, H, L / H) -> (B, F, L)

    def _split(self, x: Tensor) -> Tensor:
        """Split (B, F, L) into heads, (B, H, F, L / H)."""
        return x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)


class LayerNorm(nn.Module):
    """Scale to mean 0 and *unbiased* standard deviation 1 over the last axis, as the released code does.

    torch's layer norm divides by the biased deviation, which is sqrt((d - 1) / d) of the unbiased one.

    Parameters
    ----------
    width : int
        Size d of the last axis.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., d)."""
        width = x.shape[-1]
        return F.layer_norm(x.float(), (width,), self.weight * math.sqrt((width - 1) / width), self.bias, eps=1e-12)


def _normalised(convolution: nn.Conv2d, activation: type[nn.Module]) -> tuple[nn.Module, ...]:
    """Make convolution along time, batch norm and activation."""
    return _initialised(convolution), _initialised(nn.BatchNorm2d(convolution.out_channels)), activation()


def _initialised(layer: nn.Module) -> nn.Module:
    """Draw the weights as the released code does; biases of convolutions stay torch's."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)
    return layer


def _output_length(layers: nn.Sequential, length: int) -> int:
    """Positions that come out of convolutions and pools along time."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding = (_along_time(side) for side in (layer.kernel_size, layer.stride, layer.padding))
            length = (length + 2 * padding - kernel) // stride + 1
    return length


def _along_time(size: int | tuple[int, ...] | str) -> int:
    """Take the second of the two numbers that a 2-d layer keeps."""
    return int(size[-1] if isinstance(size, tuple) else size)
