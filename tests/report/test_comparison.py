import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from written_experiments import predictions, write_experiment

from model import metric
from report import statistics
from report.comparison import compare, comparison, experiments_table, read_experiments
from report.results import read_results
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TRUE = [0, 0, 1, 2, 2, 2, 3, 3, 4, 4]


def wrong(*positions):
    """All right but at some positions, which are called the stage after the true one."""
    return [(stage + 1) % 5 if position in positions else stage for position, stage in enumerate(TRUE)]


A = {
    0: predictions({"SC4001E0": (TRUE, wrong(0, 1)), "SC4002E0": (TRUE, wrong(0, 1, 2, 3))}),
    1: predictions({"SC4011E0": (TRUE, wrong(5)), "SC4021E0": (TRUE, wrong())}),
}
"""Accuracy of the subjects: 00 14/20, 01 9/10, 02 1."""

B = {
    0: predictions({"SC4021E0": (TRUE, wrong()), "SC4031E0": (TRUE, wrong(1, 2, 3, 4, 5, 6, 7, 8, 9))}),
    2: predictions({"SC4011E0": (TRUE, wrong(5, 6)), "SC4002E0": (TRUE, wrong()), "SC4001E0": (TRUE, wrong(0))}),
}
"""Other folds, and the nights in another order: 00 19/20, 01 8/10, 02 1, and 03, which A has not."""


@pytest.fixture
def saved(tmp_path):
    write_experiment(tmp_path / "A", A, seconds={0: [1, 2], 1: [5]})
    write_experiment(tmp_path / "B", B, num_folds=3, protocol="holdout")
    return tmp_path


def results(folder, **others):
    return read_results(write_experiment(folder, **others))


def test_subjects_of_the_shared_recordings_are_paired(saved):
    found = compare(read_results(saved / "A"), read_results(saved / "B"))
    assert (found["n_recordings"], found["n_subjects"]) == (4, 3)
    assert found["own"]["protocols"] == ["released", "holdout"]
    assert found["last_epoch"]["protocols"] == ["last_epoch", "last_epoch"]
    difference = found["own"]["difference"]["accuracy"]
    assert difference["n"] == 3
    assert difference["mean"] == pytest.approx((5 / 20 - 1 / 10 + 0) / 3)
    plain = statistics.paired_difference(np.array([0.7, 0.9, 1]), np.array([0.95, 0.8, 1]))
    assert difference["interval"] == pytest.approx(plain["interval"])
    assert difference["p_value"] == plain["p_value"]


def test_each_experiment_is_pooled_over_the_shared_recordings_alone(saved):
    found = compare(read_results(saved / "A"), read_results(saved / "B"))["own"]
    assert found["first"]["accuracy"] == pytest.approx(33 / 40)
    assert found["second"]["accuracy"] == pytest.approx(37 / 40)
    y_pred = np.concatenate([wrong(0), wrong(), wrong(5, 6), wrong()])
    for name in statistics.HEADLINE:
        assert found["second"][name] == pytest.approx(getattr(metric, name)(np.tile(TRUE, 4), y_pred)), name


def test_a_metric_of_a_subject_is_that_of_its_nights_pooled(saved):
    found = compare(read_results(saved / "A"), read_results(saved / "B"))["own"]["difference"]["macro_f1"]
    two = np.tile(TRUE, 2)
    by_subject = [
        metric.macro_f1(two, np.array(wrong(0) + wrong()))
        - metric.macro_f1(two, np.array(wrong(0, 1) + wrong(0, 1, 2, 3))),
        metric.macro_f1(np.array(TRUE), np.array(wrong(5, 6))) - metric.macro_f1(np.array(TRUE), np.array(wrong(5))),
        0,
    ]
    assert found["mean"] == pytest.approx(np.mean(by_subject))


def test_the_last_training_epoch_is_compared_by_its_own_predictions(tmp_path):
    night = {"a": (TRUE, wrong())}
    first = results(tmp_path / "A", folds={0: predictions(night)})
    second = results(tmp_path / "B", folds={0: predictions(night, y_pred_last_epoch=wrong(0, 1, 2))})
    found = compare(first, second)
    assert found["own"]["difference"]["accuracy"]["mean"] == 0
    assert found["last_epoch"]["difference"]["accuracy"]["mean"] == pytest.approx(-0.3)


def test_one_shared_subject_has_neither_interval_nor_p(tmp_path):
    first = results(tmp_path / "A", folds={0: predictions({"a": (TRUE, wrong())})})
    found = compare(first, first)["own"]["difference"]["accuracy"]
    assert (found["interval"], found["p_value"]) == (None, None)
    assert "With one subject there is neither interval nor p." in comparison(first, first)


def test_experiments_without_a_shared_recording_are_refused(tmp_path):
    first = results(tmp_path / "A", folds={0: predictions({"a": (TRUE, TRUE)})})
    second = results(tmp_path / "B", folds={0: predictions({"b": (TRUE, TRUE)})})
    with pytest.raises(UserError, match=r"A and .*B share no recording.* one has a and others, the other b"):
        compare(first, second)


@pytest.mark.parametrize("other", [[4, *TRUE[1:]], TRUE[:-1]])
def test_a_recording_with_other_stages_or_of_another_length_is_refused_by_name(tmp_path, other):
    first = results(tmp_path / "A", folds={0: predictions({"a": (TRUE, TRUE), "b": (TRUE, TRUE)})})
    second = results(tmp_path / "B", folds={0: predictions({"a": (TRUE, TRUE), "b": (other, other)})})
    with pytest.raises(UserError, match="^b: other (true stages|sleep epochs) in .*B than in .*A"):
        compare(first, second)


def test_a_recording_with_other_positions_is_refused(tmp_path):
    first = results(tmp_path / "A", folds={0: predictions({"a": (TRUE, TRUE)})})
    moved = predictions({"a": (TRUE, TRUE)})
    moved.sleep_epoch[-1] += 1
    with pytest.raises(UserError, match="^a: other sleep epochs"):
        compare(first, results(tmp_path / "B", folds={0: moved}))


def test_other_subjects_by_another_pattern_are_refused_and_other_names_are_not(tmp_path):
    first, second, third = (
        results(tmp_path / name, folds=A, pattern=pattern)
        for name, pattern in (("A", None), ("B", r"SC4\d(\d)"), ("C", "(.*)"))
    )
    assert compare(first, second)["n_subjects"] == 3
    with pytest.raises(UserError, match="subject_pattern"):
        compare(first, third)


def test_the_table_has_each_experiment_by_its_protocol_and_then_by_its_last_epoch(saved):
    header, *lines, note = experiments_table([read_results(saved / name) for name in "AB"]).splitlines()
    assert header.split()[:4] == ["experiment", "protocol", "folds", "n"]
    assert [line.split()[:4] for line in lines] == [
        ["A", "released", "2/2", "40"],
        ["B", "holdout", "2/3", "50"],
        ["A", "last_epoch", "2/2", "40"],
        ["B", "last_epoch", "2/3", "50"],
    ]
    assert [line.split()[-1] for line in lines] == ["4", "-", "4", "-"]
    assert "by bootstrap over subjects" in note
    assert len({len(line) for line in (header, *lines)}) == 1


def test_the_table_has_the_pooled_figures_with_intervals_over_subjects(saved):
    line = experiments_table([read_results(saved / "A")]).splitlines()[1]
    y_true = np.tile(TRUE, 4)
    y_pred = np.concatenate([wrong(0, 1), wrong(0, 1, 2, 3), wrong(5), wrong()])
    subjects = np.repeat(["00", "01", "02"], [20, 10, 10])
    between = statistics.intervals(statistics.matrices_by_group(subjects, y_true, y_pred)[1])
    low, high = (100 * end for end in between["accuracy"])
    assert f"  82.5 [{low:.1f}, {high:.1f}]  " in line
    low, high = (100 * end for end in between["macro_f1"])
    assert f"  {100 * metric.macro_f1(y_true, y_pred):.1f} [{low:.1f}, {high:.1f}]  " in line
    f1 = metric.per_class(y_true, y_pred)["f1"]
    assert line.split()[10:-1] == [
        f"{metric.kappa(y_true, y_pred):.3f}",
        *(f"{100 * value:.1f}" for value in (metric.mgm(y_true, y_pred), *f1)),
    ]


def test_a_stage_that_does_not_occur_has_no_f1(tmp_path):
    line = experiments_table([results(tmp_path / "A", folds={0: predictions({"a": ([0, 1, 2], [0, 1, 2])})})])
    assert line.splitlines()[1].split()[-6:] == ["100.0", "100.0", "100.0", "-", "-", "-"]


def test_experiments_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    both = [results(tmp_path / folder / "Exp1", folds=A) for folder in ("x", "y")]
    lines = experiments_table(both).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(found.experiment) for found in both]


def test_folders_that_are_no_experiments_are_passed_over_and_said(saved, log):
    (saved / "notes").mkdir()
    (saved / "file.txt").write_text("")
    write_experiment(saved / "Begun", A)
    for path in (saved / "Begun").glob("fold_*/predictions.npz"):
        path.unlink()
    assert [found.name for found in read_experiments(sorted(saved.iterdir()))] == ["A", "B"]
    assert f"{saved / 'notes'}: passed over, no experiment there" in log.text
    assert f"{saved / 'file.txt'}: passed over, no experiment there" in log.text
    assert f"{saved / 'Begun'}: passed over, no fold is finished" in log.text


def test_folders_without_any_experiment_are_refused(tmp_path):
    with pytest.raises(UserError, match="No experiment with a finished fold"):
        read_experiments([tmp_path, tmp_path / "nowhere"])


@pytest.fixture
def command():
    """Run python -m report.report in a process of its own."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "report", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_two_experiments_give_the_table_and_the_paired_comparison(saved, command):
    before = sorted(saved.rglob("*"))
    done = command(saved / "A", saved / "B")
    assert (done.returncode, done.stderr) == (0, "")
    table, paired = done.stdout.split("\n\n", 1)
    assert len(table.splitlines()) == 6
    assert paired.startswith("A = A, B = B: 4 shared recordings of 3 subjects.")
    assert "Protocol released of A, holdout of B\nThese select in different ways" in paired
    accuracy = next(line for line in paired.splitlines() if line.startswith("accuracy %"))
    assert accuracy.split()[2:5] == ["82.5", "92.5", "+5.0"]
    low, high = compare(read_results(saved / "A"), read_results(saved / "B"))["own"]["difference"]["accuracy"][
        "interval"
    ]
    assert f"[{100 * low:+.1f}, {100 * high:+.1f}]" in accuracy
    assert accuracy.split()[-1] == "1"  # ranks +2 and -1, and one subject that does not differ
    assert "Protocol last_epoch\n" in paired
    assert sorted(saved.rglob("*")) == before


def test_three_experiments_give_the_table_alone(saved, command):
    write_experiment(saved / "C", A)
    done = command(*sorted(saved.iterdir()))
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 8
    assert "B - A" not in done.stdout


def test_two_that_share_nothing_give_the_table_and_a_refusal(saved, command):
    write_experiment(saved / "C", {0: predictions({"night": (TRUE, TRUE)})})
    done = command(saved / "A", saved / "C")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 6
    assert done.stderr.startswith(f"{saved / 'A'} and {saved / 'C'} share no recording")
    assert len(done.stderr.splitlines()) == 1


def test_one_experiment_gives_its_report(saved, command):
    done = command(saved / "B")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.startswith("Partial: 2 of 3 folds (0, 2); missing: 1.\nProtocol holdout (")
    assert (saved / "B" / "fold_2" / "report.json").exists()
    assert (saved / "B" / "fold_2" / "B_classification_report.xlsx").exists()
