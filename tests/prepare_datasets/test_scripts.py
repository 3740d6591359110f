"""What holds for every script of prepare_datasets."""

import subprocess
import sys

import pytest
from edf_writer import ROOT

SCRIPTS = [
    "download_sleep_edf.py",
    "prepare_physionet.py",
    "prepare_recordings.py",
    "prepare_shhs.py",
    "simulate_recordings.py",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_waits_for_no_large_library(script, tmp_path):
    command = [sys.executable, "-X", "importtime", ROOT / "prepare_datasets" / script, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"mne", "torch", "pandas", "scipy", "sklearn", "edfio", "requests", "pooch"}
    assert "--output_dir" in done.stdout
