"""Read the hypnogram that a scorer made of a recording: one stage for each sleep epoch.

The forms are EDF+ annotations (`edf`), tables and lists as text (`hypnogram_texts`), Profusion XML and NSRR XML
(`hypnogram_xml`), and arrays, YASA's JSON and MNE's annotations (`hypnogram_arrays`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recordings import edf, hypnogram_arrays, hypnogram_texts, hypnogram_xml
from recordings.edf_header import ANONYMOUS, SUFFIXES, read_header
from recordings.hypnogram_events import Event, Reading
from recordings.stage_names import UNSCORED, resolve, stage_label
from utils.errors import UserError
from utils.files import require_file
from utils.stages import SLEEP_EPOCH_S, W

SLACK_S = 0.05
"""Largest distance of a time from a multiple of 30 s: programs round the times that they write."""


class Run(NamedTuple):
    """One stage for as long as it lasts: from `begin_s` to `end_s`, in s from the start of the recording."""

    begin_s: float
    end_s: float
    name: str
    stage: int


@dataclass(frozen=True)
class Hypnogram:
    """The stages of one recording with their times.

    Runs are in order of time and do not overlap. Neighbours have different stages.
    """

    source: str  # name of the file
    runs: tuple[Run, ...]  # without what is not scored
    remarks: tuple[str, ...]  # what was assumed, and which code is which stage
    stage_codes: Mapping[str, str] = field(default_factory=dict)  # stage by name or code: W to REM, ? or - (no stage)

    @property
    def begin_s(self) -> float:
        """Offset of the sleep epochs from the start of the recording in s: from 0 to below 30."""
        begin_s = self.runs[0].begin_s % SLEEP_EPOCH_S if self.runs else 0.0
        return 0.0 if min(begin_s, SLEEP_EPOCH_S - begin_s) < SLACK_S else begin_s

    @property
    def end_of_sleep_s(self) -> float:
        """End of the last stage other than W; 0 if there is none."""
        return max((run.end_s for run in self.runs if run.stage != W), default=0.0)

    def stages(self, n_sleep_epochs: int, begin_s: float = 0.0) -> np.ndarray:
        """Return the stage of each sleep epoch of a signal; a sleep epoch that is scored in part is not scored.

        Parameters
        ----------
        n_sleep_epochs : int
            Whole sleep epochs of the signal. Stages after them are ignored.
        begin_s : float
            Where the first of them begins.

        Returns
        -------
        ndarray of shape (n_sleep_epochs,), int32
            0 to 4; `UNSCORED` (-1) for what is not scored.

        Raises
        ------
        UserError
            One sleep epoch has two stages.
        """
        stages = np.full(n_sleep_epochs, UNSCORED, np.int32)
        slack, last = SLACK_S / SLEEP_EPOCH_S, -1  # last: the sleep epoch in which the run before ends
        for position, run in enumerate(self.runs):
            begin, end = ((time_s - begin_s) / SLEEP_EPOCH_S for time_s in (run.begin_s, run.end_s))
            if begin + slack >= n_sleep_epochs:
                break
            if floor(begin + slack) == last:
                before = self.runs[position - 1]
                raise UserError(
                    f"{self.source}: {before.name!r} until {before.end_s:g} s and {run.name!r} from {run.begin_s:g} s "
                    f"are in one sleep epoch: not multiples of {SLEEP_EPOCH_S} s from {begin_s:g} s on. Score it in "
                    f"sleep epochs of {SLEEP_EPOCH_S} s, or leave this recording out."
                )
            end = min(end, n_sleep_epochs)
            stages[max(ceil(begin - slack), 0) : max(floor(end + slack), 0)] = run.stage
            last = ceil(end - slack) - 1
        return stages


def read_hypnogram(path: Path, n_sleep_epochs: int, start_time: str = "", *, has_rest: bool = False) -> np.ndarray:
    """Read the stage of each sleep epoch of a recording; see `load_hypnogram` and `Hypnogram.stages`."""
    return load_hypnogram(path, n_sleep_epochs, start_time, has_rest=has_rest).stages(n_sleep_epochs)


def load_hypnogram(
    path: Path,
    n_sleep_epochs: int,
    start_time: str = "",
    stage_names: Mapping[str, int | None] | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    has_rest: bool = False,
) -> Hypnogram:
    """Read the stages of a recording with their times, in any of the known forms.

    Parameters
    ----------
    path : Path
        `.edf` or `.bdf` (annotations, perhaps in the recording itself), `.xml`, `.json`, `.npy`, `.fif` (MNE's
        annotations), or text with any other suffix.
    n_sleep_epochs : int
        Whole sleep epochs of the recording.
    start_time : str
        Start of the recording, ISO 8601; empty if not known. Needed where the hypnogram gives clock times.
    stage_names : mapping of str to int or None, optional
        Stages of names that are not known or that mean something else here; see `read_stage_names`.
    columns : mapping of str to str, optional
        Names of the columns of a table by their role, such as `{"onset": "Zeitpunkt"}`; see
        `hypnogram_columns.ROLES`.
    has_rest : bool
        The recording ends with a part of a sleep epoch. A list of stages may then be one longer.

    Raises
    ------
    UserError
        The file cannot be read, a name or a column is unknown, codes can be read in two ways, start or length differ
        from the recording's, or stages overlap.
    """
    require_file(path)
    suffix = path.suffix.casefold()
    if suffix in SUFFIXES:
        _require_same_start(path, start_time)
        reading = Reading([Event(*annotation) for annotation in edf.read_annotations(path)])
    elif suffix == ".xml":
        reading = hypnogram_xml.read_xml(path, n_sleep_epochs, has_rest)
    elif path.name.casefold().endswith(hypnogram_arrays.SUFFIXES):
        reading = hypnogram_arrays.read_array(path, n_sleep_epochs, start_time, has_rest)
    else:
        reading = hypnogram_texts.read_text(path, n_sleep_epochs, start_time, stage_names, columns, has_rest)
    hypnogram = make_hypnogram(reading.events, path.name, stage_names, rk=reading.rk)
    remarks = (*(f"hypnogram: {remark}" for remark in reading.remarks), *hypnogram.remarks)
    return replace(hypnogram, remarks=remarks)


def make_hypnogram(
    events: Iterable[Event], source: str, stage_names: Mapping[str, int | None] | None = None, *, rk: bool = False
) -> Hypnogram:
    """Make a hypnogram of events in any order; see `stage_names.resolve` for the parameters."""
    events = sorted(events, key=lambda event: event.onset_s)
    stage_of, remarks = resolve((event.name for event in events), source, stage_names, rk=rk)
    scored = [(event, stage) for event in events if (stage := stage_of[event.name]) is not None]
    if not scored:
        raise UserError(f"{source}: no stages in it. Pass the hypnogram of this recording.")
    runs: list[Run] = []
    for position, (event, stage) in enumerate(scored):
        following = scored[position + 1][0] if position + 1 < len(scored) else None
        run = Run(event.onset_s, event.onset_s + _duration_s(event, following, source), event.name, stage)
        if not run.begin_s > -SLACK_S:
            raise UserError(f"{source}: {run.name!r} begins at {run.begin_s:g} s, before the recording. Correct it.")
        last = runs[-1] if runs else None
        if last and run.begin_s < last.end_s - SLACK_S and stage != last.stage:
            raise UserError(
                f"{source}: {run.name!r} at {run.begin_s:g} s overlaps {last.name!r}, which begins at "
                f"{last.begin_s:g} s and ends at {last.end_s:g} s. Correct it: each sleep epoch has one stage."
            )
        if last and run.begin_s < last.end_s + SLACK_S and stage == last.stage:
            runs[-1] = last._replace(end_s=max(last.end_s, run.end_s))
        else:
            runs.append(run)
    stage_codes = {name: stage_label(stage_of[name]) for name in sorted(stage_of)}
    return Hypnogram(source, tuple(run for run in runs if run.stage != UNSCORED), remarks, stage_codes)


def _duration_s(event: Event, following: Event | None, source: str) -> float:
    """Return how long a stage lasts: one sleep epoch if the file does not say, and then the next stage must follow."""
    if event.duration_s > 0:
        return event.duration_s
    apart_s = following.onset_s - event.onset_s if following else SLEEP_EPOCH_S
    if abs(apart_s - SLEEP_EPOCH_S) > SLACK_S:
        raise UserError(
            f"{source}: {event.name!r} at {event.onset_s:g} s has no duration, and the next stage begins "
            f"{apart_s:g} s later, not {SLEEP_EPOCH_S} s. Give each stage its duration."
        )
    return SLEEP_EPOCH_S


def _require_same_start(path: Path, start_time: str) -> None:
    """Refuse annotations in EDF that start at another time than the recording, where both times are known."""
    start = read_header(path).start
    if start is None or not start_time:
        return
    recorded = datetime.fromisoformat(start_time).replace(tzinfo=None, microsecond=0)
    dates = {start.date(), recorded.date()}
    if start.time() != recorded.time() or (len(dates) == 2 and ANONYMOUS not in dates):
        raise UserError(
            f"{path.name}: starts at {start.isoformat()}, but its recording at {start_time}. "
            "They must agree: get both files again."
        )
