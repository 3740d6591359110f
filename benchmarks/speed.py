"""Time training, evaluation, loading, preparation and start-up beside a textbook implementation, in turn.

python -m benchmarks.speed [--quick] [--json FILE]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.start import first_step
from benchmarks.worker import BATCH_SIZE, N_BATCHES, ROOT, compare, run, seconds_of, worker
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
N_SLEEP_EPOCHS = 1000
"""Of each prepared night."""

EVALUATED_SHARE = 1 / 19
"""Sleep epochs that a fold of 20 evaluates after each training epoch, for each that it trains on."""

Row = dict[str, Any]


def row(ours: float, textbook: float, unit: str, higher_is_better: bool = False) -> Row:
    """Put two figures side by side; the ratio says how many times better ours is."""
    ratio = ours / textbook if higher_is_better else textbook / ours
    return {"ours": ours, "textbook": textbook, "ratio": ratio, "unit": unit}


def training(folder: Path, rounds: int) -> dict[str, Row]:
    """Time a training step, an evaluation of a batch, and whole folds, in fp32 and bf16.

    The textbook has no bf16 in its stock form, so everything is compared with its fp32. Whole folds are trained one
    after the other on two threads, or two side by side on one thread each; the faster way counts.
    """
    rows = {}
    for precision in ("fp32", "bf16"):
        with ExitStack() as stack:
            workers = {}
            for task in ("train", "evaluate"):
                workers["textbook", task] = [stack.enter_context(worker(task, folder, "textbook"))]
                ours = partial(worker, task, folder, "ours", precision, shares_cores=True)
                workers["ours", task] = [stack.enter_context(ours())]
                workers["side by side", task] = [stack.enter_context(ours(threads=1)) for _ in range(2)]
            seconds = compare({key: partial(seconds_of, *processes) for key, processes in workers.items()}, rounds)
        for name, task in (("train_step", "train"), ("eval", "evaluate")):
            rows[f"{name}_{precision}"] = row(_ms(seconds["ours", task]), _ms(seconds["textbook", task]), "ms")
        speed = {}  # sleep epochs trained on per second, evaluation included
        for who in ("textbook", "ours", "side by side"):
            n_sleep_epochs = N_BATCHES * BATCH_SIZE * len(workers[who, "train"])
            speed[who] = n_sleep_epochs / (seconds[who, "train"] + EVALUATED_SHARE * seconds[who, "evaluate"])
        best = max(speed["ours"], speed["side by side"])
        rows[f"all_folds_{precision}"] = row(best, speed["textbook"], "sleep epochs/s", higher_is_better=True)
        rows[f"all_folds_{precision}"]["side_by_side"] = speed["side by side"] / speed["ours"]
    return rows


def beside_other_work(folder: Path, rounds: int) -> Row:
    """Time a training step while another program keeps a core busy, with and without what the scripts set for that."""
    with ExitStack() as stack:
        ours, unset = (
            stack.enter_context(worker("train", folder, "ours", shares_cores=is_set)) for is_set in (True, False)
        )
        textbook = stack.enter_context(worker("train", folder, "textbook"))
        quiet = compare({"ours": partial(seconds_of, ours)}, rounds)
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            workers = {"ours": ours, "unset": unset, "textbook": textbook}
            seconds = compare({name: partial(seconds_of, process) for name, process in workers.items()}, rounds)
        finally:
            busy.kill()
            busy.wait()
    others = {"times_quiet": seconds["ours"] / quiet["ours"], "unset": _ms(seconds["unset"])}
    return row(_ms(seconds["ours"]), _ms(seconds["textbook"]), "ms") | others


def _ms(seconds: float) -> float:
    """Turn the seconds of a task into ms of a batch."""
    return 1000 * seconds / N_BATCHES


def loading(folder: Path, rounds: int) -> dict[str, float]:
    """Load prepared nights, checks included; give the peak memory as a multiple of the data."""
    n_bytes = len(list(folder.glob("*.npz"))) * N_SLEEP_EPOCHS * 3000 * 4
    figures: dict[str, float] = {}

    def load_once(implementation: str) -> float:
        with worker("load", folder, implementation) as process:
            timed = process.submit(run).result()
        figures[f"memory_{implementation}"] = timed.peak_bytes / n_bytes
        return timed.seconds

    return compare({name: partial(load_once, name) for name in ("ours", "textbook")}, rounds) | figures


def preparing(folder: Path, rounds: int) -> Row:
    """Prepare one 22-h night of Sleep-EDF."""
    with worker("prepare", folder, "ours") as ours, worker("prepare", folder, "textbook") as textbook:
        seconds = compare({"ours": partial(seconds_of, ours), "textbook": partial(seconds_of, textbook)}, rounds)
    return row(seconds["ours"], seconds["textbook"], "s")


def start_up(folder: Path, rounds: int) -> dict[str, float]:
    """Time the slowest `--help`, and training from its start to its first step, in seconds."""

    def help_of(script: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, ROOT / script, "--help"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    helps = compare({script: partial(help_of, script) for script in SCRIPTS}, rounds)
    return {"help": max(helps.values()), **compare({"first_step": lambda: first_step(folder).seconds}, rounds)}


def write_nights(folder: Path, n_nights: int, n_sleep_epochs: int = N_SLEEP_EPOCHS) -> Path:
    """Write prepared nights of noise."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    position = np.arange(n_sleep_epochs, dtype=np.int32)
    for night in range(n_nights):
        signal = random.standard_normal((n_sleep_epochs, 3000), np.float32) * 20
        stages = random.integers(0, 5, n_sleep_epochs, np.int32)
        write_recording(folder / f"night{night:03d}.npz", Recording(signal, stages, 100.0, "EEG", position))
    return folder


def write_edf(folder: Path, hours: int = 22) -> Path:
    """Write a simulated recording."""
    script = ROOT / "prepare_datasets/simulate_recordings.py"
    arguments = ["--output_dir", str(folder), "--num_subjects", "1", "--hours", str(hours), "--seed", "1"]
    subprocess.run([sys.executable, str(script), *arguments], check=True, stdout=subprocess.DEVNULL)
    return folder


def print_table(rows: dict[str, Row]) -> None:
    """Print all comparisons."""
    print(f"\n{'':<18}{'ours':>12}{'textbook':>12}{'ratio':>8}")
    for name, values in rows.items():
        figures = f"{values['ours']:>12.3f}{values['textbook']:>12.3f}{values['ratio']:>8.2f}"
        others = "".join(f"  {key} {value:.2f}" for key, value in list(values.items())[4:])
        print(f"{name:<18}{figures}  {values['unit']}{others}")


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and nights: a minute or two")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    rounds, n_many = (2, 40) if arguments.quick else (7, 160)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        nights = {n: write_nights(Path(temporary) / f"{n} nights", n) for n in {20, 40, n_many}}
        rows = training(nights[20], rounds)
        rows["train_step_busy"] = beside_other_work(nights[20], rounds)
        for n in sorted({40, n_many}):
            loaded = loading(nights[n], rounds)
            rows[f"load_{n}"] = row(loaded.pop("ours"), loaded.pop("textbook"), "s") | loaded
        rows["prepare_night"] = preparing(write_edf(Path(temporary) / "edf"), rounds)
        started = start_up(nights[20], rounds)
    print_table(rows)
    print(f"\nslowest --help {started['help']:.2f} s; start to first training step: {started['first_step']:.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows | {"start_up": started}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
