import csv
import os
import shutil
import signal

import pytest
import torch
from torch import nn

from base.base_trainer import BaseTrainer
from utils.checkpoint import BEST, LAST, load_checkpoint, numbered, save_checkpoint
from utils.errors import UserError
from utils.stopping import Stopped, stoppable

FIGURES = [0.2, 0.5, 0.5, 0.4, 0.3]


class Scripted(BaseTrainer):
    """Trains two numbers on random ones; its figures are written down."""

    def __init__(self, directory, figures=FIGURES, interrupted_in=None, stopped_in=None, **changes):
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, amsgrad=True)
        values = {
            "directory": directory,
            "epochs": len(figures),
            "save_period": 2,
            "monitor": "max accuracy",
            "early_stop": None,
            "seed": 1,
            "evaluated_set": "test",
            "about": {"fs": 100},
        } | changes
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2])
        super().__init__(model, optimizer, values.pop("lr_scheduler", scheduler), **values)
        self.figures, self.interrupted_in, self.stopped_in, self.passes = figures, interrupted_in, stopped_in, []

    def train_pass(self, train_epoch):
        self.passes.append(train_epoch)
        self.model.train()
        losses = []
        for number in torch.randperm(3).tolist():
            loss = (1 + number) * self.model(torch.randn(3, 2)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.stop_if("step", len(losses) + 1)
            self.optimizer.step()
            if self.average:
                self.average.update(self.model)
            losses.append(loss.item())
        if train_epoch == self.interrupted_in:
            raise KeyboardInterrupt
        return {"train_loss": sum(losses) / 3}

    def stop_if(self, *moment):
        if self.stopped_in == (len(self.history) + 1, *moment):
            os.kill(os.getpid(), signal.SIGTERM)

    def evaluation_pass(self):
        self.stop_if("evaluation")
        figure = self.figures[len(self.history)]
        return {"test_loss": figure, "test_accuracy": figure}


def weights(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def in_checkpoint(path):
    return torch.cat([value.flatten() for value in load_checkpoint(path)["model"].values()])


def test_the_first_best_training_epoch_is_kept_on_a_tie(tmp_path):
    trainer = Scripted(tmp_path)
    trainer.train()
    assert trainer.passes == [1, 2, 3, 4, 5]
    assert trainer.best()["train_epoch"] == 2
    assert load_checkpoint(tmp_path / BEST)["train_epoch"] == 2
    assert load_checkpoint(tmp_path / LAST)["train_epoch"] == 5


@pytest.mark.parametrize(
    ("monitor", "figures", "best"),
    [
        ("max accuracy", [0.1, 0.9, 0.3], 2),
        ("min loss", [0.1, 0.9, 0.3], 1),
        ("min loss", [0.5, 0.2, 0.2], 2),
        ("max accuracy", [0.7, 0.7, 0.7], 1),
        ("min accuracy", [0.3, 0.2, 0.1], 3),
    ],
)
def test_the_monitor_looks_for_the_largest_or_the_smallest(tmp_path, monitor, figures, best):
    trainer = Scripted(tmp_path, figures, monitor=monitor)
    trainer.train()
    assert trainer.best()["train_epoch"] == best
    assert load_checkpoint(tmp_path / BEST)["train_epoch"] == best
    assert trainer.load_best() == best
    torch.testing.assert_close(weights(trainer), in_checkpoint(tmp_path / BEST), rtol=0, atol=0)


@pytest.mark.parametrize(("early_stop", "n_done"), [(None, 8), (1, 3), (2, 4), (3, 8), (100, 8)])
def test_training_ends_after_so_many_training_epochs_without_a_better_one(tmp_path, log, early_stop, n_done):
    figures = [0.1, 0.5, 0.5, 0.4, 0.6, 0.1, 0.2, 0.7]
    trainer = Scripted(tmp_path, figures, early_stop=early_stop)
    trainer.train()
    assert len(trainer.history) == n_done
    stopped = f"Early stop: no better accuracy for {early_stop} training epochs."
    assert (stopped in log.messages) == (n_done < 8)


def test_a_run_that_stopped_early_does_not_go_on_when_it_is_resumed(tmp_path):
    Scripted(tmp_path, early_stop=2).train()
    again = Scripted(tmp_path, early_stop=2)
    again.resume()
    again.train()
    assert again.passes == []
    assert len(again.history) == 4


def test_checkpoints_are_kept_every_save_period_and_after_the_last_training_epoch(tmp_path):
    Scripted(tmp_path).train()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {numbered(2), numbered(4), LAST, BEST, "metrics.csv"}
    assert load_checkpoint(tmp_path / numbered(4))["train_epoch"] == 4
    assert load_checkpoint(tmp_path / numbered(4))["about"] == {"fs": 100}


def test_metrics_csv_has_one_row_per_training_epoch(tmp_path):
    trainer = Scripted(tmp_path)
    trainer.train()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["train_epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [float(row["test_accuracy"]) for row in rows] == FIGURES
    # the rate falls after the second training epoch
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.01])
    assert list(rows[0]) == ["train_epoch", "lr", "train_loss", "test_loss", "test_accuracy", "seconds"]
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_each_training_epoch_says_a_line_and_the_best_ones_say_so(tmp_path, log):
    Scripted(tmp_path, epochs=3).train()
    lines = [message for message in log.messages if message.startswith("train epoch")]
    assert [line.split(" | ")[0] for line in lines] == ["train epoch 1/3", "train epoch 2/3", "train epoch 3/3"]
    assert ["best so far" in line for line in lines] == [True, True, False]
    assert "test: loss 0.500, accuracy 0.500" in lines[1]


@pytest.fixture
def uninterrupted(tmp_path):
    trainer = Scripted(tmp_path / "whole")
    trainer.train()
    return trainer


@pytest.fixture
def averaged(tmp_path):
    trainer = Scripted(tmp_path / "averaged", averaging=0.9)
    trainer.train()
    return trainer


def flat(state):
    return torch.cat([value.flatten() for value in state.values()])


def files_agree(one, other):
    for name in (LAST, BEST, numbered(2), numbered(4)):
        first, second = load_checkpoint(one / name), load_checkpoint(other / name)
        assert torch.equal(flat(first["model"]), flat(second["model"])), name
        assert first.keys() == second.keys()
        if "averaging" in first:
            raw, again = first["averaging"], second["averaging"]
            assert raw["n_steps"] == again["n_steps"] == 3 * first["train_epoch"]
            assert torch.equal(flat(raw["raw_model"]), flat(again["raw_model"]))
        assert first["lr_scheduler"] == second["lr_scheduler"]
        assert [row | {"seconds": 0} for row in first["history"]] == [row | {"seconds": 0} for row in second["history"]]
        for number, state in first["optimizer"]["state"].items():
            assert all(torch.equal(value, second["optimizer"]["state"][number][key]) for key, value in state.items())


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_a_run_that_is_stopped_and_goes_on_ends_like_one_that_was_not(tmp_path, uninterrupted, stop):
    directory = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        Scripted(directory, interrupted_in=stop).train()
    torch.rand(7)
    trainer = Scripted(directory)
    trainer.resume()
    trainer.train()
    assert trainer.passes == list(range(stop, 6))
    assert torch.equal(weights(trainer), weights(uninterrupted))
    files_agree(directory, uninterrupted.directory)


def test_averaging_leaves_the_training_as_it_is_and_evaluates_and_keeps_the_average(averaged, uninterrupted):
    assert torch.equal(weights(averaged), weights(uninterrupted))
    for name in (LAST, BEST, numbered(2), numbered(4)):
        state, plain = (load_checkpoint(trainer.directory / name) for trainer in (averaged, uninterrupted))
        assert torch.equal(flat(state["averaging"]["raw_model"]), flat(plain["model"]))
        assert not torch.allclose(flat(state["model"]), flat(plain["model"]))
    assert torch.equal(flat(averaged.evaluated.state_dict()), in_checkpoint(averaged.directory / LAST))
    averaged.load_best()
    assert torch.equal(flat(averaged.evaluated.state_dict()), in_checkpoint(averaged.directory / BEST))


@pytest.mark.parametrize("stop", [1, 2, 5])
@pytest.mark.parametrize("moment", [("step", 2), ("evaluation",)], ids=str)
def test_a_run_with_averaging_that_is_told_to_end_goes_on_to_the_same_bits(tmp_path, averaged, stop, moment):
    directory = tmp_path / "parts"
    with pytest.raises(Stopped), stoppable():
        Scripted(directory, averaging=0.9, stopped_in=(stop, *moment)).train()
    trainer = Scripted(directory, averaging=0.9)
    trainer.resume()
    trainer.train()
    files_agree(directory, averaged.directory)
    files_agree(averaged.directory, directory)


def test_a_run_with_averaging_does_not_go_on_from_a_checkpoint_without(uninterrupted):
    with pytest.raises(UserError, match=f"{LAST}: a checkpoint of another network or optimizer .*averaging"):
        Scripted(uninterrupted.directory, averaging=0.9).resume(uninterrupted.directory / LAST)


@pytest.mark.parametrize("train_epoch", [1, 2, 5])
@pytest.mark.parametrize("moment", [("step", 2), ("evaluation",)], ids=str)
def test_a_run_that_is_told_to_end_ends_at_once_and_goes_on_to_the_same_bits(
    tmp_path, uninterrupted, train_epoch, moment
):
    directory = tmp_path / "parts"
    with pytest.raises(Stopped), stoppable():
        Scripted(directory, stopped_in=(train_epoch, *moment)).train()
    torch.rand(7)
    trainer = Scripted(directory)
    trainer.resume()
    trainer.train()
    assert trainer.passes == list(range(train_epoch, 6))
    files_agree(directory, uninterrupted.directory)
    assert {path.name for path in directory.iterdir()} == {path.name for path in uninterrupted.directory.iterdir()}


@pytest.mark.parametrize("save", range(1, 10))
def test_a_run_that_is_stopped_between_two_files_ends_like_one_that_was_not(tmp_path, uninterrupted, monkeypatch, save):
    saved = []

    def save_or_stop(path, state):
        saved.append(path.name)
        if len(saved) == save:
            raise KeyboardInterrupt
        save_checkpoint(path, state)

    monkeypatch.setattr("base.base_trainer.save_checkpoint", save_or_stop)
    with pytest.raises(KeyboardInterrupt):
        Scripted(tmp_path / "parts").train()
    monkeypatch.undo()
    trainer = Scripted(tmp_path / "parts")
    trainer.resume()
    trainer.train()
    assert torch.equal(weights(trainer), weights(uninterrupted))
    files_agree(tmp_path / "parts", uninterrupted.directory)


def test_resuming_what_is_done_trains_nothing(tmp_path, uninterrupted):
    again = Scripted(uninterrupted.directory)
    again.resume()
    again.train()
    assert again.passes == []
    assert torch.equal(weights(again), weights(uninterrupted))


def test_without_a_checkpoint_resuming_starts_at_the_beginning(tmp_path):
    trainer = Scripted(tmp_path / "new")
    trainer.resume()
    assert trainer.history == []


@pytest.mark.parametrize("damage", [b"", b"no checkpoint"])
def test_a_damaged_last_checkpoint_is_said_and_the_one_before_it_is_taken(uninterrupted, log, damage):
    (uninterrupted.directory / LAST).write_bytes(damage)
    again = Scripted(uninterrupted.directory)
    again.resume()
    assert len(again.history) == 4
    assert any(f"{LAST}: no checkpoint that can be read" in message for message in log.messages)
    again.train()
    assert again.passes == [5]
    assert torch.equal(weights(again), weights(uninterrupted))


def test_if_every_checkpoint_is_damaged_training_starts_afresh(uninterrupted):
    for path in uninterrupted.directory.glob("*.pth"):
        path.write_bytes(path.read_bytes()[:-500])
    again = Scripted(uninterrupted.directory)
    again.resume()
    again.train()
    assert again.passes == [1, 2, 3, 4, 5]
    assert torch.equal(weights(again), weights(uninterrupted))


def test_a_checkpoint_that_is_named_is_taken_even_if_there_is_a_newer_one(uninterrupted):
    again = Scripted(uninterrupted.directory)
    again.resume(uninterrupted.directory / numbered(2))
    assert [row["train_epoch"] for row in again.history] == [1, 2]


def test_a_checkpoint_of_another_folder_brings_the_best_one_along(tmp_path, uninterrupted):
    trainer = Scripted(tmp_path / "new")
    trainer.resume(uninterrupted.directory / numbered(4))
    trainer.train()
    assert trainer.passes == [5]
    assert trainer.load_best() == trainer.best()["train_epoch"] == 2
    assert torch.equal(weights(trainer), in_checkpoint(uninterrupted.directory / BEST))


def test_a_best_checkpoint_that_came_after_the_named_one_is_not_taken(tmp_path):
    Scripted(tmp_path / "old", figures=[0.2, 0.3, 0.4, 0.9]).train()
    trainer = Scripted(tmp_path / "new", figures=[0.2, 0.3, 0.1, 0.1])
    trainer.resume(tmp_path / "old" / numbered(2))
    trainer.train()
    assert trainer.load_best() == trainer.best()["train_epoch"] == 2


def test_a_checkpoint_that_is_named_and_damaged_is_refused(uninterrupted):
    (uninterrupted.directory / LAST).write_bytes(b"")
    with pytest.raises(UserError, match=f"{LAST}: no checkpoint that can be read"):
        Scripted(uninterrupted.directory).resume(uninterrupted.directory / LAST)


@pytest.mark.parametrize("part", ["model", "optimizer", "lr_scheduler"])
def test_a_checkpoint_of_another_network_or_optimizer_is_refused(uninterrupted, part):
    other = Scripted(uninterrupted.directory)
    if part == "model":
        other.model = nn.Linear(3, 1)
    elif part == "optimizer":
        other.optimizer = torch.optim.Adam([other.model.weight])
    else:
        state = load_checkpoint(uninterrupted.directory / LAST)
        torch.save(state | {"lr_scheduler": None}, uninterrupted.directory / LAST)
    with pytest.raises(UserError, match=f"{LAST}: a checkpoint of another network or optimizer"):
        other.resume(uninterrupted.directory / LAST)


def test_a_missing_metrics_csv_is_written_again_when_training_goes_on(uninterrupted):
    expected = (uninterrupted.directory / "metrics.csv").read_text()
    (uninterrupted.directory / "metrics.csv").unlink()
    again = Scripted(uninterrupted.directory)
    again.resume()
    again.train()
    assert (uninterrupted.directory / "metrics.csv").read_text() == expected


def test_the_rate_can_follow_the_monitored_value(tmp_path):
    trainer = Scripted(tmp_path, figures=[0.5, 0.4, 0.4, 0.4, 0.4])
    trainer.lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, mode="max", patience=1)
    trainer.train()
    assert [row["lr"] for row in trainer.history] == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])


def test_training_without_a_scheduler_keeps_the_rate_and_resumes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Scripted(tmp_path, lr_scheduler=None, interrupted_in=3).train()
    trainer = Scripted(tmp_path, lr_scheduler=None)
    trainer.resume()
    trainer.train()
    assert [row["lr"] for row in trainer.history] == pytest.approx([0.1] * 5)


def test_each_training_epoch_draws_numbers_of_its_own_from_the_seed(tmp_path):
    runs = [Scripted(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for run in runs:
        torch.rand(3)
        run.train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))
    losses = [row["train_loss"] for row in runs[0].history]
    assert len(set(losses)) == 5


def test_the_set_that_is_looked_at_has_the_name_it_was_given(tmp_path, log):
    class OnValid(Scripted):
        def evaluation_pass(self):
            return {"valid_accuracy": self.figures[len(self.history)], "test_accuracy": -len(self.history)}

    trainer = OnValid(tmp_path, evaluated_set="valid")
    trainer.train()
    assert trainer.best()["train_epoch"] == 2
    assert "valid: accuracy 0.500" in log.text


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_best_weights_that_are_lost_are_made_again(uninterrupted, tmp_path, spoil):
    directory = tmp_path / "again"
    shutil.copytree(uninterrupted.directory, directory)
    spoil(directory / BEST)
    trainer = Scripted(directory)
    trainer.resume()
    trainer.train()
    assert trainer.load_best() == uninterrupted.best()["train_epoch"]
