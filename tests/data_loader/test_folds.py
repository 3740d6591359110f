import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_loader.folds import PUBLISHED, Fold, check_disjoint, choose_folds, make_folds, set_aside
from utils.errors import UserError
from utils.subjects import subject_of

ROOT = Path(__file__).resolve().parents[2]

# fold k of Sleep-EDF-20 tests on this subject
SLEEP_EDF_20_SUBJECTS = [14, 5, 4, 17, 8, 7, 19, 12, 0, 15, 16, 9, 11, 10, 3, 1, 6, 18, 2, 13]


def sleep_edf(subjects, nights=(1, 2)):
    """Names as PhysioNet has them; subject 13 slept one night."""
    return [f"SC4{subject:02d}{night}E0" for subject in subjects for night in nights if (subject, night) != (13, 2)]


def sleep_edf_78():
    return sleep_edf(subject for subject in range(83) if subject not in {39, 68, 69, 78, 79})


def shhs():
    return [f"shhs1-{number}" for number in json.loads(PUBLISHED.read_text())["shhs"]["recordings"]]


def subjects_of(recordings):
    return [subject_of(name) for name in recordings]


@pytest.mark.parametrize("pattern", [r"^p(\d+)", r"(q)?"])
def test_a_pattern_that_finds_no_subject_is_refused(pattern):
    with pytest.raises(UserError, match=r"night1: data_loader.args.subject_pattern .* finds no subject in this name"):
        make_folds(["p1", "night1"], 2, seed=1, pattern=pattern)


def test_each_fold_of_sleep_edf_20_tests_on_the_published_subject():
    folds = make_folds(sleep_edf(range(20)), 20, seed=0)
    assert [fold.number for fold in folds] == list(range(20))
    for fold, subject in zip(folds, SLEEP_EDF_20_SUBJECTS, strict=True):
        assert list(fold.test) == sleep_edf([subject])
        assert list(fold.train) == sleep_edf(other for other in range(20) if other != subject)
        assert fold.valid == ()
    assert folds[19].test == ("SC4131E0",)


def test_ten_folds_of_sleep_edf_78_test_on_the_published_subjects():
    folds = make_folds(sleep_edf_78(), 10, seed=0)
    # 78 subjects: eight folds of 8 and two of 7. From position 39 of the order on, subject 39 is missing,
    # from 67 on 68 and 69 as well, from 75 on 78 and 79 as well: positions 42, 46, 47, 61, 71 are 43, 47, 48, 62, 74.
    assert [len(set(subjects_of(fold.test))) for fold in folds] == [8] * 8 + [7] * 2
    assert list(folds[0].test) == sleep_edf([11, 19, 24, 43, 47, 48, 62, 74])
    assert list(folds[9].test) == sleep_edf([8, 9, 10, 38, 42, 46, 61])


def test_twenty_folds_of_shhs_test_on_the_published_recordings():
    folds = make_folds(shhs(), 20, seed=0)
    assert [len(fold.test) for fold in folds] == [17] * 9 + [16] * 11
    first = [202940, 201359, 204811, 202996, 204802, 205380, 204500, 204103, 200853]
    first += [204688, 204165, 204785, 204299, 204887, 204777, 203614, 204706]
    assert list(folds[0].test) == [f"shhs1-{number}" for number in sorted(first)]
    last = [205789, 201171, 201090, 200953, 200737, 205582, 202694, 204106]
    last += [200823, 200437, 202139, 200558, 200349, 204928, 204826, 200017]
    assert list(folds[19].test) == [f"shhs1-{number}" for number in sorted(last)]


@pytest.mark.parametrize(
    ("key", "names", "num_folds"),
    [("sleep_edf_20", sleep_edf(range(20)), 20), ("sleep_edf_78", sleep_edf_78(), 10), ("shhs", shhs(), 20)],
)
def test_all_published_folds_come_out(shared, key, names, num_folds):
    published = json.loads((shared / "reference" / "published_folds.json").read_text())
    subjects = sorted(set(subjects_of(names)))
    ordered = [subjects[position] for position in published[key]["order"]]
    for fold in make_folds(names, num_folds, seed=0):
        size, larger = divmod(len(ordered), num_folds)
        begin = fold.number * size + min(fold.number, larger)
        tested = set(ordered[begin : begin + size + (fold.number < larger)])
        assert set(subjects_of(fold.test)) == tested
        assert set(subjects_of(fold.train)) == set(subjects) - tested


def test_the_projects_published_folds_are_those_of_the_reference(shared):
    published = json.loads((shared / "reference" / "published_folds.json").read_text())
    own = json.loads(PUBLISHED.read_text())
    assert own["sleep_edf_20"]["recordings"] == sleep_edf(range(20))
    for key in ("sleep_edf_20", "sleep_edf_78", "shhs"):
        assert own[key]["order"] == published[key]["order"]
    assert own["shhs"]["recordings"] == published["shhs"]["recordings"]


@pytest.mark.parametrize("seed", [0, 123])
def test_the_published_order_does_not_depend_on_the_seed_or_on_a_missing_night(seed):
    names = [name for name in sleep_edf(range(20)) if name != "SC4072E0"]
    folds = make_folds(names, 20, seed)
    assert [subject_of(fold.test[0]) for fold in folds] == [f"{subject:02d}" for subject in SLEEP_EDF_20_SUBJECTS]


@pytest.mark.parametrize("subjects", [range(19), range(1, 21), range(21)])
def test_one_subject_less_or_another_one_and_the_collection_is_shuffled(subjects):
    names = sleep_edf(subjects)
    orders = {
        seed: [subject_of(fold.test[0]) for fold in make_folds(names, len(subjects), seed)] for seed in (1, 2, 123)
    }
    assert len({tuple(order) for order in orders.values()}) == 3
    for order in orders.values():
        assert sorted(order) == sorted(set(subjects_of(names)))
        assert order[:5] != [f"{subject:02d}" for subject in SLEEP_EDF_20_SUBJECTS[:5]]


def test_a_seed_shuffles_alike_each_time_whatever_the_order_of_the_files():
    names = [f"night{number}" for number in range(30)]
    assert make_folds(names, 7, seed=5) == make_folds(names[::-1], 7, seed=5)


def test_the_folds_do_not_depend_on_how_python_hashes():
    code = "from data_loader.folds import make_folds; print(make_folds([f'n{k}' for k in range(30)], 7, 123))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1


COLLECTIONS = {
    "Sleep-EDF-20": (sleep_edf(range(20)), 20, None),
    "Sleep-EDF-20 in 7 folds": (sleep_edf(range(20)), 7, None),
    "Sleep-EDF-78": (sleep_edf_78(), 10, None),
    "SHHS": (shhs(), 20, None),
    "others": ([f"p{person}n{night}" for person in range(9) for night in range(3)], 4, r"p(\d+)"),
    "telemetry": ([f"ST70{person}{night}J0" for person in range(1, 8) for night in (1, 2)], 3, None),
}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_every_recording_is_tested_once_and_no_subject_is_on_two_sides(collection):
    names, num_folds, pattern = COLLECTIONS[collection]
    folds = make_folds(names, num_folds, seed=123, pattern=pattern)
    assert len(folds) == num_folds
    assert sorted(name for fold in folds for name in fold.test) == sorted(names)
    for fold in folds:
        assert sorted([*fold.train, *fold.valid, *fold.test]) == sorted(names)
        assert list(fold.train) == sorted(fold.train)
        assert list(fold.test) == sorted(fold.test)
        train, test = ({subject_of(name, pattern) for name in side} for side in (fold.train, fold.test))
        assert not train & test
        check_disjoint(fold, pattern)
    sizes = [len({subject_of(name, pattern) for name in fold.test}) for fold in folds]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


def test_more_folds_than_subjects_are_refused():
    with pytest.raises(UserError, match=r"num_folds is 4, but there are 3 subjects in 6 recordings. Take at most 3"):
        make_folds(sleep_edf(range(3)), 4, seed=1)


def test_as_many_folds_as_subjects_are_fine():
    assert len(make_folds(sleep_edf(range(3)), 3, seed=1)) == 3


def test_a_fold_is_chosen_by_its_number_or_all_of_them():
    folds = make_folds(["a", "b", "c"], 3, seed=1)
    assert choose_folds(folds, "2") == [folds[2]]
    assert choose_folds(folds, "all") == folds


@pytest.mark.parametrize("fold_id", ["3", "20"])
def test_a_fold_that_is_not_there_is_refused(fold_id):
    with pytest.raises(UserError, match=f"--fold_id {fold_id}: there are 3 folds, 0 to 2"):
        choose_folds(make_folds(["a", "b", "c"], 3, seed=1), fold_id)


@pytest.mark.parametrize(
    "sides",
    [
        {"train": ("SC4001E0", "SC4011E0"), "valid": (), "test": ("SC4002E0",)},
        {"train": ("SC4011E0",), "valid": ("SC4001E0",), "test": ("SC4002E0",)},
        {"train": ("SC4001E0",), "valid": ("SC4002E0",), "test": ("SC4011E0",)},
    ],
)
def test_a_subject_on_two_sides_is_refused(sides):
    with pytest.raises(UserError, match="fold 4: subjects 00 are in more than one set"):
        check_disjoint(Fold(4, **sides))


# Validation sets


def fold_of(n_subjects, number=0):
    return make_folds(sleep_edf(range(30, 30 + n_subjects)), n_subjects, seed=1)[number]


@pytest.mark.parametrize(
    ("valid_subjects", "n"), [(1, 1), (3, 3), (19, 19), (0.1, 2), (0.2, 4), (0.01, 1), (0.5, 10), (0.95, 19)]
)
def test_so_many_whole_training_subjects_are_set_aside(valid_subjects, n):
    fold = fold_of(21)
    divided = set_aside(fold, valid_subjects, seed=123)
    train, valid, test = (set(subjects_of(names)) for names in (divided.train, divided.valid, divided.test))
    assert (len(train), len(valid), len(test)) == (20 - n, n, 1)
    assert not train & valid
    assert sorted(divided.train + divided.valid) == list(fold.train)
    assert list(divided.valid) == sleep_edf(sorted(int(subject) for subject in valid))
    assert (divided.number, divided.test) == (fold.number, fold.test)


def test_the_seed_and_the_fold_choose_the_subjects_that_are_set_aside():
    def chosen(seed, number):
        return set_aside(fold_of(21, number), 3, seed).valid

    assert chosen(1, 0) == chosen(1, 0)
    assert len({chosen(seed, 0) for seed in range(20)}) > 15
    assert len({chosen(1, number) for number in range(20)}) > 15


@pytest.mark.parametrize("valid_subjects", [4, 5, 0.99])
def test_a_subject_must_be_left_to_train_on(valid_subjects):
    text = "but fold 2 has 4 training subjects and must keep one. Take at most 3"
    with pytest.raises(UserError, match=f"valid_subjects is {valid_subjects}, {text}"):
        set_aside(fold_of(5, number=2), valid_subjects, seed=1)


def test_the_subjects_set_aside_are_those_of_the_pattern():
    names = [f"p{person}n{night}" for person in range(9) for night in range(3)]
    divided = set_aside(make_folds(names, 3, 1, r"p(\d)")[0], 2, seed=1, pattern=r"p(\d)")
    assert len(divided.valid) == 6
    assert len({name[:2] for name in divided.valid}) == 2
    assert not {name[:2] for name in divided.valid} & {name[:2] for name in divided.train}
