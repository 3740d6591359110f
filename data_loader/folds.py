"""Subjects and folds: which recordings train and which test."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.recording import Outline
from utils.subjects import subject_of

PUBLISHED = Path(__file__).with_name("published_folds.json")


@dataclass(frozen=True)
class Fold:
    """Names of the recordings of one fold; no subject is in two of its three sets.

    Attributes
    ----------
    number : int
        0-based.
    train, valid, test : tuple of str
    """

    number: int
    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


def make_folds(recordings: Sequence[str], num_folds: int, seed: int, pattern: str | None = None) -> list[Fold]:
    """Cut the subjects into folds: fold k tests on the k-th group of subjects and trains on the others.

    If the subjects are exactly those of Sleep-EDF-20, of Sleep-EDF-78 or of the 329 recordings of SHHS, they come in
    the published order; otherwise they are shuffled.

    Parameters
    ----------
    recordings : sequence of str
        Names, in any order.
    num_folds : int
        K, from 2 to the number of subjects.
    seed : int
        Seed of the shuffle.
    pattern : str or None
        See `utils.subjects.subject_of`.

    Returns
    -------
    list of Fold
        `num_folds` of them; recordings sorted by name.

    Raises
    ------
    UserError
        There are fewer subjects than folds, or `pattern` does not match a name.
    """
    nights: dict[str, list[str]] = {}
    for recording in sorted(recordings):
        nights.setdefault(subject_of(recording, pattern), []).append(recording)
    if num_folds > len(nights):
        raise UserError(
            f"data_loader.args.num_folds is {num_folds}, but there are {len(nights)} subjects in "
            f"{len(recordings)} recordings. Take at most {len(nights)} folds."
        )
    subjects = sorted(nights)
    ordered = [subjects[position] for position in _order(subjects, seed)]
    folds = []
    for number, run in enumerate(np.array_split(np.array(ordered, dtype=object), num_folds)):
        test = set(run)
        folds.append(
            Fold(
                number,
                train=_recordings(nights, (subject for subject in subjects if subject not in test)),
                valid=(),
                test=_recordings(nights, test),
            )
        )
        check_disjoint(folds[-1], pattern)
    return folds


def set_aside(fold: Fold, valid_subjects: float, seed: int, pattern: str | None = None) -> Fold:
    """Move whole training subjects of a fold to its validation set.

    Parameters
    ----------
    fold : Fold
        Without a validation set.
    valid_subjects : int or float
        Number of subjects, from 1; or a fraction of the training subjects, which gives at least one.
    seed : int
        Seed of the choice, together with the fold's number.
    pattern : str or None
        See `utils.subjects.subject_of`.

    Raises
    ------
    UserError
        No subject would be left to train on.
    """
    subjects = sorted({subject_of(name, pattern) for name in fold.train})
    n = valid_subjects if isinstance(valid_subjects, int) else max(1, round(valid_subjects * len(subjects)))
    if n >= len(subjects):
        raise UserError(
            f"evaluation.valid_subjects is {valid_subjects}, but fold {fold.number} has {len(subjects)} training "
            f"subjects and must keep one. Take at most {len(subjects) - 1}, or fewer folds."
        )
    chosen = set(np.random.default_rng([seed, fold.number]).choice(np.array(subjects, dtype=object), n, replace=False))
    train = tuple(name for name in fold.train if subject_of(name, pattern) not in chosen)
    valid = tuple(name for name in fold.train if subject_of(name, pattern) in chosen)
    divided = Fold(fold.number, train, valid, fold.test)
    check_disjoint(divided, pattern)
    return divided


def data_of(fold: Fold, outlines: Iterable[Outline]) -> dict[str, dict[str, str]]:
    """Say which recordings a fold consists of: for each of `train`, `valid` and `test`, their checksums by name."""
    checksums = {outline.name: outline.checksum for outline in outlines}
    sets = {"train": fold.train, "valid": fold.valid, "test": fold.test}
    return {name: {recording: checksums[recording] for recording in recordings} for name, recordings in sets.items()}


def subjects_of(fold: Fold, pattern: str | None = None) -> dict[str, list[str]]:
    """Name the subjects of a fold, sorted, for each of `train`, `valid` and `test`."""
    sets = {"train": fold.train, "valid": fold.valid, "test": fold.test}
    return {name: sorted({subject_of(each, pattern) for each in recordings}) for name, recordings in sets.items()}


def choose_folds(folds: Sequence[Fold], fold_id: str) -> list[Fold]:
    """Return the fold whose number is `fold_id`, or every fold if it is `all`.

    Raises
    ------
    UserError
        There is no such fold.
    """
    if fold_id == "all":
        return list(folds)
    if int(fold_id) >= len(folds):
        raise UserError(f"--fold_id {fold_id}: there are {len(folds)} folds, 0 to {len(folds) - 1}.")
    return [folds[int(fold_id)]]


def check_disjoint(fold: Fold, pattern: str | None = None) -> None:
    """Refuse a fold that has a subject in two of its sets.

    Raises
    ------
    UserError
        Names the subjects.
    """
    train, valid, test = (
        {subject_of(name, pattern) for name in names} for names in (fold.train, fold.valid, fold.test)
    )
    shared = train & test | train & valid | valid & test
    if shared:
        raise UserError(f"fold {fold.number}: subjects {', '.join(sorted(shared))} are in more than one set.")


def _order(subjects: list[str], seed: int) -> list[int]:
    """Return positions in the sorted subjects, in the order in which they are cut into folds."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    known = {
        "sleep_edf_20": {subject_of(name) for name in published["sleep_edf_20"]["recordings"]},
        "sleep_edf_78": {f"{subject:02d}" for subject in range(83)} - {"39", "68", "69", "78", "79"},
        "shhs": {f"shhs1-{number}" for number in published["shhs"]["recordings"]},
    }
    for name, members in known.items():
        if members == set(subjects):
            return published[name]["order"]
    return np.random.default_rng(seed).permutation(len(subjects)).tolist()


def _recordings(nights: dict[str, list[str]], subjects: Iterable[str]) -> tuple[str, ...]:
    """Return all recordings of `subjects`, sorted."""
    return tuple(sorted(name for subject in subjects for name in nights[subject]))
