"""AttnSleep straight from the paper's table with torch's stock modules, and the usual way to load, train and evaluate.

The speed of the project is measured against this code, and the tests take it as the reference for the network. Its
parameters carry the released code's names, so released weights can be loaded. What the released code never uses,
`self_attn.convs.0` and `sublayer_output.0.norm`, is left out.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

N_HEADS = 5


class AttnSleep(nn.Module):
    """The network with the published sizes: (B, 1, 3000) at 100 Hz or (B, 1, 3750) at 125 Hz -> (B, 5).

    Shapes in the docstrings: L is 80 at 100 Hz and 100 at 125 Hz.

    Parameters
    ----------
    fs : {100, 125}
        Sampling rate in Hz.
    """

    def __init__(self, fs: int = 100) -> None:
        super().__init__()
        width, wide_kernel = {100: (80, 7), 125: (100, 6)}[fs]
        self.mrcnn = MRCNN(wide_kernel)
        self.tce = named(layers=nn.Sequential(TCELayer(width), TCELayer(width)), norm=LayerNorm(width))
        self.fc = nn.Linear(30 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map EEG to logits."""
        return self.fc(self.tce(self.mrcnn(x)).flatten(1))


def named(**layers: nn.Module) -> nn.Sequential:
    """Put layers with names one after the other."""
    return nn.Sequential(OrderedDict(layers))


def convolution(n_in: int, n_out: int, kernel: int, stride: int = 1, padding: int = 0) -> tuple[nn.Module, ...]:
    """Make convolution, batch norm and activation."""
    return nn.Conv1d(n_in, n_out, kernel, stride, padding, bias=False), nn.BatchNorm1d(n_out), nn.GELU()


class MRCNN(nn.Module):
    """Both branches, dropout and the AFR: (B, 1, T) -> (B, 30, L)."""

    def __init__(self, wide_kernel: int) -> None:
        super().__init__()
        self.features1 = nn.Sequential(
            *convolution(1, 64, 50, stride=6, padding=24),
            nn.MaxPool1d(8, 2, 4),
            nn.Dropout(0.5),
            *convolution(64, 128, 8, padding=4),
            *convolution(128, 128, 8, padding=4),
            nn.MaxPool1d(4, 4, 2),
        )
        self.features2 = nn.Sequential(
            *convolution(1, 64, 400, stride=50, padding=200),
            nn.MaxPool1d(4, 2, 2),
            nn.Dropout(0.5),
            *convolution(64, 128, wide_kernel, padding=3),
            *convolution(128, 128, wide_kernel, padding=3),
            nn.MaxPool1d(2, 2, 1),
        )
        self.dropout = nn.Dropout(0.5)
        self.AFR = nn.Sequential(AFR())

    def forward(self, x: Tensor) -> Tensor:
        """Map EEG to recalibrated features."""
        return self.AFR(self.dropout(torch.cat([self.features1(x), self.features2(x)], dim=2)))


class AFR(nn.Module):
    """Residual squeeze-and-excitation block: (B, 128, L) -> (B, 30, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(128, 30, 1), nn.BatchNorm1d(30)
        self.conv2, self.bn2 = nn.Conv1d(30, 30, 1), nn.BatchNorm1d(30)
        squeeze, excite = nn.Linear(30, 1, bias=False), nn.Linear(1, 30, bias=False)
        self.se = named(fc=nn.Sequential(squeeze, nn.ReLU(), excite, nn.Sigmoid()))
        self.downsample = nn.Sequential(nn.Conv1d(128, 30, 1, bias=False), nn.BatchNorm1d(30))

    def forward(self, x: Tensor) -> Tensor:
        """Recalibrate features."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y * self.se(y.mean(dim=2)).unsqueeze(2) + self.downsample(x))


class CausalConv(nn.Conv1d):
    """Convolution that sees no later position: padded on both sides, the right side cut off. (B, 30, L) stays so."""

    def __init__(self) -> None:
        super().__init__(30, 30, 7, padding=6)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve along L."""
        return super().forward(x)[:, :, :-6]


class Attention(nn.Module):
    """Multi-head attention of queries to keys and values that come from x, all (B, 30, L)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleDict({"1": CausalConv(), "2": CausalConv()})
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        """Attend with five heads side by side."""
        keys, values = self.convs["1"](x), self.convs["2"](x)
        size = query.shape[2] // N_HEADS
        q, k, v = (part.view(-1, 30, N_HEADS, size).transpose(1, 2) for part in (query, keys, values))
        weights = self.dropout(F.softmax(q @ k.transpose(-2, -1) / math.sqrt(size), dim=-1))
        return self.linear((weights @ v).transpose(1, 2).contiguous().view(query.shape))


class TCELayer(nn.Module):
    """Attention and feed-forward network: (B, 30, L) -> (B, 30, L)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = CausalConv()
        self.self_attn = Attention(width)
        w_1, w_2 = nn.Linear(width, 120), nn.Linear(120, width)
        self.feed_forward = named(w_1=w_1, relu=nn.ReLU(), dropout=nn.Dropout(0.1), w_2=w_2)
        self.sublayer_output = nn.ModuleDict({"1": named(norm=LayerNorm(width))})
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Add attention to the queries, then the feed-forward network's output."""
        query = self.conv(x)
        h = query + self.dropout(self.self_attn(query, x))
        return h + self.dropout(self.feed_forward(self.sublayer_output["1"](h)))


class LayerNorm(nn.Module):
    """Layer norm with the unbiased standard deviation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return self.a_2 * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.b_2


class NpzDataset(Dataset[tuple[Tensor, Tensor]]):
    """All recordings, put together by repeated vstack."""

    def __init__(self, paths: Sequence[Path]) -> None:
        first = np.load(paths[0])
        x, y = first["x"], first["y"]
        for path in paths[1:]:
            more = np.load(path)
            x, y = np.vstack((x, more["x"])), np.append(y, more["y"])
        self.x, self.y = torch.from_numpy(x).permute(0, 2, 1), torch.from_numpy(y).long()

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one sleep epoch, (1, 3000), and its stage."""
        return self.x[index], self.y[index]


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Make Adam with the published settings."""
    return torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3, amsgrad=True)


def train_pass(model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader, weights: Tensor) -> None:
    """Train for one training epoch on the device of `weights`, with loss and accuracy after each batch."""
    model.train()
    for x, y in batches:
        x, y = x.to(weights.device), y.to(weights.device)
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, y, weights)
        loss.backward()
        optimizer.step()
        loss.item()
        accuracy(y, logits)


def evaluation_pass(model: nn.Module, batches: DataLoader, weights: Tensor) -> Tensor:
    """Compute the logits of all sleep epochs, (n, 5), with loss and accuracy after each batch."""
    model.eval()
    collected = []
    with torch.no_grad():
        for x, y in batches:
            logits = model(x)
            F.cross_entropy(logits, y, weights).item()
            accuracy(y, logits)
            collected.append(logits)
    return torch.cat(collected)


def accuracy(y: Tensor, logits: Tensor) -> float:
    """Compute the share of sleep epochs that are right."""
    from sklearn.metrics import accuracy_score  # loads long, for which the tests of the network do not wait

    return accuracy_score(y.cpu(), logits.argmax(dim=1).cpu())


def prepare_night(psg: Path, hypnogram: Path, npz: Path) -> None:
    """Read the whole file through MNE into a data frame and cut one channel into sleep epochs."""
    import mne  # loads long, too

    raw = mne.io.read_raw_edf(psg, preload=True, verbose="ERROR")
    signal = raw.to_data_frame()["EEG Fpz-Cz"].to_numpy()
    names = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4}
    stages, positions = [], []
    for annotation in mne.read_annotations(hypnogram):
        stage = names.get(annotation["description"].removeprefix("Sleep stage "))
        first, n = round(annotation["onset"] / 30), round(annotation["duration"] / 30)
        for position in range(first, first + n):
            if stage is not None and (position + 1) * 3000 <= len(signal):
                stages.append(stage)
                positions.append(position)
    x = signal.reshape(-1, 3000)[positions].astype(np.float32)
    asleep = np.flatnonzero(stages)
    kept = slice(max(asleep[0] - 60, 0), asleep[-1] + 61)
    np.savez(npz, x=x[kept, :, None], y=np.array(stages, np.int32)[kept], fs=100)
