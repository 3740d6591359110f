"""Sleep statistics of a night, as docs/statistics.md defines them, and transitions between stages."""

from typing import Any

import numpy as np

from utils.stages import N_STAGES, REM, SLEEP_EPOCH_S, STAGE_NAMES, W

MINUTES = SLEEP_EPOCH_S / 60  # in one sleep epoch
_ASLEEP = range(W + 1, REM + 1)
_PERSISTENT_MIN = {"persistent_sleep_latency_min": 10, "five_minute_sleep_latency_min": 5}


def sleep_statistics(
    sleep_epoch: np.ndarray, stages: np.ndarray, in_bed: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Compute the sleep statistics of one night; docs/statistics.md defines each with its source.

    Without lights off and lights on, what depends on them is left out. Prepared recordings begin and end 30 min around
    sleep, whenever the lights went off.

    A latency begins or ends at a single sleep epoch: one wrong stage can change it a lot. Sleep epochs that are missing
    (movement, not scored) are neither sleep nor wake. They count only as time in bed, as sleep period time, and as time
    that passes in a latency; they end a run of persistent sleep, and the stage does not shift across them.

    Parameters
    ----------
    sleep_epoch, stages : ndarray of shape (n,)
        Position of each sleep epoch in the night, at least one, and its stage, 0 to 4.
    in_bed : tuple of two int or None
        Position of the first sleep epoch after lights off, and that of the first after lights on; None if not known.

    Returns
    -------
    dict
        The end of a name is the unit: `_min` and, at its begin, `minutes_`; `_percent` and `percent_`. Others are
        counts (`n_`) or per hour of sleep (`_per_h`), but for `sleep_efficiency`, which is a fraction. None where a
        night without sleep, or without a stage, has no such value.
    """
    order = np.argsort(sleep_epoch)
    sleep_epoch, stages = sleep_epoch[order], stages[order]
    asleep, follows = stages != W, np.diff(sleep_epoch) == 1
    slept = sleep_epoch[asleep]
    onset, last = _first(slept), _first(slept[::-1])
    first = {stage: _first(sleep_epoch[stages == stage]) for stage in _ASLEEP}
    minutes = {name: (stages == stage).sum().item() * MINUTES for stage, name in enumerate(STAGE_NAMES)}
    minutes_w = minutes.pop("W")
    total, period, within = 0.0, 0.0, asleep
    if onset is not None and last is not None:
        total, period = len(slept) * MINUTES, (last + 1 - onset) * MINUTES
        within = (sleep_epoch >= onset) & (sleep_epoch <= last)
    into_wake = follows & asleep[:-1] & ~asleep[1:]
    statistics = {
        "sleep_period_time_min": period,
        "total_sleep_time_min": total,
        "sleep_maintenance_efficiency_percent": 100 * total / period if period else None,
        "wake_within_sleep_min": _minutes(~asleep & within) if total else None,
        "n_awakenings": (into_wake & within[1:]).sum().item(),
        "n_stage_shifts": (follows & within[:-1] & within[1:] & (np.diff(stages) != 0)).sum().item(),
        **{f"{STAGE_NAMES[stage].lower()}_latency_min": _latency(onset, first[stage]) for stage in _ASLEEP},
        **{f"minutes_{name}": value for name, value in minutes.items()},
        **{f"percent_{name}": 100 * value / total if total else None for name, value in minutes.items()},
    }
    if in_bed is None:
        return statistics
    begin, end = in_bed
    time_in_bed = float(end - begin) * MINUTES
    return {
        "time_in_bed_min": time_in_bed,
        "sleep_efficiency": total / time_in_bed,
        "sleep_efficiency_percent": 100 * total / time_in_bed,
        "sleep_latency_min": _latency(begin, onset),
        **{name: _latency(begin, _run_of_sleep(slept, least)) for name, least in _PERSISTENT_MIN.items()},
        **{
            f"{STAGE_NAMES[stage].lower()}_latency_from_lights_off_min": _latency(begin, first[stage])
            for stage in _ASLEEP
        },
        "waso_min": _minutes(~asleep & (sleep_epoch > onset)) if onset is not None else None,
        "sleep_fragmentation_per_h": into_wake.sum().item() / (total / 60) if total else None,
        "minutes_W": minutes_w,
        "minutes_unscored": time_in_bed - total - minutes_w,
        **statistics,
    }


def _first(sleep_epoch: np.ndarray) -> int | None:
    """Return the first of ascending positions, None if there is none."""
    return sleep_epoch[0].item() if len(sleep_epoch) else None


def _latency(begin: int | None, end: int | None) -> float | None:
    """Return the minutes from one position to another, None if one of them does not exist."""
    return None if begin is None or end is None else (end - begin) * MINUTES


def _minutes(chosen: np.ndarray) -> float:
    """Return the minutes of the chosen sleep epochs."""
    return chosen.sum().item() * MINUTES


def _run_of_sleep(asleep: np.ndarray, least_min: float) -> int | None:
    """Return where the first unbroken run of sleep that lasts long enough begins; `asleep` are ascending positions."""
    n = round(least_min / MINUTES)
    ends = asleep[n - 1 :]
    begins = asleep[: len(ends)]
    return _first(begins[ends - begins == n - 1])


def transitions(recording: np.ndarray, sleep_epoch: np.ndarray, stages: np.ndarray) -> dict[str, Any]:
    """Count how often each stage follows each stage; a pair with a gap between does not count.

    All arrays have shape (n,); `sleep_epoch`, the position in the night, ascends within a recording.

    Returns
    -------
    dict
        `counts` of shape (5, 5), the earlier stage by row; `changes_per_night`, how often the stage changes, as a mean
        over recordings.
    """
    adjacent = (recording[1:] == recording[:-1]) & (np.diff(sleep_epoch) == 1)
    pairs = N_STAGES * stages[:-1][adjacent] + stages[1:][adjacent]
    counts = np.bincount(pairs, minlength=N_STAGES**2).reshape(N_STAGES, N_STAGES)
    changes = counts.sum() - counts.trace()
    return {"counts": counts.tolist(), "changes_per_night": changes.item() / len(np.unique(recording))}
