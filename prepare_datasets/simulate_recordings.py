"""Write simulated recordings in the file form of Sleep-EDF or SHHS, to try everything on.

python simulate_recordings.py --output_dir simulated --num_subjects 6 --hours 2 --seed 1

Simulated signals say nothing about sleep.
"""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

import numpy as np  # noqa: E402

from prepare_datasets.preparation import exit_code  # noqa: E402
from prepare_datasets.simulated_eeg import STAGE_OF_RK, draw_subject, simulate_eeg, simulate_hypnogram  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.files import replacing, write_text  # noqa: E402
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES  # noqa: E402

if TYPE_CHECKING:
    from edfio import EdfSignal

ARGUMENTS = "simulated.json"
"""File beside the recordings that keeps the arguments they were made with."""

FOLDS = Path(__file__).resolve().parent.parent / "data_loader" / "published_folds.json"

MIN_HOURS, MAX_HOURS = 0.5, 24.0

UNSCORED_S = 6900
"""Length of the last run of a Sleep-EDF hypnogram, `Sleep stage ?`, which lies behind the end of the signal, in s."""


@dataclass(frozen=True)
class Channel:
    """One signal of a file. Those that hold no EEG are flat.

    Attributes
    ----------
    label, unit : str
    fs : int
        Hz.
    physical, digital : tuple
        Lowest and highest value, in `unit` and as stored.
    """

    label: str
    fs: int
    unit: str
    physical: tuple[float, float]
    digital: tuple[int, int] = (-2048, 2047)


# In the order of the files. In SHHS, EEG is C4-A1, and EEG(sec), C3-A2, comes before it.
SLEEP_EDF = (
    Channel("EEG Fpz-Cz", 100, "uV", (-192, 192)),
    Channel("EEG Pz-Oz", 100, "uV", (-197, 196)),
    Channel("EOG horizontal", 100, "uV", (-1009, 1009)),
    Channel("Resp oro-nasal", 1, "", (-2048, 2047)),
    Channel("EMG submental", 1, "uV", (-5, 5)),
    Channel("Temp rectal", 1, "DegC", (34, 40)),
    Channel("Event marker", 1, "", (-2047, 2048)),
)
SHHS = (
    Channel("SaO2", 1, "%", (0, 100), (-32768, 32767)),
    Channel("H.R.", 1, "bpm", (0, 250), (-32768, 32767)),
    Channel("EEG(sec)", 125, "uV", (-125, 125), (-128, 127)),
    Channel("ECG", 125, "mV", (-1.25, 1.25), (-128, 127)),
    Channel("EMG", 125, "uV", (-31.5, 31.5), (-128, 127)),
    Channel("EOG(L)", 50, "uV", (-125, 125), (-128, 127)),
    Channel("EOG(R)", 50, "uV", (-125, 125), (-128, 127)),
    Channel("EEG", 125, "uV", (-125, 125), (-128, 127)),
)


class Night:
    """One simulated night.

    Parameters
    ----------
    subject : int
        Position of the subject. It is the same subject whatever the number of subjects.
    hours : float
        Length of the recording.
    seed : int

    Attributes
    ----------
    rk_stages : ndarray of shape (n_sleep_epochs,)
        0 W, 1 to 4 NREM, 5 REM.
    start : datetime
        Sleep begins around 23:00.
    """

    def __init__(self, subject: int, hours: float, seed: int) -> None:
        self._seeds = [seed, subject]
        self._subject = draw_subject(self._rng(0))
        rng = self._rng(1)
        self.rk_stages = simulate_hypnogram(round(hours * 3600 / SLEEP_EPOCH_S), rng)
        asleep = dt.datetime(1989, 3, 1, 23) + dt.timedelta(days=subject, minutes=int(rng.integers(-40, 40)))
        self.start = asleep - dt.timedelta(seconds=SLEEP_EPOCH_S * int(np.flatnonzero(self.rk_stages)[0]))

    def signals(self, channels: Sequence[Channel]) -> "list[EdfSignal]":
        """Return the signals of the night in microvolts; those that hold no EEG are flat."""
        from edfio import EdfSignal

        signals = []
        for position, channel in enumerate(channels):
            if channel.label.startswith("EEG"):
                values = simulate_eeg(self.rk_stages, self._subject, channel.fs, self._rng(2 + position))
                values = values.clip(*channel.physical)  # as the amplifier does
            else:
                values = np.full(len(self.rk_stages) * SLEEP_EPOCH_S * channel.fs, np.mean(channel.physical))
            signals.append(
                EdfSignal(
                    values,
                    channel.fs,
                    label=channel.label,
                    physical_dimension=channel.unit,
                    physical_range=channel.physical,
                    digital_range=channel.digital,
                )
            )
        return signals

    def _rng(self, stream: int) -> np.random.Generator:
        """Return the random numbers of one purpose, the same at every call."""
        return np.random.default_rng([*self._seeds, stream])


def main() -> int:
    """Write the recordings; return the exit code."""
    arguments = parse_arguments()
    folder, hours, seed = arguments.output_dir, arguments.hours, arguments.seed
    names, write = DATASETS[arguments.dataset]
    try:
        claim(folder, {"dataset": arguments.dataset, "hours": hours, "seed": seed})
        for subject, name in enumerate(names[: arguments.num_subjects]):
            night = Night(subject, hours, seed)
            remark = "" if write(folder, name, night) else " (kept)"
            counts = np.bincount(STAGE_OF_RK[night.rk_stages], minlength=N_STAGES)
            row = ", ".join(f"{stage} {count}" for stage, count in zip(STAGE_NAMES, counts, strict=True))
            print(f"{name}: {row}{remark}", flush=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder}: {reason}. Mend that, or pass another --output_dir.") from error
    print(f"{arguments.num_subjects} simulated recordings in {folder}. Their signals say nothing about sleep.")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description="Simulate recordings. Their signals say nothing about sleep.")
    add = parser.add_argument
    add("--output_dir", type=Path, default=Path("simulated"), metavar="DIR", help="of the files (%(default)s)")
    add("--num_subjects", type=int, default=6, metavar="N", help="one night of each (%(default)s)")
    add("--hours", type=float, default=8.0, metavar="H", help="length of a recording (%(default)s)")
    add("--seed", type=int, default=1, metavar="S", help="another one makes other subjects (%(default)s)")
    add("--dataset", choices=DATASETS, default="sleep_edf", help="form of the files (%(default)s)")
    arguments = parser.parse_args()
    n_names = len(DATASETS[arguments.dataset][0])
    if not 1 <= arguments.num_subjects <= n_names:
        parser.error(f"--num_subjects {arguments.num_subjects}: {arguments.dataset} has names for 1 to {n_names}")
    if not MIN_HOURS <= arguments.hours <= MAX_HOURS:
        parser.error(f"--hours {arguments.hours:g}: not from {MIN_HOURS:g} to {MAX_HOURS:g}")
    if arguments.seed < 0:
        parser.error(f"--seed {arguments.seed}: below 0")
    return arguments


def claim(folder: Path, arguments: dict[str, object]) -> None:
    """Note in `folder` what its recordings are made with, so that those of other arguments never mix with them.

    Raises
    ------
    UserError
        The folder holds recordings of other arguments, or some that were not simulated.
    """
    note = folder / ARGUMENTS
    if not note.exists():
        if any(folder.glob("*.edf")):
            raise UserError(f"{folder}: holds recordings, but no {ARGUMENTS}. Pass another --output_dir.")
        write_text(note, json.dumps(arguments, indent=2) + "\n")
        return
    try:
        made_with = dict(json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{note}: cannot be read ({error}). Pass another --output_dir.") from error
    different = [f"--{k} {made_with.get(k)}, not {v}" for k, v in arguments.items() if made_with.get(k) != v]
    if different:
        raise UserError(f"{folder}: its recordings were made with {'; '.join(different)}. Pass another --output_dir.")


def write_sleep_edf(folder: Path, name: str, night: Night) -> bool:
    """Write PSG and hypnogram, unless they are there; return whether they were written."""
    psg, hypnogram = folder / f"{name}-PSG.edf", folder / f"{name[:-1]}C-Hypnogram.edf"
    if psg.exists() and hypnogram.exists():
        return False
    from edfio import Edf, EdfAnnotation, Recording  # here, so that --help does not wait for it

    begin = np.flatnonzero(np.diff(night.rk_stages, prepend=-1))
    onset_s = SLEEP_EPOCH_S * np.append(begin, len(night.rk_stages))
    texts = [f"Sleep stage {'W1234R'[stage]}" for stage in night.rk_stages[begin]] + ["Sleep stage ?"]
    annotations = map(EdfAnnotation, onset_s, np.append(np.diff(onset_s), UNSCORED_S), texts)
    recording, start = Recording(startdate=night.start.date()), night.start.time()
    with replacing(psg) as temporary:
        signals = night.signals(SLEEP_EDF)
        Edf(signals, recording=recording, starttime=start, data_record_duration=SLEEP_EPOCH_S).write(temporary)
    with replacing(hypnogram) as temporary:
        Edf([], recording=recording, starttime=start, annotations=annotations).write(temporary)
    return True


def write_shhs(folder: Path, name: str, night: Night) -> bool:
    """Write recording and Profusion XML, unless they are there; return whether they were written."""
    psg, annotation = folder / f"{name}.edf", folder / f"{name}-profusion.xml"
    if psg.exists() and annotation.exists():
        return False
    from edfio import Edf, Recording

    stages = "".join(f"<SleepStage>{stage}</SleepStage>\n" for stage in night.rk_stages)
    recording, start = Recording(startdate=night.start.date()), night.start.time()
    with replacing(psg) as temporary:
        signals = night.signals(SHHS)
        Edf(signals, recording=recording, starttime=start, data_record_duration=1).write(temporary)
    write_text(
        annotation,
        '<?xml version="1.0" encoding="UTF-8"?>\n<CMPStudyConfig>\n'
        f"<EpochLength>{SLEEP_EPOCH_S}</EpochLength>\n<SleepStages>\n{stages}</SleepStages>\n</CMPStudyConfig>\n",
    )
    return True


DATASETS: dict[str, tuple[list[str], Callable[[Path, str, Night], bool]]] = {
    "sleep_edf": ([f"SC4{subject:02d}1E0" for subject in range(100)], write_sleep_edf),
    "shhs": (
        [f"shhs1-{number}" for number in json.loads(FOLDS.read_text(encoding="utf-8"))["shhs"]["recordings"]],
        write_shhs,
    ),
}
"""For each form of files, the names of its recordings and what writes one."""


if __name__ == "__main__":
    sys.exit(exit_code(main))
