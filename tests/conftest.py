import logging
import signal
from pathlib import Path

import numpy as np
import pytest
from browser import NAMES, Browser, find_chromium

from utils.logs import LOG
from utils.recording import Recording, write_recording
from utils.stages import N_STAGES, SLEEP_EPOCH_S

ROOT = Path(__file__).resolve().parents[1]

# A shell may have the tests ignore Ctrl-C, and the processes that they start would ignore it as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, started once for the tests of a file."""
    pytest.importorskip("playwright", reason="needs playwright, of requirements-dev.txt")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is installed")
    browser = Browser(chromium)
    yield browser
    browser.close()


@pytest.fixture
def shared():
    """Folder of reference material that lies beside the repository where there is any."""
    folder = ROOT.parent / "shared"
    if not (folder / "reference").is_dir():
        pytest.skip(f"needs the reference material in {folder}, which is not here")
    return folder


@pytest.fixture(autouse=True)
def _log_as_it_was():
    """Give the log back as a test found it."""
    handlers, level, propagate = LOG.handlers.copy(), LOG.level, LOG.propagate
    yield
    LOG.handlers[:], LOG.propagate = handlers, propagate
    LOG.setLevel(level)


@pytest.fixture
def log(caplog):
    """Text of the log, all levels."""
    LOG.propagate = True
    caplog.set_level(logging.DEBUG, LOG.name)
    return caplog


@pytest.fixture
def make_recording():
    """Make a night in which the frequency of the signal tells the stage; stages 0 to 4 in turn if none are given."""

    def make(stages=10, fs=100, seed=0, **others):
        stages = np.arange(stages) % N_STAGES if isinstance(stages, int) else np.asarray(stages)
        rng = np.random.default_rng(seed)
        t = np.arange(SLEEP_EPOCH_S * fs) / fs
        phase = rng.uniform(0, 2 * np.pi, (len(stages), 1))
        signal = 30 * np.sin(2 * np.pi * (1 + 2.7 * stages[:, None]) * t + phase) + rng.normal(
            0, 5, (len(stages), len(t))
        )
        values = {"channel": "EEG Fpz-Cz", "sleep_epoch": np.arange(len(stages)) + 7} | others
        return Recording(signal.astype(np.float32), stages.astype(np.int32), fs, **values)

    return make


@pytest.fixture
def prepared(tmp_path, make_recording):
    """Write prepared recordings of the given names into one folder and return it."""

    def write(*names, stages=10, fs=100):
        folder = tmp_path / "npz"
        for seed, name in enumerate(names):
            write_recording(folder / f"{name}.npz", make_recording(stages, fs, seed))
        return folder

    return write
