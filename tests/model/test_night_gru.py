import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from model.night_context import NightGRU


@pytest.fixture
def network():
    torch.manual_seed(0)
    return NightGRU(width=8, n_layers=2, dropout=0.5, n_inputs=7)


def packed(*windows):
    return pack_sequence(windows, enforce_sorted=False)


def test_every_parameter_gets_a_gradient(network):
    network(packed(torch.randn(6, 7), torch.randn(9, 7))).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_a_sleep_epoch_sees_its_whole_window_and_no_other(network):
    network.eval()
    one, other = torch.randn(6, 7), torch.randn(6, 7, requires_grad=True)
    both = network(packed(one, other))  # in packed order: in turn, as the windows are as long as each other
    alone = network(packed(one))
    torch.testing.assert_close(both[::2], alone)
    (gradient,) = torch.autograd.grad(both[1].sum(), other)  # of the first sleep epoch of the other window
    assert (gradient.abs().sum(dim=1) > 0).all()


def test_inputs_are_scaled_by_the_training_set(network):
    inputs = torch.randn(50, 7) * torch.arange(1, 8) + 3
    scaled = NightGRU(width=8, n_layers=2, dropout=0.5, n_inputs=7)
    scaled.load_state_dict(network.state_dict())
    scaled.standardise(inputs)
    by_hand = (inputs - inputs.mean(0)) / inputs.std(0)
    torch.testing.assert_close(scaled.eval()(packed(inputs)), network.eval()(packed(by_hand)))
    network.standardise(torch.ones(5, 7))  # an input that never changes
    assert network(packed(torch.ones(5, 7))).isfinite().all()


def test_one_layer_makes_no_warning_of_its_dropout():
    assert NightGRU(n_layers=1, dropout=0.3).gru.dropout == 0
