import subprocess
import sys

import pytest
from scripts import ROOT

SCRIPTS = (
    ["train_Kfold_CV.py"],
    ["predict.py"],
    ["-m", "report"],
    ["prepare_datasets/prepare_physionet.py"],
    ["prepare_datasets/prepare_shhs.py"],
    ["prepare_datasets/prepare_recordings.py"],
    ["prepare_datasets/download_sleep_edf.py"],
    ["prepare_datasets/simulate_recordings.py"],
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda words: words[-1])
def test_without_the_environment_a_script_ends_with_one_line(script):
    command = [sys.executable, "-S", *script, "--help"]  # as a Python that has no packages
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("torch, numpy, ")
    assert process.stderr.endswith(
        "`source .venv/bin/activate`, or install requirements.txt into a new environment first.\n"
    )
    assert process.stderr.count("\n") == 1
