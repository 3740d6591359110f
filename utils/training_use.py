"""How training used a night that is to be scored: agreement on a night that a network was trained on proves nothing."""

import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.experiment import DATA
from utils.subjects import is_pattern, subject_of

_PURPOSES = {"train": ("trained",), "valid": ("selected",), "test": ("tested",), "initial": ("trained",)}
"""What the sets of a fold are for. Weights are selected on the test set where there is no validation set.

`initial` is there if training went on from other weights: the recordings that those learned from.
"""

THIS, OTHERS = "this recording", "other recordings of its subject"


@dataclass(frozen=True)
class Use:
    """How the training of a network used a night.

    Attributes
    ----------
    purposes : tuple of str
        Of `trained`, `selected` and `tested`; empty if the night was not used.
    what : str
        This recording, or others of its subject.
    """

    purposes: tuple[str, ...] = ()
    what: str = THIS

    def __str__(self) -> str:
        return f"{' and '.join(self.purposes)} on {self.what}" if self.purposes else f"did not use {THIS}"


@dataclass(frozen=True)
class TrainingSets:
    """The recordings of the fold that a network belongs to.

    Attributes
    ----------
    sets : dict of str to dict of str to str
        Checksums of the recordings by name, for `train`, `valid` and `test`, and for `initial` where that is there.
    subject_pattern : str or None
        See `utils.subjects.subject_of`.
    initial_patterns : tuple of str
        Patterns under which the initial weights were trained.
    """

    sets: dict[str, dict[str, str]]
    subject_pattern: str | None = None
    initial_patterns: tuple[str, ...] = ()

    @property
    def patterns(self) -> tuple[str, ...]:
        """All patterns that find subjects of these recordings."""
        own = () if self.subject_pattern is None else (self.subject_pattern,)
        return tuple(dict.fromkeys((*own, *self.initial_patterns)))

    def use_of(self, name: str, checksum: str = "") -> Use:
        """Tell how training used a recording of this name, with this checksum (of an npz; of a file, `of` before it).

        A file is known by its checksum if training knows those of its recordings, and by its name otherwise. An npz is
        known by its name, its signal, or the recording that it was prepared from; its subject by the pattern of these
        sets, by those of the initial weights, and by the names of Sleep-EDF.
        """
        subjects, name, made_from = self._subjects(name), _plain(name), _sources(checksum)
        for which, recordings in self.sets.items():
            for other, known in recordings.items():
                sources = _sources(known)
                is_file_of = checksum.startswith("of") and bool(sources)
                same_name = name == _plain(other) and not is_file_of
                if same_name or made_from & sources or _signal(checksum) == _signal(known):
                    return Use(self._purposes(which))
        for which, recordings in self.sets.items():
            if any(subjects & self._subjects(other) for other in recordings):
                return Use(self._purposes(which), OTHERS)
        return Use()

    @property
    def learned(self) -> dict[str, str]:
        """Recordings that the weights were trained or selected on, with their checksums.

        Of two recordings of one name, one of the initial weights and one of the fold, both are kept.
        """
        learned: dict[str, str] = {}
        for which, recordings in self.sets.items():
            if self._purposes(which) != ("tested",):
                for name, checksum in recordings.items():
                    while learned.get(name, checksum) != checksum:
                        name += "'"
                    learned[name] = checksum
        return learned

    def learned_from(self, recordings: Mapping[str, str], subject_pattern: str | None) -> list[str]:
        """Name those of some prepared recordings that the weights were trained or selected on.

        A recording is known by its name, its signal, what it was prepared from, and its subject, by the pattern of
        these sets, by `subject_pattern`, and by the names of Sleep-EDF.

        Parameters
        ----------
        recordings : mapping of str to str
            Checksums by name.
        subject_pattern : str or None
        """
        patterns = {*self.patterns, subject_pattern, None}
        learned = {mark for each in self.learned.items() for mark in _marks(*each, patterns)}
        return [name for name, checksum in recordings.items() if learned & _marks(name, checksum, patterns)]

    def _purposes(self, which: str) -> tuple[str, ...]:
        """List what a set was for."""
        selected_on_test = which == "test" and not self.sets["valid"]
        return _PURPOSES[which] + (("selected",) if selected_on_test else ())

    def _subjects(self, name: str) -> set[tuple[str | None, str]]:
        """Name the subject of a recording by each pattern that finds one."""
        named = {pattern: _subject(name, pattern) for pattern in (*self.patterns, None)}
        return {(pattern, subject) for pattern, subject in named.items() if subject is not None}


def read_training_sets(checkpoint: Path, about: Mapping[str, Any] | None) -> TrainingSets | None:
    """Read the recordings of a fold from its checkpoint, or `data.json` beside it; None if they are not known.

    They are not known either if training went on from weights of which they are not known.

    Parameters
    ----------
    checkpoint : Path
    about : mapping or None
        What the checkpoint says of itself.
    """
    try:
        if about and "data" in about:
            content = about["data"]  # None in a shared file that does not know them
        else:
            content = json.loads((checkpoint.parent / DATA).read_text(encoding="utf-8"))
        known = [which for which in _PURPOSES if which != "initial" or which in content]
        sets = {which: {name: str(content[which][name]) for name in content[which]} for which in known}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # anything may stand there
        return None
    pattern = data_setting(about, "subject_pattern")
    before = about.get("initial_patterns") if about else None
    initial_patterns = tuple(filter(is_pattern, before)) if isinstance(before, list | tuple) else ()
    return TrainingSets(sets, pattern if is_pattern(pattern) else None, initial_patterns)


def data_setting(about: Mapping[str, Any] | None, key: str) -> Any:
    """Return `data_loader.args.<key>` of the configuration in a checkpoint; None if it is not there."""
    try:
        return about["config"]["data_loader"]["args"][key] if about else None
    except (LookupError, TypeError):
        return None


def training_overlap(uses: Sequence[Use | None]) -> str:
    """Say how many networks were trained or selected on a night, or may have been (None); empty if none was."""
    n = len(uses)
    counts = Counter((purpose, use.what) for use in uses if use for purpose in use.purposes if purpose != "tested")
    parts = [
        f"{'its network' if n == 1 else f'{of} of {n} networks'} {'was' if of == 1 else 'were'} {purpose} on {what}"
        for (purpose, what), of in sorted(counts.items(), reverse=True)
    ]
    if unknown := sum(use is None for use in uses):
        parts.append(f"what {'its network' if n == 1 else f'{unknown} of {n} networks'} trained on is not known")
    return "; ".join(parts)


def _marks(name: str, checksum: str, patterns: Collection[str | None]) -> set[tuple[str, str]]:
    """List all that an npz is known by."""
    subjects = {(f"subject by {pattern}", _subject(name, pattern)) for pattern in patterns}
    marks = {("name", _plain(name)), ("signal", _signal(checksum)), *(("source", each) for each in _sources(checksum))}
    return {(kind, value) for kind, value in marks | subjects if value}


def _subject(name: str, pattern: str | None) -> str | None:
    """Name the subject of a recording; None if the pattern does not find one."""
    try:
        return subject_of(unicodedata.normalize("NFC", name), pattern)
    except UserError:
        return None


def _plain(name: str) -> str:
    """Write a name as it is compared: file systems change the Unicode form of names, and their case."""
    return unicodedata.normalize("NFC", name).casefold()


def _sources(checksum: str) -> set[str]:
    """Take the part of a checksum that is of the recording which an npz was prepared from, if that is known."""
    return {part for part in checksum.split("-") if part.startswith("of")}


def _signal(checksum: str) -> str:
    """Take the part of a recording's checksum that is of its signal: another scorer changes the rest."""
    return checksum.partition("-")[0]
