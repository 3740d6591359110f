"""Scorings as scorers' programs write them, to one stage for each sleep epoch of the night.

The forms are EDF+ annotations, tables and lists of stages as text (`hypnogram_texts`), Profusion XML and NSRR XML
(`hypnogram_xml`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recordings import edf, hypnogram_texts, hypnogram_xml
from recordings.edf_header import ANONYMOUS, read_header
from recordings.hypnogram_events import Event
from recordings.stage_names import UNSCORED, resolve
from utils.errors import UserError
from utils.files import require_file
from utils.stages import SLEEP_EPOCH_S, W

SLACK_S = 0.05
"""By so much may a time miss a multiple of 30 s: programs round what they write."""


class Run(NamedTuple):
    """One stage, as long as it lasts: from `begin_s` to `end_s`, in s from the start of the recording."""

    begin_s: float
    end_s: float
    name: str
    stage: int


@dataclass(frozen=True)
class Hypnogram:
    """The scored stages of one recording.

    Attributes
    ----------
    source : str
        Name of the file.
    runs : tuple of Run
        In their order, without what is not scored; no two overlap, neighbours of the same stage are one.
    remarks : tuple of str
        What was taken for granted.
    """

    source: str
    runs: tuple[Run, ...]
    remarks: tuple[str, ...] = ()

    @property
    def begin_s(self) -> float:
        """Where sleep epochs begin that fit the scored ones, in s: from 0 to below 30."""
        begin_s = self.runs[0].begin_s % SLEEP_EPOCH_S if self.runs else 0.0
        return 0.0 if min(begin_s, SLEEP_EPOCH_S - begin_s) < SLACK_S else begin_s

    @property
    def end_of_sleep_s(self) -> float:
        """Where the last stage ends that is not W; 0 if there is none."""
        return max((run.end_s for run in self.runs if run.stage != W), default=0.0)

    def stages(self, n_sleep_epochs: int, begin_s: float = 0.0) -> np.ndarray:
        """Lay the stages out over the sleep epochs of a signal: one that is scored in part only is not scored.

        Parameters
        ----------
        n_sleep_epochs : int
            Whole sleep epochs that the signal has. What is scored beyond is left away.
        begin_s : float
            Where the first of them begins.

        Returns
        -------
        ndarray of shape (n_sleep_epochs,), int32
            0 to 4; `UNSCORED` (-1) for what is not scored.

        Raises
        ------
        UserError
            Two stages are in one sleep epoch.
        """
        stages = np.full(n_sleep_epochs, UNSCORED, np.int32)
        slack, last = SLACK_S / SLEEP_EPOCH_S, -1  # last: the sleep epoch in which the run before ends
        for position, run in enumerate(self.runs):
            begin, end = ((time_s - begin_s) / SLEEP_EPOCH_S for time_s in (run.begin_s, run.end_s))
            if begin + slack >= n_sleep_epochs:
                break
            if floor(begin + slack) == last:
                raise self._shared(self.runs[position - 1], run, begin_s)
            end = min(end, n_sleep_epochs)
            stages[max(ceil(begin - slack), 0) : max(floor(end + slack), 0)] = run.stage
            last = ceil(end - slack) - 1
        return stages

    def _shared(self, before: Run, run: Run, begin_s: float) -> UserError:
        """Return what to say of two stages in one sleep epoch."""
        return UserError(
            f"{self.source}: {before.name!r} until {before.end_s:g} s and {run.name!r} from {run.begin_s:g} s are in "
            f"one sleep epoch: not multiples of {SLEEP_EPOCH_S} s from {begin_s:g} s on. Score it in sleep epochs of "
            f"{SLEEP_EPOCH_S} s, or leave this recording out."
        )


def read_hypnogram(
    path: Path, n_sleep_epochs: int, start_time: str = "", stage_names: Mapping[str, int | None] | None = None
) -> np.ndarray:
    """Read the stages of a recording from any of the known forms.

    Parameters
    ----------
    path : Path
        `.edf` or `.bdf` (annotations; it may be the recording itself), `.xml`, or text under any other name.
    n_sleep_epochs : int
        Whole sleep epochs that the recording has. What is scored beyond is left away.
    start_time : str
        Start of the recording, ISO 8601; empty if not known. Clock times in a scoring need it.
    stage_names : mapping of str to int or None, optional
        Stage of names that are not known, or not as they are; None for what is no stage. See `read_stage_names`.

    Returns
    -------
    ndarray of shape (n_sleep_epochs,), int32
        0 to 4; `UNSCORED` (-1) for what is not scored, or movement.

    Raises
    ------
    UserError
        The file cannot be read, names are unknown, it is of another start or length than the recording, or its
        stages contradict each other or do not fit the sleep epochs.
    """
    return load_hypnogram(path, n_sleep_epochs, start_time, stage_names).stages(n_sleep_epochs)


def load_hypnogram(
    path: Path, n_sleep_epochs: int, start_time: str = "", stage_names: Mapping[str, int | None] | None = None
) -> Hypnogram:
    """Read the stages of a recording with their times; see `read_hypnogram`."""
    require_file(path)
    suffix, rk = path.suffix.casefold(), False
    scored: Sequence[Event]
    if suffix in (".edf", ".bdf"):
        _require_same_start(path, start_time)
        scored = [Event(*annotation) for annotation in edf.read_annotations(path)]
    elif suffix == ".xml":
        scored, rk = hypnogram_xml.read_xml(path, n_sleep_epochs), True
    else:
        scored, rk = hypnogram_texts.read_text(path, n_sleep_epochs, start_time)
    return make_hypnogram(scored, path.name, stage_names, rk=rk)


def make_hypnogram(
    scored: Iterable[Event], source: str, stage_names: Mapping[str, int | None] | None = None, *, rk: bool = False
) -> Hypnogram:
    """Name the stages, put them in order, and join neighbours of the same stage.

    Parameters
    ----------
    scored : iterable of Event
    source : str
        Name of the file, for messages.
    stage_names, rk
        See `resolve`.

    Raises
    ------
    UserError
        Names are unknown, there is no stage, one begins before the recording, or two are at the same time.
    """
    scored = sorted(scored, key=lambda s: s.onset_s)
    stage_of, remarks = resolve((s.name for s in scored), source, stage_names, rk=rk)
    named = [(s, stage) for s in scored if (stage := stage_of[s.name]) is not None]
    if not named:
        raise UserError(f"{source}: no stages in it. Pass the scoring of this recording.")
    runs: list[Run] = []
    for position, (s, stage) in enumerate(named):
        following = named[position + 1][0] if position + 1 < len(named) else None
        run = Run(s.onset_s, s.onset_s + _duration_s(s, following, source), s.name, stage)
        if not run.begin_s > -SLACK_S:
            raise UserError(f"{source}: {s.name!r} begins at {s.onset_s:g} s, before the recording. Correct it.")
        last = runs[-1] if runs else None
        if last and run.begin_s < last.end_s - SLACK_S and stage != last.stage:
            raise UserError(
                f"{source}: {s.name!r} at {s.onset_s:g} s overlaps {last.name!r}, which begins at {last.begin_s:g} s "
                f"and ends at {last.end_s:g} s. Correct it: each sleep epoch has one stage."
            )
        if last and run.begin_s < last.end_s + SLACK_S and stage == last.stage:
            runs[-1] = last._replace(end_s=max(last.end_s, run.end_s))
        else:
            runs.append(run)
    return Hypnogram(source, tuple(run for run in runs if run.stage != UNSCORED), remarks)


def _duration_s(scored: Event, following: Event | None, source: str) -> float:
    """Return how long a stage lasts; one that does not say it lasts a sleep epoch if the next begins then."""
    if scored.duration_s > 0:
        return scored.duration_s
    apart_s = following.onset_s - scored.onset_s if following else SLEEP_EPOCH_S
    if abs(apart_s - SLEEP_EPOCH_S) > SLACK_S:
        raise UserError(
            f"{source}: {scored.name!r} at {scored.onset_s:g} s has no duration, and the next stage begins "
            f"{apart_s:g} s later, not {SLEEP_EPOCH_S} s. Give each stage its duration."
        )
    return SLEEP_EPOCH_S


def _require_same_start(path: Path, start_time: str) -> None:
    """Refuse an EDF+ file of annotations that starts at another time than its recording, where both are known."""
    start = read_header(path).start
    if start is None or not start_time:
        return
    recorded = datetime.fromisoformat(start_time).replace(tzinfo=None, microsecond=0)
    anonymous = ANONYMOUS in (start.date(), recorded.date())
    if start.time() != recorded.time() or (start.date() != recorded.date() and not anonymous):
        raise UserError(
            f"{path.name}: starts at {start.isoformat()}, but its recording at {start_time}. "
            "They must agree: get both files again."
        )
