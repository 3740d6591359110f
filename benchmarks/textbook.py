"""AttnSleep straight from the paper's table with torch's stock modules, and the usual way to load, train and evaluate.

This is what the speed of the project is measured against. Parameters carry the released code's names.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import mne
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn import metrics
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class AttnSleep(nn.Module):
    """The network at 100 Hz with the published sizes, (B, 1, 3000) -> (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.mrcnn = MRCNN()
        self.tce = nn.ModuleDict({"layers": nn.Sequential(TCELayer(), TCELayer()), "norm": LayerNorm(80)})
        self.fc = nn.Linear(2400, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map EEG to logits."""
        encoded = self.tce["norm"](self.tce["layers"](self.mrcnn(x)))
        return self.fc(encoded.flatten(1))


def branch(
    kernel: int, stride: int, pool: tuple[int, int, int], kernel2: int, pool2: tuple[int, int, int]
) -> nn.Module:
    """Make one branch of the MRCNN."""
    return nn.Sequential(
        nn.Conv1d(1, 64, kernel, stride, 24 if kernel == 50 else 200, bias=False),
        nn.BatchNorm1d(64),
        nn.GELU(),
        nn.MaxPool1d(*pool),
        nn.Dropout(0.5),
        nn.Conv1d(64, 128, kernel2, 1, kernel2 // 2, bias=False),
        nn.BatchNorm1d(128),
        nn.GELU(),
        nn.Conv1d(128, 128, kernel2, 1, kernel2 // 2, bias=False),
        nn.BatchNorm1d(128),
        nn.GELU(),
        nn.MaxPool1d(*pool2),
    )


class MRCNN(nn.Module):
    """Both branches, dropout and the AFR."""

    def __init__(self) -> None:
        super().__init__()
        self.features1 = branch(50, 6, (8, 2, 4), 8, (4, 4, 2))
        self.features2 = branch(400, 50, (4, 2, 2), 7, (2, 2, 1))
        self.dropout = nn.Dropout(0.5)
        self.AFR = nn.Sequential(AFR())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, 3000) to (B, 30, 80)."""
        return self.AFR(self.dropout(torch.cat([self.features1(x), self.features2(x)], dim=2)))


class AFR(nn.Module):
    """Residual squeeze-and-excitation block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(128, 30, 1), nn.BatchNorm1d(30)
        self.conv2, self.bn2 = nn.Conv1d(30, 30, 1), nn.BatchNorm1d(30)
        squeeze, excite = nn.Linear(30, 1, bias=False), nn.Linear(1, 30, bias=False)
        self.se = nn.ModuleDict({"fc": nn.Sequential(squeeze, nn.ReLU(), excite, nn.Sigmoid())})
        self.downsample = nn.Sequential(nn.Conv1d(128, 30, 1, bias=False), nn.BatchNorm1d(30))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 128, 80) to (B, 30, 80)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y * self.se["fc"](y.mean(dim=2)).unsqueeze(2) + self.downsample(x))


class CausalConv(nn.Conv1d):
    """Padded on both sides, the right side cut off."""

    def __init__(self) -> None:
        super().__init__(30, 30, 7, padding=6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 30, 80) to (B, 30, 80)."""
        return super().forward(x)[:, :, :-6]


class TCELayer(nn.Module):
    """Attention and feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = CausalConv()
        convs = nn.ModuleDict({"1": CausalConv(), "2": CausalConv()})
        self.self_attn = nn.ModuleDict({"convs": convs, "linear": nn.Linear(80, 80)})
        self.feed_forward = nn.ModuleDict({"w_1": nn.Linear(80, 120), "w_2": nn.Linear(120, 80)})
        self.sublayer_output = nn.ModuleDict({"1": nn.ModuleDict({"norm": LayerNorm(80)})})
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 30, 80) to (B, 30, 80)."""
        parts = dict(self.named_modules())
        keys, values = parts["self_attn.convs.1"](x), parts["self_attn.convs.2"](x)
        query = self.conv(x)
        q, k, v = (t.view(-1, 30, 5, 16).transpose(1, 2) for t in (query, keys, values))
        weights = self.dropout(F.softmax(q @ k.transpose(-2, -1) / math.sqrt(16), dim=-1))
        attended = parts["self_attn.linear"]((weights @ v).transpose(1, 2).contiguous().view(-1, 30, 80))
        h = query + self.dropout(attended)
        normed = parts["sublayer_output.1.norm"](h)
        hidden = self.dropout(F.relu(parts["feed_forward.w_1"](normed)))
        return h + self.dropout(parts["feed_forward.w_2"](hidden))


class LayerNorm(nn.Module):
    """With the unbiased standard deviation."""

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
    """Adam with the published settings."""
    return torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3, amsgrad=True)


def train_pass(
    model: nn.Module, optimizer: torch.optim.Optimizer, dataset: Dataset, weights: Tensor, bf16: bool, batch_size: int
) -> None:
    """One training epoch: batches, bookkeeping after each."""
    model.train()
    for x, y in DataLoader(dataset, batch_size=batch_size, shuffle=True):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y, weights)
        loss.backward()
        optimizer.step()
        loss.item()
        metrics.accuracy_score(y, logits.argmax(dim=1))


def evaluation_pass(model: nn.Module, dataset: Dataset, weights: Tensor, bf16: bool, batch_size: int) -> Tensor:
    """Logits of all sleep epochs, (n, 5), with loss and accuracy on the way."""
    model.eval()
    collected = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for x, y in DataLoader(dataset, batch_size=batch_size):
            logits = model(x).float()
            F.cross_entropy(logits, y, weights).item()
            metrics.accuracy_score(y, logits.argmax(dim=1))
            collected.append(logits)
    return torch.cat(collected)


def prepare_night(psg: Path, hypnogram: Path, npz: Path) -> None:
    """Read the whole file through MNE into a data frame and cut one channel into sleep epochs."""
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
