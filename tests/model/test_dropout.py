import math

import pytest
import torch

from model.dropout import Dropout


def dropped(x, p=0.5, seed=0):
    torch.manual_seed(seed)
    return Dropout(p)(x)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_of_the_elements_is_zero_and_the_others_are_scaled_by_what_is_left(p):
    y = dropped(torch.full((400, 500), 3.0), p)
    # 200,000 elements: a standard deviation of the share is at most 0.0011
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=0.005)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 3 / (1 - p)), rtol=1e-4, atol=0)
    assert y.mean().item() == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("shift", [1, 2, 3, 4, 5, 8, 64, 500])
def test_neighbours_are_dropped_independently_of_each_other(shift):
    kept = (dropped(torch.ones(200_000)) != 0).double()
    both = (kept[shift:] * kept[:-shift]).mean().item()
    assert both == pytest.approx(0.25, abs=0.01)


def test_each_of_four_neighbours_is_dropped_as_often_as_the_others():
    shares = (dropped(torch.ones(50_000, 4), 0.3) == 0).double().mean(0)
    torch.testing.assert_close(shares, torch.full((4,), 0.3, dtype=torch.float64), rtol=0, atol=0.015)


def test_two_calls_drop_different_elements():
    torch.manual_seed(0)
    x, dropout = torch.ones(1000), Dropout(0.5)
    assert 400 < (dropout(x) != dropout(x)).sum() < 600


def test_the_seed_of_torch_decides_what_is_dropped():
    x = torch.ones(1000)
    assert torch.equal(dropped(x, seed=5), dropped(x, seed=5))
    assert not torch.equal(dropped(x, seed=5), dropped(x, seed=6))


def test_nothing_is_dropped_in_evaluation_nor_at_a_probability_of_zero():
    x = torch.randn(3, 5)
    state = torch.get_rng_state()
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0)(x), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gradient_passes_where_the_value_did():
    x = torch.randn(1000, requires_grad=True)
    y = dropped(x, 0.25)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach() / x.detach())


LAYOUTS = {
    "channels last": lambda: torch.ones(8, 64, 1, 101).contiguous(memory_format=torch.channels_last),
    "transposed": lambda: torch.ones(300, 200).T,
    "every second column": lambda: torch.ones(300, 400)[:, ::2],
    "cut out of a larger one": lambda: torch.ones(10, 50, 300)[2:9, 5:40, 100:],
    "one row, expanded": lambda: torch.ones(1, 300).expand(200, 300),
    "heads apart": lambda: torch.ones(20, 30, 80).unflatten(2, (5, 16)).transpose(1, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_element_is_drawn_for_itself_in_any_layout(layout):
    x = LAYOUTS[layout]()
    y = dropped(x)
    assert y.shape == x.shape
    assert set(y.unique().tolist()) == {0.0, 2.0}
    kept = (y != 0).double()
    deviation = math.sqrt(0.25 / kept.numel())
    assert kept.mean().item() == pytest.approx(0.5, abs=5 * deviation)
    for axis in (axis for axis, size in enumerate(x.shape) if size > 1):
        ahead, behind = kept.narrow(axis, 1, x.shape[axis] - 1), kept.narrow(axis, 0, x.shape[axis] - 1)
        assert (ahead == behind).double().mean().item() == pytest.approx(0.5, abs=6 * deviation)


def test_the_layout_in_memory_stays():
    x = torch.ones(4, 64, 1, 51).contiguous(memory_format=torch.channels_last)
    assert dropped(x).is_contiguous(memory_format=torch.channels_last)
    assert dropped(torch.ones(4, 5, 6)).is_contiguous()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5,), (2, 3), (0,), (4, 0)])
def test_sizes_that_are_no_multiple_of_four_are_fine(shape):
    assert dropped(torch.ones(shape)).shape == shape


def test_the_input_is_not_changed():
    x = torch.ones(100)
    dropped(x)
    assert torch.equal(x, torch.ones(100))


def test_double_precision_stays():
    assert dropped(torch.ones(8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("p", [1, 1.5, -0.1, float("nan")])
def test_a_probability_that_is_none_is_refused(p):
    with pytest.raises(ValueError, match="not from 0 to below 1"):
        Dropout(p)


@pytest.mark.parametrize(
    "p",
    [
        1e-6,
        0.99999,
        0.999999,
    ],
)
def test_the_rarest_and_the_most_frequent_zeros_leave_finite_values(p):
    assert dropped(torch.ones(1000), p).isfinite().all()
