"""The script for Slurm, on a real one: tasks that are requeued, stopped, begun at one moment, out of time."""

import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from cluster import PATH, cluster, said, wait_for
from meanings import meanings
from scripts import ROOT, SMALL, run, temporary_files, write_nights

from trainer.configuration import read_config

CHANGES = SMALL | {"data_loader.args.batch_size": 4, "trainer.epochs": 4}
"""Overrides of config.json with which a training epoch has sixty steps."""

GOING_ON = r"Going on after training epoch (\d+), from checkpoint-last.pth"


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """Copy the code, with recordings in its folder and small numbers in its config.json."""
    place = tmp_path_factory.mktemp("slurm") / "the code"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "__pycache__", "saved", "tests"))
    write_nights(place / "npz", {"SC4001E0": 120, "SC4011E0": 120, "SC4021E0": 120})
    config = read_config(ROOT / "config.json", [f"{key}={value}" for key, value in CHANGES.items()])
    (place / "config.json").write_text(json.dumps(config.values))
    return place


@pytest.fixture(scope="module")
def undisturbed(code):
    """Return what three folds and their report say that nothing disturbs."""
    done = run([code / "batch_train.sh", 0, "npz"], code, PATH=f"{Path(sys.executable).parent}:{PATH}")
    assert done[0] == 0, done
    shutil.move(code / "saved", code / "undisturbed")
    return meanings(code / "undisturbed/Exp1")


@pytest.fixture(scope="module")
def slurm(code):
    """Run a cluster; give a function that submits and asks in the folder of the code."""
    with cluster(code.parent / "cluster") as environment:
        environment |= {"PATH": f"{Path(sys.executable).parent}:{PATH}"}
        yield lambda *command: said(environment, *command, cwd=code).strip()


def read(path):
    return path.read_text() if path.exists() else ""


def wait_for_end(slurm):
    wait_for(lambda: not slurm("squeue", "--noheader"), "an empty queue", 1200)


def test_without_recordings_or_outside_of_an_array_it_says_how_it_is_used(tmp_path):
    for command, environment in (
        ([], {"SLURM_ARRAY_TASK_ID": "0"}),
        (["npz"], {"SLURM_ARRAY_TASK_ID": "0"}),
        (["npz"], {}),
    ):
        code, out, err = run([ROOT / "slurm_train.sh", *command], tmp_path if environment else ROOT, **environment)
        assert (code, out) == (2, "")
        assert "usage, in the folder of train_Kfold_CV.py: sbatch --array=0-19 slurm_train.sh NPZ_DIR" in err


@pytest.mark.slurm
@pytest.mark.timeout(3600)
def test_tasks_that_are_requeued_or_stopped_in_mid_fold_end_the_same_to_the_bit(code, undisturbed, slurm):
    submit = ["sbatch", "--parsable", "--cpus-per-task=1", "--array=0-2", "slurm_train.sh", "npz"]
    job = slurm(*submit)
    report = slurm("sbatch", "--parsable", f"--dependency=afterany:{job}", "--wrap", "python -m report saved/Exp1")
    logs = [code / f"saved/Exp1/fold_{fold}/info.log" for fold in range(3)]
    for fold, command in ((0, ["scontrol", "requeue"]), (1, ["scancel", "--batch", "--signal=TERM"])):
        wait_for(lambda log=logs[fold]: "train epoch 1/4" in read(log), f"a training epoch of fold {fold}", 600)
        seconds = float(re.search(r"train epoch 1/4 \| ([\d.]+) s", read(logs[fold]))[1])
        time.sleep(0.2 * seconds)  # so that it comes in the midst of the training epoch of fold 0
        slurm(*command, f"{job}_{fold}")
    wait_for_end(slurm)

    said = [read(code / f"slurm-{job}_{fold}.out") for fold in range(3)]
    print(said[0], read(logs[0]), sep="\n")
    for fold in (0, 1):
        assert f"Fold {fold} stopped by SIGTERM." in read(logs[fold])
        assert f"Fold {fold} stopped by SIGTERM." in said[fold]
    assert "DUE TO JOB REQUEUE" in said[0]
    assert re.search(GOING_ON, said[0])[1] == "1"
    assert "Fold 0 is finished" in said[0]
    assert "Fold 1 is finished" not in said[1]
    assert "Fold 2 is finished" in said[2]
    assert "missing: 1" in read(code / f"slurm-{report}.out")

    job = slurm(*submit)  # does what is missing
    wait_for_end(slurm)
    assert re.search(GOING_ON, read(code / f"slurm-{job}_1.out"))
    assert "skipped: fold 0" in read(code / f"slurm-{job}_0.out")
    assert temporary_files(code / "saved") == []
    now = meanings(code / "saved/Exp1")
    assert now.keys() == undisturbed.keys()
    assert [name for name in now if now[name] != undisturbed[name]] == []


@pytest.mark.slurm
@pytest.mark.timeout(3600)
def test_a_task_at_its_time_limit_requeues_itself_and_goes_on_until_it_is_cancelled(code, slurm):
    changes = ["--set", "name=Long", "--set", "trainer.epochs=300", "--overwrite"]
    job = slurm("sbatch", "--parsable", "--cpus-per-task=1", "--time=2", "--array=1", "slurm_train.sh", "npz", *changes)
    out = code / f"slurm-{job}_1.out"
    wait_for(lambda: "Going on after" in read(out), "a task that begins again", 600)
    assert re.search(
        r"Fold 1 stopped by SIGTERM\.(.|\n)*The time limit is near: requeued\.(.|\n)*Going on after", read(out)
    )
    slurm("scancel", job)
    wait_for_end(slurm)
    assert "stopped by SIGTERM" in read(out).rpartition("Going on after")[2]


@pytest.mark.slurm
@pytest.mark.timeout(3600)
def test_a_fold_that_two_tasks_begin_at_one_moment_is_trained_by_one_of_them(code, slurm):
    submit = ["sbatch", "--parsable", "--cpus-per-task=1", "--array=0-2", "slurm_train.sh", "npz"]
    jobs = [slurm(*submit, "--set", "name=Twice", "--set", "trainer.epochs=1") for _ in range(2)]
    wait_for_end(slurm)
    for fold in range(3):
        both = [read(code / f"slurm-{job}_{fold}.out") for job in jobs]
        assert any(f"Fold {fold} is finished" in text for text in both)
        for text in both:
            assert re.search(r"is finished|is at work on it|skipped: fold", text), text
    assert temporary_files(code / "saved/Twice") == []
