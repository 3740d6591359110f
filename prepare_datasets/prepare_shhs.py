"""Prepare SHHS visit 1: each `shhs1-*.edf` with its `shhs1-*-profusion.xml` becomes one npz.

python prepare_datasets/prepare_shhs.py --data_dir edfs --ann_dir annotations --output_dir shhs_npz
"""

import json
import sys
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from utils.environment import require_packages  # noqa: E402

require_packages()

import numpy as np  # noqa: E402

from prepare_datasets.epoching import cut_sleep_epochs, samples_per_sleep_epoch  # noqa: E402
from prepare_datasets.outcomes import some_names  # noqa: E402
from prepare_datasets.preparation import LeftOut, Task, add_fs, argument_parser, exit_code, list_files, run  # noqa: E402
from recordings import edf  # noqa: E402
from recordings.channels import find_channel  # noqa: E402
from recordings.edf_header import read_header  # noqa: E402
from recordings.hypnogram_xml import read_profusion_codes  # noqa: E402
from recordings.reader import Channel, at_rate  # noqa: E402
from recordings.sources import made_from  # noqa: E402
from recordings.stage_names import UNSCORED, resolve, stage_label  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.recording import Recording  # noqa: E402

ALIASES = {"EEG C4-A1": ("EEG",), "EEG C3-A2": ("EEG(sec)", "EEG sec", "EEG2", "EEG 2")}
"""Labels under which the files store these channels."""

ANNOTATION = "-profusion.xml"
FOLDS = Path(__file__).resolve().parent.parent / "data_loader" / "published_folds.json"


def main() -> int:
    """Prepare the recordings of a folder; return the exit code."""
    parser = argument_parser("Prepare SHHS recordings.", output_dir="shhs_npz", channel="EEG C4-A1")
    add, choices = parser.add_argument, ["published", "all"]
    add("--ann_dir", type=Path, required=True, metavar="DIR", help=f"folder of the *{ANNOTATION} files")
    add("--recordings", choices=choices, default="published", help="the published 329, or all (%(default)s)")
    add_fs(parser)
    arguments = parser.parse_args()
    recordings = {path.stem: path for path in list_files(arguments.data_dir, "shhs1-*.edf")}
    files = list_files(arguments.ann_dir, f"shhs1-*{ANNOTATION}")
    hypnograms = {path.name.removesuffix(ANNOTATION): path for path in files}
    if not recordings:
        raise UserError(f"{arguments.data_dir}: no file shhs1-*.edf in it. Pass the folder that holds them.")
    if arguments.recordings == "published":
        names, note = _choose_published(recordings, arguments.data_dir)
    else:
        names, alone = list(recordings), [name for name in hypnograms if name not in recordings]
        note = f"Annotations without a recording: {some_names(alone)}" if alone else ""
    channel, fs = " ".join(arguments.select_ch), arguments.fs
    options = {"channel": channel} | ({"fs": fs} if fs else {})
    tasks = [
        Task(
            name,
            partial(read_night, recordings[name], hypnograms[name], channel, fs),
            fs,
            partial(made_from, {"recording": recordings[name], "hypnogram": hypnograms[name]}, options),
            subject=name,
        )
        for name in names
        if name in hypnograms
    ]
    problems = [
        f"{recordings[name].name}: no {name}{ANNOTATION} in {arguments.ann_dir}. Add it, or move the recording away."
        for name in names
        if name not in hypnograms
    ]
    return run(tasks, arguments, problems, [note] if note else [])


def _choose_published(recordings: Collection[str], data_dir: Path) -> tuple[list[str], str]:
    """Return the recordings that are among the published 329, and a note on those of the 329 that are missing."""
    published = [f"shhs1-{number}" for number in json.loads(FOLDS.read_text(encoding="utf-8"))["shhs"]["recordings"]]
    names = [name for name in published if name in recordings]
    if not names:
        raise UserError(
            f"{data_dir}: none of the published {len(published)} recordings in it. "
            f"Pass --recordings all to prepare the {len(recordings)} that are."
        )
    missing = [name for name in published if name not in recordings]
    note = f"Missing {len(missing)} of the published {len(published)}: {some_names(missing)}." if missing else ""
    return names, note


def read_night(recording: Path, annotation: Path, channel: str, fs: float | None = None) -> Recording:
    """Read one channel of a night, resampled to `fs` Hz if that is not None, and its Profusion XML file.

    Raises
    ------
    LeftOut
        Parts of the night are scored as movement, or not scored. This is the rule of the published experiment.
    """
    header = read_header(recording)
    label = find_channel(header.labels, channel, recording.name, ALIASES)
    codes = read_profusion_codes(annotation)
    stage_of, _ = resolve(codes, annotation.name, rk=True)
    night = np.array([stage_of[code] for code in codes], np.int32)
    if n_unscored := np.count_nonzero(night == UNSCORED):
        raise LeftOut(f"{n_unscored} of {len(night)} sleep epochs have a code above 5 (movement or unscored).")
    recorded = Channel(edf.read_channel(header, label), header.fs(label), channel, header.start_time, ())
    n_whole, rest = divmod(len(recorded.signal), samples_per_sleep_epoch(recorded.fs, recording.name))
    if len(night) not in (n_whole, n_whole + bool(rest)):
        raise UserError(
            f"{annotation.name}: {len(night)} stages, but {recording.name} has {n_whole} sleep epochs"
            f"{' and a part of one' if rest else ''}. They are not of one night: get both files again."
        )
    source = at_rate(recorded, fs, recording.name)
    n_samples = samples_per_sleep_epoch(source.fs, recording.name)
    sleep_epochs, stages, position = cut_sleep_epochs(source.signal, night, n_samples, annotation.name)
    prepared = Recording(sleep_epochs, stages, source.fs, channel, position, header.start_time, recording.name)
    stage_codes = {code: stage_label(stage) for code, stage in sorted(stage_of.items())}
    return replace(prepared, remarks=source.remarks, stage_codes=stage_codes)


if __name__ == "__main__":
    sys.exit(exit_code(main))
