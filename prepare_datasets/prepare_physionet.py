"""Prepare Sleep-EDF: each `*-PSG.edf` with its `*-Hypnogram.edf` becomes one npz.

python prepare_datasets/prepare_physionet.py --data_dir sleep-cassette --output_dir edf_20_npz --select_ch EEG Fpz-Cz
"""

import sys
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from utils.environment import require_packages  # noqa: E402

require_packages()

from prepare_datasets.epoching import cut_sleep_epochs, samples_per_sleep_epoch  # noqa: E402
from prepare_datasets.preparation import Task, add_fs, argument_parser, exit_code, list_files, run  # noqa: E402
from recordings import edf  # noqa: E402
from recordings.channels import find_channel  # noqa: E402
from recordings.edf_header import read_header  # noqa: E402
from recordings.hypnograms import load_hypnogram  # noqa: E402
from recordings.reader import Channel, at_rate  # noqa: E402
from recordings.sources import made_from  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.recording import Recording  # noqa: E402
from utils.subjects import subject_of  # noqa: E402

PSG, HYPNOGRAM = "-PSG.edf", "-Hypnogram.edf"


def main() -> int:
    """Prepare all recordings of a folder; return the exit code."""
    parser = argument_parser("Prepare Sleep-EDF recordings.", "edf_20_npz", channel="EEG Fpz-Cz")
    add_fs(parser)
    arguments = parser.parse_args()
    pairs, problems = pair_files(list_files(arguments.data_dir, "*.edf"))
    if not pairs and not problems:
        raise UserError(f"{arguments.data_dir}: no file *{PSG} in it. Pass the folder that holds them.")
    channel, fs = " ".join(arguments.select_ch), arguments.fs
    options = {"channel": channel} | ({"fs": fs} if fs else {})
    tasks = [
        Task(
            name,
            partial(read_night, psg, hypnogram, channel, fs),
            fs,
            partial(made_from, {"recording": psg, "hypnogram": hypnogram}, options),
            subject=subject_of(name),
        )
        for name, (psg, hypnogram) in pairs.items()
    ]
    return run(tasks, arguments, problems)


def pair_files(files: list[Path]) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Pair each PSG with its hypnogram by the first seven characters of their names, as in `SC4001E`.

    Returns
    -------
    pairs : dict of str to tuple of Path
        PSG and hypnogram, by the name of the recording, such as `SC4001E0`.
    problems : list of str
        One line for each recording that does not have exactly one of each.
    """
    psgs: dict[str, list[Path]] = defaultdict(list)
    hypnograms: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if file.name.endswith(PSG):
            psgs[file.name.removesuffix(PSG)[:7]].append(file)
        elif file.name.endswith(HYPNOGRAM):
            hypnograms[file.name.removesuffix(HYPNOGRAM)[:7]].append(file)
    pairs, problems = {}, []
    for recording in sorted({*psgs, *hypnograms}):
        psg, hypnogram = psgs[recording], hypnograms[recording]
        names = ", ".join(file.name for file in psg + hypnogram)
        if len(psg) == len(hypnogram) == 1:
            pairs[psg[0].name.removesuffix(PSG)] = (psg[0], hypnogram[0])
        else:
            problems.append(
                f"{names}: {len(psg)} {recording}?{PSG} and {len(hypnogram)} {recording}?{HYPNOGRAM}. "
                "Add what is missing, or move the others away: there must be one of each."
            )
    return pairs, problems


def read_night(psg: Path, hypnogram: Path, channel: str, fs: float | None = None) -> Recording:
    """Read one channel of a night, resampled to `fs` Hz if that is not None, and its hypnogram."""
    header = read_header(psg)
    label = find_channel(header.labels, channel, psg.name)
    recorded = Channel(edf.read_channel(header, label), header.fs(label), channel, header.start_time, ())
    n_sleep_epochs = len(recorded.signal) // samples_per_sleep_epoch(recorded.fs, psg.name)
    source = at_rate(recorded, fs, psg.name)
    n_samples = samples_per_sleep_epoch(source.fs, psg.name)
    scored = load_hypnogram(hypnogram, n_sleep_epochs, header.start_time)
    night = scored.stages(n_sleep_epochs)
    sleep_epochs, stages, position = cut_sleep_epochs(source.signal, night, n_samples, hypnogram.name)
    recording = Recording(sleep_epochs, stages, source.fs, channel, position, header.start_time, psg.name)
    return replace(recording, remarks=(*source.remarks, *scored.remarks), stage_codes=scored.stage_codes)


if __name__ == "__main__":
    sys.exit(exit_code(main))
