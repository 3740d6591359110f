"""Time training, evaluation, loading, preparation and start-up beside a textbook implementation, interleaved.

python -m benchmarks.speed [--quick] [--growth] [--json FILE]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.start import ROOT, first_step
from benchmarks.tasks import N_BATCHES
from utils import checked
from utils.recording import Recording, write_recording

SCRIPTS = (
    "train_Kfold_CV.py",
    "predict.py",
    "prepare_datasets/download_sleep_edf.py",
    "prepare_datasets/prepare_physionet.py",
    "prepare_datasets/prepare_recordings.py",
    "prepare_datasets/prepare_shhs.py",
    "prepare_datasets/simulate_recordings.py",
)
BATCH_SIZE = 128
N_SLEEP_EPOCHS = 1000
"""Of each prepared night."""

EVALUATED_SHARE = 1 / 19
"""Sleep epochs that a fold of 20 evaluates after each training epoch, for each that it trains on."""


class Timed(NamedTuple):
    """One run of a task."""

    seconds: float
    peak_bytes: int


class Worker:
    """A process that runs a task of `benchmarks.tasks` whenever it is told to."""

    def __init__(
        self,
        task: str,
        implementation: str,
        folder: Path,
        precision: str = "fp32",
        threads: int = 2,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        arguments = [task, implementation, str(folder), precision, str(threads), str(batch_size)]
        command = [sys.executable, "-m", "benchmarks.tasks", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._line()

    def start(self) -> None:
        """Begin to run the task."""
        if self.process.stdin is not None:
            self.process.stdin.write("\n")

    def result(self) -> Timed:
        """Wait for the end of the run."""
        seconds, peak_bytes = self._line().split()
        return Timed(float(seconds), int(peak_bytes))

    def run(self) -> Timed:
        """Run the task once."""
        self.start()
        return self.result()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended")
        return line


def compare(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run every measure once in each round, after one round to warm up; return the medians."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            value = measure()
            if number:
                taken[name].append(value)
    return {name: statistics.median(values) for name, values in taken.items()}


def row(ours: float, textbook: float, unit: str, higher_is_better: bool = False) -> dict[str, Any]:
    """Put two figures side by side; the ratio says how many times better ours is."""
    ratio = ours / textbook if higher_is_better else textbook / ours
    return {"ours": ours, "textbook": textbook, "ratio": ratio, "unit": unit}


def training(folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Training step and evaluation pass, fp32 and bf16, and all folds: two of one thread each against one of two."""
    rows: dict[str, dict[str, Any]] = {}
    for precision in ("fp32", "bf16"):
        # The textbook has no bf16 in its stock form: everything is held against its fp32.
        theirs = {task: Worker(task, "textbook", folder) for task in ("train", "evaluate")}
        ours = {task: Worker(task, "ours", folder, precision) for task in ("train", "evaluate")}
        side = {
            task: [Worker(task, "ours", folder, precision, threads=1) for _ in range(2)]
            for task in ("train", "evaluate")
        }
        alone = {f"textbook {task}": worker for task, worker in theirs.items()}
        alone |= {f"ours {task}": worker for task, worker in ours.items()}
        measures = {name: partial(_seconds, [worker]) for name, worker in alone.items()}
        measures |= {f"side {task}": partial(_seconds, workers) for task, workers in side.items()}
        median = compare(measures, rounds)
        for worker in [*theirs.values(), *ours.values(), *side["train"], *side["evaluate"]]:
            worker.close()
        n = N_BATCHES * BATCH_SIZE

        def folds(name: str, together: int, median: dict[str, float] = median, n: int = n) -> float:
            """Sleep epochs trained on per second of the machine, evaluation included."""
            return together * n / (median[f"{name} train"] + EVALUATED_SHARE * median[f"{name} evaluate"])

        best = max(folds("ours", 1), folds("side", 2))
        rows |= {
            f"train_step_{precision}": row(
                1000 * median["ours train"] / N_BATCHES, 1000 * median["textbook train"] / N_BATCHES, "ms"
            ),
            f"all_folds_{precision}": row(best, folds("textbook", 1), "sleep epochs/s", higher_is_better=True)
            | {"side_by_side": folds("side", 2) / folds("ours", 1)},
            f"eval_{precision}": row(
                1000 * median["ours evaluate"] / N_BATCHES, 1000 * median["textbook evaluate"] / N_BATCHES, "ms"
            ),
        }
    return rows


def _seconds(workers: Sequence[Worker]) -> float:
    """Run workers at once; return the seconds until the last one is done."""
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.result()
    return time.perf_counter() - begin


def loading(
    folder: Path, n_nights: int, rounds: int, implementations: Sequence[str] = ("ours", "textbook")
) -> dict[str, Any]:
    """Load prepared nights as at their first use, checks included; peak memory as a multiple of the data."""
    peak = dict.fromkeys(implementations, 0.0)

    def measure(implementation: str) -> float:
        (folder / checked.FILE).unlink(missing_ok=True)
        worker = Worker("load", implementation, folder)
        timed = worker.run()
        worker.close()
        peak[implementation] = timed.peak_bytes / (n_nights * N_SLEEP_EPOCHS * 3000 * 4)
        return timed.seconds

    median = compare({name: partial(measure, name) for name in peak}, rounds)
    memory = {f"memory_{name}": value for name, value in peak.items()}
    return (row(median["ours"], median["textbook"], "s") if len(median) == 2 else median) | memory


def preparing(folder: Path, rounds: int) -> dict[str, Any]:
    """Prepare one 22-h night of Sleep-EDF."""
    workers = {name: Worker("prepare", name, folder) for name in ("ours", "textbook")}
    median = compare({name: partial(_seconds, [worker]) for name, worker in workers.items()}, rounds)
    for worker in workers.values():
        worker.close()
    return row(median["ours"], median["textbook"], "s")


def start_up(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds to the slowest `--help`, and from the start of training to its first step."""

    def helped(script: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, ROOT / script, "--help"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    helps = compare({script: partial(helped, script) for script in SCRIPTS}, rounds)
    return {"help": max(helps.values()), "first_step": compare({"": lambda: first_step(folder).seconds}, rounds)[""]}


def write_nights(folder: Path, n_nights: int) -> Path:
    """Write prepared nights of noise, 1,000 sleep epochs each."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    position = np.arange(N_SLEEP_EPOCHS, dtype=np.int32)
    for night in range(n_nights):
        signal = random.standard_normal((N_SLEEP_EPOCHS, 3000), np.float32) * 20
        stages = random.integers(0, 5, N_SLEEP_EPOCHS, np.int32)
        write_recording(folder / f"night{night:03d}.npz", Recording(signal, stages, 100.0, "EEG", position))
    return folder


def write_edf(folder: Path, hours: int = 22) -> Path:
    """Write a simulated recording."""
    script = ROOT / "prepare_datasets/simulate_recordings.py"
    arguments = ["--output_dir", str(folder), "--num_subjects", "1", "--hours", str(hours), "--seed", "1"]
    subprocess.run([sys.executable, str(script), *arguments], check=True, stdout=subprocess.DEVNULL)
    return folder


def growth(nights: Mapping[int, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Measure how loading grows with the nights, and a training step with the batch."""
    rows: dict[str, dict[str, float]] = {}
    for n, folder in nights.items():
        figures = loading(folder, n, rounds, ("ours",))
        rows[f"load {n} nights"] = {"seconds": figures["ours"], "memory / data": figures["memory_ours"]}
    workers = {size: Worker("train", "ours", nights[20], batch_size=size) for size in (16, 32, 64, 128, 256, 512)}
    steps = {f"step of {size}": partial(_seconds, [worker]) for size, worker in workers.items()}
    for name, seconds in compare(steps, rounds).items():
        rows[name] = {"seconds": seconds / N_BATCHES}
    for worker in workers.values():
        worker.close()
    return rows


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """Print all comparisons."""
    print(f"\n{'':<18}{'ours':>12}{'textbook':>12}{'ratio':>8}")
    for name, values in rows.items():
        extra = "".join(
            f"  {key} {values[key]:.2f}" for key in ("side_by_side", "memory_ours", "memory_textbook") if key in values
        )
        figures = f"{values['ours']:>12.3f}{values['textbook']:>12.3f}{values['ratio']:>8.2f}"
        print(f"{name:<18}{figures}  {values['unit']}{extra}")


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and nights: a minute or two")
    parser.add_argument("--growth", action="store_true", help="also loading by nights and steps by batch size")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    rounds, many = (2, 40) if arguments.quick else (7, 160)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        numbers = {20, 40, many} | ({80, 160} if arguments.growth else set())
        nights = {n: write_nights(folder / f"nights{n}", n) for n in sorted(numbers)}
        grown = growth(nights, rounds) if arguments.growth else {}
        rows = training(nights[20], rounds)
        for n in sorted({40, many}):
            rows[f"load_{n}"] = loading(nights[n], n, rounds)
        rows["prepare_night"] = preparing(write_edf(folder / "edf"), rounds)
        seconds = start_up(nights[20], rounds)
    print_table(rows)
    for name, figures in grown.items():
        print(f"{name:<18}" + "".join(f"{value:>12.3f} {figure}" for figure, value in figures.items()))
    print(
        f"\nslowest --help {seconds['help']:.2f} s; "
        f"start to first training step, 20 nights: {seconds['first_step']:.2f} s"
    )
    if arguments.json:
        arguments.json.write_text(
            json.dumps(rows | {"start_up": seconds, "growth": grown}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
