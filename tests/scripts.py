"""What the tests of the command lines share: small recordings, and running the scripts as their users do."""

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import train_Kfold_CV
from report.__main__ import main as report
from utils.logs import LOG
from utils.recording import Recording, write_recording

ROOT = Path(__file__).resolve().parents[1]
TRAIN = [sys.executable, str(ROOT / "train_Kfold_CV.py")]
REPORT = [sys.executable, "-m", "report"]
BATCH = [str(ROOT / "batch_train.sh")]

NIGHTS = {"SC4001E0": 12, "SC4002E0": 14, "SC4011E0": 13, "SC4021E0": 16}
"""Recordings of three subjects, with their number of sleep epochs."""

RELEASED = """{"name": "Exp1", "n_gpu": 1, "arch": {"type": "AttnSleep", "args": {}},
"data_loader": {"args": {"batch_size": 128, "num_folds": 20}},
"optimizer": {"type": "Adam", "args": {"lr": 0.001, "weight_decay": 0.001, "amsgrad": true}},
"loss": "weighted_CrossEntropyLoss", "metrics": ["accuracy"],
"trainer": {"epochs": 100, "save_dir": "saved/", "save_period": 30, "verbosity": 2, "monitor": "min val_loss"}}"""
"""The released project's config.json."""

SMALL = {
    "data_loader.args.batch_size": 8,
    "data_loader.args.num_folds": 3,
    "trainer.epochs": 3,
    "trainer.save_period": 2,
    "trainer.verbosity": 1,
}
"""Overrides of config.json under which a fold takes about two seconds."""


def write_nights(folder, nights=NIGHTS, fs=100, **changes):
    """Write prepared recordings in which frequency and amplitude follow the stage; `changes` map the signal by name."""
    for seed, (name, n) in enumerate(nights.items()):
        rng = np.random.default_rng(seed)
        stages = rng.permutation(np.arange(n) % 5)
        t = np.arange(30 * fs) / fs
        frequency, amplitude = np.array([10, 6, 13, 1.5, 4])[stages], np.array([20, 15, 20, 60, 12])[stages]
        waves = np.sin(2 * np.pi * (frequency[:, None] * t + rng.random((n, 1))))
        signal = changes.get(name, lambda x: x)(amplitude[:, None] * waves + rng.normal(0, 10, (n, len(t))))
        recording = Recording(signal.astype(np.float32), stages, fs, "EEG Fpz-Cz", np.arange(n) + 7)
        write_recording(folder / f"{name}.npz", recording)
    return folder


# The first training epoch is the worst one: so the monitor's choice differs from the last training epoch.
MONITOR = {"trainer.monitor": "min accuracy"}
FOLD_0 = MONITOR | {"trainer.verbosity": 2, "n_gpu": 4}
"""Overrides with which `three_folds` trains fold 0."""


@functools.cache
def three_folds(place):
    """Train three folds below `place`, the last one first, each by a run of its own; made once.

    Returns the folder of the recordings, that of the experiment, and what each run and the report said.
    """
    nights = write_nights(place / "npz files")
    working_directory = place / "three folds"
    working_directory.mkdir()
    said = {}
    for fold, device, changes in (
        (2, "cpu", MONITOR | {"trainer.verbosity": 0}),
        (1, "cpu", MONITOR | {"trainer.verbosity": 1}),
        (0, "7", FOLD_0),
    ):
        if fold == 0:
            said["report"] = call(report, [working_directory / "saved/Exp1"], ROOT)
        arguments = ["--fold_id", fold, "--np_data_dir", nights, "--device", device, *settings(**changes)]
        said[fold] = train(*arguments, cwd=working_directory)
        assert said[fold][:2] == (0, ""), said[fold]
    return nights, working_directory / "saved/Exp1", said


def settings(**others):
    """Write the overrides of SMALL, and others, as arguments; a double underscore stands for a dot."""
    values = SMALL | {key.replace("__", "."): value for key, value in others.items()}
    return [word for key, value in values.items() for word in ("--set", f"{key}={_text(value)}")]


def call(main, arguments, cwd):
    """Run a script's command line in this process, where its imports cost nothing; return exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["script.py", *map(str, arguments)]
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main()
            except SystemExit as end:
                code = end.code
    finally:
        sys.argv = before
        LOG.handlers.clear()
    return code, out.getvalue(), err.getvalue()


def train(*arguments, cwd):
    """Call train_Kfold_CV.py in this process, on the CPU unless the arguments name a device."""
    device = [] if {"--device", "-d"} & set(arguments) else ["--device", "cpu"]
    return call(train_Kfold_CV.run, [*arguments, *device], cwd)


def start(command, cwd, **environment):
    """Start a script, which sees no GPU; what it says is collected."""
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for a script, and refuse a traceback whatever its exit code is; return exit code, stdout, stderr."""
    out, err = process.communicate(timeout=600)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def run(command, cwd, **environment):
    """Run a script to its end; return exit code, stdout, stderr."""
    return finish(start(command, cwd, **environment))


def wait_until(process, happened):
    """Wait for a moment in the life of a script, which is killed if the moment does not come."""
    end = time.monotonic() + 200
    try:
        while not happened():
            assert process.poll() is None, "the script ended before"
            assert time.monotonic() < end, "the moment did not come"
            time.sleep(0.001)
    except BaseException:
        process.kill()
        print(process.communicate()[1])
        raise


def contents(folder):
    """Bytes and time of change of every file below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def temporary_files(folder):
    """Files that a run should have cleared away."""
    return [str(path) for path in folder.rglob(".*")]


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)
