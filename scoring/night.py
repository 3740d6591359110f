"""A scored night: the time in bed, the agreement with a hypnogram, and the files that hold the result."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from recordings.clock_times import in_utc
from recordings.stage_names import UNSCORED
from scoring.formats import FORMATS, write_csv, write_edf, write_format
from scoring.scorers import agreement
from utils.errors import UserError
from utils.files import write_text
from utils.microvolts import without_signal_remark
from utils.nested import differences
from utils.sleep_statistics import sleep_statistics
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES

SUFFIXES = (".json", ".csv", "-Hypnogram.edf", ".png")
"""Endings of a night's files. The JSON file says what the others are, and is written first."""

REVIEW = ".html"
"""Ending of the page on which to look at a night and correct it; it is written only if it is asked for."""

INDEX = "index.html"
"""Name of the page that lists the nights of a folder which have a page."""

_PACKAGES = ("torch", "numpy", "scipy", "mne", "edfio")
_DAY_S = 24 * 3600


@dataclass(frozen=True)
class Scoring:
    """The stages that networks give to a night.

    Attributes
    ----------
    stages : ndarray of shape (n_sleep_epochs,), int64
        0 to 4, or -1 for a sleep epoch that is not scored.
    probabilities : ndarray of shape (n_sleep_epochs, 5), float32
        Of W, N1, N2, N3, REM; NaN where not scored.
    """

    stages: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Night:
    """A scored night; the names of its files begin with `name`, and `remarks` are what the user should know of it."""

    name: str
    channel: str
    start: datetime | None
    scoring: Scoring
    in_bed: tuple[int, int] | None = None  # first sleep epoch after lights off, and first after lights on
    hypnogram: np.ndarray | None = None  # stages to compare with, (n_sleep_epochs,); -1 where there is none
    remarks: tuple[str, ...] = ()
    training_overlap: str = ""  # how many of its networks were trained on it, see `utils.training_use`
    empty: np.ndarray | None = None  # sleep epochs without signal, (n_sleep_epochs,), bool
    scorers: Sequence[Mapping[str, Any]] = ()  # of several, whose majority is the hypnogram; see `scorers.compare`
    begin_s: float = 0.0  # of its first sleep epoch in the recording, which was cut there

    @property
    def scored(self) -> np.ndarray:
        """Positions of the scored sleep epochs, ascending."""
        return np.flatnonzero(self.scoring.stages != UNSCORED)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of sleep epochs of each stage."""
        return tuple(np.bincount(self.scoring.stages[self.scored], minlength=N_STAGES).tolist())

    @cached_property
    def agreement(self) -> dict[str, Any] | None:
        """Figures over the sleep epochs that have a stage here and in the hypnogram; None without any of these."""
        return None if self.hypnogram is None else agreement(self.hypnogram, self.scoring.stages)

    @cached_property
    def sleep_statistics(self) -> dict[str, Any]:
        """Statistics from lights off to lights on, or over the scored span if these are not known."""
        in_bed = self.in_bed or (int(self.scored[0]), int(self.scored[-1]) + 1)
        return sleep_statistics(self.scored, self.scoring.stages[self.scored], in_bed)


def result_files(directory: Path, name: str, formats: Iterable[str] = ()) -> dict[str, Path]:
    """Paths of a night's files, by the endings of their names; `formats` are names of `scoring.formats.FORMATS`."""
    suffixes = (*SUFFIXES, *(FORMATS[format_name] for format_name in formats))
    return {suffix: directory / f"{name}{suffix}" for suffix in suffixes}


def page_of(directory: Path, name: str) -> Path:
    """Name the page of a night.

    Raises
    ------
    UserError
        It would have the name of the list.
    """
    page = directory / f"{name}{REVIEW}"
    if page.name.casefold() == INDEX:
        raise UserError(f"{name}: its page would be {INDEX}, which lists all nights. Rename the recording.")
    return page


def earlier_night(files: Mapping[str, Path], settings: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """Read the JSON file of a night that was scored before; None if the night is to be scored now.

    A night whose files are not all there is scored again, and so is any with `overwrite`. Files that hold something
    else are refused, and so is a night that was scored with other `settings`: everything that decides the result. An
    older version did not write down `made_from`, which is not compared then.
    """
    existing = {suffix: path for suffix, path in files.items() if path.exists()}
    earlier = read_json(files[".json"])
    ours = [] if earlier is None else [*SUFFIXES, *_suffixes(earlier)]
    if others := [path for suffix, path in existing.items() if suffix not in ours]:
        raise UserError(
            f"{', '.join(path.name for path in others)}: there already in {others[0].parent}, and not from a "
            "scored night. Pass another --output_dir."
        )
    if earlier is None or overwrite:
        return None
    before = earlier["scoring"]
    known = {key: value for key, value in settings.items() if key in before or key != "made_from"}
    if changed := differences(before, known):
        raise UserError(
            f"{files['.json'].name}: there already, scored with other settings or files ({'; '.join(changed)}). "
            "Pass --overwrite to replace it, or another --output_dir."
        )
    return earlier if len(existing) == len(files) else None


def _suffixes(earlier: Mapping[str, Any]) -> list[str]:
    """List the endings of the further files that the JSON file of a night names."""
    formats = earlier.get("formats")
    suffixes = [FORMATS[name] for name in formats if name in FORMATS] if isinstance(formats, list) else []
    return suffixes + ([REVIEW] if earlier.get("review") else [])


def read_json(path: Path) -> dict[str, Any] | None:
    """Read the JSON file of a scored night; None if it is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("scoring"), dict) else None


def parse_start(start_time: str) -> datetime | None:
    """Parse the start of a recording, without the fraction of a second; None if it is not known."""
    try:
        return datetime.fromisoformat(start_time).replace(microsecond=0)
    except ValueError:
        return None


def time_in_bed(
    start: datetime | None, n_sleep_epochs: int, lights_off_s: int | None, lights_on_s: int | None, source: str
) -> tuple[tuple[int, int] | None, list[str]]:
    """Find the sleep epochs between lights off and lights on.

    Clock times are in s since midnight; None: start and end of the recording. Lights off is the first such time in the
    recording, or up to 12 h before it. Lights on is the first such time after that.

    Returns
    -------
    in_bed : tuple of two int or None
        First sleep epoch that begins after lights off, and the first that ends after lights on.
    remarks : list of str
        Which time lies outside the recording.
    """
    if lights_off_s is None and lights_on_s is None:
        return None, []
    if start is None:
        raise UserError(f"{source}: its start time is not known, so --from and --to cannot be found in it.")
    if in_utc(start):
        raise UserError(
            f"{source}: its start is in UTC, so clock times (--from, --to) cannot be found in it. Leave them away, or "
            "save it as EDF with the local time of its start."
        )
    # Times from here on are in s from the start of the recording.
    midnight_s, length_s = -(start.hour * 3600 + start.minute * 60 + start.second), n_sleep_epochs * SLEEP_EPOCH_S
    begin_s, end_s, remarks = 0, length_s, []
    if lights_off_s is not None:
        begin_s = (midnight_s + lights_off_s) % _DAY_S
        if begin_s >= max(length_s, _DAY_S / 2):
            begin_s -= _DAY_S
    if lights_on_s is not None:
        end_s = begin_s + ((midnight_s + lights_on_s - begin_s) % _DAY_S or _DAY_S)
    if begin_s < 0:
        remarks.append("lights off is before its start")
    if end_s > length_s:
        remarks.append("lights on is after its end")
    first, last = max(-(-begin_s // SLEEP_EPOCH_S), 0), min(end_s, length_s) // SLEEP_EPOCH_S
    if first >= last:
        raise UserError(
            f"{source}: no sleep epoch between --from and --to: it starts at {start:%H:%M:%S} and lasts "
            f"{length_s / 3600:.1f} h."
        )
    return (first, last), remarks


def with_remarks(night: Night, signal: np.ndarray, n_samples: int) -> Night:
    """Add remarks on the signal, which has `n_samples` in a sleep epoch, and on the agreement with the hypnogram."""
    remarks = list(night.remarks)
    sleep_epochs = signal[: len(night.scoring.stages) * n_samples].reshape(-1, n_samples)
    if rest_s := len(signal) % n_samples * SLEEP_EPOCH_S / n_samples:
        remarks.append(f"its last {rest_s:.1f} s do not fill a sleep epoch and are not scored")
    if n_missing := (~np.isfinite(sleep_epochs).all(axis=1)).sum():
        remarks.append(f"{n_missing} sleep epochs with a gap are not scored")
    if night.empty is not None and (n_empty := int(night.empty.sum())):
        remarks.append(f"{without_signal_remark(n_empty, len(night.empty))} and not scored")
    source = f"majority of {len(night.scorers)} scorers" if night.scorers else "hypnogram"
    if night.agreement:
        share, n = 100 * night.agreement["accuracy"], night.agreement["n"]
        remarks.append(
            f"agrees with the {source} in {share:.1f} % of {n:,} sleep epochs, "
            f"kappa {night.agreement['kappa']:.2f}, macro F1 {100 * night.agreement['macro_f1']:.1f} %"
            + (f"; but {night.training_overlap}" if night.training_overlap else "")
        )
    elif night.hypnogram is not None:
        remarks.append("the hypnogram has no stage where it is scored")
    if night.training_overlap and not night.agreement:
        remarks.append(night.training_overlap)
    return replace(night, remarks=tuple(remarks))


def write_night(files: Mapping[str, Path], night: Night, about: Mapping[str, Any]) -> None:
    """Write all files of a night but its picture and its page; the files of an earlier scoring are removed.

    `about` is what the JSON file says besides, of settings and networks.
    """
    formats = [name for name, suffix in FORMATS.items() if suffix in files]
    earlier = _suffixes(read_json(files[".json"]) or {})
    further = {"formats": formats, "review": REVIEW in files}
    write_text(files[".json"], json.dumps(dict(about) | description(night) | further, indent=2) + "\n")
    for suffix in (*SUFFIXES[1:], *earlier):  # the JSON file no longer describes what is in these
        files[".json"].with_name(f"{night.name}{suffix}").unlink(missing_ok=True)
    stages = night.scoring.stages
    write_csv(files[".csv"], stages, night.scoring.probabilities, night.start, night.begin_s)
    write_edf(files["-Hypnogram.edf"], stages, night.start, night.begin_s)
    for name in formats:
        write_format(files[FORMATS[name]], name, stages, night.begin_s)


def description(night: Night) -> dict[str, Any]:
    """Sleep statistics, confidence, agreement and versions of packages, in plain values."""
    confidence = night.scoring.probabilities[night.scored].max(axis=1)
    return {
        "start_time": night.start.isoformat() if night.start else None,
        "remarks": list(night.remarks),
        "n_sleep_epochs": len(night.scoring.stages),
        "n_scored": len(night.scored),
        "n_without_signal": 0 if night.empty is None else int(night.empty.sum()),
        "sleep_epochs": dict(zip(STAGE_NAMES, night.counts, strict=True)),
        "time_in_bed_is": "from lights off to lights on" if night.in_bed else "the scored span",
        "sleep_statistics": night.sleep_statistics,
        "mean_confidence": round(float(confidence.mean(dtype=np.float64)), 6),
        "share_below_half": float((confidence < 0.5).mean()),
        "agreement": night.agreement,
        **({"scorers": list(night.scorers)} if night.scorers else {}),
        "training_overlap": night.training_overlap or None,
        "versions": {package: version(package) for package in _PACKAGES},
    }
