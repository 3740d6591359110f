import math

import numpy as np
import pytest
import torch
from torch import nn

from data_loader.data_loaders import Batches, SleepEpochs, find_recordings
from model import metric
from trainer.trainer import Trainer
from utils.errors import UserError
from utils.seed import seed_train_epoch

METRICS = {"accuracy": metric.accuracy, "macro_f1": metric.macro_f1}


class Network(nn.Module):
    """Few numbers, all that a network has: weights, batch norm, dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3000, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 5)
        )

    def forward(self, signal):
        assert signal.shape[1:] == (1, 3000)
        return self.layers(0.01 * signal)


@pytest.fixture
def make(prepared, tmp_path):
    """Make a trainer: ten sleep epochs to train on, two nights of ten to test on, batches of four."""
    data = SleepEpochs(find_recordings(prepared("a", "b", "c")), torch.device("cpu"))

    def make(lr=0.01, precision="fp32", criterion=None, network=Network, metrics=METRICS, evaluated_set="test"):
        torch.manual_seed(0)
        model = network()
        return Trainer(
            model,
            torch.optim.SGD(model.parameters(), lr=lr),
            None,
            criterion=criterion or nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.72, 0.3, 0.2, 0.3])),
            metrics=metrics,
            train_batches=Batches(data, data.indices(["a"]), 4, shuffle=True),
            evaluation_batches=Batches(data, data.indices(["b", "c"]), 4, shuffle=False),
            precision=precision,
            cuda_graph=True,
            evaluated_set=evaluated_set,
            directory=tmp_path / "fold_0",
            epochs=2,
            save_period=1,
            monitor="max accuracy",
            early_stop=None,
            seed=1,
            about={},
        )

    return make


def test_a_training_pass_goes_through_the_data_once_and_gives_the_columns(make):
    trainer = make()
    seed_train_epoch(1, 1)
    before = trainer.model.layers[1].weight.detach().clone()
    row = trainer.train_pass(1)
    assert list(row) == ["train_loss", "train_accuracy", "train_macro_f1", "sleep_epochs_per_s"]
    assert all(type(value) is float and math.isfinite(value) for value in row.values())
    assert not torch.equal(trainer.model.layers[1].weight, before)
    assert trainer.model.layers[2].num_batches_tracked == 3
    assert trainer.model.training


def test_the_steps_are_those_of_a_plain_loop(make):
    """Loss, gradients, steps and metrics against a loop written here."""
    trainer, twin = make(), make()
    seed_train_epoch(1, 1)
    row = trainer.train_pass(1)

    seed_train_epoch(1, 1)
    twin.model.train()
    losses, y_true, y_pred = [], [], []
    for signal, stages in twin.train_batches:
        logits = twin.model(signal)
        loss = twin.criterion(logits, stages)
        gradients = torch.autograd.grad(loss, list(twin.model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.model.parameters(), gradients, strict=True):
                parameter -= 0.01 * gradient
        losses.append(loss.item())
        y_true += stages.tolist()
        y_pred += logits.argmax(1).tolist()
    for ours, theirs in zip(trainer.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)
    assert row["train_loss"] == pytest.approx(np.mean(losses))
    assert row["train_accuracy"] == metric.accuracy(np.array(y_true), np.array(y_pred))
    assert row["train_macro_f1"] == metric.macro_f1(np.array(y_true), np.array(y_pred))


class Oracle(nn.Module):
    """Tells the stage by the main frequency of the signal, wrongly for every N3; has a number to train."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, signal):
        peak = torch.fft.rfft(signal[:, 0]).abs()[:, :600].argmax(1) / 30  # Hz
        stage = ((peak - 1) / 2.7).round().long()
        return self.scale * nn.functional.one_hot(torch.where(stage == 3, 2, stage), 5).float()


def test_an_evaluation_gives_metrics_of_everything_pooled(make):
    row = make(network=Oracle).evaluation_pass()
    assert list(row) == ["test_loss", "test_accuracy", "test_macro_f1"]
    assert row["test_accuracy"] == pytest.approx(16 / 20)
    # W, N1, REM: F1 1. N2: precision 1/2, recall 1, F1 2/3. N3: 0. A mean over batches would be another number.
    assert row["test_macro_f1"] == pytest.approx((3 + 2 / 3) / 5)


def test_the_columns_carry_the_name_of_the_set(make):
    assert list(make(evaluated_set="valid").evaluation_pass()) == ["valid_loss", "valid_accuracy", "valid_macro_f1"]


def test_the_loss_of_an_evaluation_is_the_weighted_mean_over_everything(make):
    row = make(network=Oracle).evaluation_pass()
    right, wrong = -math.log(math.exp(3) / (math.exp(3) + 4)), -math.log(1 / (math.exp(3) + 4))
    weights = {"W": 0.3, "N1": 0.72, "N2": 0.3, "N3": 0.2, "REM": 0.3}
    expected = (sum(weights.values()) - 0.2) * right + 0.2 * wrong
    assert row["test_loss"] == pytest.approx(expected / sum(weights.values()), rel=1e-5)


def test_an_evaluation_changes_nothing_and_draws_no_random_number(make):
    trainer = make()
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    first = trainer.evaluation_pass()
    assert trainer.evaluation_pass() == first
    assert all(torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_logits_come_in_the_order_of_the_sleep_epochs(make):
    trainer = make(network=Oracle)
    logits = trainer.outputs(trainer.evaluation_batches)
    assert logits.shape == (20, 5)
    assert logits.argmax(1).tolist() == [0, 1, 2, 2, 4] * 4
    assert not logits.requires_grad


def test_training_goes_on_after_an_evaluation_with_dropout(make):
    trainer = make()
    trainer.evaluation_pass()
    trainer.train_pass(1)
    assert trainer.model.training


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_finite_number_ends_training_with_the_place_and_the_remedy(make, value):
    class Spoilt(nn.CrossEntropyLoss):
        def forward(self, logits, stages):
            self.n = getattr(self, "n", 0) + 1
            return super().forward(logits, stages) * (value if self.n == 2 else 1)

    with pytest.raises(
        UserError,
        match=rf"training epoch 7, step 2 of 3: the loss is {value}. The batch is of a. There is no .* Lower ",
    ):
        make(criterion=Spoilt()).train_pass(7)


def test_a_run_writes_plain_values_that_can_be_read_again(make, tmp_path):
    trainer = make()
    trainer.train()
    again = make()
    again.resume()
    assert again.history == trainer.history
    assert (tmp_path / "fold_0" / "metrics.csv").read_text().splitlines()[0].split(",") == [
        "train_epoch",
        "lr",
        "train_loss",
        "train_accuracy",
        "train_macro_f1",
        "sleep_epochs_per_s",
        "test_loss",
        "test_accuracy",
        "test_macro_f1",
        "seconds",
    ]


def test_bfloat16_is_for_training_alone(make):
    fine, coarse = make(), make(precision="bf16")
    logits = [trainer.outputs(trainer.evaluation_batches) for trainer in (fine, coarse)]
    assert torch.equal(*logits)
    losses = []
    for trainer in (fine, coarse):
        seed_train_epoch(1, 1)
        losses.append(trainer.train_pass(1)["train_loss"])
    assert losses[0] != losses[1] == pytest.approx(losses[0], abs=0.05)
    assert {parameter.dtype for parameter in coarse.model.parameters()} == {torch.float32}


def test_a_gpu_rounds_to_tf32_in_training_if_the_precision_is_tf32_and_never_in_evaluation(make):
    flags = []

    class Watched(Network):
        def forward(self, signal):
            flags.append((self.training, torch.backends.cudnn.allow_tf32))
            assert torch.backends.cuda.matmul.allow_tf32 == flags[-1][1]
            return super().forward(signal)

    for precision in ("fp32", "tf32"):
        trainer = make(network=Watched, precision=precision)
        trainer.train_pass(1)
        trainer.evaluation_pass()
        assert set(flags) == {(True, precision == "tf32"), (False, False)}
        flags.clear()


def fails(y_true, y_pred):
    raise ZeroDivisionError("no N1 in it")


def gives_nan(y_true, y_pred):
    return math.nan


@pytest.mark.parametrize(
    ("metric_of_user", "text"),
    [(fails, "Metric fails fails: ZeroDivisionError('no N1 in it')"), (gives_nan, "Metric gives_nan gives nan, which")],
)
def test_a_metric_that_fails_or_gives_no_number_is_warned_of_and_cannot_be_the_monitor(make, log, metric_of_user, text):
    trainer = make(metrics=METRICS | {"mine": metric_of_user})
    assert math.isnan(trainer.evaluation_pass()["test_mine"])
    assert log.messages[-1].startswith(f"test set: {text}")
    trainer.monitored = "mine"
    with pytest.raises(UserError, match="It is the monitor, and this is the test set"):
        trainer.evaluation_pass()
