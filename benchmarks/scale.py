"""Measure how preparation, start-up, training and memory grow with the number of nights.

python -m benchmarks.scale [--quick] [--json FILE]

It simulates ten nights as EDF files, prepares 10, 40, 160 and 640 recordings from them, and trains on those. This takes
about five minutes and 10 GB in the folder of temporary files (TMPDIR); all of it is removed at the end. Many recordings
are links to the same night: what one recording costs does not depend on what its signal is.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.start import Started, first_step
from benchmarks.worker import BATCH_SIZE, N_BATCHES, ROOT, compare, seconds_of, worker
from utils.arguments import positive

N_SIMULATED = 10
K_FOLDS = 20

RESIDENT_SHARE = 1 / 8
"""Share of this machine's memory up to which signals are also held there, for comparison."""

Figures = dict[int, float]
"""A figure for each number of nights."""


def simulate(folder: Path, n_nights: int, hours: float) -> list[Path]:
    """Simulate nights in the form of Sleep-EDF; return the PSG files."""
    _run("simulate_recordings.py", "--output_dir", folder, "--num_subjects", n_nights, "--hours", hours)
    return sorted(folder.glob("*-PSG.edf"))


def link(psgs: Sequence[Path], folder: Path, n_nights: int) -> Path:
    """Fill a folder with links to the simulated nights, each named as a recording of a subject of its own."""
    folder.mkdir()
    for number in range(n_nights):
        psg = psgs[number % len(psgs)]
        (hypnogram,) = psg.parent.glob(f"{psg.name[:7]}*-Hypnogram.edf")
        os.link(psg, folder / f"n{number:06d}-PSG.edf")
        os.link(hypnogram, folder / f"n{number:06d}-Hypnogram.edf")
    return folder


def prepare(edfs: Path, output: Path) -> float:
    """Prepare all recordings of a folder with the script; return the seconds."""
    begin = time.perf_counter()
    _run("prepare_physionet.py", "--data_dir", edfs, "--output_dir", output)
    return time.perf_counter() - begin


def training(folders: Mapping[int, Path], rounds: int) -> dict[str, Figures]:
    """Seconds of a training epoch, scaled from a few steps, and how much longer these take mapped than resident."""
    n_sleep_epochs = {n: _n_sleep_epochs(folder) for n, folder in folders.items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    small = [n for n, count in n_sleep_epochs.items() if 4 * 3000 * count < RESIDENT_SHARE * memory]
    with ExitStack() as stack:
        workers = {(n, False): stack.enter_context(worker("draw", folders[n], False)) for n in folders}
        workers |= {(n, True): stack.enter_context(worker("draw", folders[n], True)) for n in small}
        seconds = compare({key: partial(seconds_of, process) for key, process in workers.items()}, rounds)
    n_trained_on = {n: count * (1 - 1 / min(K_FOLDS, n)) for n, count in n_sleep_epochs.items()}
    return {
        "training epoch, s": {n: n_trained_on[n] * seconds[n, False] / (N_BATCHES * BATCH_SIZE) for n in folders},
        "mapped / resident": {n: seconds[n, False] / seconds[n, True] for n in small},
    }


def measure(folder: Path, sizes: Sequence[int], hours: float, rounds: int) -> dict[str, Figures]:
    """Measure everything for each number of nights, in files below `folder`."""
    psgs = simulate(folder / "simulated", min(N_SIMULATED, max(sizes)), hours)
    edfs = {n: link(psgs, folder / f"edf{n}", n) for n in sizes}
    prepared = {n: folder / f"npz{n}" for n in sizes}
    preparation = {n: prepare(edfs[n], prepared[n]) for n in sizes}
    starts: dict[int, list[Started]] = {n: [] for n in sizes}

    def start(n: int) -> float:
        """Train on so many nights up to the first step."""
        starts[n].append(first_step(prepared[n], f"data_loader.args.num_folds={min(K_FOLDS, n)}"))
        return starts[n][-1].seconds

    seconds = compare({n: partial(start, n) for n in sizes}, rounds)
    return {
        "preparation, s": preparation,
        "start to first step, s": seconds,
        **training(prepared, rounds),
        "own memory, MB": {n: max(started.own_bytes for started in starts[n]) / 1e6 for n in sizes},
        "memory with all files mapped, MB": {n: starts[n][0].peak_bytes / 1e6 for n in sizes},
    }


def exponent(figures: Figures) -> float:
    """Slope of a figure over the number of nights, both as logarithms: 0 does not grow, 1 grows as the nights do."""
    return float(np.polyfit(np.log(list(figures)), np.log(list(figures.values())), 1)[0])


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--nights", type=positive, nargs="+", default=[10, 40, 160, 640], metavar="N", help="numbers")
    parser.add_argument("--hours", type=float, default=8, help="length of a simulated night (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="of starts and steps (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="10 and 40 nights of 2 h, 2 rounds: a minute or two")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    sizes, hours, rounds = sorted(set(arguments.nights)), arguments.hours, arguments.rounds
    if arguments.quick:
        sizes, hours, rounds = [10, 40], 2, 2
    if len(sizes) < 2 or sizes[0] < 2:
        parser.error("--nights: growth needs two numbers, from 2 up")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, nights of {hours:g} h")
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(Path(temporary), sizes, hours, rounds)
    exponents = {name: exponent(figures) for name, figures in rows.items() if len(figures) > 1}
    print(f"\n{'':<34}" + "".join(f"{n:>10}" for n in sizes) + "  exponent")
    for name, figures in rows.items():
        cells = "".join(f"{figures[n]:>10.2f}" if n in figures else f"{'':>10}" for n in sizes)
        print(f"{name:<34}{cells}" + (f"{exponents[name]:>10.2f}" if name in exponents else ""))
    print(f"\nThe training epoch is {N_BATCHES} steps of {BATCH_SIZE} sleep epochs drawn from all nights, scaled.")
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": rows, "exponents": exponents}, indent=2) + "\n", "utf-8")


def _n_sleep_epochs(folder: Path) -> int:
    """Count the sleep epochs of all recordings of a folder."""
    from data_loader.data_loaders import find_recordings  # loads torch

    return sum(len(outline.stages) for outline in find_recordings(folder))


def _run(script: str, *arguments: object) -> None:
    """Run a script of `prepare_datasets`."""
    command = [sys.executable, str(ROOT / "prepare_datasets" / script), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
