"""A day of training in small: memory, open files, log and checkpoints after 2,000 training epochs."""

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
from trainer.trainer import Trainer
from utils.logs import log_to_console, log_to_file

N_TRAIN_EPOCHS, SAVE_PERIOD = 2000, 250


def memory():
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watched(Trainer):
    """Notes memory and open files after each training epoch."""

    def train_pass(self, train_epoch):
        self.notes.append((memory(), len(os.listdir("/proc/self/fd"))))  # noqa: PTH208
        return super().train_pass(train_epoch)


def train(nights, directory):
    """Train a tiny network on tiny nights; return what was noted."""
    data = SleepEpochs(find_recordings(nights), torch.device("cpu"))
    names = list(data.outlines)
    network = nn.Sequential(
        nn.Conv1d(1, 4, 50, 25), nn.BatchNorm1d(4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    )
    network.append(nn.Linear(4, 5))
    optimizer = torch.optim.Adam(network.parameters())
    trainer = Watched(
        network,
        optimizer,
        None,
        criterion=nn.CrossEntropyLoss(),
        metrics={"accuracy": metric.accuracy},
        train_batches=Batches(data, data.indices(names[:2]), 8, shuffle=True),
        evaluation_batches=Batches(data, data.indices(names[2:]), 8, shuffle=False),
        evaluated_set="test",
        bf16=False,
        directory=directory,
        epochs=N_TRAIN_EPOCHS,
        save_period=SAVE_PERIOD,
        monitor="max accuracy",
        early_stop=None,
        seed=0,
        about={},
    )
    trainer.notes = []
    log_to_console(1)
    with log_to_file(directory / "info.log"):
        trainer.train()
    return trainer.notes


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to look at memory and open files")
def test_memory_open_files_and_folder_stay_as_they_are_over_2000_training_epochs(tmp_path):
    nights, directory = write_nights(tmp_path / "npz"), tmp_path / "fold_0"
    # A process of its own: what other tests have freed would hide what grows.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        notes = pool.submit(train, nights, directory).result()
    bytes_used, files = zip(*notes, strict=True)
    print(f"memory {bytes_used[100] / 2**20:.1f} to {bytes_used[-1] / 2**20:.1f} MB, open files {set(files[1:])}")
    assert len(bytes_used) == N_TRAIN_EPOCHS
    assert max(bytes_used[100:]) < 1.05 * bytes_used[100]
    assert len(set(files[1:])) == 1
    assert (directory / "info.log").stat().st_size < 250 * N_TRAIN_EPOCHS
    numbered = {f"checkpoint-epoch{number}.pth" for number in range(SAVE_PERIOD, N_TRAIN_EPOCHS + 1, SAVE_PERIOD)}
    others = {"info.log", "metrics.csv", "model_best.pth", "checkpoint-last.pth"}
    assert {path.name for path in directory.iterdir()} == numbered | others
