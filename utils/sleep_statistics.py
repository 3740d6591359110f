"""Sleep statistics of a night, as the AASM manual defines them, and transitions between stages."""

from typing import Any

import numpy as np

from utils.stages import N_STAGES, REM, SLEEP_EPOCH_S, STAGE_NAMES, W

MINUTES = SLEEP_EPOCH_S / 60  # in one sleep epoch


def sleep_statistics(
    sleep_epoch: np.ndarray, stages: np.ndarray, in_bed: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Compute the sleep statistics of one night.

    Without lights off and lights on, what depends on them is left out: time in bed, sleep latency, sleep efficiency and
    wake after sleep onset, which counts up to lights on. Prepared recordings begin and end 30 min around sleep,
    whenever the lights went off.

    A latency begins or ends at a single sleep epoch: one wrong stage can change it a lot. Sleep epochs that are missing
    (movement, not scored) are neither sleep nor wake. They count only as time in bed and as time that passes in a
    latency.

    Parameters
    ----------
    sleep_epoch, stages : ndarray of shape (n,)
        Position of each sleep epoch in the night, at least one, and its stage, 0 to 4.
    in_bed : tuple of two int or None
        Position of the first sleep epoch after lights off, and that of the first after lights on; None if not known.

    Returns
    -------
    dict
        In minutes: `total_sleep_time_min`, all but W; `wake_within_sleep_min`, W between the first and the last sleep;
        `rem_latency_min`, from the first sleep to the first REM; `minutes_<stage>` of all stages but W. In percent of
        total sleep time: `percent_<stage>`. With `in_bed` also, in minutes, `time_in_bed_min`; `sleep_latency_min`,
        from lights off to the first sleep; `waso_min`, all W after that; `minutes_W`; and `sleep_efficiency`, total
        sleep time as a fraction of time in bed. None where a night without sleep, or without REM, has no such value.
    """
    minutes = {name: (stages == stage).sum().item() * MINUTES for stage, name in enumerate(STAGE_NAMES)}
    minutes_w = minutes.pop("W")
    asleep = stages != W
    total = asleep.sum().item() * MINUTES
    sleep_latency = waso = wake_within = rem_latency = None
    if asleep.any():
        onset, last = sleep_epoch[asleep].min(), sleep_epoch[asleep].max()
        awake = ~asleep & (sleep_epoch > onset)
        waso = awake.sum().item() * MINUTES
        wake_within = (awake & (sleep_epoch < last)).sum().item() * MINUTES
    if minutes["REM"]:
        rem_latency = float(sleep_epoch[stages == REM].min() - onset) * MINUTES
    statistics = {
        "total_sleep_time_min": total,
        "wake_within_sleep_min": wake_within,
        "rem_latency_min": rem_latency,
        **{f"minutes_{name}": value for name, value in minutes.items()},
        **{f"percent_{name}": 100 * value / total if total else None for name, value in minutes.items()},
    }
    if in_bed is None:
        return statistics
    begin, end = in_bed
    time_in_bed = float(end - begin) * MINUTES
    if asleep.any():
        sleep_latency = float(onset - begin) * MINUTES
    return {
        "time_in_bed_min": time_in_bed,
        "sleep_efficiency": total / time_in_bed,
        "sleep_latency_min": sleep_latency,
        "waso_min": waso,
        "minutes_W": minutes_w,
        **statistics,
    }


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
