"""Prepare recordings of any laboratory: each recording with the scoring beside it becomes one npz.

python prepare_recordings.py --data_dir nights --output_dir nights_npz --select_ch C4-M1 --fs 100
"""

import argparse
import math
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from prepare_datasets.epoching import cut_sleep_epochs, samples_per_sleep_epoch  # noqa: E402
from prepare_datasets.pairing import pair_files  # noqa: E402
from prepare_datasets.preparation import Task, argument_parser, channel_name, exit_code, list_files, run  # noqa: E402
from recordings.hypnograms import load_hypnogram  # noqa: E402
from recordings.reader import read_channel  # noqa: E402
from recordings.stage_names import read_stage_names  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.recording import Recording  # noqa: E402
from utils.stages import SLEEP_EPOCH_S  # noqa: E402
from utils.subjects import is_pattern, subject_of  # noqa: E402

TRAINING_FS = (100, 125)
"""Sampling rates in Hz that the network takes."""


def main() -> int:
    """Prepare the recordings of a folder; return the exit code."""
    arguments = parse_arguments()
    files = list_files(arguments.data_dir, "*")
    scoring_files = list_files(arguments.ann_dir, "*") if arguments.ann_dir else files
    pairs, problems, notes = pair_files(files, scoring_files, arguments.scoring)
    if not pairs and not problems:
        raise UserError(f"{arguments.data_dir}: no recording in it. Pass the folder that holds them.")
    notes += tell_subjects(list(pairs), arguments.subject_pattern)
    read = partial(
        read_night,
        channel=channel_name(arguments.select_ch),
        fs=arguments.fs,
        stage_names=read_stage_names(arguments.stage_names) if arguments.stage_names else None,
    )
    tasks = [Task(name, partial(read, *pair), arguments.fs) for name, pair in pairs.items()]
    return run(tasks, arguments, problems, notes)


def parse_arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argument_parser("Prepare recordings with the scorings beside them.", output_dir="recordings_npz")
    add = parser.add_argument
    add("--ann_dir", type=Path, metavar="DIR", help="folder of the scorings, if they are in another")
    add("--scoring", metavar="END", help="what follows a recording's name in that of its scoring, as in _scorer2.csv")
    add("--stage_names", type=Path, metavar="FILE", help='JSON: stages of other names, {"Stage V": "REM"}')
    add("--fs", type=_rate, metavar="HZ", help="resample to this rate; training takes 100 or 125 Hz")
    add("--subject_pattern", metavar="REGEX", help="finds the subject in a name by its one group; checked and listed")
    arguments = parser.parse_args()
    if arguments.subject_pattern is not None and not is_pattern(arguments.subject_pattern):
        parser.error(f"--subject_pattern {arguments.subject_pattern!r}: not a regular expression with one group")
    return arguments


def tell_subjects(names: Sequence[str], pattern: str | None) -> list[str]:
    """List the subjects with their recordings, and say what to tell the training.

    Raises
    ------
    UserError
        The pattern finds no subject in a name.
    """
    nights: dict[str, list[str]] = defaultdict(list)
    lost = []
    for name in names:
        try:
            nights[subject_of(name, pattern)].append(name)
        except UserError:
            lost.append(name)
    if lost:
        raise UserError(f"--subject_pattern {pattern!r} finds no subject in {', '.join(lost)}. Mend the pattern.")
    if pattern is None:
        if len(nights) < max(len(names), 2):
            return []
        return ["Each recording counts as a subject. If some are of the same, pass --subject_pattern."]
    listed = "; ".join(f"{subject}: {', '.join(of)}" for subject, of in nights.items())
    option = shlex.quote(f"data_loader.args.subject_pattern={pattern}")
    return [f"Subjects ({len(nights)}): {listed}", f"Train with --set {option}"]


def read_night(
    recording: Path, scoring: Path, channel: str, fs: float | None, stage_names: Mapping[str, int | None] | None
) -> Recording:
    """Read one night.

    Parameters
    ----------
    recording, scoring : Path
        They are the same where the annotations are in the recording.
    channel : str
        See `read_channel`.
    fs : float or None
        Sampling rate to resample to, in Hz.
    stage_names : mapping of str to int or None, optional
        See `read_hypnogram`.

    Raises
    ------
    UserError
        Anything is wrong with one of the files, or with the two together.
    """
    found = read_channel(recording, channel, fs=fs)
    n_samples = samples_per_sleep_epoch(found.fs, recording.name)
    n_sleep_epochs, remarks, start_time = len(found.signal) // n_samples, list(found.remarks), found.start_time
    scored = load_hypnogram(scoring, n_sleep_epochs, start_time, stage_names)
    if scored.end_of_sleep_s > (n_sleep_epochs + 1) * SLEEP_EPOCH_S:
        raise UserError(
            f"{scoring.name}: sleep until {scored.end_of_sleep_s:g} s, but {recording.name} ends after "
            f"{len(found.signal) / found.fs:g} s. They are not of one night: get both files again."
        )
    signal = found.signal[round(scored.begin_s * found.fs) :]
    if scored.begin_s:
        remarks.append(f"scored in sleep epochs that begin {scored.begin_s:g} s after its start; cut there")
        start_time = (
            (datetime.fromisoformat(start_time) + timedelta(seconds=scored.begin_s)).isoformat() if start_time else ""
        )
    if found.fs not in TRAINING_FS:
        remarks.append(f"{found.fs:g} Hz, but training takes {' or '.join(map(str, TRAINING_FS))} Hz: pass --fs")
    night = scored.stages(len(signal) // n_samples, scored.begin_s)
    sleep_epochs, stages, position = cut_sleep_epochs(signal, night, n_samples, scoring.name)
    remarks += scored.remarks
    return Recording(sleep_epochs, stages, found.fs, channel, position, start_time, recording.name, tuple(remarks))


def _rate(text: str) -> float:
    """Parse a sampling rate."""
    try:
        fs = float(text)
    except ValueError:
        fs = math.nan
    if not 1 <= fs <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no sampling rate in Hz from 1 to 10000")
    return fs


if __name__ == "__main__":
    sys.exit(exit_code(main))
