import torch
from torch import nn

from base.averaging import N_BATCHES, AveragedWeights


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


def test_the_average_is_that_of_its_formula_and_has_the_statistics_of_the_last_step():
    torch.manual_seed(0)
    network = Network()
    averaged = AveragedWeights(network, 0.3)
    expected = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for decay in (0, 1 / 10, 2 / 11, 0.25, 0.3, 0.3):
        optimizer.zero_grad()
        network(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        averaged.update(network)
        for name, value in network.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    for name, value in averaged.model.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    for name, value in averaged.model.named_buffers():
        assert torch.equal(value, network.get_buffer(name)), name
    assert averaged.model.norm.running_mean is not network.norm.running_mean
    assert torch.equal(averaged.model.frozen, network.frozen)
    assert averaged.model.last.weight is averaged.model.first.weight is not network.first.weight


def test_the_statistics_are_those_of_the_averaged_weights_on_the_first_batches():
    torch.manual_seed(0)
    network = Network()
    averaged = AveragedWeights(network, 0.3)
    batches = [(torch.randn(4, 3), "stages") for _ in range(N_BATCHES + 5)]
    averaged.fit_statistics(batches)
    outputs = [averaged.model.first(batch) for batch, _ in batches[:N_BATCHES]]
    torch.testing.assert_close(averaged.model.norm.running_mean, torch.stack(outputs).mean((0, 1)))
    torch.testing.assert_close(averaged.model.norm.running_var, torch.stack([x.var(0) for x in outputs]).mean(0))
    assert torch.equal(network.norm.running_mean, torch.zeros(3))
