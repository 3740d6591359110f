"""The files of Sleep-EDF (sleep-cassette) with their published checksums, as MNE's package lists them."""

import csv
import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError

TABLE = "datasets/sleep_physionet/age_records.csv"
"""MNE's table of the files, in its package."""

NIGHTS = (1, 2)


class Record(NamedTuple):
    """One file of the data set."""

    subject: int
    night: int
    name: str
    sha1: str


def find_table() -> Path:
    """Find MNE's table of the files without waiting for MNE."""
    package = importlib.util.find_spec("mne")
    if package is None or package.origin is None:
        raise UserError("mne is not installed. Install requirements.txt.")
    return Path(package.origin).parent / TABLE


def read_records(table: Path) -> list[Record]:
    """Read a table of files: CSV with the columns subject, night, sha and fname.

    Raises
    ------
    UserError
        The table cannot be read.
    """
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["subject"]), int(row["night"]), row["fname"], row["sha"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{table}: no table of files ({error!r}). Install the mne of requirements.txt.") from error
    if not rows:
        raise UserError(f"{table}: no table of files (it is empty). Install the mne of requirements.txt.")
    return [Record(*row) for row in rows]


def missing_nights(records: Sequence[Record], subjects: Collection[int]) -> list[str]:
    """Say which of the subjects, and of their nights, the data set does not have.

    Raises
    ------
    UserError
        It has none of the subjects, or some are beyond its numbers.
    """
    nights: dict[int, set[int]] = {}
    for record in records:
        nights.setdefault(record.subject, set()).add(record.night)
    last = max(nights)
    absent = [subject for subject in range(last) if subject not in nights]
    if not nights.keys() & set(subjects) or max(subjects) > last:
        without = f" without {', '.join(map(str, absent))}" if absent else ""
        raise UserError(f"--subjects: the data set has the subjects 0 to {last}{without}. Pass some of them.")
    notes = []
    if asked := [str(subject) for subject in absent if subject in subjects]:
        notes.append(f"The data set has no subjects {', '.join(asked)}.")
    lost = [
        f"{night} of subject {subject}"
        for subject in sorted(nights.keys() & set(subjects))
        for night in NIGHTS
        if night not in nights[subject]
    ]
    if lost:
        notes.append(f"The data set has no night {', '.join(lost)}.")
    return notes
