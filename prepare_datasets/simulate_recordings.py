"""Write simulated recordings in the file form of Sleep-EDF or SHHS, to try everything on.

python prepare_datasets/simulate_recordings.py --output_dir simulated --num_subjects 6 --hours 2 --seed 1

Simulated signals say nothing about sleep.
"""

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from utils.environment import require_packages  # noqa: E402

require_packages()

import numpy as np  # noqa: E402

from prepare_datasets.preparation import exit_code  # noqa: E402
from prepare_datasets.simulated_eeg import STAGE_OF_RK, simulate_eeg, simulate_hypnogram  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.files import replacing, write_text  # noqa: E402
from utils.stages import SLEEP_EPOCH_S, STAGE_NAMES  # noqa: E402

if TYPE_CHECKING:
    from edfio import EdfSignal

FOLDS = Path(__file__).resolve().parent.parent / "data_loader" / "published_folds.json"
NAMES = {
    "sleep_edf": [f"SC4{subject:02d}1E0" for subject in range(100)],
    "shhs": [f"shhs1-{n}" for n in json.loads(FOLDS.read_text(encoding="utf-8"))["shhs"]["recordings"]],
}

# Label, sampling rate in Hz, unit, range in it, range as stored; in the order of the files. Only EEG is simulated.
BITS_8, BITS_12, BITS_16 = (-128, 127), (-2048, 2047), (-32768, 32767)
SIGNALS = {
    "sleep_edf": (
        ("EEG Fpz-Cz", 100, "uV", (-192, 192), BITS_12),
        ("EEG Pz-Oz", 100, "uV", (-197, 196), BITS_12),
        ("EOG horizontal", 100, "uV", (-1009, 1009), BITS_12),
        ("Resp oro-nasal", 1, "", (-2048, 2047), BITS_12),
        ("EMG submental", 1, "uV", (-5, 5), BITS_12),
        ("Temp rectal", 1, "DegC", (34, 40), BITS_12),
        ("Event marker", 1, "", (-2047, 2048), BITS_12),
    ),
    "shhs": (
        ("SaO2", 1, "%", (0, 100), BITS_16),
        ("H.R.", 1, "bpm", (0, 250), BITS_16),
        ("EEG(sec)", 125, "uV", (-125, 125), BITS_8),
        ("ECG", 125, "mV", (-1.25, 1.25), BITS_8),
        ("EMG", 125, "uV", (-31.5, 31.5), BITS_8),
        ("EOG(L)", 50, "uV", (-125, 125), BITS_8),
        ("EOG(R)", 50, "uV", (-125, 125), BITS_8),
        ("EEG", 125, "uV", (-125, 125), BITS_8),
    ),
}
UNSCORED_S = 6900
"""Sleep-EDF hypnograms end with so many seconds of `Sleep stage ?`, after the end of the signal."""


def main() -> int:
    """Write the recordings; return the exit code."""
    arguments = parse_arguments()
    folder, dataset, hours, seed = arguments.output_dir, arguments.dataset, arguments.hours, arguments.seed
    try:
        _claim(folder, json.dumps({"dataset": dataset, "hours": hours, "seed": seed}) + "\n")
        for subject, name in enumerate(NAMES[dataset][: arguments.num_subjects]):
            stages = simulate_hypnogram(round(hours * 3600 / SLEEP_EPOCH_S), np.random.default_rng([seed, subject, 0]))
            written = _write_night(folder, dataset, name, subject, stages, seed)
            counts = np.bincount(STAGE_OF_RK[stages], minlength=len(STAGE_NAMES))
            row = ", ".join(f"{stage} {count}" for stage, count in zip(STAGE_NAMES, counts, strict=True))
            print(f"{name}: {row}{'' if written else ' (kept)'}", flush=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}. Mend that, or pass another --output_dir.") from error
    print(f"{arguments.num_subjects} simulated recordings in {folder}. Their signals say nothing about sleep.")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description="Simulate recordings. Their signals say nothing about sleep.")
    add = parser.add_argument
    add("--output_dir", type=Path, default=Path("simulated"), metavar="DIR", help="for the files (%(default)s)")
    add("--num_subjects", type=int, default=6, metavar="N", help="one night of each (%(default)s)")
    add("--hours", type=float, default=8.0, metavar="H", help="length of a recording (%(default)s)")
    add("--seed", type=int, default=1, metavar="S", help="another one makes other subjects (%(default)s)")
    add("--dataset", choices=NAMES, default="sleep_edf", help="form of the files (%(default)s)")
    arguments = parser.parse_args()
    n_names = len(NAMES[arguments.dataset])
    if not 1 <= arguments.num_subjects <= n_names:
        parser.error(f"--num_subjects {arguments.num_subjects}: {arguments.dataset} has names for 1 to {n_names}")
    if not 0.5 <= arguments.hours <= 24:
        parser.error(f"--hours {arguments.hours:g}: not from 0.5 to 24")
    if arguments.seed < 0:
        parser.error(f"--seed {arguments.seed}: below 0")
    return arguments


def _claim(folder: Path, settings: str) -> None:
    """Write the settings into the folder; refuse one that holds real recordings, or some of other settings."""
    note = folder / "simulated.json"
    if note.exists() and note.read_text(encoding="utf-8", errors="replace") != settings:
        raise UserError(f"{note}: made with other settings than {settings.strip()}. Pass another --output_dir.")
    if not note.exists() and any(folder.glob("*.edf")):
        raise UserError(f"{folder}: holds recordings that were not simulated. Pass another --output_dir.")
    write_text(note, settings)


def _write_night(folder: Path, dataset: str, name: str, subject: int, stages: np.ndarray, seed: int) -> bool:
    """Write one recording and its hypnogram, unless both are there; return whether they were written."""
    from edfio import EdfAnnotation, EdfSignal  # here, so that --help need not wait for it

    psg, hypnogram, record_s = folder / f"{name}.edf", folder / f"{name}-profusion.xml", 1
    if dataset == "sleep_edf":
        psg, hypnogram, record_s = folder / f"{name}-PSG.edf", folder / f"{name[:-1]}C-Hypnogram.edf", SLEEP_EPOCH_S
    if psg.exists() and hypnogram.exists():
        return False
    asleep = dt.datetime(1989, 3, 1, 23) + dt.timedelta(days=subject, minutes=17 * subject % 60 - 30)
    start = asleep - dt.timedelta(seconds=SLEEP_EPOCH_S * int(np.flatnonzero(stages)[0]))
    signals = []
    for position, (label, fs, unit, physical, digital) in enumerate(SIGNALS[dataset]):
        values = np.full(len(stages) * SLEEP_EPOCH_S * fs, np.mean(physical))
        if label.startswith("EEG"):
            traits, rng = (np.random.default_rng([seed, subject, stream]) for stream in (1, 2 + position))
            values = simulate_eeg(stages, fs, traits, rng).clip(*physical)  # as an amplifier does
        signals.append(
            EdfSignal(values, fs, label=label, physical_dimension=unit, physical_range=physical, digital_range=digital)
        )
    _write_edf(psg, start, signals, data_record_duration=record_s)
    if dataset == "sleep_edf":
        begins = np.flatnonzero(np.diff(stages, prepend=-1))
        onsets_s = SLEEP_EPOCH_S * np.append(begins, len(stages))
        texts = [*(f"Sleep stage {'W1234R'[stage]}" for stage in stages[begins]), "Sleep stage ?"]
        runs = zip(onsets_s, np.append(np.diff(onsets_s), UNSCORED_S), texts, strict=True)
        _write_edf(hypnogram, start, [], annotations=[EdfAnnotation(*run) for run in runs])
    else:
        codes = "".join(f"<SleepStage>{stage}</SleepStage>\n" for stage in stages)
        xml = f"<EpochLength>{SLEEP_EPOCH_S}</EpochLength>\n<SleepStages>\n{codes}</SleepStages>\n"
        write_text(hypnogram, f'<?xml version="1.0"?>\n<CMPStudyConfig>\n{xml}</CMPStudyConfig>\n')
    return True


def _write_edf(path: Path, start: dt.datetime, signals: "list[EdfSignal]", **options: Any) -> None:
    """Write an EDF file in one move."""
    from edfio import Edf, Recording

    recording = Recording(startdate=start.date())
    with replacing(path) as temporary:
        Edf(signals, recording=recording, starttime=start.time(), **options).write(temporary)


if __name__ == "__main__":
    sys.exit(exit_code(main))
