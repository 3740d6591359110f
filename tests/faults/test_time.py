"""A day of training in small: memory, open files, log and checkpoints after many training epochs and many steps."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from scripts import write_nights
from torch import nn

from data_loader.data_loaders import Batches, SleepEpochs, find_recordings
from model import metric
from model.model import AttnSleep
from trainer.trainer import Trainer
from utils.heap import keep_freed_memory
from utils.logs import log_to_console, log_to_file

N_TRAIN_EPOCHS, SAVE_PERIOD = 2000, 250
N_STEPS = 400


def memory():
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watched(Trainer):
    """Notes memory and open files after each training epoch."""

    def train_pass(self, train_epoch):
        self.notes.append((memory(), len(os.listdir("/proc/self/fd"))))  # noqa: PTH208
        return super().train_pass(train_epoch)


def make_trainer(made, nights, directory, network, criterion, batch_size, n_times, **changes):
    """Make a trainer of a class on two nights, each sleep epoch so many times, that tests on the other ones."""
    data = SleepEpochs(find_recordings(nights), torch.device("cpu"))
    names = list(data.outlines)
    settings = {"epochs": 1, "save_period": SAVE_PERIOD, "monitor": "max accuracy", "early_stop": None, "seed": 0}
    return made(
        network,
        torch.optim.Adam(network.parameters()),
        None,
        criterion=criterion,
        metrics={"accuracy": metric.accuracy},
        train_batches=Batches(data, data.indices(names[:2]).repeat(n_times), batch_size, shuffle=True),
        evaluation_batches=Batches(data, data.indices(names[2:]), batch_size, shuffle=False),
        evaluated_set="test",
        precision="fp32",
        cuda_graph=True,
        directory=directory,
        about={},
        **settings | changes,
    )


def train_long(nights, directory):
    """Train a tiny network on tiny nights; return what was noted."""
    network = nn.Sequential(
        nn.Conv1d(1, 4, 50, 25), nn.BatchNorm1d(4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    trainer = make_trainer(Watched, nights, directory, network, nn.CrossEntropyLoss(), 8, 1, epochs=N_TRAIN_EPOCHS)
    trainer.notes = []
    log_to_console(1)
    with log_to_file(directory / "info.log"):
        trainer.train()
    return trainer.notes


class WatchedLoss(nn.CrossEntropyLoss):
    """Notes memory in each step."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def forward(self, logits, y_true):
        self.notes.append(memory())
        return super().forward(logits, y_true)


def train_wide(nights, directory):
    """Train the network of the paper on batches of the published size for one training epoch; return what was noted."""
    keep_freed_memory()
    loss = WatchedLoss()
    make_trainer(Trainer, nights, directory, AttnSleep(), loss, 128, 128 * N_STEPS // 26).train_pass(1)
    return loss.notes


def in_process(train, nights, directory):
    """Train in a process of its own: what other tests have freed would hide what grows."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, nights, directory).result()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to look at memory and open files")
def test_memory_open_files_and_folder_stay_as_they_are_over_2000_training_epochs(tmp_path):
    nights, directory = write_nights(tmp_path / "npz"), tmp_path / "fold_0"
    bytes_used, files = zip(*in_process(train_long, nights, directory), strict=True)
    print(f"memory {bytes_used[100] / 2**20:.1f} to {bytes_used[-1] / 2**20:.1f} MB, open files {set(files[1:])}")
    assert len(bytes_used) == N_TRAIN_EPOCHS
    assert max(bytes_used[100:]) < 1.05 * bytes_used[100]
    assert len(set(files[1:])) == 1
    assert (directory / "info.log").stat().st_size < 250 * N_TRAIN_EPOCHS
    numbered = {f"checkpoint-epoch{number}.pth" for number in range(SAVE_PERIOD, N_TRAIN_EPOCHS + 1, SAVE_PERIOD)}
    others = {"info.log", "metrics.csv", "model_best.pth", "checkpoint-last.pth"}
    assert {path.name for path in directory.iterdir()} == numbered | others


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to look at memory")
def test_memory_does_not_grow_along_a_training_epoch(tmp_path):
    bytes_used = in_process(train_wide, write_nights(tmp_path / "npz"), tmp_path / "fold_0")
    print("MB after every 50 steps:", *(n // 2**20 for n in bytes_used[::50]))
    assert len(bytes_used) == N_STEPS
    assert max(bytes_used) < 1.15 * max(bytes_used[:50])
