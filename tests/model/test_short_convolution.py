import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from model.short_convolution import ShortConvolution


def usual(x, convolution):
    return F.conv2d(x, convolution.weight, padding=(0, 4))


@pytest.fixture
def convolution():
    torch.manual_seed(0)
    return ShortConvolution(5, 6, (1, 8), padding=(0, 4), bias=False)


@pytest.mark.parametrize("n_before", [1, 3, 4, 7, 8, 9, 30, 251, 252])
def test_values_and_gradients_are_those_of_the_usual_convolution(convolution, n_before):
    x = torch.randn(3, 5, 1, n_before, requires_grad=True)
    gradient = torch.randn(3, 6, 1, n_before + 1)

    y = convolution(x)
    ours = torch.autograd.grad(y, (x, convolution.weight), gradient)

    torch.testing.assert_close(y, usual(x, convolution), atol=1e-5, rtol=0)
    theirs = torch.autograd.grad(usual(x, convolution), (x, convolution.weight), gradient)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_it_is_another_computation_than_the_usual_one(convolution):
    x = torch.randn(3, 5, 1, 100)
    assert not torch.equal(convolution(x), usual(x, convolution))


def test_other_precisions_and_what_needs_no_gradient_are_computed_by_torch(convolution):
    x = torch.randn(3, 5, 1, 100)
    with torch.no_grad():
        assert torch.equal(convolution(x), usual(x, convolution))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(convolution(x), usual(x, convolution))
    convolution.double()
    assert torch.equal(convolution(x.double()), usual(x.double(), convolution))


@pytest.mark.parametrize(
    ("n_taps", "arguments"),
    [
        (7, {"padding": (0, 3), "bias": False}),
        (8, {"padding": (0, 3), "bias": False}),
        (8, {"padding": (0, 4), "bias": False, "stride": 2}),
        (8, {"padding": (0, 4)}),
    ],
    ids=["another kernel", "another padding", "another stride", "with bias"],
)
def test_other_arguments_of_a_convolution_are_computed_by_torch(n_taps, arguments):
    convolution = ShortConvolution(5, 6, (1, n_taps), **arguments)
    x = torch.randn(3, 5, 1, 100)
    assert torch.equal(convolution(x), nn.Conv2d.forward(convolution, x))


def test_the_end_of_one_signal_does_not_reach_the_next(convolution):
    x = torch.randn(2, 5, 1, 13)
    changed = x.clone()
    changed[0] = 1e6
    assert torch.equal(convolution(changed)[1], convolution(x)[1])


def test_the_channels_stay_last_in_memory(convolution):
    x = torch.randn(2, 5, 1, 13).contiguous(memory_format=torch.channels_last)
    assert convolution(x).is_contiguous(memory_format=torch.channels_last)
