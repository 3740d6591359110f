import torch
from torch import nn

from base.averaging import AveragedWeights


class Network(nn.Module):
    """A batch norm, tied weights, a frozen weight, and a buffer that checkpoints do not hold."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
        self.last.weight = self.first.weight
        self.frozen = nn.Parameter(torch.rand(2), requires_grad=False)
        self.register_buffer("constant", torch.rand(2), persistent=False)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def values(model):
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def test_the_average_is_that_of_its_formula_with_statistics_counter_and_tied_weights():
    torch.manual_seed(0)
    network = Network()
    averaged, expected = AveragedWeights(network, 0.3), {name: v.clone() for name, v in values(network).items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for decay in (0, 1 / 10, 2 / 11, 0.25, 0.3, 0.3):
        optimizer.zero_grad()
        network(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        averaged.update(network)
        for name, value in values(network).items():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    expected["norm.num_batches_tracked"] = torch.tensor(6)
    for name, value in values(averaged.model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(averaged.model.norm.running_mean, network.norm.running_mean)
    assert torch.equal(averaged.model.frozen, network.frozen)
    assert averaged.model.last.weight is averaged.model.first.weight is not network.first.weight


def test_a_model_of_whole_numbers_alone_has_an_average():
    model = nn.Module()
    model.register_buffer("n", torch.tensor(1))
    averaged = AveragedWeights(model, 0.9)
    model.n += 4
    averaged.update(model)
    assert averaged.model.n == 5
