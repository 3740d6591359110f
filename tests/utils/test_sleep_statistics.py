import numpy as np
import pytest

from utils.sleep_statistics import sleep_statistics, transitions

W, N1, N2, N3, REM = range(5)


def night(stages, positions=None):
    """Statistics with lights off before the first sleep epoch and lights on after the last."""
    positions = np.arange(len(stages)) if positions is None else np.array(positions)
    return sleep_statistics(positions, np.array(stages), (positions.min(), positions.max() + 1))


def test_a_night_with_a_gap_is_as_worked_out_by_hand():
    # Positions 104 and 105 are missing: 11 sleep epochs in bed, 9 of them scored.
    statistics = night([W, W, N1, N2, N3, W, REM, REM, W], [100, 101, 102, 103, 106, 107, 108, 109, 110])
    assert statistics == pytest.approx(
        {
            "time_in_bed_min": 5.5,
            "total_sleep_time_min": 2.5,
            "sleep_efficiency": 2.5 / 5.5,
            "sleep_latency_min": 1.0,
            "waso_min": 1.0,
            "wake_within_sleep_min": 0.5,
            "rem_latency_min": 3.0,  # from 102 to 108
            "minutes_W": 2.0,
            "minutes_N1": 0.5,
            "minutes_N2": 0.5,
            "minutes_N3": 0.5,
            "minutes_REM": 1.0,
            "percent_N1": 20,
            "percent_N2": 20,
            "percent_N3": 20,
            "percent_REM": 40,
        }
    )


def test_a_gap_is_neither_sleep_nor_wake_but_time_that_passes():
    whole, gap = night([W, W, W, W, N2, W, W, REM]), night([W, W, N2, W, REM], [0, 3, 4, 5, 7])
    for name in ("time_in_bed_min", "total_sleep_time_min", "sleep_latency_min", "rem_latency_min"):
        assert gap[name] == whole[name], name
    assert (whole["waso_min"], gap["waso_min"]) == (1.0, 0.5)
    assert (whole["minutes_W"], gap["minutes_W"]) == (3.0, 1.5)


def test_without_lights_off_and_on_nothing_depends_on_where_the_night_is_cut():
    whole, cut = [W] * 40 + [N1, W, N2, REM] + [W] * 30, [W, N1, W, N2, REM, W]
    statistics = [sleep_statistics(np.arange(len(stages)), np.array(stages)) for stages in (whole, cut)]
    assert statistics[0] == statistics[1]
    assert statistics[0]["wake_within_sleep_min"] == 0.5
    of_lights = {"time_in_bed_min", "sleep_efficiency", "sleep_latency_min", "waso_min", "minutes_W"}
    assert night(cut).keys() - statistics[0].keys() == of_lights


def test_wake_after_the_last_sleep_counts_and_wake_before_the_first_does_not():
    assert night([W, W, W, N2, W, W])["waso_min"] == 1.0


def test_the_parts_of_a_night_without_gaps_add_up_to_the_time_in_bed():
    statistics = night(np.random.default_rng(0).integers(0, 5, 200))
    parts = ("sleep_latency_min", "total_sleep_time_min", "waso_min")
    assert sum(statistics[part] for part in parts) == statistics["time_in_bed_min"] == 100
    assert sum(statistics[f"percent_{stage}"] for stage in ("N1", "N2", "N3", "REM")) == pytest.approx(100)


def test_the_order_of_the_sleep_epochs_does_not_matter():
    assert night([REM, W, N2, W], [3, 2, 1, 0]) == night([W, N2, W, REM])


def test_a_night_without_rem_has_no_rem_latency():
    statistics = night([W, N1, N2, N3])
    assert statistics["rem_latency_min"] is None
    assert (statistics["minutes_REM"], statistics["percent_REM"]) == (0, 0)


def test_a_night_that_begins_with_rem_has_latencies_of_0():
    statistics = night([REM, REM, N2])
    assert (statistics["sleep_latency_min"], statistics["rem_latency_min"]) == (0, 0)


def test_a_night_without_sleep_has_no_latency_and_no_shares():
    statistics = night([W, W])
    assert (statistics["time_in_bed_min"], statistics["total_sleep_time_min"], statistics["sleep_efficiency"]) == (
        1,
        0,
        0,
    )
    absent = {name for name, value in statistics.items() if value is None}
    shares = {f"percent_{stage}" for stage in ("N1", "N2", "N3", "REM")}
    assert absent == {"sleep_latency_min", "waso_min", "wake_within_sleep_min", "rem_latency_min", *shares}


def test_transitions_are_counted_inside_recordings_and_between_neighbours_alone():
    recording = np.array(["a"] * 5 + ["b"] * 3)
    sleep_epoch = np.array([0, 1, 2, 5, 6, 7, 8, 9])
    stages = np.array([0, 0, 1, 2, 4, 0, 3, 3])
    counted = transitions(recording, sleep_epoch, stages)
    expected = np.zeros((5, 5), int)
    for before, after in [(0, 0), (0, 1), (2, 4), (0, 3), (3, 3)]:
        expected[before, after] += 1
    assert counted["counts"] == expected.tolist()
    assert counted["changes_per_night"] == 3 / 2


def test_a_night_of_one_sleep_epoch_has_no_transition():
    counted = transitions(np.array(["a"]), np.array([4]), np.array([2]))
    assert (np.sum(counted["counts"]), counted["changes_per_night"]) == (0, 0)
