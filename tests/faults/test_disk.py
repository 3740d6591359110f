"""Disks that are full, folders that cannot be written to or vanish: told, nothing lost, and it goes on afterwards."""

import re
import shutil
import subprocess
import sys

import edf_writer
import numpy as np
import pytest
from checkpoints import write_experiment
from scripts import REPORT, ROOT, TRAIN, finish, run, settings, start, temporary_files, wait_until, write_nights

LIMITED = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = sys.argv[2:]
sys.path.insert(0, {str(ROOT)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script that can write no file longer than so many bytes, as on a disk without room for more."""


def limited(n_bytes, command, cwd):
    script = command[1:] if command[1] != "-m" else [str(ROOT / "report/__main__.py"), *command[3:]]
    code, out, err = run([sys.executable, "-c", LIMITED, n_bytes, *script], cwd)
    assert "Exception ignored" not in err
    assert "Logging error" not in err
    return code, out, err


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("nights"))


@pytest.fixture
def fold(tmp_path):
    return tmp_path / "saved/Exp1/fold_0"


def train(nights, **changes):
    return [*TRAIN, "--fold_id", "0", "--device", "cpu", "--np_data_dir", nights, *settings(**changes)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_checkpoint_that_does_not_fit_is_told_and_training_goes_on_when_there_is_room(nights, fold, tmp_path):
    code, _, err = limited(100_000, train(nights, trainer__epochs=1), tmp_path)
    assert code == 1
    assert re.search(r"Fold 0 failed. .*File too large: '.*model_best.pth'", err)
    assert temporary_files(tmp_path) == []
    assert not (fold / "model_best.pth").exists()
    assert run(train(nights, trainer__epochs=1), tmp_path)[0] == 0
    assert (fold / "predictions.npz").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_predictions_that_do_not_fit_are_told_and_the_checkpoints_stay(nights, fold, tmp_path):
    assert run(train(nights, trainer__epochs=1), tmp_path)[0] == 0
    predictions = (fold / "predictions.npz").read_bytes()
    checkpoints = {path: path.read_bytes() for path in fold.glob("*.pth")}
    (fold / "predictions.npz").unlink()
    code, _, err = limited(2000, train(nights, trainer__epochs=1), tmp_path)
    assert code == 1
    assert re.search(r"File too large: '.*predictions.npz'", err)
    assert {path: path.read_bytes() for path in fold.glob("*.pth")} == checkpoints
    assert temporary_files(tmp_path) == []
    assert run(train(nights, trainer__epochs=1), tmp_path)[0] == 0
    assert (fold / "predictions.npz").read_bytes() == predictions

    # The log, which is appended to.
    (fold / "predictions.npz").unlink()
    log = (fold / "info.log").read_bytes()
    code, _, err = limited(len(log) + 100, train(nights, trainer__epochs=1), tmp_path)
    assert code == 1
    assert re.search(r"File too large: '.*info.log'", err)
    assert (fold / "info.log").read_bytes().startswith(log)
    assert run(train(nights, trainer__epochs=1), tmp_path)[0] == 0
    assert (fold / "predictions.npz").read_bytes() == predictions

    # The report.
    assert run([*REPORT, tmp_path / "saved/Exp1"], ROOT)[0] == 0
    page = (fold / "report.html").read_bytes()
    n_json = (fold / "report.json").stat().st_size
    for n_bytes, name in ((4000, "report.json"), (n_json + 1000, "figures|xlsx|html")):
        code, _, err = limited(n_bytes, [*REPORT, tmp_path / "saved/Exp1"], tmp_path)
        assert code == 1
        assert re.search(rf"File too large: '.*({name})", err), err
        assert (fold / "report.html").read_bytes() == page
        assert temporary_files(tmp_path) == []


def test_an_npz_that_does_not_fit_is_told_and_nothing_looks_finished(tmp_path):
    edf_writer.write_night(tmp_path, "SC4001")
    command = [sys.executable, str(ROOT / "prepare_datasets/prepare_physionet.py"), "--data_dir", tmp_path]
    command += ["--output_dir", tmp_path / "npz", "--jobs", "1"]
    code, _, err = limited(2000, command, tmp_path)
    assert code == 1
    assert "SC4001E0.npz" in err
    assert list((tmp_path / "npz").iterdir()) == []
    assert run(command, tmp_path)[0] == 0
    with np.load(tmp_path / "npz/SC4001E0.npz") as npz:
        assert len(npz["y"]) == 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_scored_night_that_does_not_fit_is_told_and_what_is_there_is_whole(tmp_path):
    write_experiment(tmp_path / "saved/Exp1")
    psg = edf_writer.write_psg(tmp_path / "night.edf", seconds=3600)

    def command(output):
        checkpoint = tmp_path / "saved/Exp1/fold_0"
        return [sys.executable, str(ROOT / "predict.py"), psg, "--checkpoint", checkpoint, "--output_dir", output]

    assert run(command(tmp_path / "undisturbed"), tmp_path)[0] == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed").iterdir()}
    assert set(whole) == {"night.json", "night.csv", "night-Hypnogram.edf", "night.png", "summary.csv"}
    for name in ("night.json", "night.csv", "night.png"):
        code, _, err = limited(len(whole[name]) - 1, command(tmp_path / "scored"), tmp_path)
        assert code == 1
        assert re.search(r"night: File too large. The disk of .*scored is full", err), err
        there = {path.name: path.read_bytes() for path in (tmp_path / "scored").iterdir()}
        assert name not in there
        assert there.items() <= whole.items()
    assert run(command(tmp_path / "scored"), tmp_path)[0] == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "scored").iterdir()} == whole


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_folder_that_vanishes_ends_the_fold_and_is_not_made_again_by_halves(nights, fold, tmp_path):
    process = start(train(nights, trainer__epochs=300), tmp_path)
    wait_until(process, lambda: (fold / "checkpoint-last.pth").exists())
    while fold.exists():
        shutil.rmtree(fold, ignore_errors=True)
    code, _, err = finish(process)
    assert code == 1
    assert "fold_0" in err
    assert not (fold / "checkpoint-last.pth").exists()


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of its own; where that is not allowed, there is none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_disk_that_is_full_or_read_only_is_told_and_training_goes_on_afterwards(nights, small_disk):
    filling = small_disk / "filling"
    filling.write_bytes(b"x" * 7_000_000)
    code, _, err = run(train(nights, trainer__epochs=1), small_disk)
    assert code == 1
    assert re.search(r"No space left on device: '.*pth'", err)
    assert temporary_files(small_disk) == []
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, _, err = run(train(nights, trainer__epochs=1), small_disk)
    assert code == 1
    assert re.search(r"Read-only file system: '.*saved", err)
    subprocess.run(["mount", "-o", "remount,rw,size=100m", small_disk], check=True)
    assert run(train(nights, trainer__epochs=1), small_disk)[0] == 0
