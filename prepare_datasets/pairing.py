"""Recordings and the scorings beside them, told by their names."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from recordings.edf_header import ANNOTATIONS, read_header
from recordings.reader import SUFFIXES
from utils.errors import UserError

SCORING_SUFFIXES = (".edf", ".bdf", ".csv", ".tsv", ".txt", ".xml", ".hyp", ".ids")
INSIDE = (".edf", ".bdf")
"""Endings of recordings that may hold their scoring themselves."""

N_SHOWN = 10

_SCORING_WORD = re.compile(
    r"[-_ .]+(sleep)?(hypnogram|hypno|hyp|annotations?|annots?|events?|scorings?|scored|scores?|stages?|staging|"
    r"labels?|profusion|nsrr|base)$",
    re.IGNORECASE,
)
_RECORDING_WORD = re.compile(r"[-_ .]+(psg|eeg)$", re.IGNORECASE)


def pair_files(
    recording_files: Sequence[Path], scoring_files: Sequence[Path], scoring_end: str | None = None
) -> tuple[dict[str, tuple[Path, Path]], list[str], list[str]]:
    """Pair each recording with its scoring by name.

    The scoring of `night1.edf` or `night1-PSG.edf` is `night1.csv`, `night1-Hypnogram.edf`, `night1_events.tsv`,
    `night1-PSG_annotations.txt`, `night1-nsrr.xml`, and the like; or the annotations in the recording itself.

    Parameters
    ----------
    recording_files, scoring_files : sequence of Path
        All files of the recordings' folder and of the scorings' folder, which may be the same. What is neither a
        recording nor a scoring by its name is passed over.
    scoring_end : str, optional
        What follows the recording's name in that of its scoring. Only such files are scorings then.

    Returns
    -------
    pairs : dict of str to tuple of Path
        Recording and scoring by the name of the recording, `night1`.
    problems : list of str
        One line for each recording that has not exactly one scoring.
    notes : list of str
        Scorings that no recording is there for.
    """
    recordings: dict[str, list[Path]] = defaultdict(list)
    for file in recording_files:
        scoring = _scored_by_words(file) or (scoring_end and file.name.endswith(scoring_end))
        if file.name.casefold().endswith(SUFFIXES) and not scoring:
            recordings[_bare(file)].append(file)
    scorings: dict[str, list[Path]] = defaultdict(list)
    left = []
    for file in scoring_files:
        names = _scored_by_words(file) if scoring_end is None else _scored_by_end(file, scoring_end)
        name = next((name for name in names if name in recordings), None)
        if name is not None:
            scorings[name].append(file)
        elif _SCORING_WORD.search(file.stem) and names:
            left.append(file.name)
    pairs, problems = {}, []
    for name, of in sorted(recordings.items()):
        found = scorings[name]
        listed = ", ".join(file.name for file in [*of, *found])
        if len(of) > 1:
            problems.append(f"{listed}: {len(of)} recordings of one name. Leave one of them.")
        elif len(found) > 1:
            problems.append(f"{listed}: {len(found)} scorings of one recording. Leave one, or say which by --scoring.")
        elif not found and not _may_hold_annotations(of[0]):
            problems.append(_without_scoring(of[0], name, scoring_end))
        else:
            pairs[name] = (of[0], found[0] if found else of[0])
    shown = ", ".join(left[:N_SHOWN]) + (", ..." if len(left) > N_SHOWN else "")
    return pairs, problems, [f"Scorings without a recording ({len(left)}): {shown}"] if left else []


def _scored_by_words(file: Path) -> list[str]:
    """Return the names of recordings that `file` may be the scoring of, the longest first; none if it is no scoring."""
    suffix, name = file.suffix.casefold(), file.stem
    names = [] if suffix in INSIDE else [name]
    while suffix in SCORING_SUFFIXES and (shorter := _SCORING_WORD.sub("", name)) != name:
        names.append(name := shorter)
    return [_without_word(name) for name in names] if suffix in SCORING_SUFFIXES else []


def _scored_by_end(file: Path, end: str) -> list[str]:
    """Return the name of the recording that `file` is the scoring of; none if its own does not end in `end`."""
    return [_without_word(file.name.removesuffix(end))] if file.name.endswith(end) else []


def _bare(file: Path) -> str:
    """Return the name of a recording, without its ending and what says that it is one."""
    suffix = max((suffix for suffix in SUFFIXES if file.name.casefold().endswith(suffix)), key=len)
    return _without_word(file.name[: -len(suffix)])


def _without_word(name: str) -> str:
    """Take from a name what says that it is a recording."""
    return _RECORDING_WORD.sub("", name)


def _may_hold_annotations(recording: Path) -> bool:
    """Tell whether a recording has a place for annotations. What is wrong with its header is told when it is read."""
    if recording.suffix.casefold() not in INSIDE:
        return False
    try:
        return any(signal.label in ANNOTATIONS for signal in read_header(recording).signals)
    except (UserError, OSError):
        return True


def _without_scoring(recording: Path, name: str, scoring_end: str | None) -> str:
    """Return what to say of a recording without a scoring."""
    wanted = f"{name}{scoring_end}" if scoring_end else f"{name}.csv, {name}-Hypnogram.edf, {name}-nsrr.xml or the like"
    return f"{recording.name}: no scoring {wanted}, and no annotations in it. Add one, or say how it ends by --scoring."
