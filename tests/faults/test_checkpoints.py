"""A newest checkpoint that is cut or has a flipped byte: refused by name, and the next older one is taken and said."""

import random
import re
import shutil

import pytest
import torch
from scripts import ROOT, SMALL, write_nights

from data_loader.data_loaders import SleepEpochs, find_recordings
from data_loader.folds import make_folds
from train_Kfold_CV import make_trainer
from trainer.configuration import read_config
from utils.checkpoint import LAST, load_checkpoint


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Make trainers of one fold, whose folder has checkpoints after training epochs 2 (kept) and 3 (last)."""
    place = tmp_path_factory.mktemp("checkpoints")
    outlines = find_recordings(write_nights(place / "npz"))
    config = read_config(ROOT / "config.json", [f"{key}={value}" for key, value in SMALL.items()])
    data = SleepEpochs(outlines, torch.device("cpu"))
    fold = make_folds([outline.name for outline in outlines], 3, 0)[0]
    make_trainer(config, fold, data, place / "fold_0").train()

    def make(directory):
        shutil.copytree(place / "fold_0", directory)
        return make_trainer(config, fold, data, directory)

    return make


@pytest.fixture
def trainer(make, tmp_path, log):
    return make(tmp_path / "fold_0")


def check_fall_back(trainer, path, damaged, log):
    """See what going on from a damaged newest checkpoint gives: the older one, said, or that very checkpoint whole."""
    whole = load_checkpoint(path)
    path.write_bytes(damaged)
    log.clear()
    trainer.history = []
    trainer.resume()
    if len(trainer.history) == 3:  # the byte means nothing
        assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in whole["model"].items())
        return False
    assert len(trainer.history) == 2
    assert re.search(rf"{LAST}: .* Trying an older one", log.text)
    assert "from checkpoint-epoch2.pth" in log.text
    return True


@pytest.mark.slow
def test_a_newest_checkpoint_cut_at_any_of_50_positions_is_passed_over(trainer, log):
    path = trainer.directory / LAST
    content = path.read_bytes()
    for number in range(50):
        assert check_fall_back(trainer, path, content[: number * len(content) // 50], log)
        path.write_bytes(content)


@pytest.mark.slow
def test_a_newest_checkpoint_with_any_of_50_flipped_bytes_is_passed_over_or_whole(trainer, log):
    path, rng = trainer.directory / LAST, random.Random(0)
    content = path.read_bytes()
    n_refused = 0
    for _ in range(50):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 0xFF
        n_refused += check_fall_back(trainer, path, damaged, log)
        path.write_bytes(content)
    assert n_refused >= 40


def test_a_checkpoint_that_claims_endless_training_is_passed_over(trainer, log):
    path = trainer.directory / LAST
    torch.save(load_checkpoint(path) | {"train_epoch": 10**15}, path)
    assert check_fall_back(trainer, path, path.read_bytes(), log)


@pytest.mark.parametrize("history", [None, 5, [], [1, 2, 3], [{}, {}, {}], [{"train_epoch": 1}]])
def test_a_checkpoint_whose_history_makes_no_sense_is_passed_over(trainer, log, history):
    path = trainer.directory / LAST
    torch.save(load_checkpoint(path) | {"history": history}, path)
    assert check_fall_back(trainer, path, path.read_bytes(), log)
