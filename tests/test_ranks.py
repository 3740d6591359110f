"""One fold by several processes, started by torchrun or by the training itself, over gloo on the CPU."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import MONITOR, ROOT, run, settings, start, temporary_files, three_folds, wait_until, write_nights

from utils.checkpoint import load_checkpoint
from utils.experiment import read_predictions

FROZEN = ROOT / "tests/frozen_statistics.py"
SCRIPT = ROOT / "train_Kfold_CV.py"
FOLD_OF_42 = 2
"""The fold that trains on 42 sleep epochs: three batches of 14."""

# Plain gradient descent, because Adam makes a difference of size lr of every one in rounding; a loss without weights
# and batches of which both ranks have the same share, because the ranks' own losses are averaged.
PLAIN = {
    "arch": {"args": {"dropout_mrcnn": 0, "dropout_tce": 0}},
    "loss": {"type": "CrossEntropyLoss"},
    "optimizer": {"type": "SGD", "args": {"lr": 1e-5}},
}


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("nights"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder of fold 0 that a process trained alone, with dropout and moving statistics."""
    return three_folds(tmp_path_factory.getbasetemp())[1] / "fold_0"


def torchrun(n_ranks, script, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", n_ranks]
    return [*command, script, *arguments, "--device", "cpu"]


def run_ranks(command, cwd):
    """Run torchrun, which shows a traceback of its own when a rank fails; return exit code and what was said."""
    process = start(command, cwd)
    _, err = process.communicate(timeout=600)
    return process.returncode, err


def ranks_of(process):
    """Processes that torchrun, or the training, started."""
    children = (Path("/proc") / f"{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def is_running(pid):
    try:
        return "\nState:\tZ" not in (Path("/proc") / f"{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_dropout_and_moving_statistics_two_ranks_give_what_one_process_gives(nights, tmp_path):
    (tmp_path / "plain.json").write_text(json.dumps(PLAIN))
    changes = settings(data_loader__args__batch_size=14, trainer__epochs=2, trainer__averaging=0.9)
    arguments = ["-c", "plain.json", "--fold_id", FOLD_OF_42, "--np_data_dir", nights, *changes]
    code, _, err = run([sys.executable, FROZEN, *arguments, "--device", "cpu", "--set", "name=one"], tmp_path)
    assert code == 0, err
    code, err = run_ranks(torchrun(2, FROZEN, *arguments, "--set", "name=two"), tmp_path)
    assert code == 0, err
    assert err.count("train epoch 1/2") == 1
    one, two = (tmp_path / f"saved/{name}/fold_{FOLD_OF_42}" for name in ("one", "two"))
    states = [load_checkpoint(directory / "checkpoint-last.pth") for directory in (one, two)]
    assert states[0]["model"].keys() == states[1]["model"].keys()
    for alone, together in ([each["model"] for each in states], [each["averaging"]["raw_model"] for each in states]):
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, rtol=0, atol=1e-6, msg=name)
    for left, right in zip(states[0]["history"], states[1]["history"], strict=True):
        for column in left.keys() - {"seconds", "sleep_epochs_per_s"}:
            assert right[column] == pytest.approx(left[column], abs=1e-6), column
    left, right = (read_predictions(directory).arrays for directory in (one, two))
    for name in left:
        if left[name].dtype.kind == "f":
            np.testing.assert_allclose(right[name], left[name], atol=1e-5)
        else:
            np.testing.assert_array_equal(right[name], left[name])


def test_two_ranks_go_on_where_one_process_stopped_and_one_process_where_they_did(nights, alone, tmp_path):
    directory = shutil.copytree(alone, tmp_path / "saved/Exp1/fold_0")
    for name in ("predictions.npz", "checkpoint-last.pth"):
        (directory / name).unlink()
    arguments = ["--fold_id", "0", "--np_data_dir", nights, *settings(**MONITOR)]
    code, err = run_ranks(torchrun(2, SCRIPT, *arguments), tmp_path)
    assert code == 0, err
    assert err.count("Going on after training epoch 2, from checkpoint-epoch2.pth") == 1
    assert err.count("Fold 0 is finished") == 1
    log = (directory / "info.log").read_text()
    assert len(re.findall("train epoch 3/3", log)) == 2  # one of them by the process before
    assert {path.name for path in directory.iterdir()} == {path.name for path in alone.iterdir()}
    assert temporary_files(tmp_path) == []
    rows = (directory / "metrics.csv").read_text().splitlines()
    assert rows[:3] == (alone / "metrics.csv").read_text().splitlines()[:3]
    assert rows[3] != (alone / "metrics.csv").read_text().splitlines()[3]  # dropout and statistics are others
    assert len(rows) == 4

    state = load_checkpoint(directory / "checkpoint-last.pth")
    assert state["model"].keys() == load_checkpoint(alone / "checkpoint-last.pth")["model"].keys()
    longer = ["-r", directory / "checkpoint-epoch2.pth", "--set", "name=Again"]
    code, _, err = run([sys.executable, SCRIPT, *arguments, *longer, "--device", "cpu"], tmp_path)
    assert code == 0, err
    assert "Going on after training epoch 2" in err


ENDED = "another of the 2 processes that train together ended|Fold 0 stopped by SIGTERM"
"""What a rank says when another one is lost: it notices that itself, or is told to stop by torchrun, which noticed."""


def test_a_rank_that_is_killed_ends_the_others_with_a_message(nights, tmp_path):
    arguments = ["--fold_id", "0", "--np_data_dir", nights, *settings(trainer__epochs=500)]
    process = start(torchrun(2, SCRIPT, *arguments), tmp_path)
    log = tmp_path / "saved/Exp1/fold_0/info.log"
    wait_until(process, lambda: log.exists() and "train epoch 1/" in log.read_text())
    first, second = ranks_of(process)
    os.kill(second, signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Signal 9 (SIGKILL)" in err
    assert re.search(ENDED, err)
    assert not is_running(first)
    code, err = run_ranks(torchrun(2, SCRIPT, *arguments[:-1], "trainer.epochs=2"), tmp_path)
    assert code == 1
    assert "trainer.epochs: 500 -> 2" in err
