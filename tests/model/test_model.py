import pytest
import released_network as released
import torch

from benchmarks import textbook
from model.dropout import Dropout
from model.model import MRCNN, AttnSleep, LayerNorm
from model.original import from_original_state_dict
from utils.errors import UserError

# by hand from the table of layers: convolution, batch norm, and so on for both branches
MRCNN_PARAMETERS = (
    (50 * 64 + 2 * 64 + 64 * 128 * 8 + 2 * 128 + 128 * 128 * 8 + 2 * 128)
    + (400 * 64 + 2 * 64 + 64 * 128 * 7 + 2 * 128 + 128 * 128 * 7 + 2 * 128)
)  # fmt: skip
AFR_PARAMETERS = (128 * 30 + 30 + 60) + (30 * 30 + 30 + 60) + (30 + 30) + (128 * 30 + 60)


def tce_parameters(n_tokens, width=80, d_ff=120, n_layers=2):
    causal = 3 * (n_tokens * n_tokens * 7 + n_tokens)
    layer = causal + width * width + width + 2 * width + (width * d_ff + d_ff) + (d_ff * width + width)
    return n_layers * layer + 2 * width


def n_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def eeg(n=2, fs=100, seed=0):
    return 30 * torch.randn(n, 1, 30 * fs, generator=torch.Generator().manual_seed(seed))


def features(model, x):
    """What goes into the TCE, (B, F, L)."""
    return model.afr(model.mrcnn(x))


def network(seed=0, **arguments):
    torch.manual_seed(seed)
    return AttnSleep(**arguments)


@pytest.mark.parametrize(("fs", "n"), [(100, 509_825), (125, 505_249)])
def test_there_are_exactly_as_many_parameters_as_reach_the_output(fs, n):
    assert n_parameters(AttnSleep(fs=fs)) == n


@pytest.mark.parametrize("fs", [100, 125])
def test_each_parameter_receives_a_gradient(fs):
    model = network(fs=fs).train()
    model(eeg(fs=fs)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    # In training the biases before a batch norm have a gradient of zero, whatever they are; in evaluation they count.
    model = from_original_state_dict(released.weights_by_formula(fs))
    model(eeg(fs=fs)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize(("fs", "width"), [(100, 80), (125, 100)])
def test_features_are_30_maps_and_the_logits_five(fs, width):
    model = network(fs=fs).eval()
    with torch.inference_mode():
        assert features(model, eeg(3, fs)).shape == (3, 30, width)
        assert model.encode(eeg(3, fs)).shape == (3, 30, width)
        assert model(eeg(3, fs)).shape == (3, 5)


@pytest.mark.parametrize(
    ("arguments", "n_features"), [({}, 30), ({"fs": 125, "afr": False, "tce": False}, 128), ({"n_sleep_epochs": 3}, 30)]
)
@torch.inference_mode()
def test_the_summary_is_the_logits_and_the_mean_of_each_feature_map(arguments, n_features):
    model = network(**arguments).eval()
    signal = eeg(3, arguments.get("fs", 100) * arguments.get("n_sleep_epochs", 1))
    summary = model.summary(signal)
    assert summary.shape == (3, 5 + n_features)
    assert torch.equal(summary[:, :5], model(signal))
    torch.testing.assert_close(summary[:, 5:], model.encode(signal).mean(dim=2))


@pytest.mark.parametrize(
    ("afr", "tce", "shape", "n"),
    [
        (False, False, (128, 80), MRCNN_PARAMETERS + 5 * (128 * 80 + 1)),
        (True, False, (30, 80), MRCNN_PARAMETERS + AFR_PARAMETERS + 5 * (30 * 80 + 1)),
        (False, True, (128, 80), MRCNN_PARAMETERS + tce_parameters(128) + 5 * (128 * 80 + 1)),
        (True, True, (30, 80), MRCNN_PARAMETERS + AFR_PARAMETERS + tce_parameters(30) + 5 * (30 * 80 + 1)),
    ],
)
def test_each_ablation_has_its_shapes_and_its_parameters_and_learns(afr, tce, shape, n):
    model = network(afr=afr, tce=tce)
    assert n_parameters(model) == n
    assert model.encode(eeg()).shape == (2, *shape)
    model(eeg()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("n_heads", [1, 2, 4, 5, 8, 10])
def test_the_supplements_numbers_of_heads_are_there_and_differ(n_heads):
    with torch.inference_mode():
        logits = network(n_heads=n_heads).eval()(eeg())
        of_five_heads = network(n_heads=5).eval()(eeg())
    assert n_parameters(AttnSleep(n_heads=n_heads)) == 509_825
    assert torch.equal(logits, of_five_heads) == (n_heads == 5)


@pytest.mark.parametrize(
    ("fs", "n_heads", "text"),
    [
        (100, 3, "3 heads do not divide the TCE's width of 80; these do: 1, 2, 4, 5, 8, 10, 16, 20, 40, 80"),
        (100, 0, "0 heads do not divide"),
        (100, -5, "-5 heads do not divide"),
        (125, 8, "8 heads do not divide the TCE's width of 100; these do: 1, 2, 4, 5, 10, 20, 25, 50, 100"),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused_with_those_that_do(fs, n_heads, text):
    with pytest.raises(UserError, match=text):
        AttnSleep(fs=fs, n_heads=n_heads)


@pytest.mark.parametrize("fs", [99, 128, 200, 0])
def test_another_sampling_rate_is_refused(fs):
    with pytest.raises(UserError, match=f"takes fs 100 or 125 Hz, not {fs}"):
        AttnSleep(fs=fs)


def test_another_activation_is_refused():
    with pytest.raises(UserError, match="no activation 'elu'; it has gelu, relu, leaky_relu"):
        AttnSleep(activation="elu")


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        # the exact GELU, not the one by tanh: x Phi(x)
        ("gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2),
        ("relu", lambda x: x * (x > 0)),
        ("leaky_relu", lambda x: torch.where(x > 0, x, 0.01 * x)),
    ],
)
def test_the_activation_of_the_mrcnn_is_the_one_that_is_asked_for(activation, function):
    model = network(afr=False, tce=False, activation=activation).eval()
    x = torch.linspace(-3, 3, 101)
    activations = [layer for layer in model.mrcnn.modules() if type(layer).__name__ in {"GELU", "ReLU", "LeakyReLU"}]
    assert len(activations) == 6
    for layer in activations:
        torch.testing.assert_close(layer(x), function(x), rtol=0, atol=1e-6)
    with torch.inference_mode():
        assert (features(model, eeg()) < 0).any() == (activation != "relu")


def test_width_of_the_feed_forward_and_number_of_layers_are_arguments():
    base = MRCNN_PARAMETERS + AFR_PARAMETERS + 5 * (30 * 80 + 1)
    assert n_parameters(AttnSleep(d_ff=64)) == base + tce_parameters(30, d_ff=64)
    assert n_parameters(AttnSleep(n_tce_layers=3)) == base + tce_parameters(30, n_layers=3)


def test_first_weights_are_drawn_as_the_released_code_does():
    model = network()
    for name, parameter in model.mrcnn.named_parameters():
        if parameter.ndim > 1:
            assert parameter.mean().abs() < 0.002, name
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
    for name, layer in model.named_modules():
        if "BatchNorm" in type(layer).__name__:
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.015), name
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.5), name
            assert not layer.bias.any(), name
    for name, parameter in model.afr.named_parameters():
        if parameter.ndim == 3:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
    for layer in model.tce.layers:
        # torch's default: even between plus and minus 1 / sqrt(fan in)
        for name, parameter in layer.named_parameters():
            if parameter.ndim == 3:
                bound = (30 * 7) ** -0.5
                assert 0.99 * bound < parameter.abs().max() <= bound, name
                assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.02), name


@torch.inference_mode()
def test_each_layer_of_the_tce_is_that_of_the_reference():
    weights = released.weights_by_formula(100)
    model, reference = from_original_state_dict(weights), released.reference(weights, 100)
    x = torch.randn(2, 30, 80, generator=torch.Generator().manual_seed(1))
    for layer, expected in zip(model.tce.layers, reference.tce.layers, strict=True):
        torch.testing.assert_close(layer(x), expected(x), rtol=1e-4, atol=1e-4)


def test_a_position_sees_itself_and_the_six_before_it_and_none_after():
    weights = released.weights_by_formula(100)
    for name in weights:
        if name.startswith("tce.layers.0.") and ("linear" in name or "w_2" in name):
            weights[name] = torch.zeros_like(weights[name])  # what is left of the layer are its queries
    layer = from_original_state_dict(weights).tce.layers[0]
    x = torch.randn(1, 30, 80, requires_grad=True)
    for position in (0, 3, 6, 7, 40, 79):
        (gradient,) = torch.autograd.grad(layer(x)[0, :, position].square().sum(), x)
        seen = gradient[0].any(dim=0).nonzero().flatten().tolist()
        assert seen == list(range(max(0, position - 6), position + 1))


def test_attention_looks_at_all_feature_maps():
    model = network().eval()
    x = torch.randn(1, 30, 80, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.tce(x)[0, 3].square().sum(), x)
    assert gradient[0].any(dim=1).all()


@pytest.mark.parametrize(
    ("width", "mean", "std", "tolerance"),
    [(2, 3, 5, 1e-5), (80, 3, 5, 1e-5), (80, 0, 0.001, 3e-3)],  # the reference adds 1e-6 to the deviation
)
def test_the_layer_norm_divides_by_the_unbiased_deviation(width, mean, std, tolerance):
    generator = torch.Generator().manual_seed(0)
    x = mean + std * torch.randn(4, 7, width, generator=generator)
    a, b = torch.randn(2, width, generator=generator)
    norm, reference = LayerNorm(width), textbook.LayerNorm(width)
    norm.load_state_dict({"weight": a, "bias": b})
    reference.load_state_dict({"a_2": a, "b_2": b})
    torch.testing.assert_close(norm(x), reference(x), rtol=tolerance, atol=tolerance)


def test_the_layer_norm_of_a_constant_is_its_bias():
    norm = LayerNorm(4)
    norm.load_state_dict({"weight": torch.ones(4), "bias": torch.arange(4.0)})
    torch.testing.assert_close(norm(torch.full((1, 4), 7.0)), torch.arange(4.0)[None])


@torch.inference_mode()
def test_in_evaluation_a_sleep_epoch_has_the_same_logits_in_any_company():
    model, x = network().eval(), eeg(4)
    together = model(x)
    torch.testing.assert_close(torch.cat([model(x[k : k + 1]) for k in range(4)]), together, rtol=0, atol=1e-5)
    assert torch.equal(model(x), together)
    assert (together[0] - together[1]).abs().max() > 1e-4


@torch.inference_mode()
@pytest.mark.parametrize(
    "layout",
    [
        lambda x: torch.cat([eeg(1, seed=9), x])[1:],
        lambda x: x.repeat_interleave(2, dim=0)[::2],
        lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2],
        lambda x: x[:, 0].T.contiguous().T[:, None],
        lambda x: torch.stack([x, x + 1], dim=1)[:, 0],
    ],
    ids=["behind another", "every second row", "every second sample", "transposed", "one of two"],
)
def test_the_layout_of_the_input_in_memory_does_not_matter(layout):
    model, x = network().eval(), eeg(3)
    assert torch.equal(layout(x), x)
    torch.testing.assert_close(model(layout(x)), model(x), rtol=0, atol=1e-6)


def test_the_input_is_not_changed():
    x = eeg()
    network().train()(x)
    assert torch.equal(x, eeg())


def test_dropout_acts_at_the_eleven_places_of_the_table():
    model, places = network(dropout_mrcnn=0.4, dropout_tce=0.2), []
    for layer in model.modules():
        if isinstance(layer, Dropout):
            layer.register_forward_hook(lambda layer, given, _: places.append((layer.p, given[0][0].numel())))
    model.train()(eeg())
    # MRCNN: after the first pool of each branch (lengths 251 and 31), and on the join.
    mrcnn = [(0.4, 64 * 251), (0.4, 64 * 31), (0.4, 128 * 80)]
    # TCE, each layer: the attention's weights, its output, inside the feed-forward network, its output.
    tce = [(0.2, 5 * 30 * 30), (0.2, 30 * 80), (0.2, 30 * 120), (0.2, 30 * 80)]
    assert places == [*mrcnn, *tce, *tce]


def test_training_with_dropouts_of_zero_draws_no_random_numbers():
    model = network(dropout_mrcnn=0, dropout_tce=0).train()
    assert torch.equal(model(eeg()), model(eeg()))


@pytest.mark.parametrize(("fs", "n_samples", "length"), [(100, 3000, 80), (125, 3750, 100)])
def test_the_length_is_computed_from_the_layers(fs, n_samples, length):
    mrcnn = MRCNN(fs, torch.nn.ReLU, 0.0).eval()
    assert mrcnn.output_length(n_samples) == length
    for n in (n_samples, 2999, 9000):
        with torch.inference_mode():
            assert mrcnn(torch.randn(1, 1, n)).shape == (1, 128, mrcnn.output_length(n))


@pytest.mark.parametrize(("fs", "width"), [(100, 235), (125, 295)])
def test_three_sleep_epochs_in_one_input_make_the_tokens_wider(fs, width):
    # 9000 samples, small-kernel branch: 1500, 751, 752, 753, 189; wide-kernel branch: 181, 91, 91, 91, 46
    # 11250 samples: 1875, 938, 939, 940, 236; 226, 114, 115, 116, 59
    model = network(fs=fs, n_sleep_epochs=3).eval()
    with torch.inference_mode():
        assert model.encode(eeg(1, 3 * fs)).shape == (1, 30, width)
        assert model(eeg(2, 3 * fs)).shape == (2, 5)
    mrcnn = MRCNN_PARAMETERS - (128 * (64 + 128) if fs == 125 else 0)  # kernels of 6 instead of 7
    head = 5 * (30 * width + 1)
    assert n_parameters(model) == mrcnn + AFR_PARAMETERS + tce_parameters(30, width) + head
