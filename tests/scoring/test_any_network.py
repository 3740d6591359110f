"""A network of the user's own in model/model.py is scored with and exported like AttnSleep."""

import numpy as np
import pytest
import torch
from checkpoints import write_night_context
from torch import nn

import model.model
from scoring.export import export_onnx
from scoring.networks import load_networks
from utils.checkpoint import BEST, save_checkpoint
from utils.errors import UserError
from utils.stages import STAGE_NAMES


class TinyNet(nn.Module):
    """Two layers that take signals of any length."""

    def __init__(self, width=4, n_stages=5):
        super().__init__()
        self.features = nn.Sequential(nn.Conv1d(1, width, 50, 25), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, n_stages)

    def forward(self, signal):
        return self.head(self.features(signal).mean(dim=2))  # (B, F, L) -> (B, 5)


class FixedNet(nn.Module):
    """One layer for signals of one length."""

    def __init__(self, fs, n_sleep_epochs):
        super().__init__()
        assert type(fs) is int
        self.head = nn.Linear(30 * fs * n_sleep_epochs, 5)

    def forward(self, signal):
        return self.head(signal.flatten(1))  # (B, 1, T) -> (B, 5)


class Skips(nn.Module):
    """Uses what stands in a Sequential in its own way, and keeps something of the batch meanwhile."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 4, 50, 25), nn.BatchNorm1d(4), nn.ReLU())
        self.head = nn.Linear(12, 5)

    def forward(self, signal):
        self.means = []
        for layer in self.layers:
            signal = layer(signal)
            self.means.append(signal.mean(dim=2))
        return self.head(torch.cat(self.means, dim=1))  # 3 (B, 4) -> (B, 5)


class Pair(TinyNet):
    """Gives more than logits."""

    def forward(self, signal):
        return super().forward(signal), signal


@pytest.fixture(autouse=True)
def _users_model(monkeypatch):
    for network in (TinyNet, FixedNet, Skips, Pair):
        monkeypatch.setattr(model.model, network.__name__, network, raising=False)
    monkeypatch.setattr(model.model, "__all__", ["AttnSleep", "TinyNet", "FixedNet", "Skips", "Pair"])


def write(path, network, fs=100, context=(0, 0), **arguments):
    """Write the checkpoint of a network; return the network as it scores."""
    about = {
        "fs": fs, "channel": "EEG", "units": "uV", "stage_names": list(STAGE_NAMES), "context": list(context),
        "config": {"arch": {"type": type(network).__name__, "args": arguments}},
    }  # fmt: skip
    save_checkpoint(path, {"train_epoch": 1, "model": network.state_dict(), "about": about})
    return network.eval()


def night(fs, n=6):
    return (20 * np.random.default_rng(0).normal(size=(n, 30 * fs))).astype(np.float32)


def test_a_network_of_two_layers_scores_and_is_exported(tmp_path):
    torch.manual_seed(0)
    network = TinyNet(width=6)
    signal = night(128)
    batch = torch.from_numpy(signal).unsqueeze(1)
    network(batch)  # moves the running statistics away from 0 and 1
    write(tmp_path / "a.pth", network, fs=128.0, width=6)
    with torch.inference_mode():
        logits = network(batch)
    networks = load_networks([tmp_path / "a.pth"])
    scoring = networks.score(signal.ravel(), "night")
    np.testing.assert_allclose(scoring.probabilities, logits.softmax(dim=1), atol=1e-5)
    np.testing.assert_array_equal(scoring.stages, logits.argmax(dim=1))
    onnxruntime = pytest.importorskip("onnxruntime")
    export_onnx(tmp_path / "a.onnx", networks)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"eeg": batch.numpy()})[0], logits, atol=1e-4)


def test_a_network_is_scored_with_as_it_stands_and_one_batch_at_a_time(tmp_path):
    torch.manual_seed(0)
    network, signal = Skips(), night(100, 300)
    batch = torch.from_numpy(signal).unsqueeze(1)
    network(batch)
    write(tmp_path / "a.pth", network)
    with torch.inference_mode():
        probabilities = network(batch).softmax(dim=1)
    scoring = load_networks([tmp_path / "a.pth"]).score(signal.ravel(), "night")
    np.testing.assert_allclose(scoring.probabilities, probabilities, atol=1e-5)


def test_a_network_of_a_fixed_length_is_told_rate_and_sleep_epochs_of_its_input(tmp_path):
    write(tmp_path / "a.pth", FixedNet(50, 3), fs=50.0, context=(1, 1), fs_of_the_config=50)
    with pytest.raises(UserError, match=r"a\.pth: .*unexpected keyword argument 'fs_of_the_config'"):
        load_networks([tmp_path / "a.pth"])
    network = write(tmp_path / "a.pth", FixedNet(50, 3), fs=50.0, context=(1, 1))
    signal = night(50)
    stages = load_networks([tmp_path / "a.pth"]).score(signal.ravel(), "night").stages
    with torch.inference_mode():
        middle = network(torch.from_numpy(np.stack([signal[k - 1 : k + 2].ravel() for k in range(1, 5)])))
    np.testing.assert_array_equal(stages[1:5], middle.argmax(dim=1))


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (TinyNet(n_stages=4), {"n_stages": 4}, r"its network maps \(1, 1, 3000\) to \(1, 4\), not to logits of shape"),
        (Pair(), {}, "do not fit .*has no attribute 'shape'"),
        (FixedNet(100, 2), {}, "do not fit .*size mismatch"),
    ],
)
def test_a_network_that_breaks_the_contract_is_refused_in_one_line(tmp_path, network, arguments, message):
    write(tmp_path / "a.pth", network, **arguments)
    with pytest.raises(UserError, match=rf"^[^\n]*a\.pth: [^\n]*{message}[^\n]*$"):
        load_networks([tmp_path / "a.pth"])


def test_a_night_context_over_a_network_without_a_summary_is_refused(tmp_path):
    (tmp_path / "fold_0").mkdir()
    write(tmp_path / "fold_0" / BEST, TinyNet())
    write_night_context(tmp_path / "fold_0")
    with pytest.raises(UserError, match=r"context/model_best\.pth: [^\n]*'TinyNet' object has no attribute 'summary'"):
        load_networks([tmp_path / "fold_0"])


def test_a_network_that_torch_cannot_export_is_told_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    write(tmp_path / "a.pth", TinyNet())
    with pytest.raises(UserError, match="^torch cannot write this network as ONNX: division by zero$"):
        export_onnx(tmp_path / "a.onnx", load_networks([tmp_path / "a.pth"]))
