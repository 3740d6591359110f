"""What `benchmarks.speed` and `benchmarks.scale` time. A process runs a task at each line that it reads, and times it.

python -m benchmarks.tasks TASK IMPLEMENTATION FOLDER PRECISION THREADS BATCH_SIZE
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_loader.data_loaders import SleepEpochs
    from trainer.trainer import Trainer

N_BATCHES = 4
CLASS_WEIGHTS = [0.3, 0.72, 0.3, 0.2, 0.3]


def train(folder: Path, implementation: str, precision: str, batch_size: int) -> Callable[[], Any]:
    """Make four training steps: data, step, bookkeeping."""
    return _passes(folder, implementation, precision, batch_size)[0]


def evaluate(folder: Path, implementation: str, precision: str, batch_size: int) -> Callable[[], Any]:
    """Evaluate the same sleep epochs."""
    return _passes(folder, implementation, precision, batch_size)[1]


def draw(folder: Path, implementation: str, precision: str, batch_size: int) -> Callable[[], Any]:
    """Make four training steps on sleep epochs drawn anew from all recordings, their signals mapped or resident."""
    trainer, data = _our_trainer(folder, precision, batch_size, None, implementation == "resident")

    def steps() -> None:
        import torch

        trainer.train_batches.indices = torch.randperm(len(data.stages))[: N_BATCHES * batch_size]
        _train_pass(trainer)

    return steps


def load(folder: Path, implementation: str, precision: str, batch_size: int) -> Callable[[], Any]:
    """Load all recordings of a folder, once, and say how much memory that took at its peak."""
    import torch

    from benchmarks import textbook
    from data_loader.data_loaders import SleepEpochs, find_recordings

    if implementation == "textbook":
        return lambda: textbook.NpzDataset(sorted(folder.glob("*.npz")))
    return lambda: SleepEpochs(find_recordings(folder), torch.device("cpu"))


def prepare(folder: Path, implementation: str, precision: str, batch_size: int) -> Callable[[], Any]:
    """Prepare one night from its EDF files."""
    from benchmarks import textbook
    from prepare_datasets.prepare_physionet import read_night
    from utils.recording import write_recording

    psg, hypnogram = next(folder.glob("*-PSG.edf")), next(folder.glob("*-Hypnogram.edf"))
    npz = folder / f"{implementation}.npz"
    if implementation == "textbook":
        return lambda: textbook.prepare_night(psg, hypnogram, npz)
    return lambda: write_recording(npz, read_night(psg, hypnogram, "EEG Fpz-Cz"))


TASKS = {task.__name__: task for task in (train, evaluate, draw, load, prepare)}


def _passes(
    folder: Path, implementation: str, precision: str, batch_size: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Make a training and an evaluation pass over four batches."""
    import torch

    from utils.heap import keep_freed_memory

    torch.manual_seed(0)
    if implementation == "textbook":
        return _textbook_passes(folder, precision, batch_size)
    if implementation != "default_heap":
        keep_freed_memory()
    return _our_passes(folder, precision, batch_size)


def _textbook_passes(folder: Path, precision: str, batch_size: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import torch
    from torch.utils.data import Subset

    from benchmarks import textbook

    nights = textbook.NpzDataset(sorted(folder.glob("*.npz"))[:1])
    dataset = Subset(nights, [number % len(nights) for number in range(N_BATCHES * batch_size)])
    model, weights, bf16 = textbook.AttnSleep(), torch.tensor(CLASS_WEIGHTS), precision == "bf16"
    optimizer = textbook.make_optimizer(model)
    return (
        lambda: textbook.train_pass(model, optimizer, dataset, weights, bf16, batch_size),
        lambda: textbook.evaluation_pass(model, dataset, weights, bf16, batch_size),
    )


def _our_passes(folder: Path, precision: str, batch_size: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import torch

    trainer, data = _our_trainer(folder, precision, batch_size, 1, False)
    indices = torch.arange(N_BATCHES * batch_size) % len(data.stages)
    trainer.train_batches.indices = trainer.evaluation_batches.indices = indices
    return lambda: _train_pass(trainer), trainer.evaluation_pass


def _our_trainer(
    folder: Path, precision: str, batch_size: int, n_nights: int | None, resident: bool
) -> "tuple[Trainer, SleepEpochs]":
    """Make a trainer of this project on the first so many nights of a folder, or on all."""
    import torch

    from data_loader.data_loaders import SleepEpochs, find_recordings
    from data_loader.folds import Fold
    from trainer.fold import make_trainer, read_config

    settings = [f"trainer.precision={precision}", f"data_loader.args.batch_size={batch_size}"]
    config = read_config(Path(__file__).parents[1] / "config.json", settings)
    data = SleepEpochs(find_recordings(folder)[:n_nights], torch.device("cpu"), resident=resident)
    names = tuple(data.outlines)
    return make_trainer(config, Fold(0, names, (), names), data, folder), data


def _train_pass(trainer: "Trainer") -> None:
    """Make a training pass as that of a new training epoch."""
    from base.steps import Steps

    trainer.steps = Steps()
    trainer.train_pass(2)


def main() -> None:
    """Prepare the task, then run it once for each line of standard input."""
    name, implementation, folder, precision, n_threads, batch_size = sys.argv[1:]
    if name != "prepare":
        import torch

        torch.set_num_threads(int(n_threads))
    task = TASKS[name](Path(folder), implementation, precision, int(batch_size))
    print("ready", flush=True)
    for _ in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        kept = task()
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(seconds, 1024 * (peak - before), flush=True)
        del kept


if __name__ == "__main__":
    main()
