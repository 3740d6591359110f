import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from report_inputs import predictions, results, with_context, write_experiment

from model import metric
from report import statistics
from report.__main__ import main
from report.comparison import compare, comparison, experiments_table, read_experiments
from report.results import read_results
from report.wording import METRICS
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


def test_subjects_of_the_shared_recordings_are_paired(saved):
    compared = compare(read_results(saved / "A"), read_results(saved / "B"))
    assert (compared["n_recordings"], compared["n_subjects"]) == (4, 3)
    assert compared["own"]["protocols"] == ["released", "holdout"]
    assert compared["last_epoch"]["protocols"] == ["last_epoch", "last_epoch"]
    difference = compared["own"]["difference"]["accuracy"]
    assert difference["n"] == 3
    assert difference["mean"] == pytest.approx((5 / 20 - 1 / 10 + 0) / 3)
    plain = statistics.paired_difference(np.array([0.7, 0.9, 1]), np.array([0.95, 0.8, 1]))
    assert difference["interval"] == pytest.approx(plain["interval"])
    assert difference["p_value"] == plain["p_value"]


def test_each_experiment_is_pooled_over_the_shared_recordings_alone(saved):
    compared = compare(read_results(saved / "A"), read_results(saved / "B"))["own"]
    assert compared["first"]["accuracy"] == pytest.approx(33 / 40)
    assert compared["second"]["accuracy"] == pytest.approx(37 / 40)
    y_pred = np.concatenate([wrong(0), wrong(), wrong(5, 6), wrong()])
    for name in METRICS:
        assert compared["second"][name] == pytest.approx(getattr(metric, name)(np.tile(TRUE, 4), y_pred)), name


def test_a_metric_of_a_subject_is_that_of_its_nights_pooled(saved):
    compared = compare(read_results(saved / "A"), read_results(saved / "B"))["own"]["difference"]["macro_f1"]
    two = np.tile(TRUE, 2)
    by_subject = [
        metric.macro_f1(two, np.array(wrong(0) + wrong()))
        - metric.macro_f1(two, np.array(wrong(0, 1) + wrong(0, 1, 2, 3))),
        metric.macro_f1(np.array(TRUE), np.array(wrong(5, 6))) - metric.macro_f1(np.array(TRUE), np.array(wrong(5))),
        0,
    ]
    assert compared["mean"] == pytest.approx(np.mean(by_subject))


def test_the_last_training_epoch_is_compared_by_its_own_predictions(tmp_path):
    night = {"a": (TRUE, wrong())}
    first = results(name="A", folds={0: predictions(night)})
    second = results(name="B", folds={0: predictions(night, y_pred_last_epoch=wrong(0, 1, 2))})
    compared = compare(first, second)
    assert compared["own"]["difference"]["accuracy"]["mean"] == 0
    assert compared["last_epoch"]["difference"]["accuracy"]["mean"] == pytest.approx(-0.3)


def test_one_shared_subject_has_neither_interval_nor_p(tmp_path):
    first = results(name="A", folds={0: predictions({"a": (TRUE, wrong())})})
    compared = compare(first, first)["own"]["difference"]["accuracy"]
    assert (compared["interval"], compared["p_value"]) == (None, None)
    assert "With one subject there is neither interval nor p." in comparison(first, first)


def test_few_subjects_are_told_and_where_interval_and_p_disagree():
    nights = [f"night{number}" for number in range(8)]
    first = {0: predictions({name: (TRUE, wrong(0, 1)) for name in nights})}
    second = {0: predictions({name: (TRUE, wrong(number % 2)) for number, name in enumerate(nights)})}

    def compared(n):
        some = (np.isin(folds[0].recording, nights[:n]) for folds in (first, second))
        return comparison(*(results({0: each[0].take(mask)}) for each, mask in zip((first, second), some, strict=True)))

    text = compared(4)
    assert statistics.few_subjects(4) in text.splitlines()
    assert "With 4 subjects p is never below 0.125, however large the differences are." in text.splitlines()
    assert "Interval and p disagree on whether there is a difference: accuracy %, macro F1 %, kappa, MGm %. " in text
    text = compared(8)
    assert statistics.few_subjects(8) in text.splitlines()
    assert "never below" not in text
    assert "disagree" not in text


def test_last_epochs_are_called_alike_only_where_they_are():
    single = results(A)
    context = results(with_context(A))
    assert (
        "These two differ in the night context, which one of them has; the last epochs below compare like with like."
        in comparison(single, context).splitlines()
    )
    assert "like with like" not in comparison(single, results(A, name="B"))
    longer = results(with_context(A), seconds={0: [1, 1], 1: [1, 1]})
    assert "do not compare like with like: training epochs: 1 in A, 2 in B." in comparison(single, longer)


def test_counts_of_one_are_singular():
    one = results({0: predictions({"a": (TRUE, TRUE)})})
    assert ": 1 shared recording of 1 subject." in comparison(one, one)


def test_experiments_without_a_shared_recording_are_refused(tmp_path):
    first = results(name="A", folds={0: predictions({"a": (TRUE, TRUE)})})
    second = results(name="B", folds={0: predictions({"b": (TRUE, TRUE)})})
    with pytest.raises(UserError, match=r"A and .*B share no recording.* one has a and others, the other b"):
        compare(first, second)


@pytest.mark.parametrize("other", [[4, *TRUE[1:]], TRUE[:-1]])
def test_a_recording_with_other_stages_or_of_another_length_is_refused_by_name(tmp_path, other):
    first = results(name="A", folds={0: predictions({"a": (TRUE, TRUE), "b": (TRUE, TRUE)})})
    second = results(name="B", folds={0: predictions({"a": (TRUE, TRUE), "b": (other, other)})})
    with pytest.raises(UserError, match="^b: other (true stages|sleep epochs) in .*B than in .*A"):
        compare(first, second)


def test_a_recording_with_other_positions_is_refused(tmp_path):
    first = results(name="A", folds={0: predictions({"a": (TRUE, TRUE)})})
    moved = predictions({"a": (TRUE, TRUE)})
    moved.sleep_epoch[-1] += 1
    with pytest.raises(UserError, match="^a: other sleep epochs"):
        compare(first, results(name="B", folds={0: moved}))


def test_a_recording_of_another_subject_is_refused():
    first, second = (results({0: predictions({"a1": (TRUE, TRUE)}, pattern=pattern)}) for pattern in (None, "(a)"))
    with pytest.raises(UserError, match="^a1: other subject in .* subject_pattern"):
        compare(first, second)


def test_the_table_has_each_experiment_by_its_protocol_and_then_by_its_last_epoch(saved):
    header, *lines, note, few = experiments_table([read_results(saved / name) for name in "AB"]).splitlines()
    assert header.split()[:5] == ["experiment", "protocol", "folds", "n", "subjects"]
    assert [line.split()[:5] for line in lines] == [
        ["A", "released", "2/2", "40", "3"],
        ["B", "holdout", "2/3", "50", "4"],
        ["A", "last_epoch", "2/2", "40", "3"],
        ["B", "last_epoch", "2/3", "50", "4"],
    ]
    assert [line.split()[-1] for line in lines] == ["4", "1", "4", "1"]
    assert "by bootstrap over subjects" in note
    assert few == statistics.few_subjects(3)
    assert len({len(line) for line in (header, *lines)}) == 1


def test_the_table_has_the_pooled_figures_with_intervals_over_subjects(saved):
    line = experiments_table([read_results(saved / "A")]).splitlines()[1]
    y_true = np.tile(TRUE, 4)
    y_pred = np.concatenate([wrong(0, 1), wrong(0, 1, 2, 3), wrong(5), wrong()])
    subjects = np.repeat(["00", "01", "02"], [20, 10, 10])
    counts = statistics.counts_by_group(subjects, y_true, y_pred)[1]
    functions = {name: getattr(metric, name) for name in METRICS}
    between = statistics.intervals(functions, counts)
    for name, scale, form in (("accuracy", 100, ".1f"), ("macro_f1", 100, ".1f"), ("kappa", 1, ".3f")):
        low, high = (scale * end for end in between[name])
        assert f"  {scale * functions[name](y_true, y_pred):{form}} [{low:{form}}, {high:{form}}]  " in line
    f1 = metric.per_class(counts.sum(0))["f1"]
    assert line.split()[-6:-1] == [f"{100 * value:.1f}" for value in f1]


def test_a_stage_that_does_not_occur_has_no_f1():
    line = experiments_table([results(name="A", folds={0: predictions({"a": ([0, 1, 2], [0, 1, 2])})})])
    assert line.splitlines()[1].split()[-6:] == ["100.0", "100.0", "100.0", "-", "-", "1"]


def test_experiments_of_the_same_name_are_told_apart_by_their_folders():
    both = [results(A, name=f"{folder}/Exp1") for folder in ("x", "y")]
    lines = experiments_table(both).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(compared.experiment) for compared in both]


def test_folders_that_are_no_experiments_are_passed_over_and_said(saved, log):
    (saved / "notes").mkdir()
    (saved / "file.txt").write_text("")
    write_experiment(saved / "Begun", A)
    for path in (saved / "Begun").glob("fold_*/predictions.npz"):
        path.unlink()
    assert [compared.name for compared in read_experiments(sorted(saved.iterdir()))] == ["A", "B"]
    assert f"{saved / 'notes'}: passed over, no experiment there" in log.text
    assert f"{saved / 'file.txt'}: passed over, no experiment there" in log.text
    assert f"{saved / 'Begun'}: passed over, no fold is finished" in log.text


def test_folders_without_any_experiment_are_refused(tmp_path):
    with pytest.raises(UserError, match="No experiment with a finished fold"):
        read_experiments([tmp_path, tmp_path / "nowhere"])


@pytest.fixture
def command(monkeypatch, capsys):
    """Run python -m report in this process and return exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return run


def test_two_experiments_give_the_table_and_the_paired_comparison(saved, command):
    before = sorted(saved.rglob("*"))
    code, out, err = command(saved / "A", saved / "B")
    assert (code, err) == (0, "")
    table, paired = out.split("\n\n", 1)
    assert len(table.splitlines()) == 7
    assert paired.startswith("A = A, B = B: 4 shared recordings of 3 subjects.")
    assert "Protocol released of A, holdout of B\nThese two differ in how the weights are selected" in paired
    assert (
        "do not compare like with like: folds: 2 in A, 3 in B; share of subjects set aside for validation: 0 in A, "
        "0.1 in B; training epochs: 1 to 2 in A, 1 in B." in paired
    )
    accuracy = next(line for line in paired.splitlines() if line.startswith("accuracy %"))
    assert accuracy.split()[2:5] == ["82.5", "92.5", "+5.0"]
    compared = compare(read_results(saved / "A"), read_results(saved / "B"))
    low, high = compared["own"]["difference"]["accuracy"]["interval"]
    assert f"[{100 * low:+.1f}, {100 * high:+.1f}]" in accuracy
    assert accuracy.split()[-1] == "1"  # ranks +2 and -1, and one subject that does not differ
    assert "Protocol last_epoch\n" in paired
    assert sorted(saved.rglob("*")) == before


def test_three_experiments_give_the_table_alone(saved, command):
    write_experiment(saved / "C", A)
    code, out, _ = command(*sorted(saved.iterdir()))
    assert code == 0
    assert len(out.splitlines()) == 9
    assert "B - A" not in out


def test_two_that_share_nothing_give_the_table_and_a_refusal(saved, command):
    write_experiment(saved / "C", {0: predictions({"night": (TRUE, TRUE)})})
    code, out, err = command(saved / "A", saved / "C")
    assert code == 1
    assert len(out.splitlines()) == 7
    assert err.startswith(f"{saved / 'A'} and {saved / 'C'} share no recording")
    assert len(err.splitlines()) == 1


def test_the_command_itself_compares_two_experiments(saved):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "report", saved / "A", saved / "B"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "B - A" in done.stdout
