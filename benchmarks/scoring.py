"""Time `predict.py` on whole recordings: computing alone, files, picture, the whole process, and memory.

`its CPU` are the seconds of all cores from reading to the files, which other programs disturb least.

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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOURS = (22, 8)
COLUMNS = ("read", "score", "files", "read to files", "its CPU", "picture", "whole process", "peak GB")


def score_once(psg: Path, checkpoint: Path, output_dir: Path) -> list[float]:
    """Score a recording in this process; return the seconds of each step, after the imports, and peak memory in GB."""
    import edfio  # noqa: F401 - imports are not what is timed
    import scipy.signal  # noqa: F401

    import recordings.reader as reader
    import scoring.night as night_files
    import scoring.picture as night_plot
    from scoring.networks import load_networks
    from utils.heap import keep_freed_memory

    keep_freed_memory()
    networks = load_networks([checkpoint])
    files = night_files.result_files(output_dir, psg.stem)
    times, cpu = [time.perf_counter()], time.process_time()
    channel = reader.read_channel(psg, "EEG Fpz-Cz", None, networks.inputs.fs)
    times.append(time.perf_counter())
    start, scoring = night_files.parse_start(channel.start_time), networks.score(channel.signal, psg.name)
    night = night_files.Night(psg.stem, channel.name, start, scoring, remarks=channel.remarks)
    night = night_files.with_remarks(night, channel.signal, networks.inputs.n_samples)
    times.append(time.perf_counter())
    night_files.write_night(files, night, {"model": networks.description})
    times.append(time.perf_counter())
    cpu = time.process_time() - cpu
    night_plot.write_picture(files[".png"], night, channel.signal, channel.fs)
    times.append(time.perf_counter())
    read, score, written, picture = (end - begin for begin, end in zip(times, times[1:], strict=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return [read, score, written, read + score + written, cpu, picture, peak]


def measure(psg: Path, checkpoint: Path, folder: Path) -> list[float]:
    """Score a recording in a process of its own, then by `predict.py`; return a value for each of `COLUMNS`."""
    command = [sys.executable, "-m", "benchmarks.scoring", "--once", str(psg), str(checkpoint), str(folder)]
    *steps, peak = map(float, subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.split())
    begin = time.perf_counter()
    command = [sys.executable, str(ROOT / "predict.py"), str(psg), "--checkpoint", str(checkpoint), "--overwrite"]
    subprocess.run([*command, "--output_dir", str(folder / "whole")], check=True, stdout=subprocess.DEVNULL)
    return [*steps, time.perf_counter() - begin, peak]


def write_recordings(folder: Path) -> dict[int, Path]:
    """Simulate a recording of each length; return their PSG files."""
    script = ROOT / "prepare_datasets/simulate_recordings.py"
    for hours in HOURS:
        arguments = ["--output_dir", str(folder / str(hours)), "--num_subjects", "1", "--hours", str(hours)]
        subprocess.run([sys.executable, str(script), *arguments, "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
    return {hours: next((folder / str(hours)).glob("*-PSG.edf")) for hours in HOURS}


def write_checkpoint(path: Path) -> Path:
    """Write the checkpoint of a network that was not trained: it takes as long."""
    from model.model import AttnSleep
    from utils.checkpoint import save_checkpoint
    from utils.stages import STAGE_NAMES

    about = {"fs": 100, "channel": "EEG Fpz-Cz", "units": "uV", "stage_names": list(STAGE_NAMES), "context": [0, 0]}
    config = {"arch": {"type": "AttnSleep", "args": {"fs": 100}}}
    state = {"train_epoch": 0, "model": AttnSleep().state_dict(), "about": about | {"config": config}}
    save_checkpoint(path, state)
    return path


def main() -> None:
    """Measure both recordings and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="medians of so many (%(default)s)")
    parser.add_argument("--checkpoint", type=Path, metavar="PATH", help="of one network (one that is not trained)")
    parser.add_argument("--once", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(*score_once(*arguments.once))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint = arguments.checkpoint or write_checkpoint(folder / "model.pth")
        recordings = write_recordings(folder)
        taken: dict[int, list[list[float]]] = {hours: [] for hours in recordings}
        for _ in range(arguments.rounds):
            for hours, psg in recordings.items():
                taken[hours].append(measure(psg, checkpoint, folder))
    print(f"{'seconds':<8}" + "".join(f"{column:>15}" for column in COLUMNS))
    for hours, rows in taken.items():
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(f"{hours:>5} h " + "".join(f"{value:>15.2f}" for value in medians))
    print(f"load of the last minute: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
