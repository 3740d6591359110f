"""The subject of a recording, by its name."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from utils.errors import UserError

SLEEP_EDF_PATTERNS = (r"SC4(\d\d)\d[A-Z]\w", r"(ST7\d\d)\d[A-Z]\w")
"""Names of Sleep-EDF recordings, the group being the subject: cassette SC4ssNEx and telemetry ST7ssNJx."""


def is_pattern(value: object) -> bool:
    """Tell whether `value` is a regular expression with one group."""
    try:
        return isinstance(value, str) and len(value) < 1000 and re.compile(value).groups == 1
    except (re.error, OverflowError, RecursionError):
        return False


def nights_pattern(recordings: Sequence[str]) -> str:
    """Guess a pattern that groups names which look like several nights of a subject; empty if they do not.

    Such names differ in a number at their end alone: `subj1_night1`, `subj1_night2`, `subj2_night1`.
    """
    parts = [re.fullmatch(r"(.+?)([ _.-]*[A-Za-z]*[ _.-]*)\d+", name) for name in recordings]
    nights = {match[2] for match in parts if match}
    subjects = Counter(match[1] for match in parts if match)
    if None in parts or len(nights) != 1 or len(subjects) < 2 or max(subjects.values()) < 2:
        return ""
    if nights == {""} and any(subject[-1].isdigit() for subject in subjects):  # numbers of subjects, such as 1001
        return ""
    return rf"^(.+){re.escape(nights.pop())}\d+$"


def subject_of(recording: str, pattern: str | None = None) -> str:
    """Name the subject of a recording.

    Parameters
    ----------
    recording : str
        Name without suffix, such as `SC4001E0`.
    pattern : str or None
        Regular expression, searched in the name; its one group is the subject. None: Sleep-EDF names, in capitals or
        not, give their subject number, any other recording is a subject of its own.

    Returns
    -------
    str
        Letters with accents are one character each (NFC), however the file system writes them.

    Raises
    ------
    UserError
        The name does not match `pattern`.
    """
    recording = unicodedata.normalize("NFC", recording)
    if pattern is not None:
        match = re.search(pattern, recording)
        if match is None or match[1] is None:
            raise UserError(
                f"{recording}: data_loader.args.subject_pattern {pattern!r} finds no subject in this name. "
                "Mend the pattern, or set it to null to take every recording as a subject."
            )
        return match[1]
    matches = (re.fullmatch(sleep_edf, recording.upper()) for sleep_edf in SLEEP_EDF_PATTERNS)
    return next((match[1] for match in matches if match), recording)
