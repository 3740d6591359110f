"""TensorBoard's files, written by training as its users run it and read by TensorBoard's own reader."""

import csv
import io

import pytest
from PIL import Image
from scripts import TRAIN, run, settings, write_nights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

NIGHTS = {"a": 10, "b": 10}
CHANGES = {"data_loader.args.num_folds": 2, "trainer.epochs": 2, "trainer.tensorboard": True}


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("npz"), NIGHTS)


def command(nights, **further):
    return [*TRAIN, "--fold_id", "0", "--np_data_dir", nights, *settings(**CHANGES | further)]


def test_every_training_epoch_leaves_its_figures_and_the_confusion_matrix_of_the_evaluated_set(nights, tmp_path):
    code, _, err = run(command(nights), tmp_path)
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


def test_a_missing_tensorboard_is_asked_for_by_name_before_anything_is_made(nights, tmp_path):
    package = tmp_path / "without/tensorboard"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError('No module named tensorboard', name=__name__)\n")
    code, out, err = run(command(nights), tmp_path, PYTHONPATH=str(package.parent))
    assert (code, out) == (1, "")
    assert err == (
        "trainer.tensorboard is true, but the package tensorboard is not installed. Run: pip install tensorboard\n"
    )
    assert not (tmp_path / "saved").exists()


def test_without_it_in_the_configuration_a_missing_tensorboard_does_not_matter(nights, tmp_path):
    (tmp_path / "tensorboard.py").write_text("raise ModuleNotFoundError(name=__name__)\n")
    further = {"trainer.tensorboard": False, "trainer.epochs": 1}
    code, _, err = run(command(nights, **further), tmp_path, PYTHONPATH=str(tmp_path))
    assert code == 0, err
    assert not (tmp_path / "saved/Exp1/fold_0/tensorboard").exists()
