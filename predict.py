"""Score recordings with trained networks: stages, probabilities, sleep statistics and a picture of each night.

python predict.py --checkpoint saved/Exp1 --output_dir scored night1.edf night2.edf folder
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prepare_datasets.outcomes import Outcome, tell_end, tell_head
from prepare_datasets.preparation import Task, attempted, channel_name, exit_code, make_folder, run_each
from recordings.clock_times import clock_s
from recordings.reader import Channel, derivation_name, from_raw, is_recording, read_channel, resampled
from utils.errors import UserError
from utils.files import name_problem
from utils.heap import keep_freed_memory

if TYPE_CHECKING:
    from recordings.reader import BaseRaw
    from scoring.networks import Scorer, Scores
    from scoring.night import Night


def main() -> int:
    """Score all recordings, or export the network; return the exit code."""
    arguments = parse_arguments()
    from scoring.networks import load_scorer  # loads torch, for which --help does not wait

    keep_freed_memory()
    scorer = load_scorer(arguments.checkpoint)
    if arguments.export:
        from scoring.export import export_onnx

        export_onnx(arguments.export, scorer)
        alone = ", without its model of the night" if any(scorer.of_night) else ""
        print(f"ONNX file: {arguments.export}{alone}")
        return 0
    arguments.channel = arguments.channel or scorer.channel
    if not arguments.channel:
        raise UserError("The checkpoint does not say which channel it was trained on. Pass one with --select_ch.")
    recordings, problems = find_recordings(arguments.recordings)
    make_folder(arguments.output_dir)
    tasks = [Task(name, partial(score_file, path, name, scorer, arguments)) for name, path in recordings.items()]
    width = max(map(len, recordings), default=0)
    channel = derivation_name(arguments.channel, arguments.reference)
    tell_head(f"{channel} of {len(tasks)} recordings to {arguments.output_dir}", width)
    outcomes = run_each(lambda task: attempted(task.name, task.read, arguments.output_dir / task.name), tasks, 1, width)
    return tell_end(outcomes, str(arguments.output_dir), width, problems, scorer.notes, done="scored")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("recordings", nargs="*", type=Path, metavar="RECORDING", help="EDF, BDF, npz, what else MNE reads, or a folder")
    add(
        "--checkpoint",
        nargs="+",
        type=Path,
        required=True,
        metavar="PATH",
        help="a .pth, a fold's folder or an experiment's, or several, whose probabilities are averaged",
    )
    add("--select_ch", nargs="+", default=[], metavar="CHANNEL", help="EEG channel by its name (that of the training)")
    add("--reference", metavar="CHANNEL", help="channel to subtract: --select_ch C4 --reference M1")
    add("--from", dest="lights_off", type=_clock, metavar="HH:MM", help="lights off: score from then on")
    add("--to", dest="lights_on", type=_clock, metavar="HH:MM", help="lights on: score up to then")
    add("--hypnogram", type=Path, metavar="FILE", help="scoring of the one recording, to compare with")
    add("--output_dir", type=Path, default=Path("scored"), metavar="DIR", help="of the results (%(default)s)")
    add("--overwrite", action="store_true", help="score recordings again that are scored")
    add("--export", type=Path, metavar="FILE.onnx", help="write the network as ONNX instead of scoring")
    arguments = parser.parse_args()
    arguments.channel = channel_name(arguments.select_ch)
    if bool(arguments.recordings) == bool(arguments.export):
        parser.error("name recordings or --export; recordings go first, as --select_ch takes all words that follow it")
    if arguments.hypnogram and (len(arguments.recordings) > 1 or arguments.recordings[0].is_dir()):
        parser.error("--hypnogram is of one recording: name that alone")
    if arguments.reference and not arguments.channel:
        parser.error("--reference is subtracted from a channel: name that with --select_ch")
    return arguments


def find_recordings(paths: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Find the recordings among files and in folders.

    Returns
    -------
    recordings : dict of str to Path
        By name: that of the file without its ending, and without `-PSG`.
    problems : list of str
        Folders without any, and files that would be written under the same name.
    """
    found: dict[str, dict[str, Path]] = {}
    problems = []
    for path in paths:
        folder = path.is_dir() and not is_recording(path)
        files = sorted(file for file in path.iterdir() if is_recording(file)) if folder else [path]
        if not files:
            problems.append(f"{path}: no recording in this folder.")
        for file in files:
            if problem := name_problem(file):
                problems.append(problem)
                continue
            name = file.name.removesuffix(".gz").removesuffix(Path(file.name.removesuffix(".gz")).suffix)
            found.setdefault(name.removesuffix("-PSG"), {}).setdefault(os.path.realpath(file), file)
    for name, files_of in found.items():
        if len(files_of) > 1:
            names = ", ".join(map(str, files_of.values()))
            problems.append(f"{names}: all would be written as {name}. Score them into different folders.")
    return {name: next(iter(of.values())) for name, of in found.items() if len(of) == 1}, problems


def score_file(path: Path, name: str, scorer: "Scorer", arguments: argparse.Namespace) -> Outcome:
    """Score a recording and write its files, unless they are there."""
    from scoring.night import earlier_night, result_files, write_night

    begin, settings = time.perf_counter(), settings_of(path, scorer, arguments)
    files = result_files(arguments.output_dir, name)
    earlier = earlier_night(files, settings, arguments.overwrite)
    if earlier:
        return Outcome(name, "kept", tuple(earlier["sleep_epochs"].values()))
    channel = read_channel(path, arguments.channel, arguments.reference, scorer.fs)
    night = night_of(channel, path, name, scorer, arguments)
    write_night(files, night, {"scoring": settings, "model": scorer.description})
    from scoring.picture import write_picture  # loads matplotlib while nobody waits for the other files

    write_picture(files[".png"], night, channel.signal, channel.fs)
    return Outcome(name, "scored", night.counts, time.perf_counter() - begin, remarks=night.remarks)


def settings_of(path: Path, scorer: "Scorer", arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect what decides how a recording is scored, in plain values."""
    return {
        "recording": os.path.realpath(path),
        "channel": arguments.channel,
        "reference": arguments.reference,
        "from": _clock_text(arguments.lights_off),
        "to": _clock_text(arguments.lights_on),
        "hypnogram": os.path.realpath(arguments.hypnogram) if arguments.hypnogram else None,
        "checkpoints": [
            part["crc32"]
            for checkpoint in scorer.checkpoints
            for part in (checkpoint, checkpoint["night_context"])
            if part is not None
        ],
    }


def night_of(channel: Channel, path: Path, name: str, scorer: "Scorer", arguments: argparse.Namespace) -> "Night":
    """Score what was read from a recording."""
    from scoring.night import Night, lights, parse_start, remarks_on

    start, n_sleep_epochs = parse_start(channel.start_time), len(channel.signal) // scorer.n_samples
    in_bed, remarks = lights(start, n_sleep_epochs, arguments.lights_off, arguments.lights_on, path.name)
    scores = scorer.score(channel.signal, path.name, *(in_bed or ()))
    truth = None
    if arguments.hypnogram:
        from recordings.hypnograms import read_hypnogram

        truth = read_hypnogram(arguments.hypnogram, n_sleep_epochs, channel.start_time)
    night = Night(name, channel.name, start, scores, in_bed, truth, (*channel.remarks, *remarks))
    return remarks_on(night, channel.signal, scorer.n_samples)


def score_recording(
    recording: "BaseRaw | np.ndarray",
    checkpoint: Path | str | Sequence[Path | str],
    channel: str | None = None,
    reference: str | None = None,
    fs: float | None = None,
) -> "Scores":
    """Score a recording from Python.

    Parameters
    ----------
    recording : mne.io.BaseRaw or ndarray of shape (n,)
        An array is one channel in microvolts, NaN where nothing was recorded.
    checkpoint : path or sequence of paths
        See `scoring.networks.load_scorer`.
    channel, reference : str or None
        Of an MNE recording, as on the command line; None: the channel of the training.
    fs : float or None
        Sampling rate of an array in Hz.

    Returns
    -------
    Scores
        `stages` of shape (n_sleep_epochs,), 0 to 4 or -1 where not scored, and `probabilities` (n_sleep_epochs, 5).

    Raises
    ------
    UserError
        The checkpoint cannot be used, or the signal cannot be scored.
    """
    from scoring.networks import load_scorer

    paths = [checkpoint] if isinstance(checkpoint, Path | str) else checkpoint
    scorer = load_scorer([Path(path) for path in paths])
    if isinstance(recording, np.ndarray):
        if recording.ndim != 1 or fs is None or not 0 < fs < np.inf:
            raise UserError(
                f"An array of shape {recording.shape} at fs={fs}: pass one channel, shape (n,), and fs in Hz."
            )
        found = Channel(np.ascontiguousarray(recording, np.float32), fs, "", "", ())
    elif hasattr(recording, "ch_names"):
        found = from_raw(recording, channel or scorer.channel, reference)
    else:
        raise UserError(f"A {type(recording).__name__} is no recording: pass one of MNE's, or an array.")
    return scorer.score(resampled(found, scorer.fs).signal, "the recording")


def _clock(text: str) -> int:
    """Parse a time of day, in s since midnight."""
    seconds = clock_s(text)
    if seconds is None or seconds >= 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no time of day such as 22:30")
    return round(seconds)


def _clock_text(seconds: int | None) -> str | None:
    """Write a time of day, given in s since midnight."""
    return None if seconds is None else f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
