"""TensorBoard's files, written by training as its users run it and read by TensorBoard's own reader."""

import csv
import io

import pytest
from PIL import Image
from scripts import ROOT, settings, train, write_nights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.configuration import read_config
from utils.errors import UserError

NIGHTS = {"a": 10, "b": 10}
CHANGES = {"data_loader.args.num_folds": 2, "trainer.epochs": 2, "trainer.tensorboard": True}


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("npz"), NIGHTS)


def test_every_training_epoch_leaves_its_figures_and_the_confusion_matrix_of_the_evaluated_set(nights, tmp_path):
    arguments = ["--fold_id", "0", "--np_data_dir", nights, *settings(**CHANGES)]
    code, _, err = train(*arguments, cwd=tmp_path)
    assert code == 0, err
    fold = tmp_path / "saved/Exp1/fold_0"
    board = EventAccumulator(str(fold / "tensorboard")).Reload()
    rows = list(csv.DictReader((fold / "metrics.csv").read_text().splitlines()))
    assert {*board.Tags()["scalars"]} == rows[0].keys()
    for column in ("lr", "train_loss", "test_loss", "test_accuracy", "test_kappa"):
        points = [(event.step, event.value) for event in board.Scalars(column)]
        assert points == [(step, pytest.approx(float(row[column]), rel=1e-6)) for step, row in enumerate(rows, 1)]
    assert board.Tags()["images"] == ["test_confusion_matrix"]
    pictures = board.Images("test_confusion_matrix")
    assert [picture.step for picture in pictures] == [1, 2]
    shown = [Image.open(io.BytesIO(picture.encoded_image_string)).convert("L") for picture in pictures]
    assert all(min(picture.size) > 300 and picture.getextrema()[0] < 100 for picture in shown)


def test_a_missing_tensorboard_is_asked_for_by_name_while_the_configuration_is_checked(monkeypatch):
    monkeypatch.setattr("trainer.configuration.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"trainer.tensorboard: the package tensorboard is not installed. Run: pip"):
        read_config(ROOT / "config.json", ["trainer.tensorboard=true"])
    read_config(ROOT / "config.json", [])
