import json
import re
from pathlib import Path

import numpy as np
import pytest
from compare_statistics import OF_LUNA, OF_YASA, STAGES, differences, our_figures

from utils.sleep_statistics import sleep_statistics, transitions
from utils.stages import STAGE_NAMES

GOLDEN = json.loads(Path(__file__).with_name("golden_statistics.json").read_text())
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
            "sleep_efficiency_percent": 100 * 2.5 / 5.5,
            "sleep_latency_min": 1.0,
            "persistent_sleep_latency_min": None,
            "five_minute_sleep_latency_min": None,
            "n1_latency_from_lights_off_min": 1.0,
            "n2_latency_from_lights_off_min": 1.5,
            "n3_latency_from_lights_off_min": 3.0,
            "rem_latency_from_lights_off_min": 4.0,
            "sleep_fragmentation_per_h": 2 / (2.5 / 60),
            "waso_min": 1.0,
            "minutes_W": 2.0,
            "minutes_unscored": 1.0,
            "sleep_period_time_min": 4.0,  # from 102 to 109
            "sleep_maintenance_efficiency_percent": 100 * 2.5 / 4,
            "wake_within_sleep_min": 0.5,
            "n_awakenings": 1,
            "n_stage_shifts": 3,  # N1 to N2, and N3 to W to REM
            "n1_latency_min": 0.0,
            "n2_latency_min": 0.5,
            "n3_latency_min": 2.0,
            "rem_latency_min": 3.0,  # from 102 to 108
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
    assert (statistics[0]["n_awakenings"], statistics[0]["n_stage_shifts"]) == (1, 3)
    assert night(cut).keys() - statistics[0].keys() == {
        "time_in_bed_min", "sleep_efficiency", "sleep_efficiency_percent", "sleep_latency_min", "waso_min", "minutes_W",
        "minutes_unscored", "persistent_sleep_latency_min", "five_minute_sleep_latency_min",
        "sleep_fragmentation_per_h", *(f"{stage}_latency_from_lights_off_min" for stage in ("n1", "n2", "n3", "rem")),
    }  # fmt: skip


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
    assert absent == {
        "waso_min", "wake_within_sleep_min", "sleep_maintenance_efficiency_percent", "sleep_fragmentation_per_h",
        *(name for name in statistics if "latency" in name), *(f"percent_{stage}" for stage in STAGES),
    }  # fmt: skip
    assert len([name for name in absent if "latency" in name]) == 11


def test_persistent_sleep_is_ten_minutes_that_neither_wake_nor_a_gap_interrupts():
    stages = np.array([W, *[N2] * 19, W, *[N1] * 30])
    assert night(stages)["persistent_sleep_latency_min"] == 10.5
    assert night(stages)["five_minute_sleep_latency_min"] == 0.5
    cut = np.delete(stages, 35)
    assert night(cut, np.delete(np.arange(51), 35))["persistent_sleep_latency_min"] is None
    assert night(stages[:41])["persistent_sleep_latency_min"] == 10.5
    assert night(stages[:40])["persistent_sleep_latency_min"] is None


def test_waking_up_for_good_is_no_awakening_but_ends_sleep():
    statistics = night([W, N2, N3, W, W, N1, REM, W, W])
    assert (statistics["n_awakenings"], statistics["sleep_fragmentation_per_h"]) == (1, 2 / (2 / 60))


@pytest.mark.parametrize(("source", "names"), [("yasa", OF_YASA), ("luna", OF_LUNA)])
def test_all_figures_are_those_of_yasa_and_of_luna(source, names):
    """Golden figures of YASA 0.8.1 and Luna 1.7.0; `compare_statistics.py` writes them, and compares 300 nights."""
    seen = set()
    for text, theirs in GOLDEN[source]:
        runs = [re.fullmatch(r"(\d+)(.+)", run).groups() for run in text.split()]
        stages = np.concatenate([np.full(int(n), (*STAGE_NAMES, "?").index(name)) for n, name in runs])
        assert differences(theirs, our_figures(np.where(stages == 5, -1, stages)), names) == [], text
        seen |= theirs.keys()
    assert seen == names.keys()


def test_every_statistic_is_defined_once_in_the_table_of_the_docs():
    page = (Path(__file__).parents[2] / "docs/statistics.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted([*names, "sleep_efficiency"]) == sorted(night([N2, W]))


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
