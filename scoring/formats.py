"""The files that hold the hypnogram of a night, each as the programs that read it want it; see docs/scoring.md."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from recordings.stage_names import UNSCORED
from utils.files import replacing, write_text
from utils.stages import N_STAGES, SLEEP_EPOCH_S, STAGE_NAMES

FORMATS = {"lines": ".txt", "bids": "_events.tsv", "luna": ".annot"}
"""Endings of the files that are written only if they are asked for, by the names of their formats."""

COLUMNS = ("onset", "duration", "stage", *(f"p_{name}" for name in STAGE_NAMES), "confidence", "clock_time")
"""Columns of the table. New ones go to its end, for programs that read columns by their number."""

# The last name is that of a sleep epoch that is not scored: stage -1.
_NAMES = (*STAGE_NAMES, "?")
_LETTERS = ("W", "N1", "N2", "N3", "R", "?")
_BIDS = (*STAGE_NAMES, "n/a")


def write_format(path: Path, name: str, stages: np.ndarray, begin_s: float = 0.0) -> None:
    """Write stages, (n_sleep_epochs,), -1 where not scored, in one of FORMATS; `begin_s` as for `write_csv`."""
    lines = {"lines": _code_lines, "bids": _bids_lines, "luna": _luna_lines}[name]
    write_text(path, "\n".join(lines(stages.tolist(), begin_s)) + "\n")


def write_csv(
    path: Path, stages: np.ndarray, probabilities: np.ndarray, start: datetime | None, begin_s: float = 0.0
) -> None:
    """Write a line for each sleep epoch, without probabilities where it is not scored.

    Parameters
    ----------
    stages : ndarray of shape (n_sleep_epochs,)
        0 to 4, or -1 where not scored.
    probabilities : ndarray of shape (n_sleep_epochs, 5)
    start : datetime or None
        Of the first sleep epoch; without it the column of clock times is empty. That of a start in UTC says so.
    begin_s : float
        Where the first sleep epoch begins in the recording, in s.
    """
    write_text(path, "\n".join(_csv_lines(stages, probabilities, start, begin_s)) + "\n")


def _csv_lines(stages: np.ndarray, probabilities: np.ndarray, start: datetime | None, begin_s: float) -> Iterator[str]:
    """Yield the lines of the table."""
    yield ",".join(COLUMNS)
    for position, (stage, values) in enumerate(zip(stages.tolist(), probabilities.tolist(), strict=True)):
        from_first_s = SLEEP_EPOCH_S * position
        cells = [""] * (N_STAGES + 1) if stage == UNSCORED else [f"{value:.6f}" for value in [*values, max(values)]]
        clock = (start + timedelta(seconds=from_first_s)).timetz().isoformat() if start else ""
        yield ",".join([f"{begin_s + from_first_s:.12g},{SLEEP_EPOCH_S},{_NAMES[stage]}", *cells, clock])


def write_edf(path: Path, stages: np.ndarray, start: datetime | None, begin_s: float = 0.0) -> None:
    """Write the stages as an EDF+ file of annotations, one for each run of a stage; parameters as of `write_csv`.

    The file starts when the recording does, to the second, so that it can be read beside it.
    """
    from edfio import Edf, EdfAnnotation, Recording

    start = start - timedelta(seconds=int(begin_s)) if start else None
    begins = np.flatnonzero(np.diff(stages, prepend=N_STAGES))
    ends = np.append(begins[1:], len(stages))
    annotations = [
        EdfAnnotation(begin_s + SLEEP_EPOCH_S * begin, SLEEP_EPOCH_S * (end - begin), f"Sleep stage {_LETTERS[stage]}")
        for begin, end, stage in zip(begins.tolist(), ends.tolist(), stages[begins].tolist(), strict=True)
    ]
    # EDF has no year before 1985 or after 2084
    date = start.date() if start and 1985 <= start.year <= 2084 else None
    recording = Recording(startdate=date, equipment_code="AttnSleep")
    time = start.time() if start else None
    with replacing(path) as temporary:
        Edf([], recording=recording, starttime=time, annotations=annotations).write(temporary)


def _code_lines(stages: Sequence[int], _: float) -> Iterator[str]:
    """Yield codes alone, which YASA and sleep-utils both read: the latter knows no N3, and neither knows `?`."""
    return map(str, stages)


def _bids_lines(stages: Sequence[int], begin_s: float) -> Iterator[str]:
    """Yield the events of a BIDS data set, one for each sleep epoch."""
    yield "onset\tduration\ttrial_type"
    for position, stage in enumerate(stages):
        yield f"{begin_s + SLEEP_EPOCH_S * position:.12g}\t{SLEEP_EPOCH_S}\t{_BIDS[stage]}"


def _luna_lines(stages: Sequence[int], begin_s: float) -> Iterator[str]:
    """Yield Luna's annotations, one for each sleep epoch, in seconds from the start of the recording."""
    yield "class\tinstance\tchannel\tstart\tstop\tmeta"
    for position, stage in enumerate(stages):
        start_s = begin_s + SLEEP_EPOCH_S * position
        yield f"{_LETTERS[stage]}\t.\t.\t{start_s:.12g}\t{start_s + SLEEP_EPOCH_S:.12g}\t."
