"""Output that nobody reads, streams that are closed, a user without a home: the work is done all the same."""

import os
import shutil
import subprocess
import sys

import edf_writer
import pytest
from checkpoints import write_experiment
from scripts import REPORT, ROOT, TRAIN, settings, write_nights

PREPARE = [sys.executable, str(ROOT / "prepare_datasets/prepare_physionet.py"), "--jobs", "1"]
PREDICT = [sys.executable, str(ROOT / "predict.py")]
WAYS = {
    "no reader": "2>err | true; exit ${PIPESTATUS[0]}",
    "closed": ">&- 2>&- <&-",
    "full": ">/dev/full 2>err",
}
NO_HOME = [
    "unshare",
    "--user",
    "--map-user=54321",
    "--map-group=54321",
    "env",
    "-u",
    "HOME",
    "-u",
    "USER",
    "-u",
    "LOGNAME",
]


def shell(command, way, cwd):
    """Run a command whose output goes nowhere; return its exit code and what it wrote to standard error."""
    words = " ".join(f"'{word}'" for word in command)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", f"{words} {WAYS[way]}"], cwd=cwd, env=environment, timeout=300)
    err = cwd / "err"
    return done.returncode, err.read_text() if err.exists() else ""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three recordings of one Sleep-EDF folder, networks, and prepared nights of three subjects."""
    place = tmp_path_factory.mktemp("place")
    for name in ("SC4001", "SC4011", "SC4021"):
        edf_writer.write_night(place, name)
    write_experiment(place / "saved/Exp1", 1)
    write_nights(place / "nights")
    return place


@pytest.mark.parametrize("way", WAYS)
def test_recordings_are_prepared_and_scored_whatever_becomes_of_the_output(place, tmp_path, way):
    output = tmp_path / "npz"
    assert shell([*PREPARE, "--data_dir", place, "--output_dir", output], way, tmp_path) == (0, "")
    assert len(list(output.glob("*.npz"))) == 3
    command = [*PREDICT, "--checkpoint", place / "saved/Exp1", "--output_dir", tmp_path / "scored"]
    recordings = sorted(place.glob("*PSG.edf"))
    assert shell([*command, *recordings], way, tmp_path) == (0, "")
    assert len(list((tmp_path / "scored").iterdir())) == 13


def test_folds_are_trained_and_reported_whatever_becomes_of_the_output(place, tmp_path):
    arguments = ["--fold_id", "all", "--np_data_dir", place / "nights", *settings(trainer__epochs=1)]
    assert shell([*TRAIN, *arguments], "closed", tmp_path)[0] == 0
    page = tmp_path / "saved/Exp1/fold_2/report.html"
    for way in ("closed", "no reader"):
        page.unlink()
        code, err = shell([*REPORT, tmp_path / "saved/Exp1"], way, tmp_path)
        assert (code, "Traceback" in err) == (0, False)
        assert page.exists()


def test_a_user_without_a_home_and_a_read_only_folder_are_no_obstacle(place, tmp_path):
    if subprocess.run([*NO_HOME, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a user namespace")
    data = shutil.copytree(place, tmp_path / "data")
    data.chmod(0o555)
    python = [*NO_HOME, *PREPARE[:1]]
    for command in (
        [*python, *PREPARE[1:], "--data_dir", data, "--output_dir", "npz"],
        [*python, *PREDICT[1:], data / "SC4001E0-PSG.edf", "--checkpoint", data / "saved/Exp1"],
    ):
        done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    data.chmod(0o755)
    assert len(list((tmp_path / "scored").iterdir())) == 5
