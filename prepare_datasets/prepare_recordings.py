"""Prepare recordings of any laboratory: each recording with the hypnogram beside it becomes one npz.

python prepare_datasets/prepare_recordings.py --data_dir nights --output_dir nights_npz --select_ch C4-M1 --fs 100
"""

import argparse
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from utils.environment import require_packages  # noqa: E402

require_packages()

from prepare_datasets.epoching import cut_sleep_epochs, samples_per_sleep_epoch  # noqa: E402
from prepare_datasets.pairing import pair_files  # noqa: E402
from prepare_datasets.preparation import Task, add_fs, argument_parser, exit_code, list_files, run  # noqa: E402
from recordings.alignment import aligned  # noqa: E402
from recordings.hypnogram_columns import ROLES, parse_columns  # noqa: E402
from recordings.reader import read_channel  # noqa: E402
from recordings.sources import made_from  # noqa: E402
from recordings.stage_names import read_stage_names  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.recording import Recording  # noqa: E402
from utils.subjects import is_pattern, subject_of  # noqa: E402

TRAINING_FS = (100, 125)  # Hz


def main() -> int:
    """Prepare the recordings of a folder; return the exit code."""
    arguments = parse_arguments()
    files = list_files(arguments.data_dir, "*")
    hypnogram_files = list_files(arguments.ann_dir, "*") if arguments.ann_dir else files
    pairs, problems, notes = pair_files(files, hypnogram_files, arguments.scoring)
    if not pairs and not problems:
        raise UserError(f"{arguments.data_dir}: no recording in it. Pass the folder that holds them.")
    notes += _subject_notes(list(pairs), arguments.subject_pattern)
    channel, fs = " ".join(arguments.select_ch), arguments.fs
    stage_names = read_stage_names(arguments.stage_names) if arguments.stage_names else None
    options = {"channel": channel, "fs": fs, "stage_names": stage_names, "columns": arguments.columns}
    read = partial(read_night, channel=channel, fs=fs, stage_names=stage_names, columns=arguments.columns)
    tasks = [
        Task(
            name,
            partial(read, recording, hypnogram),
            fs,
            partial(made_from, {"recording": recording, "hypnogram": hypnogram}, options),
            subject_of(name, arguments.subject_pattern) if arguments.subject_pattern else "",
        )
        for name, (recording, hypnogram) in pairs.items()
    ]
    return run(tasks, arguments, problems, notes)


def parse_arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argument_parser("Prepare recordings with the hypnograms beside them.", "recordings_npz")
    add = parser.add_argument
    add("--ann_dir", type=Path, metavar="DIR", help="folder of the hypnograms, if it is another")
    add("--scoring", metavar="END", help="what follows a recording's name in that of its hypnogram, as in _scorer2.csv")
    add("--stage_names", type=Path, metavar="FILE", help='JSON with the stages of other names: {"Stage V": "REM"}')
    columns = 'columns of the hypnograms by what they hold: onset="Zeitpunkt",stage="Stadium"'
    add("--columns", type=parse_columns, metavar="COLUMNS", help=f"{columns}; also {', '.join(list(ROLES)[2:])}")
    add_fs(parser)
    add("--subject_pattern", metavar="REGEX", help="its one group finds the subject in a name; the subjects are listed")
    arguments = parser.parse_args()
    if arguments.subject_pattern is not None and not is_pattern(arguments.subject_pattern):
        parser.error(f"--subject_pattern {arguments.subject_pattern!r}: not a regular expression with one group")
    return arguments


def _subject_notes(names: Sequence[str], pattern: str | None) -> list[str]:
    """List the subjects with their recordings, and the option that tells the training about them."""
    nights: dict[str, list[str]] = defaultdict(list)
    without = []
    for name in names:
        try:
            nights[subject_of(name, pattern)].append(name)
        except UserError:
            without.append(name)
    if without:
        raise UserError(f"--subject_pattern {pattern!r} finds no subject in {', '.join(without)}. Mend the pattern.")
    if pattern is None:
        if len(nights) < max(len(names), 2):
            return []
        return ["Each recording counts as a subject. If some are of the same, pass --subject_pattern."]
    listed = "; ".join(f"{subject}: {', '.join(of_subject)}" for subject, of_subject in nights.items())
    option = shlex.quote(f"data_loader.args.subject_pattern={pattern}")
    return [f"Subjects ({len(nights)}): {listed}", f"Train with --set {option}"]


def read_night(
    recording: Path,
    hypnogram: Path,
    channel: str,
    fs: float | None,
    stage_names: Mapping[str, int | None] | None,
    columns: Mapping[str, str] | None,
) -> Recording:
    """Read one channel of a night and its hypnogram, which may be in the same file; see `read_channel`."""
    source = read_channel(recording, channel, fs=fs)
    n_samples = samples_per_sleep_epoch(source.fs, recording.name)
    source, scored = aligned(source, recording, hypnogram, stage_names, columns)
    signal, fs, start_time, remarks = source.signal, source.fs, source.start_time, list(source.remarks)
    if fs not in TRAINING_FS:
        remarks.append(f"{fs:g} Hz, but training takes {' or '.join(map(str, TRAINING_FS))} Hz: pass --fs")
    whole = scored.stages(len(signal) // n_samples, scored.begin_s)
    sleep_epochs, stages, position = cut_sleep_epochs(signal, whole, n_samples, hypnogram.name)
    remarks += scored.remarks
    night = Recording(sleep_epochs, stages, fs, channel, position, start_time, recording.name, tuple(remarks))
    return replace(night, reference=source.reference, stage_codes=scored.stage_codes)


if __name__ == "__main__":
    sys.exit(exit_code(main))
