import numpy as np
import pytest
import released_network as released
import torch
from torch import nn

from model.dropout import Dropout
from model.original import from_original_state_dict, original_fs
from utils.errors import UserError

RATES = (100, 125)

# Of the weights and inputs by formula in released_network, computed in double precision.
LOGITS = {
    100: [
        [0.160704, 0.007753, -0.189999, 0.235504, -0.475923],
        [0.137845, 0.053678, -0.256903, -0.534696, -0.466989],
        [0.142971, -0.095791, 0.151596, 0.370824, 0.066366],
        [0.967368, 0.29966, -0.016353, 0.022268, 0.388619],
    ],
    125: [
        [0.755446, 0.513815, -0.468044, 0.197625, 0.159728],
        [0.622945, -0.401158, -0.144518, 0.003451, -0.067088],
        [0.372069, 0.539706, -0.036196, -0.023414, 0.029367],
        [0.209474, 0.878668, 0.083949, 0.136191, 0.43467],
    ],
}
# of the first input, at feature maps 0, 7, 29 and positions 0, 40, last
FEATURES = {100: [0.31721, 0.34555, 0.0], 125: [0.31704, 0.36698, 2.45545]}
ENCODED = {100: [0.6492, 1.26587, 1.04985], 125: [-0.34481, -1.00257, -0.51834]}
LOSSES = {
    100: [1.584152, 0.88841, 0.593789, 0.438652, 0.34426],
    125: [2.197036, 1.068001, 0.657846, 0.467806, 0.354689],
}
GRADIENT_NORM = {100: 83.900400, 125: 88.832283}
CLASS_WEIGHTS = (0.3, 0.72, 0.3, 0.2, 0.3)


def five_adam_steps(model, x, y, class_weights):
    """Losses of five training steps with every dropout at 0, and the gradients' norm at the first of them."""
    model.train()
    for layer in model.modules():
        if isinstance(layer, Dropout):
            layer.p = 0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-3, amsgrad=True)
    criterion = nn.CrossEntropyLoss(weight=torch.as_tensor(class_weights))
    losses, norms = [], []
    for _ in range(5):
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.sqrt(sum((parameter.grad.double() ** 2).sum() for parameter in model.parameters())).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms[0]


def features(model, x):
    """What goes into the TCE, (B, 30, L)."""
    return model.afr(model.mrcnn(x))


@pytest.fixture(params=RATES)
def golden(request, shared):
    with np.load(shared / "reference" / "golden" / f"attnsleep_{request.param}hz.npz") as npz:
        return {name: torch.from_numpy(npz[name]) for name in npz}


@pytest.fixture
def golden_weights(golden):
    return {name.removeprefix("weights/"): value for name, value in golden.items() if name.startswith("weights/")}


@pytest.fixture
def golden_model(golden_weights):
    return from_original_state_dict(golden_weights)


@torch.inference_mode()
def test_the_golden_features_encoding_and_logits_come_out(golden, golden_model):
    torch.testing.assert_close(features(golden_model, golden["x"][:2]), golden["features"], rtol=0, atol=1e-4)
    torch.testing.assert_close(golden_model.tce(golden["features"]), golden["encoded"], rtol=0, atol=1e-4)
    torch.testing.assert_close(golden_model(golden["x"]).double(), golden["logits"], rtol=0, atol=1e-4)


def test_five_steps_of_adam_lose_what_the_golden_ones_do(golden, golden_model):
    losses, norm = five_adam_steps(golden_model, golden["x"], golden["y"], golden["class_weights"])
    gradients = [value for name, value in golden.items() if name.startswith("grad/") and value >= 0]
    assert losses == pytest.approx(golden["train_losses"].tolist(), rel=1e-3)
    assert norm == pytest.approx(torch.stack(gradients).norm().item(), rel=1e-3)
    with torch.inference_mode():
        # Adam's first steps divide small numbers by small ones: single precision is off by 0.02 here
        torch.testing.assert_close(golden_model.eval()(golden["x"]).double(), golden["logits_after"], rtol=0, atol=0.05)


@torch.inference_mode()
def test_the_reference_network_gives_the_golden_logits_to_double_precision(golden, golden_weights):
    fs = golden["x"].shape[2] // 30
    assert {name: tuple(value.shape) for name, value in golden_weights.items()} == released.shapes(fs)
    logits = released.reference(golden_weights, fs).double()(golden["x"][:2].double())
    torch.testing.assert_close(logits, golden["logits"][:2], rtol=0, atol=1e-12)


@pytest.fixture(params=RATES)
def fs(request):
    return request.param


@torch.inference_mode()
def test_weights_by_formula_give_the_logits_that_stand_here(fs):
    model, x = from_original_state_dict(released.weights_by_formula(fs)), released.signal_by_formula(fs, 4)
    recalibrated = features(model, x[:1])
    places = [0, 7, 29], [0, 40, -1]
    torch.testing.assert_close(recalibrated[0][places], torch.tensor(FEATURES[fs]), rtol=0, atol=1e-4)
    torch.testing.assert_close(model.tce(recalibrated)[0][places], torch.tensor(ENCODED[fs]), rtol=0, atol=1e-4)
    torch.testing.assert_close(model(x), torch.tensor(LOGITS[fs]), rtol=0, atol=1e-4)


def test_five_steps_of_adam_from_weights_by_formula_lose_what_stands_here(fs):
    model, x = from_original_state_dict(released.weights_by_formula(fs)), released.signal_by_formula(fs, 4)
    losses, norm = five_adam_steps(model, x, torch.arange(4), CLASS_WEIGHTS)
    # Adam's first steps divide small numbers: the later losses of four sleep epochs carry each kernel's rounding on.
    assert losses[:3] == pytest.approx(LOSSES[fs][:3], rel=1e-3)
    assert losses[3:] == pytest.approx(LOSSES[fs][3:], rel=2e-2)
    assert norm == pytest.approx(GRADIENT_NORM[fs], rel=1e-3)


@torch.inference_mode()
def test_every_position_agrees_with_the_reference_network(fs):
    weights, x = released.weights_by_formula(fs), released.signal_by_formula(fs, 2)
    model, reference = from_original_state_dict(weights), released.reference(weights, fs)
    recalibrated = reference.mrcnn(x)
    torch.testing.assert_close(features(model, x), recalibrated, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.tce(recalibrated), reference.tce(recalibrated), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_names_of_a_data_parallel_model_are_understood(fs):
    weights, x = released.weights_by_formula(fs), released.signal_by_formula(fs, 1)
    parallel = {f"module.{name}": value for name, value in weights.items()}
    assert torch.equal(from_original_state_dict(parallel)(x), from_original_state_dict(weights)(x))


@torch.inference_mode()
def test_dead_parameters_need_not_be_there_and_do_nothing():
    weights, x = released.weights_by_formula(100), released.signal_by_formula(100, 1)
    dead = {name for name in weights if released.is_dead(name)}
    # 2 layers, each with a causal convolution of 30 * 30 * 7 + 30 and a LayerNorm of 2 * 80
    assert sum(weights[name].numel() for name in dead) == 12_980
    alive = {name: value for name, value in weights.items() if name not in dead}
    assert torch.equal(from_original_state_dict(alive)(x), from_original_state_dict(weights)(x))
    filled = weights | {name: torch.full_like(weights[name], torch.nan) for name in dead}
    assert torch.equal(from_original_state_dict(filled)(x), from_original_state_dict(weights)(x))


def test_every_other_parameter_is_needed_and_named_if_it_is_missing():
    weights = released.weights_by_formula(100)
    for missing in (name for name in weights if not released.is_dead(name)):
        with pytest.raises(UserError, match=f"it has no '{missing}'"):
            from_original_state_dict({name: value for name, value in weights.items() if name != missing})


def test_every_other_parameter_reaches_the_network_with_its_values():
    weights = released.weights_by_formula(125)
    ours = torch.cat([value.flatten().double() for value in from_original_state_dict(weights).state_dict().values()])
    theirs = torch.cat([value.flatten().double() for name, value in weights.items() if not released.is_dead(name)])
    assert torch.equal(ours.sort().values, theirs.sort().values)


def test_the_sampling_rate_follows_from_the_shapes(fs):
    weights = released.weights_by_formula(fs)
    assert original_fs(weights) == fs
    assert original_fs({f"module.{name}": value for name, value in weights.items()}) == fs
    assert from_original_state_dict(weights)(torch.zeros(1, 1, 30 * fs)).shape == (1, 5)


def test_the_model_is_in_evaluation_mode_and_owns_its_weights():
    weights = released.weights_by_formula(100)
    model = from_original_state_dict(weights)
    assert not any(layer.training for layer in model.modules())
    before = model.head.weight.clone()
    weights["fc.weight"].zero_()
    assert torch.equal(model.head.weight, before)


def test_a_released_network_of_one_layer_and_another_width_is_understood():
    weights = {
        name: value
        for name, value in released.weights_by_formula(100).items()
        if not name.startswith("tce.layers.1.") and ".feed_forward." not in name
    }
    weights |= {
        "tce.layers.0.feed_forward.w_1.weight": torch.zeros(64, 80),
        "tce.layers.0.feed_forward.w_1.bias": torch.zeros(64),
        "tce.layers.0.feed_forward.w_2.weight": torch.zeros(80, 64),
        "tce.layers.0.feed_forward.w_2.bias": torch.zeros(80),
    }
    # without the second layer and with 64 instead of 120 in the first
    layer = 3 * (30 * 30 * 7 + 30) + 80 * 80 + 80 + 2 * 80 + 80 * 120 + 120 + 120 * 80 + 80
    expected = 509_825 - layer - (120 - 64) * (80 + 1 + 80)
    assert sum(parameter.numel() for parameter in from_original_state_dict(weights).parameters()) == expected


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("fc.weight", (5, 2399), "head.weight"),
        ("mrcnn.features2.5.weight", (128, 64, 5), r"has a kernel of 5; AttnSleep has 7 \(100 Hz\) or 6 \(125 Hz\)"),
        ("mrcnn.features2.5.weight", (128,), "not one of the released AttnSleep"),
        ("mrcnn.features1.0.weight", (64, 1, 49), "mrcnn.small.0.weight"),
        ("tce.layers.0.feed_forward.w_1.weight", (), "not one of the released AttnSleep"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(name, shape, text):
    with pytest.raises(UserError, match=text):
        from_original_state_dict(released.weights_by_formula(100) | {name: torch.zeros(shape)})


@pytest.mark.parametrize("state_dict", [{}, {"state_dict": {}}, {"epoch": 3, "fc.weight": torch.zeros(5, 2400)}])
def test_what_is_no_released_state_dict_is_refused(state_dict):
    with pytest.raises(UserError, match="not one of the released AttnSleep"):
        from_original_state_dict(state_dict)
