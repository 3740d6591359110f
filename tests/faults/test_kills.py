"""kill -9 at random moments: what is run again ends as if nothing had happened."""

import functools
import random
import sys
import time

import edf_writer
import pytest
from meanings import meanings
from scripts import ROOT, TRAIN, run, settings, start, temporary_files, write_nights

PREPARE = [sys.executable, str(ROOT / "prepare_datasets/prepare_physionet.py")]
EXPERIMENT = "saved/Exp1"


def finished(folder):
    """Time of change of what is never made again once it is there."""
    paths = [path for pattern in ("predictions.npz", "npz/[!.]*.npz") for path in folder.rglob(pattern)]
    return {path: path.stat().st_mtime_ns for path in paths}


def killed(command, cwd, moment, delay_s):
    """Start a command, kill it `delay_s` after a moment; tell whether it was still running."""
    process = start(command, cwd)
    while process.poll() is None and not moment():
        time.sleep(0.001)
    time.sleep(delay_s)
    alive = process.poll() is None
    process.kill()
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return alive


def kill_until_done(command, cwd, moments, rng):
    """Kill a command at each of the moments, run it to its end, and see that nothing finished was made again."""
    before, n_killed = {}, 0
    for moment, longest_s in moments:
        n_killed += killed(command, cwd, moment, rng.uniform(0, longest_s))
        after = finished(cwd)
        assert before.items() <= after.items()
        before = after
    code, _, err = run(command, cwd)
    assert code == 0, err
    assert before.items() <= finished(cwd).items()
    assert temporary_files(cwd) == []
    return n_killed


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("nights"))


def train(nights, fold):
    return [*TRAIN, "--fold_id", fold, "--device", "cpu", "--np_data_dir", nights, *settings()]


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


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(6):
        edf_writer.write_night(folder, f"SC40{number}1")
    return folder


def in_step(folder):
    return lambda: any(folder.rglob("info.log")), 3.0


def in_checkpoint(folder):
    return lambda: any(folder.rglob(".writing-*.pth")), 0.002


def in_predictions(folder):
    return lambda: any(folder.rglob(".writing-predictions.npz")), 0.001


def in_report(folder):
    return lambda: len(list(folder.rglob("predictions.npz"))) == 3, 2.0


def anywhere(folder):
    return lambda: True, 6.0


def check_training(nights, fold, undisturbed, folder, moments, rng):
    n_killed = kill_until_done(train(nights, fold), folder, [moment(folder) for moment in moments], rng)
    assert n_killed >= len(moments) // 2
    now, before = meanings(folder / EXPERIMENT), undisturbed(fold)
    assert now.keys() == before.keys()
    assert [name for name in now if now[name] != before[name]] == []


def test_a_fold_that_is_killed_in_a_checkpoint_and_run_again_ends_the_same_to_the_bit(nights, undisturbed, tmp_path):
    check_training(nights, 0, undisturbed, tmp_path, [in_checkpoint], random.Random(0))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(5))
def test_training_killed_eight_times_ends_the_same_to_the_bit(nights, undisturbed, tmp_path, number):
    moments = (in_step, in_checkpoint, in_step, anywhere, in_checkpoint, in_predictions, in_report, in_report)
    check_training(nights, "all", undisturbed, tmp_path, moments, random.Random(number))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("n", [1, pytest.param(15, marks=pytest.mark.slow)])
def test_preparation_that_is_killed_and_run_again_gives_the_same_files(recordings, tmp_path, n):
    def command(output):
        return [*PREPARE, "--data_dir", recordings, "--output_dir", output, "--jobs", "2"]

    begin = time.perf_counter()
    assert run(command(tmp_path / "undisturbed"), tmp_path)[0] == 0
    lasts_s = time.perf_counter() - begin
    (tmp_path / "killed").mkdir()
    rng = random.Random(n)
    moments = [(lambda: True, lasts_s)] * n
    kill_until_done(command(tmp_path / "killed/npz"), tmp_path / "killed", moments, rng)
    undisturbed = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "killed/npz").iterdir()} == undisturbed
