import pytest
import torch
from torch import nn

from model.folding import folded
from model.model import AttnSleep


@pytest.mark.parametrize("fs", [100, 125])
def test_a_folded_network_gives_the_same_logits_and_summary_without_any_batch_norm(fs):
    torch.manual_seed(0)
    network = AttnSleep(fs)
    signal = 20 * torch.randn(4, 1, 30 * fs)
    network.train()(signal)  # moves the running statistics away from 0 and 1
    before = {name: value.clone() for name, value in network.state_dict().items()}

    copy = folded(network)

    assert not copy.training
    assert not [module for module in copy.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    with torch.inference_mode():
        torch.testing.assert_close(copy(signal), network.eval()(signal), atol=2e-5, rtol=0)
        torch.testing.assert_close(copy.summary(signal), network.summary(signal), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Constrained(nn.Conv1d):
    """A convolution with weights of limited norm, as in EEGNet."""

    def forward(self, x):
        return nn.functional.conv1d(x, self.weight.renorm(2, 0, 0.1), self.bias)


@pytest.mark.parametrize(
    "layers",
    [
        (Constrained(1, 4, 5), nn.BatchNorm1d(4)),
        (nn.utils.parametrizations.weight_norm(nn.Conv1d(1, 4, 5)), nn.BatchNorm1d(4)),
        (nn.Conv1d(1, 4, 5), nn.BatchNorm1d(4, track_running_stats=False)),
        (nn.Conv1d(1, 4, 5), nn.BatchNorm1d(4, affine=False)),
    ],
)
def test_layers_that_cannot_be_folded_stay_as_they_are(layers):
    network, signal = nn.Sequential(*layers), torch.randn(8, 1, 50) * 3
    network(signal)
    with torch.inference_mode():
        torch.testing.assert_close(folded(network)(signal), network.eval()(signal), atol=2e-5, rtol=0)
