"""Score recordings with trained networks: stages, probabilities, sleep statistics and a picture of each night.

python predict.py --checkpoint saved/Exp1 --output_dir scored night1.edf night2.edf folder
"""

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.environment import require_packages

require_packages()

import numpy as np

from prepare_datasets.outcomes import Outcome, tell, tell_end, tell_head
from prepare_datasets.pairing import is_hypnogram_alone
from prepare_datasets.preparation import Task, attempted, exit_code, make_folder, run_each
from recordings.alignment import aligned
from recordings.clock_times import clock_s
from recordings.hypnogram_columns import parse_columns
from recordings.hypnograms import SLACK_S, Hypnogram
from recordings.reader import Channel, derivation_name, from_raw, is_recording, read_channel, resampled
from recordings.sources import fingerprint
from recordings.stage_names import read_stage_names
from scoring import scorers
from scoring.fetching import source_of
from scoring.formats import FORMATS
from scoring.night import (
    INDEX,
    REVIEW,
    Night,
    Scoring,
    description,
    earlier_night,
    page_of,
    parse_start,
    result_files,
    time_in_bed,
    with_remarks,
    write_night,
)
from scoring.summary import HEADS, SUMMARY, UNITS, main_figures, write_summary
from utils.cores import share_cores
from utils.errors import UserError
from utils.files import name_problem
from utils.heap import keep_freed_memory
from utils.plural import number_of
from utils.recording import read_outline

if TYPE_CHECKING:
    from recordings.reader import BaseRaw
    from scoring.networks import Networks


@dataclass(frozen=True)
class Request:
    """What the command line asks of every recording; clock times are in s since midnight."""

    channel: str
    reference: str | None = None
    lights_off_s: int | None = None
    lights_on_s: int | None = None
    hypnograms: tuple[Path, ...] = ()
    stage_names: Mapping[str, int | None] | None = None
    columns: Mapping[str, str] | None = None
    all_folds: bool = False
    formats: tuple[str, ...] = ()
    review: bool = False


def main() -> int:
    """Score all recordings, or export the network; return the exit code."""
    arguments = parse_arguments()
    share_cores()
    from scoring.networks import load_networks  # imports torch, which --help does without

    keep_freed_memory()
    networks = load_networks(arguments.checkpoint)
    if arguments.export:
        from scoring.export import export_onnx

        export_onnx(arguments.export, networks)
        note = ", without its night context" if networks.members[0].night_context else ""
        print(f"ONNX file: {arguments.export}{note}")
        return 0
    channel = " ".join(arguments.select_ch) or networks.inputs.channel
    if not channel:
        raise UserError("The checkpoint does not say which channel it was trained on. Pass one with --select_ch.")
    request = Request(
        channel,
        arguments.reference,
        arguments.lights_off,
        arguments.lights_on,
        tuple(arguments.hypnogram),
        read_stage_names(arguments.stage_names) if arguments.stage_names else None,
        arguments.columns,
        arguments.all_folds,
        tuple(arguments.formats),
        arguments.review,
    )
    output_dir = arguments.output_dir
    recordings, problems = find_recordings(arguments.recordings)
    make_folder(output_dir)
    if request.review:
        from scoring.review import require_own_index  # imports matplotlib

        require_own_index(output_dir)
    tasks = [
        Task(name, partial(score_file, path, name, networks, request, output_dir, arguments.overwrite))
        for name, path in recordings.items()
    ]
    width = max(map(len, recordings), default=0)
    of_recordings = f"of {number_of(len(tasks), 'recording')} to {output_dir}"
    tell_head(f"{derivation_name(channel, arguments.reference)} {of_recordings}\n{UNITS}", width, HEADS)
    outcomes = run_each(lambda task: attempted(task.name, task.read, output_dir / task.name), tasks, 1, width)
    for outcome in outcomes:
        if outcome.table:
            tell(f"\n{outcome.table}")
    summary = attempted(SUMMARY, lambda: summarised(output_dir), output_dir / SUMMARY)
    problems += filter(None, [summary.text])
    if request.review or (output_dir / INDEX).exists():  # which names the pages that this run removed
        index = attempted(INDEX, lambda: listed(output_dir), output_dir / INDEX)
        problems += filter(None, [index.text])
    return tell_end(outcomes, str(output_dir), width, problems, networks.notes, done="scored")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("recordings", nargs="*", type=Path, metavar="RECORDING", help="EDF, BDF, npz, what else MNE reads, or a folder")
    weights = "a .pth, a shared file, a fold's folder or an experiment's, or several, whose probabilities are averaged"
    add("--checkpoint", nargs="+", type=source_of, required=True, metavar="PATH", help=weights)
    add("--select_ch", nargs="+", default=[], metavar="CHANNEL", help="EEG channel by its name (that of the training)")
    add("--reference", metavar="CHANNEL", help="channel to subtract: --select_ch C4 --reference M1")
    add("--from", dest="lights_off", type=_clock, metavar="HH:MM", help="lights off: score from then on")
    add("--to", dest="lights_on", type=_clock, metavar="HH:MM", help="lights on: score up to then")
    scorers = "hypnogram of the one recording, to compare with; several scorers: once for each"
    add("--hypnogram", action="append", type=Path, default=[], metavar="FILE", help=scorers)
    add("--stage_names", type=Path, metavar="FILE", help='its other names of stages, as JSON: {"Stage V": "REM"}')
    add("--columns", type=parse_columns, metavar="COLUMNS", help="its columns: onset=Zeitpunkt,stage=Stadium")
    add("--all_folds", action="store_true", help="all folds score a night, not only the one that tested it")
    add("--review", action="store_true", help="write a page of each night on which to look at it and correct it")
    add("--output_dir", type=Path, default=Path("scored"), metavar="DIR", help="folder of the results (%(default)s)")
    further = f"further files of each night: {', '.join(FORMATS)} (docs/scoring.md)"
    add("--formats", nargs="+", default=[], metavar="FORMAT", help=further)
    add("--overwrite", action="store_true", help="score again what is scored already")
    add("--export", type=Path, metavar="FILE.onnx", help="write the network as ONNX instead of scoring")
    arguments = parser.parse_args()
    for option, is_one in (("checkpoint", _holds_recordings), ("select_ch", _is_there), ("formats", _is_there)):
        own, recordings = _split(getattr(arguments, option), is_one)
        setattr(arguments, option, own)
        arguments.recordings += recordings
    if unknown := [name for name in arguments.formats if name not in FORMATS]:
        parser.error(f"--formats: no format {unknown[0]!r}. Choose from {', '.join(FORMATS)}")
    if bool(arguments.recordings) == bool(arguments.export):
        parser.error("name recordings or --export")
    if arguments.hypnogram and (len(arguments.recordings) != 1 or arguments.recordings[0].is_dir()):
        parser.error("--hypnogram is of one recording: name that alone")
    if len(set(map(os.path.realpath, arguments.hypnogram))) < len(arguments.hypnogram):
        parser.error("--hypnogram: the same file twice")
    if (arguments.stage_names or arguments.columns) and not arguments.hypnogram:
        parser.error("--stage_names and --columns are of a hypnogram: pass --hypnogram")
    if arguments.reference and not arguments.select_ch:
        parser.error("--reference is subtracted from a channel: name that with --select_ch")
    return arguments


def _split(words: list[Any], is_recording: Callable[[Path], bool]) -> tuple[list[Any], list[Path]]:
    """Take the recordings off the end of the words that follow an option, of which at least one belongs to it."""
    n = len(words)
    while n > 1 and is_recording(Path(words[n - 1])):
        n -= 1
    return words[:n], [Path(word) for word in words[n:]]


def _holds_recordings(path: Path) -> bool:
    """Tell whether a path is a recording or a folder of some, and no checkpoint."""
    in_folder = path.is_dir() and not any(path.glob("*.pth")) and not any(path.glob("fold_*"))
    return _is_night(path) or (in_folder and any(_is_night(file) for file in path.iterdir()))


def _is_there(path: Path) -> bool:
    """Tell whether a word after a channel is a recording, or an existing folder."""
    return _is_night(path) or path.is_dir()


def _is_night(path: Path) -> bool:
    """Tell by its name whether a file is a recording, prepared or not."""
    return is_recording(path) or (path.suffix.lower() == ".npz" and not path.name.startswith("."))


def find_recordings(paths: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Find the recordings among files and in folders, by name: that of the file without its ending and `-PSG`.

    Returns the problems besides: folders without a recording, and files whose results would have the same name as those
    of another, or as the summary.
    """
    files, problems = [], []
    for path in paths:
        in_folder = path.is_dir() and not _is_night(path)
        nights = sorted(file for file in path.iterdir() if _is_night(file)) if in_folder else []
        recordings = [file for file in nights if not is_hypnogram_alone(file)] if in_folder else [path]
        if not recordings:
            problems.append(f"{path}: no recording in this folder.")
        files += recordings
    by_name: dict[str, dict[str, Path]] = defaultdict(dict)  # a file that is named twice counts once
    for file in files:
        if problem := name_problem(file):
            problems.append(problem)
            continue
        stem = Path(file.name.removesuffix(".gz")).stem.removesuffix("-PSG")
        by_name[stem].setdefault(os.path.realpath(file), file)
    for name, same in by_name.items():
        if len(same) > 1:
            names = ", ".join(map(str, same.values()))
            problems.append(f"{names}: all would be written as {name}. Score them into different folders.")
    for name in [name for name in by_name if name.casefold() == Path(SUMMARY).stem]:
        for file in by_name.pop(name).values():
            problems.append(f"{file}: its table would be {SUMMARY}, which is that of all nights. Rename it.")
    return {name: next(iter(same.values())) for name, same in by_name.items() if len(same) == 1}, problems


def score_file(
    path: Path, name: str, networks: "Networks", request: Request, output_dir: Path, overwrite: bool
) -> Outcome:
    """Score a recording and write its files, unless they are there already."""
    begin = time.perf_counter()
    numbered = {f"hypnogram_{n}" if n > 1 else "hypnogram": file for n, file in enumerate(request.hypnograms, 1)}
    files = {"recording": path} | numbered
    sources = {what: fingerprint(file) for what, file in files.items() if file.exists()}
    is_prepared = path.suffix.lower() == ".npz" and path.is_file()
    checksum = read_outline(path).checksum if is_prepared else f"of{sources.get('recording', {}).get('crc32', '')}"
    n_networks = len(networks.members)
    networks = networks.for_night(name, checksum, request.all_folds)
    hypnograms = [os.path.realpath(file) for file in request.hypnograms]
    settings = {  # everything that decides how the recording is scored
        "recording": os.path.realpath(path),
        "channel": request.channel,
        "reference": request.reference,
        "from": _clock_text(request.lights_off_s),
        "to": _clock_text(request.lights_on_s),
        "hypnogram": hypnograms if len(hypnograms) > 1 else next(iter(hypnograms), None),
        "stage_names": request.stage_names,
        "columns": request.columns,
        "checkpoints": networks.checksums,
        "made_from": sources,
    }
    results = result_files(output_dir, name, request.formats)
    if request.review:
        results[REVIEW] = page_of(output_dir, name)
    earlier = earlier_night(results, settings, overwrite)
    if earlier:
        counts, cells = tuple(earlier["sleep_epochs"].values()), main_figures(earlier["sleep_statistics"])
        return Outcome(name, "kept", counts, cells=cells, table=scorers.table(earlier))
    recording = read_channel(path, request.channel, request.reference, networks.inputs.fs)
    recording, scored = read_hypnograms(recording, path, request)
    start, n_sleep_epochs = parse_start(recording.start_time), len(recording.signal) // networks.inputs.n_samples
    in_bed, remarks = time_in_bed(start, n_sleep_epochs, request.lights_off_s, request.lights_on_s, path.name)
    (first, end), empty = in_bed or (0, None), recording.without_signal()
    scoring = networks.score(recording.signal, path.name, first, end, empty)
    by_scorer = np.array([hypnogram.stages(n_sleep_epochs, scored[0].begin_s) for hypnogram in scored])
    hypnogram = scorers.majority(by_scorer) if scored else None
    compared = scorers.compare(_names(request.hypnograms), by_scorer, scoring.stages) if len(scored) > 1 else []
    if (n := len(networks.members)) < n_networks:
        remarks.append(f"scored by {n} of {n_networks} networks, of the fold that tested it; --all_folds takes all")
    said_of_hypnograms = dict.fromkeys(remark for of_scorer in scored for remark in of_scorer.remarks)  # each once
    remarks = [*recording.remarks, *remarks, *said_of_hypnograms]
    overlap = networks.training_overlap
    night = Night(name, recording.name, start, scoring, in_bed, hypnogram, tuple(remarks), overlap, empty, compared)
    night = replace(night, begin_s=recording.begin_s)
    night = with_remarks(night, recording.signal, networks.inputs.n_samples)
    write_night(results, night, {"scoring": settings, "model": networks.description})
    from scoring.picture import write_picture  # imports matplotlib when the other files are there

    write_picture(results[".png"], night, recording.signal, recording.fs)
    if request.review:
        from scoring.review import write_review

        write_review(results, night, recording.signal, recording.fs)
    table, seconds = scorers.table(description(night)), time.perf_counter() - begin
    cells = main_figures(night.sleep_statistics)
    return Outcome(name, "scored", night.counts, seconds, remarks=night.remarks, cells=cells, table=table)


def summarised(output_dir: Path) -> Outcome:
    """Write the summary of all nights in the folder."""
    write_summary(output_dir)
    return Outcome(SUMMARY, "scored")


def listed(output_dir: Path) -> Outcome:
    """Write the list of the nights in the folder that have a page."""
    from scoring.review import write_index

    write_index(output_dir)
    return Outcome(INDEX, "scored")


def read_hypnograms(recording: Channel, path: Path, request: Request) -> tuple[Channel, list[Hypnogram]]:
    """Read the hypnograms of all scorers, and cut the recording as they are scored; see `recordings.aligned`."""
    both = [aligned(recording, path, file, request.stage_names, request.columns) for file in request.hypnograms]
    hypnograms = [hypnogram for _, hypnogram in both]
    begins_s = [hypnogram.begin_s for hypnogram in hypnograms]
    if both and max(begins_s) - min(begins_s) > SLACK_S:
        where = ", ".join(f"{hypnogram.source} {hypnogram.begin_s:g} s" for hypnogram in hypnograms)
        raise UserError(
            f"{path.name}: the sleep epochs of its scorers begin at different times after its start ({where}), so "
            "they cannot be compared. Compare with each by itself."
        )
    return both[0][0] if both else recording, hypnograms


def _names(files: Sequence[Path]) -> list[str]:
    """Name files by their last part, or wholly where these are not all different."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def score_recording(
    recording: "BaseRaw | np.ndarray",
    checkpoint: Path | str | Sequence[Path | str],
    channel: str | None = None,
    reference: str | None = None,
    fs: float | None = None,
) -> Scoring:
    """Score a recording from Python.

    Parameters
    ----------
    recording : mne.io.BaseRaw or ndarray of shape (n,)
        An array is one channel in microvolts, NaN where nothing was recorded.
    checkpoint : path or sequence of paths
        See `scoring.networks.load_networks`.
    channel, reference : str or None
        Channels of an MNE recording, as on the command line; None: the channel of the training.
    fs : float or None
        Sampling rate of an array in Hz.

    Returns
    -------
    Scoring
        `stages` of shape (n_sleep_epochs,), 0 to 4 or -1 where not scored, and `probabilities` (n_sleep_epochs, 5).
    """
    from scoring.networks import load_networks

    networks = load_networks([checkpoint] if isinstance(checkpoint, Path | str) else checkpoint)
    if isinstance(recording, np.ndarray):
        if recording.ndim != 1 or fs is None or not 0 < fs < np.inf:
            raise UserError(
                f"An array of shape {recording.shape} at fs={fs}: pass one channel, shape (n,), and fs in Hz."
            )
        one_channel = Channel(np.ascontiguousarray(recording, np.float32), fs, "", "", ())
    elif hasattr(recording, "ch_names"):
        one_channel = from_raw(recording, channel or networks.inputs.channel, reference)
    else:
        raise UserError(f"A {type(recording).__name__} is no recording: pass one of MNE's, or an array.")
    one_channel = resampled(one_channel, networks.inputs.fs)
    return networks.score(one_channel.signal, "the recording", empty=one_channel.without_signal())


def _clock(text: str) -> int:
    """Parse a time of day; return s since midnight."""
    seconds = clock_s(text)
    if seconds is None or seconds >= 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no time of day such as 22:30")
    return round(seconds)


def _clock_text(seconds: int | None) -> str | None:
    """Write a time of day, given in s since midnight."""
    return None if seconds is None else f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
