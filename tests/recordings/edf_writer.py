"""Small recordings as real files, written for the tests of this folder with edfio."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from edfio import Edf, EdfAnnotation, EdfSignal, Recording

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
START = dt.datetime(1989, 4, 24, 16, 13)
PHYSICAL_RANGE, DIGITAL_RANGE = (-192.0, 192.0), (-2048, 2047)
NIGHT = (("Sleep stage W", 2), ("Sleep stage 1", 1), ("Sleep stage 2", 3), ("Sleep stage 4", 2), ("Sleep stage R", 2))
# where the fields of an EDF header begin
START_FIELD, HEADER_BYTES_FIELD, RESERVED_FIELD = 168, 184, 192
N_RECORDS_FIELD, DURATION_FIELD, N_SIGNALS_FIELD = 236, 244, 252


def eeg_digits(n, seed=0):
    return np.random.default_rng(seed).integers(*DIGITAL_RANGE, n, dtype=np.int16, endpoint=True)


def microvolts(digits, physical_range=PHYSICAL_RANGE, digital_range=DIGITAL_RANGE):
    """Digits to what the released preparation made of them: by way of volts, in float64, then float32."""
    gain = (physical_range[1] - physical_range[0]) / (digital_range[1] - digital_range[0])
    offset = physical_range[0] - digital_range[0] * gain
    return ((digits * gain + offset) * 1e-6 * 1e6).astype(np.float32)


def write_psg(
    path,
    labels=("EEG Fpz-Cz", "EEG Pz-Oz"),
    seconds=300,
    fs=100,
    dimension="uV",
    start=START,
    record_s=30,
    annotations=None,
):
    """Random EEG in each of `labels`, the digits seeded by their positions, and a slow signal without a dimension."""
    signals = [
        EdfSignal.from_digital(
            eeg_digits(round(seconds * fs), seed),
            sampling_frequency=fs,
            label=label,
            physical_dimension=dimension,
            physical_range=PHYSICAL_RANGE,
            digital_range=DIGITAL_RANGE,
        )
        for seed, label in enumerate(labels)
    ]
    slow = EdfSignal.from_digital(
        np.zeros(seconds, np.int16), sampling_frequency=1, label="Resp oro-nasal", physical_range=(-1.0, 1.0)
    )
    recording = Recording(startdate=start.date())
    if annotations is not None:
        annotations = [EdfAnnotation(*annotation) for annotation in annotations]
    Edf(
        [*signals, slow],
        recording=recording,
        starttime=start.time(),
        data_record_duration=record_s,
        annotations=annotations,
    ).write(path)
    return path


def write_annotations(path, annotations, start=START):
    """EDF+ file with nothing but annotations: onset in s, duration in s, text."""
    annotations = [EdfAnnotation(*annotation) for annotation in annotations]
    Edf([], recording=Recording(startdate=start.date()), starttime=start.time(), annotations=annotations).write(path)
    return path


def write_hypnogram(path, runs=NIGHT, start=START):
    """EDF+ hypnogram of runs (text, number of sleep epochs) one after the other."""
    ends = np.cumsum([n for _, n in runs])
    annotations = [(30.0 * (end - n), 30.0 * n, text) for (text, n), end in zip(runs, ends, strict=True)]
    return write_annotations(path, annotations, start)


def write_night(folder, recording, runs=NIGHT, **psg):
    """A PSG `<recording>E0` and its hypnogram `<recording>EC`; returns both paths."""
    return (
        write_psg(folder / f"{recording}E0-PSG.edf", **psg),
        write_hypnogram(folder / f"{recording}EC-Hypnogram.edf", runs),
    )


def write_profusion(path, codes):
    stages = "".join(f"<SleepStage>{code}</SleepStage>" for code in codes)
    path.write_text(f'<?xml version="1.0"?><CMPStudyConfig><SleepStages>{stages}</SleepStages></CMPStudyConfig>')
    return path


def edit(path, begin, text):
    """Overwrite bytes of a file from `begin` on."""
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(text.encode("latin-1"))


def cut(path, n_bytes):
    """Take the last `n_bytes` from a file."""
    os.truncate(path, path.stat().st_size - n_bytes)


def start_script(name, *arguments, cwd=ROOT, **options):
    command = [sys.executable, str(ROOT / "prepare_datasets" / name), *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def run_script(name, *arguments, cwd=ROOT, **options):
    """Run a script of prepare_datasets as a user does; returns exit code, standard output and standard error."""
    with start_script(name, *arguments, cwd=cwd, **options) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def not_prepared(err):
    """The list of problems that stands at the end of standard error."""
    return [line.strip() for line in err.split("Not prepared", 1)[1].splitlines()[1:]]


def contents(folder):
    """Bytes of each file of a folder, by name."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
