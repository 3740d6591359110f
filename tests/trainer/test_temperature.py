import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint

from report.statistics import calibration
from trainer.temperature import calibrate, fit_temperature
from utils.checkpoint import BEST, load_checkpoint
from utils.experiment import calibrated


def drawn(n, scale, seed=0):
    """Logits, and stages drawn with the probabilities of the logits before they were scaled."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 5, generator=generator)
    stages = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).flatten()
    return scale * logits, stages


@pytest.mark.parametrize("scale", [0.3, 1, 3])
def test_logits_that_are_scaled_get_their_scale_as_temperature_and_the_calibration_error_falls(scale):
    logits, stages = drawn(20_000, scale)
    temperature = fit_temperature(logits, stages)
    assert temperature == pytest.approx(scale, rel=0.03)
    logits, stages = drawn(20_000, scale, seed=1)
    y_pred, probabilities = logits.argmax(dim=1).numpy(), logits.softmax(dim=1).numpy()
    before = calibration(stages.numpy(), y_pred, probabilities)["ece"]
    after = calibration(stages.numpy(), y_pred, calibrated(probabilities, np.full(20_000, temperature)))["ece"]
    assert after < 0.015
    assert before < 0.015 if scale == 1 else before > 0.1


def test_the_temperature_is_the_best_of_a_grid_and_the_same_each_time():
    logits, stages = drawn(300, 2.5)

    def loss(temperature):
        probabilities = np.exp(logits.double().numpy() / temperature)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return -np.log(probabilities[np.arange(300), stages]).mean()

    temperature = fit_temperature(logits, stages)
    assert temperature == fit_temperature(logits, stages)
    assert loss(temperature) <= min(map(loss, np.geomspace(0.05, 20, 400)))


@pytest.mark.parametrize(
    ("logits", "stages", "expected"),
    [
        (torch.eye(5), torch.arange(5), 0.05),  # right throughout: the surer the better
        (-torch.eye(5), torch.arange(5), 20.0),  # wrong throughout: the less sure the better
        (torch.zeros(5, 5), torch.arange(5), 1.0),  # any temperature is as good
        (torch.eye(5), torch.full([5], 2), 1.0),  # one stage
        (torch.eye(5)[:1], torch.tensor([3]), 1.0),  # one sleep epoch
    ],
)
def test_where_there_is_no_best_temperature_the_end_of_the_range_or_1_is_taken(logits, stages, expected):
    assert fit_temperature(logits, stages) == expected


def test_the_temperature_is_kept_in_the_checkpoint_which_is_not_written_again(tmp_path):
    write_checkpoint(tmp_path / BEST)
    logits, stages = drawn(300, 2.5)
    trainer = SimpleNamespace(directory=tmp_path, evaluated_set="valid", outputs=lambda batches: logits)
    temperature = calibrate(trainer, SimpleNamespace(stages=stages))
    assert load_checkpoint(tmp_path / BEST)["temperature"] == temperature
    before = (tmp_path / BEST).stat()
    assert calibrate(trainer, SimpleNamespace(stages=stages)) == temperature
    assert (tmp_path / BEST).stat().st_ino == before.st_ino


def test_probabilities_are_calibrated_as_their_logits_would_be():
    logits, _ = drawn(200, 5)
    temperature = np.random.default_rng(0).uniform(0.3, 4, 200)
    expected = (logits.double() / torch.from_numpy(temperature[:, None])).softmax(dim=1).numpy()
    found = calibrated(logits.softmax(dim=1).numpy(), temperature)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert math.isclose(found.sum(), 200)
