import pytest
import torch
from torch import nn

from model.folding import folded
from model.model import AttnSleep
from model.short_convolution import ShortConvolution, shortened


@pytest.mark.parametrize("n_before", [8, 9, 30, 251, 252])
@pytest.mark.parametrize("padding", [3, 4, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_a_short_convolution_is_the_convolution(n_before, padding, bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 6, (1, 8), padding=(0, padding), bias=bias)
    x = torch.randn(3, 5, 1, n_before)
    with torch.inference_mode():
        torch.testing.assert_close(ShortConvolution(convolution)(x), convolution(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fs", [100, 125])
def test_a_shortened_network_gives_the_same_logits_and_leaves_the_first_as_it_is(fs):
    torch.manual_seed(0)
    network = folded(AttnSleep(fs))
    signal = 20 * torch.randn(4, 1, network.n_samples)

    copy = shortened(network)

    assert len([module for module in copy.modules() if isinstance(module, ShortConvolution)]) == 2
    assert not [module for module in network.modules() if isinstance(module, ShortConvolution)]
    with torch.inference_mode():
        torch.testing.assert_close(copy(signal), network(signal), atol=2e-5, rtol=0)


def test_the_end_of_one_signal_does_not_reach_the_next():
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 2, (1, 8), padding=(0, 4))
    x = torch.randn(2, 2, 1, 13)
    changed = x.clone()
    changed[0] = 1e6
    with torch.inference_mode():
        assert torch.equal(ShortConvolution(convolution)(changed)[1], ShortConvolution(convolution)(x)[1])
