"""The tasks that the benchmarks time. Each function makes one, which is then called without arguments.

`implementation` is `ours` or `textbook`, see `benchmarks.textbook`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from benchmarks import textbook
from benchmarks.worker import BATCH_SIZE, N_BATCHES, ROOT
from data_loader.data_loaders import SleepEpochs, find_recordings
from data_loader.folds import Fold
from prepare_datasets.prepare_physionet import read_night
from train_Kfold_CV import make_trainer
from trainer.configuration import read_config
from trainer.trainer import Trainer
from utils.heap import keep_freed_memory
from utils.recording import write_recording

Task = Callable[[], Any]
CPU = torch.device("cpu")
CLASS_WEIGHTS = (0.3, 0.72, 0.3, 0.2, 0.3)


def train(
    folder: Path, implementation: str, precision: str = "fp32", batch_size: int = BATCH_SIZE, keep_freed: bool = True
) -> Task:
    """Make four training steps on the first night of a folder: data, step, bookkeeping."""
    if implementation == "textbook":
        return _textbook_passes(folder)[0]
    trainer = _first_night_trainer(folder, precision, batch_size, keep_freed)
    return lambda: trainer.train_pass(2)


def evaluate(folder: Path, implementation: str, precision: str = "fp32") -> Task:
    """Evaluate four batches of the first night of a folder."""
    if implementation == "textbook":
        return _textbook_passes(folder)[1]
    return _first_night_trainer(folder, precision).evaluation_pass


def load(folder: Path, implementation: str) -> Task:
    """Load all nights of a folder."""
    if implementation == "textbook":
        return lambda: textbook.NpzDataset(sorted(folder.glob("*.npz")))
    return lambda: SleepEpochs(find_recordings(folder), CPU)


def prepare(folder: Path, implementation: str) -> Task:
    """Prepare one night from its EDF files."""
    psg, hypnogram = next(folder.glob("*-PSG.edf")), next(folder.glob("*-Hypnogram.edf"))
    npz = folder / f"{implementation}.npz"
    if implementation == "textbook":
        return lambda: textbook.prepare_night(psg, hypnogram, npz)
    return lambda: write_recording(npz, read_night(psg, hypnogram, "EEG Fpz-Cz"))


def _textbook_passes(folder: Path) -> tuple[Task, Task]:
    """Make a training and an evaluation pass over four batches."""
    night = textbook.NpzDataset(sorted(folder.glob("*.npz"))[:1])
    subset = Subset(night, [number % len(night) for number in range(N_BATCHES * BATCH_SIZE)])
    shuffled, ordered = DataLoader(subset, BATCH_SIZE, shuffle=True), DataLoader(subset, BATCH_SIZE)
    network, weights = textbook.AttnSleep(), torch.tensor(CLASS_WEIGHTS)
    optimizer = textbook.make_optimizer(network)
    return (
        lambda: textbook.train_pass(network, optimizer, shuffled, weights),
        lambda: textbook.evaluation_pass(network, ordered, weights),
    )


def _first_night_trainer(
    folder: Path, precision: str, batch_size: int = BATCH_SIZE, keep_freed: bool = True
) -> Trainer:
    """Make a trainer of this project whose passes go over four batches of the first night."""
    if keep_freed:
        keep_freed_memory()
    data = SleepEpochs(find_recordings(folder)[:1], CPU)
    trainer = _trainer(data, folder, f"trainer.precision={precision}", f"data_loader.args.batch_size={batch_size}")
    indices = torch.arange(N_BATCHES * batch_size) % len(data.stages)
    trainer.train_batches.indices = trainer.evaluation_batches.indices = indices
    return trainer


def _trainer(data: SleepEpochs, folder: Path, *settings: str) -> Trainer:
    """Make a trainer of this project with some settings of the configuration."""
    config, names = read_config(ROOT / "config.json", settings), tuple(data.outlines)
    return make_trainer(config, Fold(0, names, (), names), data, folder)
