"""kill -9 at random moments: what is run again ends as if nothing had happened."""

import functools
import random
import re
import signal
import sys
import time
from collections import Counter
from contextlib import suppress

import edf_writer
import pytest
from checkpoints import write_experiment
from meanings import meanings
from scripts import ROOT, TRAIN, run, settings, start, temporary_files, write_nights

PREPARE = [sys.executable, str(ROOT / "prepare_datasets/prepare_physionet.py")]
PREDICT = [sys.executable, str(ROOT / "predict.py")]
EXPERIMENT = "saved/Exp1"


def finished(folder):
    """Time of change of what is never made again once it is there."""
    paths = [
        path for pattern in ("predictions.npz", "npz/[!.]*.npz", "scored/[!.]*.png") for path in folder.rglob(pattern)
    ]
    return {path: path.stat().st_mtime_ns for path in paths}


def kill(command, cwd, moment):
    """Start a command and kill it at a moment at which it stands still, so that the moment is not missed."""
    process = start(command, cwd)
    while process.poll() is None:
        if moment():
            process.send_signal(signal.SIGSTOP)
            if moment():
                process.kill()
            process.send_signal(signal.SIGCONT)
        time.sleep(0.0005)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert process.returncode == -signal.SIGKILL, f"the command ended before the moment came: {err}"


def kill_and_run(command, cwd, moments):
    """Kill a command at each moment, then run it to its end, and see that nothing finished was made again."""
    before = {}
    for moment in moments:
        kill(command, cwd, moment(cwd))
        after = finished(cwd)
        assert before.items() <= after.items()
        before = after
    code, _, err = run(command, cwd)
    assert code == 0, err
    assert before.items() <= finished(cwd).items()
    assert temporary_files(cwd) == []


def writing(pattern, number=1):
    """While the `number`-th file is being written whose name is like `pattern`."""

    def moment(folder):
        seen = [[]]

        def happens():
            now = list(folder.rglob(f".writing-{pattern}"))
            if now and now != seen[-1]:
                seen.append(now)
            elif not now:
                seen[-1] = []
            return bool(now) and len(seen) > number

        return happens

    return moment


def after_one_more(pattern, delay_s):
    """Some time after another file like `pattern` has been finished."""

    def moment(folder):
        def state():
            return {path: path.stat().st_mtime_ns for path in folder.rglob(pattern)}

        first, changed_at = state(), []

        def happens():
            with suppress(FileNotFoundError):
                if not changed_at and state() != first:
                    changed_at.append(time.monotonic())
            return bool(changed_at) and time.monotonic() - changed_at[0] >= delay_s

        return happens

    return moment


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("nights"))


def train(nights, fold):
    changes = {"trainer__epochs": 8, "trainer__save_period": 3} if fold == "all" else {}
    words = settings(trainer__averaging=0.99, **changes)
    return [*TRAIN, "--fold_id", fold, "--device", "cpu", "--np_data_dir", nights, *words]


@pytest.fixture(scope="module")
def undisturbed(nights, tmp_path_factory):
    """Return what a run leaves that nothing disturbs, by the fold, or all with their report."""

    @functools.cache
    def results(fold):
        folder = tmp_path_factory.mktemp("undisturbed")
        code, _, err = run(train(nights, fold), folder)
        assert code == 0, err
        return meanings(folder / EXPERIMENT)

    return results


def check_training(nights, fold, undisturbed, folder, moments):
    kill_and_run(train(nights, fold), folder, moments)
    now, before = meanings(folder / EXPERIMENT), undisturbed(fold)
    assert now.keys() == before.keys()
    assert [name for name in now if now[name] != before[name]] == []
    for log in folder.rglob("info.log"):
        trained = Counter(re.findall(r"train epoch (\d+)/", log.read_text()))
        assert set(trained.values()) == {1}, f"{log}: trained twice"


def test_a_fold_that_is_killed_in_a_checkpoint_and_run_again_ends_the_same_to_the_bit(nights, undisturbed, tmp_path):
    check_training(nights, 0, undisturbed, tmp_path, [writing("*.pth", 4)])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(2))
def test_training_killed_18_times_ends_the_same_to_the_bit(nights, undisturbed, tmp_path, number):
    rng = random.Random(number)
    moments = [after_one_more("checkpoint-last.pth", rng.uniform(0, 0.5)) for _ in range(8)]  # in a step
    moments += [writing("*.pth", rng.randrange(1, 5)) for _ in range(6)]
    rng.shuffle(moments)
    moments += [writing("predictions.npz"), *(writing("*", rng.randrange(1, 10)) for _ in range(3))]  # in the report
    check_training(nights, "all", undisturbed, tmp_path, moments)


def same_files(folder, other):
    """Whether two folders hold the same files, to the byte."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("n", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_preparation_that_is_killed_and_run_again_gives_the_same_files(tmp_path, n):
    (tmp_path / "killed").mkdir()
    for number in range(4 * n + 4):
        edf_writer.write_night(tmp_path, f"SC40{number:02}", seconds=3600)

    def command(output):
        return [*PREPARE, "--data_dir", tmp_path, "--output_dir", output, "--jobs", "2"]

    assert run(command(tmp_path / "undisturbed"), tmp_path)[0] == 0
    rng = random.Random(n)
    moments = [rng.choice([writing("*.npz"), after_one_more("*.npz", rng.uniform(0, 0.05))]) for _ in range(n)]
    kill_and_run(command(tmp_path / "killed/npz"), tmp_path / "killed", moments)
    assert same_files(tmp_path / "undisturbed", tmp_path / "killed/npz")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("n", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_scoring_that_is_killed_and_run_again_gives_the_same_files(tmp_path, n):
    write_experiment(tmp_path / "saved/Exp1")
    (tmp_path / "killed").mkdir()
    recordings = [edf_writer.write_psg(tmp_path / f"night {number:02}.edf") for number in range(n + 4)]

    def command(output):
        return [*PREDICT, "--checkpoint", tmp_path / "saved/Exp1", "--output_dir", output, *recordings]

    assert run(command(tmp_path / "undisturbed"), tmp_path)[0] == 0
    rng = random.Random(n)
    moments = [
        rng.choice([writing("*", rng.randrange(1, 8)), after_one_more("*.png", rng.uniform(0, 0.5))]) for _ in range(n)
    ]
    kill_and_run(command(tmp_path / "killed/scored"), tmp_path / "killed", moments)
    assert same_files(tmp_path / "undisturbed", tmp_path / "killed/scored")
