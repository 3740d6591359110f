"""A scored night: which part of it is scored, and the files that hold the result."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from model import metric
from scoring.networks import UNSCORED, Scores
from utils.errors import UserError
from utils.files import replacing, write_text
from utils.nested import differences
from utils.sleep_statistics import sleep_statistics
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES

SUFFIXES = (".json", ".csv", "-Hypnogram.edf", ".png")
"""What the names of a night's files end in; the first tells what the others are, and is written first."""

LOW_CONFIDENCE = 0.5

_ANNOTATIONS = {stage: f"Sleep stage {'R' if name == 'REM' else name}" for stage, name in enumerate(STAGE_NAMES)} | {
    UNSCORED: "Sleep stage ?"
}
_PACKAGES = ("torch", "numpy", "scipy", "mne", "edfio")
_DAY_S = 24 * 3600


@dataclass(frozen=True)
class Night:
    """A scored night.

    Attributes
    ----------
    name : str
        Of the recording; its files begin with it.
    channel : str
    start : datetime or None
        Start of the recording, if it is known.
    scores : Scores
    in_bed : tuple of two int or None
        First sleep epoch after lights off and first after lights on, if these were given.
    truth : ndarray of shape (n_sleep_epochs,) or None
        Stages of a hypnogram to compare with, -1 where it has none.
    remarks : tuple of str
        What the user should know of it.
    """

    name: str
    channel: str
    start: datetime | None
    scores: Scores
    in_bed: tuple[int, int] | None = None
    truth: np.ndarray | None = None
    remarks: tuple[str, ...] = ()

    @property
    def scored(self) -> np.ndarray:
        """Positions of the sleep epochs that are scored, ascending."""
        return np.flatnonzero(self.scores.stages != UNSCORED)

    @property
    def counts(self) -> tuple[int, ...]:
        """Sleep epochs of each stage."""
        return tuple(np.bincount(self.scores.stages[self.scored], minlength=N_STAGES).tolist())


def result_files(directory: Path, name: str) -> dict[str, Path]:
    """Files of a night, by what their names end in."""
    return {suffix: directory / f"{name}{suffix}" for suffix in SUFFIXES}


def earlier_night(files: Mapping[str, Path], settings: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """Read what the JSON file tells of a night that is there already; None if it is to be scored.

    Parameters
    ----------
    files : mapping of str to Path
        From `result_files`.
    settings : mapping
        What decides the result, in plain values: the files of an interrupted run with the same are written again.
    overwrite : bool
        Score it again, whatever it was scored with.

    Raises
    ------
    UserError
        It was scored with other settings, or a file of one of these names is not of a scored night.
    """
    there = [path for path in files.values() if path.exists()]
    if not there:
        return None
    said = _read_json(files[".json"])
    if said is None:
        raise UserError(
            f"{', '.join(path.name for path in there)}: there already in {there[0].parent}, and not from a scored "
            "night. Pass another --output_dir."
        )
    if overwrite:
        return None
    changed = differences(said["scoring"], settings)
    if changed:
        raise UserError(
            f"{files['.json'].name}: there already, scored with other settings ({'; '.join(changed)}). "
            "Pass --overwrite to replace it, or another --output_dir."
        )
    return said if len(there) == len(files) else None


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read the JSON file of a scored night; None if it is none."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and isinstance(said.get("scoring"), dict) else None


def parse_start(start_time: str) -> datetime | None:
    """Return the start of a recording without time zone and fraction of a second; None if it is not known."""
    try:
        return datetime.fromisoformat(start_time).replace(tzinfo=None, microsecond=0)
    except ValueError:
        return None


def lights(
    start: datetime | None, n_sleep_epochs: int, off_s: int | None, on_s: int | None, source: str
) -> tuple[tuple[int, int] | None, list[str]]:
    """Find the sleep epochs between lights off and lights on.

    Parameters
    ----------
    start : datetime or None
        Of the recording.
    n_sleep_epochs : int
        That the recording has.
    off_s, on_s : int or None
        Clock times in s since midnight; None: start and end of the recording. Lights off is the first such time in
        the recording, or up to 12 h before it; lights on the first after that.
    source : str
        Name of the recording, for messages.

    Returns
    -------
    in_bed : tuple of two int or None
        First sleep epoch that begins after lights off, and the first that does not end before lights on; None if
        neither time is given.
    remarks : list of str
        Where a time lies outside the recording.

    Raises
    ------
    UserError
        The start is not known, or nothing lies between the times.
    """
    if off_s is None and on_s is None:
        return None, []
    if start is None:
        raise UserError(f"{source}: its start time is not known, so --from and --to cannot be found in it.")
    starts_s, lasts_s = start.hour * 3600 + start.minute * 60 + start.second, n_sleep_epochs * SLEEP_EPOCH_S
    begin_s, end_s, remarks = 0, lasts_s, []
    if off_s is not None:
        begin_s = (off_s - starts_s) % _DAY_S
        begin_s -= _DAY_S if begin_s >= max(lasts_s, _DAY_S / 2) else 0
    if on_s is not None:
        end_s = begin_s + ((on_s - starts_s - begin_s) % _DAY_S or _DAY_S)
    for outside, what in (
        (begin_s < 0, "lights off is before its start"),
        (end_s > lasts_s, "lights on is after its end"),
    ):
        remarks += [what] if outside else []
    in_bed = max(-(-begin_s // SLEEP_EPOCH_S), 0), min(end_s, lasts_s) // SLEEP_EPOCH_S
    if in_bed[0] >= in_bed[1]:
        raise UserError(
            f"{source}: no sleep epoch between --from and --to: it starts at {start:%H:%M:%S} and lasts "
            f"{lasts_s / 3600:.1f} h."
        )
    return in_bed, remarks


def remarks_on(night: Night, signal: np.ndarray, n_samples: int) -> Night:
    """Add what the user should know of the signal, `n_samples` a sleep epoch, and of the agreement."""
    remarks, sleep_epochs = list(night.remarks), signal[: len(night.scores.stages) * n_samples].reshape(-1, n_samples)
    rest_s = len(signal) % n_samples * SLEEP_EPOCH_S / n_samples
    n_missing = int((~np.isfinite(sleep_epochs).all(axis=1)).sum())
    n_flat = int((np.ptp(sleep_epochs[night.scored], axis=1) == 0).sum())
    remarks += [f"its last {rest_s:.1f} s are no whole sleep epoch and not scored"] if rest_s else []
    remarks += [f"{n_missing} sleep epochs with a gap are not scored"] if n_missing else []
    remarks += [f"{n_flat} of its scored sleep epochs have a flat signal"] if n_flat else []
    if night.truth is not None:
        figures = agreement(night)
        remarks.append(
            f"as the hypnogram in {100 * figures['accuracy']:.1f} % of {figures['n']:,} sleep epochs, "
            f"kappa {figures['kappa']:.2f}, macro F1 {100 * figures['macro_f1']:.1f} %"
            if figures
            else "the hypnogram has no stage where it is scored"
        )
    return replace(night, remarks=tuple(remarks))


def write_night(files: Mapping[str, Path], night: Night, about: Mapping[str, Any]) -> None:
    """Write the files of a night but its picture; an earlier night's are gone then.

    Parameters
    ----------
    files : mapping of str to Path
        From `result_files`.
    night : Night
    about : mapping
        What the JSON file tells besides: of the recording and the model, in plain values.
    """
    write_text(files[".json"], json.dumps(dict(about) | summary(night), indent=2) + "\n")
    for suffix in SUFFIXES[1:]:  # what the JSON file says is not of these any more
        files[suffix].unlink(missing_ok=True)
    write_text(files[".csv"], "\n".join(_csv_lines(night)) + "\n")
    _write_hypnogram(files["-Hypnogram.edf"], night)


def summary(night: Night) -> dict[str, Any]:
    """Sum a night up, in plain values: sleep statistics, confidence, agreement, versions."""
    confidence = night.scores.probabilities[night.scored].max(axis=1)
    stages = night.scores.stages
    return {
        "start_time": night.start.isoformat() if night.start else None,
        "remarks": list(night.remarks),
        "n_sleep_epochs": len(stages),
        "n_scored": len(night.scored),
        "sleep_epochs": dict(zip(STAGE_NAMES, night.counts, strict=True)),
        "time_in_bed_is": "from lights off to lights on" if night.in_bed else "the scored span",
        "sleep_statistics": sleep_statistics(night.scored, stages[night.scored], night.in_bed),
        "mean_confidence": round(float(confidence.mean(dtype=np.float64)), 6),
        "share_below_half": float((confidence < LOW_CONFIDENCE).mean()),
        "agreement": agreement(night),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def agreement(night: Night) -> dict[str, Any] | None:
    """Compare with the hypnogram, where both have a stage; None without one, or without any such sleep epoch."""
    if night.truth is None:
        return None
    both = night.scored[night.truth[night.scored] != UNSCORED]
    if len(both) == 0:
        return None
    y_true, y_pred = night.truth[both], night.scores.stages[both]
    counts = metric.confusion_matrix(y_true, y_pred)
    f1 = np.where(metric.occurs(counts), metric.per_class(counts)["f1"], np.array(None))
    return {
        "n": len(both),
        "accuracy": metric.accuracy(y_true, y_pred),
        "macro_f1": metric.macro_f1(y_true, y_pred),
        "kappa": metric.kappa(y_true, y_pred),
        "mgm": metric.mgm(y_true, y_pred),
        "f1": dict(zip(STAGE_NAMES, f1.tolist(), strict=True)),
        "confusion_matrix": counts.tolist(),
    }


def _csv_lines(night: Night) -> Iterator[str]:
    """Yield the lines of the table: a sleep epoch each, its probabilities empty where it is not scored."""
    yield ",".join(["onset", "duration", "stage", *(f"p_{name}" for name in STAGE_NAMES), "confidence"])
    rows = zip(night.scores.stages.tolist(), night.scores.probabilities.tolist(), strict=True)
    for position, (stage, probabilities) in enumerate(rows):
        name, values = "?", [""] * (N_STAGES + 1)
        if stage != UNSCORED:
            name, values = STAGE_NAMES[stage], [f"{value:.6f}" for value in [*probabilities, max(probabilities)]]
        yield ",".join([f"{SLEEP_EPOCH_S * position},{SLEEP_EPOCH_S},{name}", *values])


def _write_hypnogram(path: Path, night: Night) -> None:
    """Write the stages as an EDF+ file of annotations, one for each run of a stage."""
    from edfio import Edf, EdfAnnotation, Recording

    stages = night.scores.stages
    begins = np.flatnonzero(np.diff(stages, prepend=N_STAGES))
    ends = np.append(begins[1:], len(stages))
    annotations = [
        EdfAnnotation(SLEEP_EPOCH_S * begin, SLEEP_EPOCH_S * (end - begin), _ANNOTATIONS[stage])
        for begin, end, stage in zip(begins.tolist(), ends.tolist(), stages[begins].tolist(), strict=True)
    ]
    # EDF has no year before 1985 or after 2084
    dated = night.start if night.start and 1985 <= night.start.year <= 2084 else None
    recording = Recording(startdate=dated.date() if dated else None, equipment_code="AttnSleep")
    starttime = night.start.time() if night.start else None
    edf = Edf([], recording=recording, starttime=starttime, annotations=annotations)
    with replacing(path) as temporary:
        edf.write(temporary)
