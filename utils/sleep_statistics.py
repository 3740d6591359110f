"""Sleep statistics of a night, as the AASM manual defines them, and transitions between stages."""

from typing import Any

import numpy as np

from utils.stages import N_STAGES, REM, SLEEP_EPOCH_S, STAGE_NAMES, W

MINUTES = SLEEP_EPOCH_S / 60  # in one sleep epoch


def sleep_statistics(
    sleep_epoch: np.ndarray, stages: np.ndarray, in_bed: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Compute the sleep statistics of one night.

    Without lights off and lights on, time in bed is the scored span: from the beginning of the first sleep epoch to the
    end of the last. Prepared recordings are cut 30 min before and after sleep. The true sleep latency of most is
    therefore 30 min, and the wake after the last sleep counts as WASO, as in the AASM manual. So the statistics serve
    to compare a predicted hypnogram with the true one of the same night; they are no clinical measures. A latency
    begins or ends at a single sleep epoch: one wrong stage can change it a lot.

    Sleep epochs that are missing within the span (movement, not scored) are neither sleep nor wake. They count only as
    time in bed and as time that passes in a latency.

    Parameters
    ----------
    sleep_epoch, stages : ndarray of shape (n,)
        Position of each sleep epoch in the night, at least one, and its stage, 0 to 4.
    in_bed : tuple of two int or None
        Position of the first sleep epoch after lights off, and that of the first after lights on.

    Returns
    -------
    dict
        In minutes: `time_in_bed_min`; `total_sleep_time_min`, all but W; `sleep_latency_min`, from the beginning to
        the first sleep; `waso_min`, all W after that, up to the end; `rem_latency_min`, from the first sleep to the
        first REM; `minutes_<stage>`. As fractions: `sleep_efficiency`, of time in bed, and `percent_<stage>`, in
        percent of total sleep time, for all stages but W. None where a night without sleep, or without REM, has no
        such value.
    """
    asleep = stages != W
    begin, end = in_bed or (sleep_epoch.min(), sleep_epoch.max() + 1)
    time_in_bed = float(end - begin) * MINUTES
    minutes = {name: (stages == stage).sum().item() * MINUTES for stage, name in enumerate(STAGE_NAMES)}
    total = asleep.sum().item() * MINUTES
    sleep_latency = waso = rem_latency = None
    if asleep.any():
        onset = sleep_epoch[asleep].min()
        sleep_latency = float(onset - begin) * MINUTES
        waso = (~asleep & (sleep_epoch > onset)).sum().item() * MINUTES
    if minutes["REM"]:
        rem_latency = float(sleep_epoch[stages == REM].min() - onset) * MINUTES
    return {
        "time_in_bed_min": time_in_bed,
        "total_sleep_time_min": total,
        "sleep_efficiency": total / time_in_bed,
        "sleep_latency_min": sleep_latency,
        "waso_min": waso,
        "rem_latency_min": rem_latency,
        **{f"minutes_{name}": value for name, value in minutes.items()},
        **{f"percent_{name}": 100 * minutes[name] / total if total else None for name in STAGE_NAMES if name != "W"},
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
