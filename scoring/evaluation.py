"""Networks evaluated on prepared nights of others: every night is scored once, and none by networks that learned it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_loader.data_loaders import channels_of, find_recordings
from recordings.reader import read_channel
from recordings.stage_names import UNSCORED
from scoring.networks import Networks
from utils.errors import UserError
from utils.experiment import EVALUATION, Predictions
from utils.logs import LOG
from utils.microvolts import amplitude, mean_and_std
from utils.plural import number_of
from utils.recording import Outline, open_signal
from utils.subjects import is_pattern, nights_pattern, subject_of
from utils.training_use import data_setting


@dataclass(frozen=True)
class Evaluation:
    """The predictions of some networks for prepared nights.

    Attributes
    ----------
    predictions : Predictions
        Those of the last training epoch repeat the others.
    scored_by : dict of str to list of int
        For each night the numbers of the folds that scored it; -1 where the number is not known.
    left_out : dict of str to str
        Why other nights were not scored, by name.
    remarks : list of str
        What the reader of the figures should know first.
    """

    predictions: Predictions
    scored_by: dict[str, list[int]]
    left_out: dict[str, str]
    remarks: list[str]


def evaluate(networks: Networks, outlines: Sequence[Outline]) -> Evaluation:
    """Score prepared nights, each by the networks that may: none that was trained on it or on its subject.

    Of an experiment's folds, the one that tested a night scores it alone. A night on which any of its networks was
    trained or selected otherwise is left out.

    Parameters
    ----------
    networks : Networks
    outlines : sequence of Outline
        Of one folder, see `data_loader.data_loaders.find_recordings`.

    Raises
    ------
    UserError
        No night is left.
    """
    nights, scored_by, left_out, std_uv = [], {}, {}, []
    chosen_for: dict[str, Networks] = {}
    n_unscored: dict[str, int] = {}
    for number, outline in enumerate(outlines, start=1):
        chosen = networks.for_night(outline.name, outline.checksum)
        if reason := _learned(chosen):
            left_out[outline.name] = reason
            continue
        LOG.info(f"{outline.name}  ({number} of {len(outlines)})")
        try:
            night = _score(chosen, outline, _subject(outline, networks.members[0].about))
        except UserError as error:
            left_out[outline.name] = str(error)
            continue
        nights.append(night)
        std_uv.append(mean_and_std(open_signal(outline))[1])
        chosen_for[outline.name] = chosen
        scored_by[outline.name] = [member.checkpoint.get("fold", -1) for member in chosen.members]
        if n := len(outline.stages) - len(night.y_true):
            n_unscored[outline.name] = n
    if not nights:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise UserError(f"No night is left to evaluate on ({reasons}). Pass nights that training did not use.")
    arrays: dict[str, Any] = {key: np.concatenate([night.arrays[key] for night in nights]) for key in nights[0].arrays}
    predictions = Predictions(**arrays)
    remarks = [
        _source(networks),
        *_uses(chosen_for, len(networks.members)),
        *_left_out(left_out),
        *_inputs([outline for outline in outlines if outline.name in scored_by], networks),
        _amplitudes(std_uv, networks),
        *_subjects(predictions),
    ]
    if n_unscored:
        n = sum(n_unscored.values())
        remarks.append(f"{number_of(n, 'sleep epoch')} of {_names(n_unscored)} could not be scored and do not count.")
    return Evaluation(predictions, scored_by, left_out, [*remarks, *networks.notes])


def find_nights(directory: Path) -> list[Outline]:
    """Read the outlines of the prepared nights of a folder; see `data_loader.data_loaders.find_recordings`."""
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder. Pass a folder of prepared npz files with --on.")
    return find_recordings(directory)


def _source(networks: Networks) -> str:
    """Say which networks these are."""
    first = networks.members[0]
    config = (first.about or {}).get("config", {})
    path = networks.experiments[0]["path"] if networks.experiments else first.checkpoint["path"]
    protocol = config.get("evaluation", {}).get("protocol", "not known")
    n = number_of(len(networks.members), "network")
    return f"{n} of {path} ({config.get('name', 'without a name')}, protocol of the training {protocol})."


def _learned(networks: Networks) -> str:
    """Say which networks learned from a night though they did not test it; empty if none did."""
    uses = [member.use for member in networks.members if member.use is not None]
    learned = [str(use) for use in uses if use.purposes and "tested" not in use.purposes]
    return ", ".join(dict.fromkeys(learned))


def _score(networks: Networks, outline: Outline, subject: str) -> Predictions:
    """Score a night at the rate of the networks."""
    recording = read_channel(outline.path, outline.channel or "EEG", None, networks.inputs.fs)
    scoring = networks.score(recording.signal, outline.path.name)
    inside = np.flatnonzero(outline.sleep_epoch < len(scoring.stages))
    kept = inside[scoring.stages[outline.sleep_epoch[inside]] != UNSCORED]
    position = outline.sleep_epoch[kept]
    stages, probabilities = scoring.stages[position], scoring.probabilities[position]
    n = len(kept)
    return Predictions(
        recording=np.full(n, outline.name),
        subject=np.full(n, subject),
        start_time=np.full(n, outline.start_time),
        sleep_epoch=position,
        y_true=outline.stages[kept],
        y_pred=stages,
        probabilities=probabilities,
        y_pred_last_epoch=stages,
        probabilities_last_epoch=probabilities,
    )


def _subject(outline: Outline, about: Mapping[str, Any] | None) -> str:
    """Name the subject of a night as training does if that finds one, and otherwise as its preparation did."""
    pattern = data_setting(about, "subject_pattern")
    try:
        subject = subject_of(outline.name, pattern if is_pattern(pattern) else None)
    except UserError:
        subject = outline.name
    return subject if subject != outline.name else outline.subject or subject


def _uses(chosen_for: Mapping[str, Networks], n_networks: int) -> list[str]:
    """Say how training used the nights that are scored."""
    tested, selected, unknown = [], [], []
    for name, networks in chosen_for.items():
        uses = [member.use for member in networks.members]
        known = [use for use in uses if use is not None]
        tested += [name] if known and all("tested" in use.purposes for use in known) else []
        selected += [name] if any("selected" in use.purposes for use in known) else []
        unknown += [name] if len(known) < len(uses) else []
    remarks = []
    if tested:
        by = "the one fold that tested it" if n_networks > 1 else "the network that was tested on it"
        remarks.append(f"{number_of(len(tested), 'night')} used in training, each scored by {by}: {_names(tested)}.")
    if selected:
        remarks.append(
            f"{number_of(len(selected), 'night')} on which the weights were selected, which is optimistic: "
            f"{_names(selected)}."
        )
    if unknown:
        remarks.append(f"What the networks were trained on is not known: they may have learned {_names(unknown)}.")
    return remarks


def _left_out(left_out: Mapping[str, str]) -> list[str]:
    """Name the nights that were not scored, by reason."""
    by_reason = defaultdict(list)
    for name, reason in left_out.items():
        by_reason[reason].append(name)
    return [f"{number_of(len(names), 'night')} left out ({why}): {_names(names)}." for why, names in by_reason.items()]


def _inputs(outlines: Sequence[Outline], networks: Networks) -> list[str]:
    """Say where channel and rate differ from those of the training."""
    inputs, remarks = networks.inputs, []
    for channel, names in channels_of(outlines).items():
        if not channel or not inputs.channel:
            whose = "nights" if not channel else "training"
            remarks.append(f"Channel {channel or 'not known'} ({_names(names)}); that of the {whose} is not known.")
        elif channel != inputs.channel:
            remarks.append(f"Another channel than in training: {channel} ({_names(names)}), not {inputs.channel}.")
    if (fs := outlines[0].fs) != inputs.fs:
        remarks.append(f"Another rate than in training: {fs:g} Hz, resampled to {inputs.fs:g} Hz.")
    return remarks


def _amplitudes(std_uv: Sequence[float], networks: Networks) -> str:
    """Compare the amplitude of the nights with that of the training recordings of all networks."""
    here = amplitude(std_uv)
    text = f"Standard deviation of the signal, median (range): {_range(here)} in these nights"
    try:
        of_folds = [member.about["amplitude_uv"] for member in networks.members if member.about]
        there = {
            "median": float(np.median([each["median"] for each in of_folds])),
            "low": float(min(each["low"] for each in of_folds)),
            "high": float(max(each["high"] for each in of_folds)),
        }
    except (LookupError, TypeError, ValueError):  # an older checkpoint, or a stranger's
        return f"{text}; that of the training recordings is not known."
    other = "" if there["low"] <= here["median"] <= there["high"] else "Another amplitude than in training. "
    return f"{other}{text}, {_range(there)} in the training recordings."


def _range(uv: Mapping[str, float]) -> str:
    return f"{uv['median']:.1f} µV ({uv['low']:.1f} to {uv['high']:.1f} µV)"


def _subjects(predictions: Predictions) -> list[str]:
    """Say so if the names look like several nights of a subject that count as different subjects."""
    names, first = np.unique(predictions.recording, return_index=True)
    if (predictions.subject[first] == names).all() and nights_pattern(names.tolist()):
        return ["The names look like several nights of a subject, but each counts as a subject: intervals are narrow."]
    return []


def _names(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Name up to twenty nights, and count the others."""
    listed = list(names)
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more, see {EVALUATION}" if len(listed) > 20 else "")
