"""A recording and the hypnogram of it, laid side by side."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from recordings.hypnograms import Hypnogram, load_hypnogram
from recordings.reader import Channel, Recorded
from utils.errors import UserError
from utils.stages import SLEEP_EPOCH_S


def aligned(
    channel: Channel,
    recording: Path,
    hypnogram: Path,
    stage_names: Mapping[str, int | None] | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[Channel, Hypnogram]:
    """Read the hypnogram of a channel, and cut the channel so that its sleep epochs are those that are scored.

    Parameters
    ----------
    channel : Channel
    recording : Path
        Of the channel.
    hypnogram : Path
    stage_names, columns : mapping or None
        See `hypnograms.load_hypnogram`.

    Returns
    -------
    channel : Channel
        From the first scored sleep epoch's place in 30 s on; its remarks say what was cut.
    hypnogram : Hypnogram
        Its times are those of the uncut recording: `hypnogram.stages(n, hypnogram.begin_s)` gives the stages.

    Raises
    ------
    UserError
        The hypnogram cannot be read, or is longer than the recording.
    """
    n_samples = round(channel.fs * SLEEP_EPOCH_S)
    n_sleep_epochs, rest = divmod(len(channel.signal), n_samples)
    scored = load_hypnogram(hypnogram, n_sleep_epochs, channel.start_time, stage_names, columns, has_rest=rest > 0)
    if scored.end_of_sleep_s > (n_sleep_epochs + 1) * SLEEP_EPOCH_S:
        raise UserError(
            f"{hypnogram.name}: sleep until {scored.end_of_sleep_s:g} s, but {recording.name} ends after "
            f"{len(channel.signal) / channel.fs:g} s. They are not of one night: get both files again."
        )
    if not scored.begin_s:
        return channel, scored
    start_time = channel.start_time
    if start_time:
        start_time = (datetime.fromisoformat(start_time) + timedelta(seconds=scored.begin_s)).isoformat()
    remark = f"scored in sleep epochs that begin {scored.begin_s:g} s after its start; cut there"
    signal, remarks = channel.signal[round(scored.begin_s * channel.fs) :], (*channel.remarks, remark)
    recorded = channel.recorded or (Recorded(channel.signal, channel.fs),)
    channel = replace(channel, recorded=recorded, begin_s=scored.begin_s)
    return replace(channel, signal=signal, start_time=start_time, remarks=remarks), scored
