"""Recordings and the hypnograms beside them, paired by their names."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from prepare_datasets.outcomes import some_names
from recordings.edf_header import ANNOTATIONS, read_header
from recordings.edf_header import SUFFIXES as EDF_SUFFIXES
from recordings.hypnogram_arrays import holds_stages
from recordings.reader import SUFFIXES
from utils.errors import UserError

HYPNOGRAM_SUFFIXES = (*EDF_SUFFIXES, ".csv", ".tsv", ".txt", ".xml", ".hyp", ".ids")
OTHER_SUFFIXES = (".annot", ".eannot", ".json", ".npy", ".fif")  # of hypnograms where a recording has no other

_HYPNOGRAM_WORD = re.compile(
    r"[-_ .]+(sleep)?(hypnogram|hypno|hyp|annotations?|annots?|events?|scorings?|scored|scores?|stages?|staging|"
    r"labels?|profusion|nsrr|base|true|pred|reviewed)$",
    re.IGNORECASE,
)
_RECORDING_WORD = re.compile(r"[-_ .]+(psg|eeg)$", re.IGNORECASE)


def pair_files(
    recording_files: Sequence[Path], hypnogram_files: Sequence[Path], hypnogram_end: str | None = None
) -> tuple[dict[str, tuple[Path, Path]], list[str], list[str]]:
    """Pair each recording with its hypnogram by name.

    The hypnogram of `night1.edf` or `night1-PSG.edf` is `night1.csv`, `night1-Hypnogram.edf`, `night1_events.tsv`,
    `night1-PSG_annotations.txt`, `night1-nsrr.xml` or the like; or the annotations in the recording itself.

    Files whose names are neither that of a recording nor that of a hypnogram are ignored. `hypnogram_end` is what
    follows the recording's name in that of its hypnogram: if it is given, no other file is a hypnogram.

    Returns
    -------
    pairs : dict of str to tuple of Path
        Recording and hypnogram, by the name of the recording (`night1`).
    problems : list of str
        One line for each recording that does not have exactly one hypnogram.
    notes : list of str
        Hypnograms without a recording.
    """
    recordings: dict[str, list[Path]] = defaultdict(list)
    for file in recording_files:
        is_hypnogram = _recording_names(file) or (hypnogram_end and file.name.endswith(hypnogram_end))
        suffixes = [suffix for suffix in SUFFIXES if file.name.casefold().endswith(suffix)]
        if suffixes and not is_hypnogram:
            recordings[_without_word(file.name[: -len(max(suffixes, key=len))])].append(file)
    hypnograms: dict[str, list[Path]] = defaultdict(list)
    others: dict[str, list[Path]] = defaultdict(list)
    alone = []
    for file in hypnogram_files:
        if hypnogram_end is None:
            names = _recording_names(file)
        else:
            names = [_without_word(file.name.removesuffix(hypnogram_end))] if file.name.endswith(hypnogram_end) else []
        name = next((name for name in names if name in recordings), None)
        if name is not None:
            (others if _suffix(file) in OTHER_SUFFIXES and not hypnogram_end else hypnograms)[name].append(file)
        elif names and _HYPNOGRAM_WORD.search(file.stem):
            alone.append(file.name)
    pairs, problems = {}, []
    for name, files in sorted(recordings.items()):
        recording, candidates = files[0], hypnograms[name] or others[name]
        listed = ", ".join(file.name for file in [*files, *candidates])
        if len(files) > 1:
            problems.append(f"{listed}: {len(files)} recordings of one name. Leave one of them.")
        elif len(candidates) > 1:
            problems.append(
                f"{listed}: {len(candidates)} hypnograms of one recording. Leave one, or say which by --scoring."
            )
        elif candidates or _may_hold_annotations(recording):
            pairs[name] = (recording, candidates[0] if candidates else recording)
        else:
            examples = f"{name}.csv, {name}-Hypnogram.edf, {name}-nsrr.xml or the like"
            problems.append(
                f"{recording.name}: no hypnogram {f'{name}{hypnogram_end}' if hypnogram_end else examples}, and no "
                "annotations in it. Add one, or say how its name ends by --scoring."
            )
    return pairs, problems, [f"Hypnograms without a recording: {some_names(alone)}"] if alone else []


def _recording_names(file: Path) -> list[str]:
    """Return the recordings of which `file` may be the hypnogram, the longest name first; none if it is no hypnogram.

    An EDF, BDF or FIF file is a hypnogram only if a word of its name says so, and JSON only if it holds stages.
    """
    suffix = _suffix(file)
    name = re.sub("[.]gz$", "", file.name, flags=re.IGNORECASE).rpartition(".")[0]
    if suffix not in (*HYPNOGRAM_SUFFIXES, *OTHER_SUFFIXES) or (suffix == ".json" and not holds_stages(file)):
        return []
    if suffix == ".fif" and not name.casefold().endswith(("-annot", "_annot")):
        return []
    names = [] if suffix in (*EDF_SUFFIXES, ".fif") else [name]
    while (shorter := _HYPNOGRAM_WORD.sub("", name)) != name:
        names.append(name := shorter)
    return [_without_word(name) for name in names]


def _suffix(file: Path) -> str:
    """Return the suffix of a file in lower case, without that of compression."""
    return Path(file.name.casefold().removesuffix(".gz")).suffix


def _without_word(name: str) -> str:
    """Remove the word that marks a recording, as in `night1-PSG`."""
    return _RECORDING_WORD.sub("", name)


def _may_hold_annotations(recording: Path) -> bool:
    """Tell whether a recording has a place for annotations. A damaged header is a problem later, when it is read."""
    if recording.suffix.casefold() not in EDF_SUFFIXES:
        return False
    try:
        return any(signal.label in ANNOTATIONS for signal in read_header(recording).signals)
    except (UserError, OSError):
        return True


def is_hypnogram_alone(path: Path) -> bool:
    """Tell whether a file that could be a recording by its name holds annotations and no signal."""
    suffix = path.suffix.casefold()
    try:
        if suffix in EDF_SUFFIXES:
            return all(signal.label in ANNOTATIONS for signal in read_header(path).signals)
        return path.name.casefold().endswith("-annot.fif")  # MNE's name for annotations
    except (UserError, OSError):
        return False
