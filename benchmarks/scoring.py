"""Time `predict.py` on whole recordings: its steps, the whole process, and memory.

`its CPU` is the time of all cores from reading to the files; other programs disturb it least.

python -m benchmarks.scoring [--rounds N] [--checkpoint PATH]
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.speed import write_edf
from benchmarks.worker import ROOT
from utils.arguments import positive

HOURS = (22, 8)
COLUMNS = ("read", "score", "files", "read to files", "its CPU", "picture", "peak GB", "whole process")


def score_once(arguments: list[str], psg: Path, short_psg: Path) -> list[float]:
    """Score a recording in this process, after a short one that loads every library.

    Returns
    -------
    list of float
        A value for each of `COLUMNS` but the last.
    """
    from recordings import reader
    from scoring import night, picture

    moments = []  # of the wall and of the processor, at begin and end of each step

    def noting(step: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*values: Any) -> Any:
            moments.append((time.perf_counter(), time.process_time()))
            result = step(*values)
            moments.append((time.perf_counter(), time.process_time()))
            return result

        return noted

    reader.read_channel, night.write_night = noting(reader.read_channel), noting(night.write_night)
    picture.write_picture = noting(picture.write_picture)
    import predict  # which takes the functions as they are now

    for path in (short_psg, psg):
        moments.clear()
        sys.argv = ["predict.py", str(path), *arguments]
        with redirect_stdout(StringIO()):
            predict.main()
    read, score, files, _, drawing = (end[0] - begin[0] for begin, end in zip(moments, moments[1:], strict=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return [read, score, files, read + score + files, moments[3][1] - moments[0][1], drawing, peak]


def score_by_script(arguments: list[str], psg: Path) -> float:
    """Score a recording by the script; return the seconds."""
    begin = time.perf_counter()
    command = [sys.executable, str(ROOT / "predict.py"), str(psg), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def write_checkpoint(path: Path) -> Path:
    """Write the checkpoint of a network that was not trained: it takes as long."""
    from model.model import AttnSleep
    from utils.checkpoint import save_checkpoint
    from utils.stages import STAGE_NAMES

    about = {"fs": 100, "channel": "EEG Fpz-Cz", "units": "uV", "stage_names": list(STAGE_NAMES), "context": [0, 0]}
    config = {"arch": {"type": "AttnSleep", "args": {}}}
    state = {"train_epoch": 0, "model": AttnSleep().state_dict(), "about": about | {"config": config}}
    save_checkpoint(path, state)
    return path


def in_new_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def main() -> None:
    """Measure both recordings and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="medians of so many (%(default)s)")
    parser.add_argument("--checkpoint", type=Path, metavar="PATH", help="of one network (one that is not trained)")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint = arguments.checkpoint or in_new_process(write_checkpoint, folder / "model.pth")
        psgs = {hours: next(write_edf(folder / str(hours), hours).glob("*-PSG.edf")) for hours in (*HOURS, 1)}
        of_predict = ["--checkpoint", str(checkpoint), "--overwrite", "--output_dir", str(folder / "scored")]
        rows: dict[int, list[list[float]]] = {hours: [] for hours in HOURS}
        for _ in range(arguments.rounds):
            for hours in HOURS:
                steps = in_new_process(score_once, of_predict, psgs[hours], psgs[1])
                rows[hours].append([*steps, score_by_script(of_predict, psgs[hours])])
    print(f"{'seconds':<8}" + "".join(f"{column:>15}" for column in COLUMNS))
    for hours in HOURS:
        medians = [statistics.median(column) for column in zip(*rows[hours], strict=True)]
        print(f"{hours:>5} h " + "".join(f"{value:>15.2f}" for value in medians))
    print(f"load of the last minute: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
