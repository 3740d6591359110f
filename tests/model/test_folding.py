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
