"""The sections of `benchmarks.gpu`. Each is a class whose public methods are its items, in their order.

python -m benchmarks.gpu_sections SECTION FOLDER DEVICE SECONDS_LEFT [--quick]
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import textbook
from benchmarks.worker import BATCH_SIZE, ROOT
from data_loader.data_loaders import SleepEpochs, find_recordings
from data_loader.folds import Fold
from model.model import AttnSleep
from train_Kfold_CV import make_trainer
from trainer.configuration import read_config
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint
from utils.device import allow_tf32, make_current
from utils.files import write_text

N_TRAIN_EPOCHS, N_FOLDS = 100, 20
"""Of the published experiment."""

PRECISIONS = ("fp32", "tf32", "bf16")

Figures = dict[str, Any]


class Section:
    """What the sections share.

    Parameters
    ----------
    folder : Path
        With prepared recordings in `nights`; for what is written.
    device : torch.device
    quick : bool
        Sizes that try the code and measure nothing.
    seconds_left : float
        Of the whole benchmark.
    """

    def __init__(self, folder: Path, device: torch.device, quick: bool, seconds_left: float) -> None:
        self.folder, self.device, self.quick, self.seconds_left = folder, device, quick, seconds_left
        self.batch_size, self.n_batches = (4, 2) if quick else (BATCH_SIZE, 60)
        make_current(device)

    def run(self) -> Iterator[tuple[str, Figures]]:
        """Yield each item with its figures, or with the error that it raised."""
        for name, item in vars(type(self)).items():
            if not name.startswith("_"):
                try:
                    yield name, item(self)
                except Exception as error:
                    yield name, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}

    def trainer(self, *settings: str, n_nights: int | None = None) -> Trainer:
        """Make a trainer of this project that tests on the first night and trains on the others."""
        settings = (f"data_loader.args.batch_size={self.batch_size}", *settings)
        config = read_config(ROOT / "config.json", settings)
        data = SleepEpochs(find_recordings(self.folder / "nights")[:n_nights], self.device)
        names = tuple(data.outlines)
        directory = Path(tempfile.mkdtemp(dir=self.folder))
        return make_trainer(config, Fold(0, names[1:], (), names[:1]), data, directory)

    def seconds(self, task: Callable[[], object], rounds: int = 5) -> float:
        """Median time of a task, after one to warm up; the device's work is waited for."""
        taken = []
        for _ in range(2 if self.quick else rounds + 1):
            self.wait()
            begin = time.perf_counter()
            task()
            self.wait()
            taken.append(time.perf_counter() - begin)
        return statistics.median(taken[1:])

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def of_step(self, seconds: float) -> Figures:
        """Figures of a training step."""
        return {"ms": 1000 * seconds, "sleep_epochs_per_s": self.batch_size / seconds}

    def pass_of(self, trainer: Trainer) -> Callable[[], object]:
        """Make a training pass over some batches, as training does it."""
        n = len(trainer.train_batches.indices)
        trainer.train_batches.indices = torch.arange(self.n_batches * self.batch_size) % n
        return lambda: trainer.train_pass(2)

    def step_of(self, *settings: str) -> Figures:
        """Time the training step of this project."""
        return self.of_step(self.seconds(self.pass_of(self.trainer(*settings, n_nights=8))) / self.n_batches)


class Machine(Section):
    """The card, and the best that it does."""

    def software(self) -> Figures:
        """Name what is measured on."""
        return {
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }

    def products(self) -> Figures:
        """Multiply large matrices, in TFLOP/s."""
        n, figures = 256 if self.quick else 8192, {}
        for precision in PRECISIONS:
            allow_tf32(precision == "tf32")
            matrix = torch.randn(n, n, device=self.device, dtype=torch.bfloat16 if precision == "bf16" else None)
            figures[precision] = 2 * n**3 / self.seconds(lambda matrix=matrix: matrix @ matrix) / 1e12  # type: ignore[misc]
        return figures

    def memory(self) -> Figures:
        """Copy, in TB/s read and written."""
        source = torch.empty(2**22 if self.quick else 2**30, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return {"TB/s": 2 * len(source) / self.seconds(lambda: target.copy_(source)) / 1e12}


class Agreement(Section):
    """Largest difference between logits of the device and of a CPU; tests compare the latter with the released ones."""

    def hz_100(self) -> Figures:
        """At 100 Hz."""
        return self._differences(100)

    def hz_125(self) -> Figures:
        """At 125 Hz."""
        return self._differences(125)

    def _differences(self, fs: int) -> Figures:
        torch.manual_seed(0)
        network, signal = AttnSleep(fs).eval(), 20 * torch.randn(8, 1, 30 * fs)
        with torch.inference_mode():
            exact = network(signal)
            network, signal, differences = network.to(self.device), signal.to(self.device), {}
            for precision in PRECISIONS:
                allow_tf32(precision == "tf32")
                with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
                    logits = network(signal).float().cpu()
                differences[precision] = float((logits - exact).abs().max())
        return differences


class Speed(Section):
    """A training step: this project's, with its batches, and the textbook's."""

    def textbook_loop(self) -> Figures:
        """Load, train and evaluate as usual, with torch's defaults: TF32 in convolutions, any algorithm."""
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.allow_tf32 = True
        try:
            return self._loop()
        finally:
            torch.backends.cudnn.deterministic = True

    def textbook_loop_fp32(self) -> Figures:
        """Do the same exactly, with the algorithms that this project takes."""
        allow_tf32(False)
        return self._loop()

    def _loop(self) -> Figures:
        nights = textbook.NpzDataset(sorted((self.folder / "nights").glob("*.npz"))[:2])
        subset = Subset(nights, [k % len(nights) for k in range(self.n_batches * self.batch_size)])
        network, optimizer, weights = self._textbook()
        batches = DataLoader(subset, self.batch_size, shuffle=True)
        task = lambda: textbook.train_pass(network, optimizer, batches, weights)  # noqa: E731
        return self.of_step(self.seconds(task, 3) / self.n_batches)

    def textbook_step(self) -> Figures:
        """Only the step, again and again on one batch that is on the device."""
        network, optimizer, weights = self._textbook()
        signal = 20 * torch.randn(self.batch_size, 1, 3000, device=self.device)
        stages = torch.arange(self.batch_size, device=self.device) % 5

        def steps() -> None:
            for _ in range(self.n_batches):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(signal), stages, weights).backward()
                optimizer.step()

        return self.of_step(self.seconds(steps) / self.n_batches)

    def fp32(self) -> Figures:
        """Exact, recorded."""
        return self.step_of()

    def tf32(self) -> Figures:
        """Round to TF32, recorded."""
        return self.step_of("trainer.precision=tf32")

    def bf16(self) -> Figures:
        """In bfloat16, recorded."""
        return self.step_of("trainer.precision=bf16")

    def fp32_not_recorded(self) -> Figures:
        """Exact."""
        return self.step_of("trainer.cuda_graph=false")

    def tf32_not_recorded(self) -> Figures:
        """Round to TF32."""
        return self.step_of("trainer.precision=tf32", "trainer.cuda_graph=false")

    def bf16_not_recorded(self) -> Figures:
        """In bfloat16."""
        return self.step_of("trainer.precision=bf16", "trainer.cuda_graph=false")

    def fp32_any_algorithm(self) -> Figures:
        """Exact, recorded, with the algorithms that cuDNN takes by default."""
        torch.backends.cudnn.deterministic = False
        try:
            return self.step_of()
        finally:
            torch.backends.cudnn.deterministic = True

    def floors(self) -> Figures:
        """Compute the shortest step that arithmetic and memory of this card allow, in ms."""
        machine = Machine(self.folder, self.device, self.quick, self.seconds_left)
        n_operations, n_bytes = (self.batch_size * n for n in _work_of_a_sleep_epoch())
        figures = {precision: n_operations / tflop / 1e9 for precision, tflop in machine.products().items()}
        return figures | {"memory_fp32": n_bytes / machine.memory()["TB/s"] / 1e9}

    def _textbook(self) -> tuple[nn.Module, torch.optim.Optimizer, Tensor]:
        network = textbook.AttnSleep().to(self.device)
        return network, textbook.make_optimizer(network), torch.tensor([0.3, 0.72, 0.3, 0.2, 0.3], device=self.device)


class Exactness(Section):
    """Weights after two training epochs, to the bit."""

    def fp32(self) -> Figures:
        """Exact."""
        return self._same("fp32")

    def bf16(self) -> Figures:
        """In bfloat16."""
        return self._same("bf16")

    def _same(self, precision: str) -> Figures:
        recorded, again, plain = (
            self._weights(f"trainer.precision={precision}", f"trainer.cuda_graph={json.dumps(is_recorded)}")
            for is_recorded in (True, True, False)
        )
        return {"run_twice": _difference(recorded, again), "recorded_or_not": _difference(recorded, plain)}

    def _weights(self, *settings: str) -> dict[str, Tensor]:
        trainer = self.trainer(*settings, "trainer.epochs=2", n_nights=4)
        trainer.train()
        return {name: value.cpu() for name, value in trainer.model.state_dict().items()}


class TrainingEpoch(Section):
    """Training epochs of 39 nights, with evaluation and checkpoint."""

    def fp32(self) -> Figures:
        """Exact."""
        return self._epochs("fp32")

    def bf16(self) -> Figures:
        """In bfloat16."""
        return self._epochs("bf16")

    def beside_the_steps(self) -> Figures:
        """Time what comes once in a training epoch, in ms."""
        trainer = self.trainer()
        n = len(trainer.train_batches.indices)
        losses, stages = torch.ones(100, device=self.device), torch.arange(n, device=self.device) % 5
        trainer.history.append(trainer.evaluation_pass() | {"train_epoch": 1, "train_loss": 0.0})
        return {
            "figures_ms": 1000 * self.seconds(lambda: trainer._figures("train", losses, stages, stages)),
            "evaluation_ms": 1000 * self.seconds(trainer.evaluation_pass),
            "checkpoint_ms": 1000 * self.seconds(trainer._save),
        }

    def _epochs(self, precision: str) -> Figures:
        trainer = self.trainer(f"trainer.precision={precision}", f"trainer.epochs={2 if self.quick else 6}")
        begin = time.perf_counter()
        trainer.train()
        whole = (time.perf_counter() - begin) / len(trainer.history)
        median = statistics.median(row["seconds"] for row in trainer.history[1:])
        return {
            "first_s": trainer.history[0]["seconds"],
            "later_s": median,
            "with_checkpoint_s": whole,
            f"{N_FOLDS}x{N_TRAIN_EPOCHS}_min": N_FOLDS * N_TRAIN_EPOCHS * whole / 60,
        }


class Resume(Section):
    """The command line, stopped and begun again."""

    def fp32(self) -> Figures:
        """Exact."""
        return self._stopped("fp32")

    def bf16(self) -> Figures:
        """In bfloat16."""
        return self._stopped("bf16")

    def _stopped(self, precision: str) -> Figures:
        settings = [f"trainer.precision={precision}", "trainer.epochs=3"]
        whole, parts = (self.folder / f"{name}_{precision}" for name in ("whole", "parts"))
        _finish(self._command(whole, *settings))
        process = subprocess.Popen(self._command(parts, *settings), stderr=subprocess.PIPE, text=True)
        for line in process.stderr or ():
            if "train epoch 1/" in line:
                process.send_signal(signal.SIGTERM)
                break
        process.communicate()
        _finish(self._command(parts, *settings))
        return {"exit_code": process.returncode, "difference": _difference(*map(_weights_in, (whole, parts)))}

    def _command(self, place: Path, *settings: str) -> list[str]:
        """Train fold 0 of three by the command line."""
        device = "0" if self.device.type == "cuda" else "cpu"
        words = [sys.executable, str(ROOT / "train_Kfold_CV.py"), "--fold_id", "0", "--device", device]
        words += ["--np_data_dir", str(self.folder / "nights")]
        fixed = ("data_loader.args.num_folds=3", f"data_loader.args.batch_size={self.batch_size}")
        for setting in (f"name={place.name}", f"trainer.save_dir={place.parent}", *fixed, *settings):
            words += ["--set", setting]
        return words


class Together(Section):
    """Folds at once on the one device: sleep epochs per second of all, in bfloat16."""

    def one(self) -> Figures:
        """Train a fold alone."""
        return self._at_once(1)

    def two(self) -> Figures:
        """Train two folds."""
        return self._at_once(2)

    def four(self) -> Figures:
        """Train four folds."""
        return self._at_once(4)

    def _at_once(self, n: int) -> Figures:
        arguments = (type(self), self.folder, str(self.device), self.quick, 1 if self.quick else 8)
        pools = [ProcessPoolExecutor(1, get_context("spawn")) for _ in range(n)]
        try:
            for run in [pool.submit(_passes, *arguments) for pool in pools]:
                run.result()  # warms up
            begin = time.perf_counter()
            trained = [run.result() for run in [pool.submit(_passes, *arguments) for pool in pools]]
            return {"sleep_epochs_per_s": sum(trained) / (time.perf_counter() - begin)}
        finally:
            for pool in pools:
                pool.shutdown()


class Ranks(Section):
    """DistributedDataParallel with one rank, over NCCL on a GPU."""

    def one_rank(self) -> Figures:
        """Take a step with it and without, from the same weights; give the largest difference of the weights."""
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        store = dist.FileStore(str(self.folder / "store"), 1)
        dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo", store=store, rank=0, world_size=1)
        weights = []
        for wrap in (nn.Module.train, DistributedDataParallel):
            trainer = self.trainer("trainer.cuda_graph=false", "arch.args.dropout_mrcnn=0", "arch.args.dropout_tce=0")
            model = trainer.model
            if wrap is DistributedDataParallel and self.device.type == "cuda":
                model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            trainer.network = trainer.of_full_batches = wrap(model)
            trainer.model.train()
            data = trainer.train_batches.data
            trainer.train_step(*data.read(torch.arange(self.batch_size, device=data.index_device)))
            weights.append(trainer.model.state_dict())
        dist.destroy_process_group()
        return {"difference": _difference(*weights)}


class Scoring(Section):
    """`predict.py` on a prepared night, with what the section `resume` trained."""

    def night(self) -> Figures:
        """From start to files."""
        words = ["--checkpoint", str(self.folder / "whole_fp32"), "--output_dir", str(self.folder / "scored")]
        night = str(next((self.folder / "nights").glob("*.npz")))
        begin = time.perf_counter()
        _finish([sys.executable, str(ROOT / "predict.py"), night, *words])
        return {"s": time.perf_counter() - begin}


class Compiled(Section):
    """`trainer.compile`: the step, recorded or not, and what it takes to compile."""

    def bf16(self) -> Figures:
        """In bfloat16."""
        return self._step("trainer.precision=bf16")

    def fp32(self) -> Figures:
        """Exact."""
        return self._step("trainer.precision=fp32")

    def bf16_not_recorded(self) -> Figures:
        """In bfloat16."""
        return self._step("trainer.precision=bf16", "trainer.cuda_graph=false")

    def _step(self, *settings: str) -> Figures:
        trainer = self.trainer("trainer.compile=true", *settings, n_nights=8)
        one_pass = self.pass_of(trainer)
        begin = time.perf_counter()
        one_pass()
        self.wait()
        first = time.perf_counter() - begin
        return {"first_pass_s": first} | self.of_step(self.seconds(one_pass) / self.n_batches)


class Tests(Section):
    """The project's tests on this machine."""

    def of_training(self) -> Figures:
        """Those of data, network, trainer and GPU."""
        folders = (
            ["tests/trainer"] if self.quick else ["tests/trainer", "tests/base", "tests/data_loader", "tests/model"]
        )
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *folders, "tests/test_gpu.py"]
        process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        said = (process.stdout + process.stderr).strip().splitlines()
        return {"exit_code": process.returncode, "said": said[-1] if said else ""}


class WholeFold(Section):
    """A fold of the published experiment, if the time allows."""

    def bf16(self) -> Figures:
        """In bfloat16, 100 training epochs."""
        n_epochs = 2 if self.quick else N_TRAIN_EPOCHS
        trainer = self.trainer("trainer.precision=bf16", "trainer.epochs=2")
        begin = time.perf_counter()
        trainer.train()
        needed = n_epochs * trainer.history[-1]["seconds"]
        if needed > 0.9 * self.seconds_left - (time.perf_counter() - begin):
            return {"left_out": f"it would take {needed:.0f} s"}
        begin = time.perf_counter()
        self.trainer("trainer.precision=bf16", f"trainer.epochs={n_epochs}").train()
        return {"s": time.perf_counter() - begin, "train_epochs": n_epochs}


SECTIONS: dict[str, type[Section]] = {
    "machine": Machine,
    "agreement": Agreement,
    "speed": Speed,
    "exactness": Exactness,
    "training_epoch": TrainingEpoch,
    "resume": Resume,
    "together": Together,
    "ranks": Ranks,
    "scoring": Scoring,
    "compiled": Compiled,
    "tests": Tests,
    "fold": WholeFold,
}

_kept: dict[type[Section], Callable[[], object]] = {}


def _passes(section: type[Section], folder: Path, device: str, quick: bool, n: int) -> int:
    """Do training passes in a process of its own; return how many sleep epochs that were."""
    torch.set_num_threads(1)
    of = section(folder, torch.device(device), quick, 0)
    if section not in _kept:
        _kept[section] = of.pass_of(of.trainer("trainer.precision=bf16", n_nights=4))
    for _ in range(n):
        _kept[section]()
    return n * of.n_batches * of.batch_size


def _work_of_a_sleep_epoch() -> tuple[float, float]:
    """Count what a training step does for one sleep epoch in fp32.

    Returns
    -------
    n_operations : float
        Of convolutions and matrix products.
    n_bytes : float
        Their inputs and outputs and those of the pools, read or written once forward and twice backward.
    """
    network, signal, n_bytes = textbook.AttnSleep(), torch.randn(2, 1, 3000), 0

    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal n_bytes
        n_bytes += 3 * 4 * (inputs[0].numel() + output.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear | nn.MaxPool1d):
            layer.register_forward_hook(add)
    with FlopCounterMode(display=False) as counter:
        network(signal).sum().backward()
    return counter.get_total_flops() / len(signal), n_bytes / len(signal)


def _finish(command: list[str]) -> None:
    """Run a command; raise what it said if it fails."""
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {process.stderr[-400:]}")


def _weights_in(place: Path) -> dict[str, Tensor]:
    return load_checkpoint(place / "fold_0/checkpoint-last.pth")["model"]


def _difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference of weights; 0 means the same bits."""
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def main() -> None:
    """Measure one section and write its figures after each item."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_sections", description=__doc__)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("device", type=torch.device)
    parser.add_argument("seconds_left", type=float)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.device.type == "cuda":
        arguments.device = torch.device("cuda", 0)
    section = SECTIONS[arguments.section](arguments.folder, arguments.device, arguments.quick, arguments.seconds_left)
    found: Figures = {}
    for name, figures in section.run():
        found[name] = figures
        write_text(arguments.folder / f"{arguments.section}.json", json.dumps(found))


if __name__ == "__main__":
    main()
