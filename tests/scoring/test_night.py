import csv
import datetime as dt
import json

import mne
import numpy as np
import pytest

from scoring.night import (
    Night,
    Scoring,
    description,
    earlier_night,
    parse_start,
    result_files,
    time_in_bed,
    with_remarks,
    write_night,
)
from utils.errors import UserError

START = dt.datetime(1989, 4, 24, 22, 13, 7)
STAGES = [0, 0, 1, 2, 3, 3, -1, 2, 4, 4, 0]
SETTINGS = {"recording": "/data/night1.edf", "channel": "EEG Fpz-Cz", "from": None}


def made_night(stages=STAGES, **changes):
    stages = np.array(stages)
    probabilities = np.full((len(stages), 5), 0.1, np.float32)
    probabilities[np.arange(len(stages)), stages] = 0.6
    probabilities[2] = [0.2, 0.4, 0.2, 0.1, 0.1]
    probabilities[stages == -1] = np.nan
    return Night("night 1", **({"channel": "EEG", "start": START, "scoring": Scoring(stages, probabilities)} | changes))


def written(folder, night, about=None):
    files = result_files(folder, night.name)
    write_night(files, night, about or {"scoring": SETTINGS})
    files[".png"].touch()
    return files


def test_the_table_has_a_line_for_each_sleep_epoch(tmp_path):
    with written(tmp_path, made_night())[".csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["onset", "duration", "stage", "p_W", "p_N1", "p_N2", "p_N3", "p_REM", "confidence",
                             "clock_time"]  # fmt: skip
    assert [int(row["onset"]) for row in rows] == list(range(0, 330, 30))
    assert {row["duration"] for row in rows} == {"30"}
    assert [row["stage"] for row in rows] == ["W", "W", "N1", "N2", "N3", "N3", "?", "N2", "REM", "REM", "W"]
    assert rows[2] | {"onset": 0} == {
        "onset": 0, "duration": "30", "stage": "N1", "p_W": "0.200000", "p_N1": "0.400000", "p_N2": "0.200000",
        "p_N3": "0.100000", "p_REM": "0.100000", "confidence": "0.400000", "clock_time": "22:14:07",
    }  # fmt: skip
    assert {rows[6][column] for column in rows[0] if column.startswith("p_")} | {rows[6]["confidence"]} == {""}


def test_the_hypnogram_says_the_same_to_mne_with_the_start_of_the_recording(tmp_path):
    path = written(tmp_path, made_night())["-Hypnogram.edf"]
    found = mne.read_annotations(path)
    expected = [(0, 60, "W"), (60, 30, "N1"), (90, 30, "N2"), (120, 60, "N3"), (180, 30, "?"), (210, 30, "N2"),
                (240, 60, "R"), (300, 30, "W")]  # fmt: skip
    assert list(zip(found.onset, found.duration, found.description, strict=True)) == [
        (onset, duration, f"Sleep stage {letter}") for onset, duration, letter in expected
    ]
    content = path.read_bytes()
    assert content[168:184] == b"24.04.8922.13.07"
    assert content[192:197] == b"EDF+C"


@pytest.mark.parametrize(
    ("start", "field"),
    [
        (None, b"01.01.8500.00.00"),
        (dt.datetime(1970, 1, 1, 23, 59, 59), b"01.01.8523.59.59"),
        (dt.datetime(2084, 12, 31, 1, 2, 3), b"31.12.8401.02.03"),
        (dt.datetime(2100, 1, 1), b"01.01.8500.00.00"),
    ],
)
def test_a_start_that_edf_cannot_hold_loses_its_date_alone(tmp_path, start, field):
    content = written(tmp_path, made_night(start=start))["-Hypnogram.edf"].read_bytes()
    assert content[168:184] == field


def test_the_summary_holds_statistics_confidence_and_versions(tmp_path):
    about = {"scoring": SETTINGS, "model": {"fs": 100}}
    said = json.loads(written(tmp_path, made_night(remarks=("resampled",)), about)[".json"].read_text())
    assert said["scoring"] == SETTINGS
    assert said["model"] == {"fs": 100}
    assert (said["start_time"], said["remarks"]) == ("1989-04-24T22:13:07", ["resampled"])
    assert (said["n_sleep_epochs"], said["n_scored"]) == (11, 10)
    assert said["sleep_epochs"] == {"W": 3, "N1": 1, "N2": 2, "N3": 2, "REM": 2}
    assert said["mean_confidence"] == pytest.approx(0.58)
    assert said["share_below_half"] == pytest.approx(0.1)
    assert said["time_in_bed_is"] == "the scored span"
    assert said["sleep_statistics"]["time_in_bed_min"] == 5.5
    assert said["sleep_statistics"]["total_sleep_time_min"] == 3.5
    assert said["agreement"] is None
    assert said["versions"].keys() == {"torch", "numpy", "scipy", "mne", "edfio"}


def test_time_in_bed_is_from_lights_off_to_lights_on_where_these_are_known():
    stages = [-1, -1, 0, 1, 2, -1, 2, 0, -1, -1]
    said = description(made_night(stages, in_bed=(1, 9)))
    assert said["time_in_bed_is"] == "from lights off to lights on"
    assert said["sleep_statistics"]["time_in_bed_min"] == 4
    assert said["sleep_statistics"]["sleep_latency_min"] == 1
    assert said["sleep_statistics"]["sleep_efficiency"] == 1.5 / 4


def test_agreement_is_over_what_both_have_scored():
    hypnogram = np.array([0, 0, 2, 2, 3, -1, 3, 2, 4, 0, -1])
    figures = made_night(hypnogram=hypnogram).agreement
    assert figures["n"] == 8
    assert figures["accuracy"] == 6 / 8
    assert figures["confusion_matrix"] == [
        [2, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 2, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]
    ]  # fmt: skip
    assert figures["f1"] == pytest.approx({"W": 4 / 5, "N1": 0, "N2": 4 / 5, "N3": 1, "REM": 2 / 3})
    assert {"kappa", "macro_f1", "mgm"} < figures.keys()
    assert made_night(hypnogram=hypnogram * 0 - 1).agreement is None
    assert made_night().agreement is None
    json.dumps(made_night([0, 0, 0], hypnogram=np.zeros(3, int)).agreement, allow_nan=False)


def test_remarks_tell_of_the_rest_of_gaps_of_flat_parts_and_of_agreement():
    signal = np.random.default_rng(0).normal(0, 20, 11 * 100 + 41).astype(np.float32)
    signal[620], signal[100:300] = np.nan, 7
    empty = np.arange(11) < 2
    night = with_remarks(made_night(remarks=("first",), hypnogram=np.array(STAGES), empty=empty), signal, 100)
    assert night.remarks == (
        "first",
        "its last 12.3 s do not fill a sleep epoch and are not scored",
        "1 sleep epochs with a gap are not scored",
        "2 of 11 sleep epochs (18.2 %) are without signal (flat or clipped) and not scored",
        "agrees with the hypnogram in 100.0 % of 10 sleep epochs, kappa 1.00, macro F1 100.0 %",
    )
    alone = with_remarks(made_night(hypnogram=np.full(11, -1)), signal[300:600].repeat(4)[:1100], 100)
    assert alone.remarks[-1] == "the hypnogram has no stage where it is scored"


@pytest.mark.parametrize(
    ("off", "on", "in_bed", "remark"),
    [
        ("22:43:07", "23:43:07", (60, 180), None),
        ("22:43:08", "23:43:06", (61, 179), None),
        ("23:00", "06:45", (94, 1023), None),
        (None, "06:45", (0, 1023), None),
        ("01:00", None, (334, 1200), None),
        ("22:00", "23:13:07", (0, 120), "lights off is before its start"),
        ("23:13:07", "09:00", (120, 1200), "lights on is after its end"),
        ("23:13:07", "23:13:07", (120, 1200), "lights on is after its end"),
    ],
)
def test_lights_off_and_on_are_found_in_the_night(off, on, in_bed, remark):
    found, remarks = time_in_bed(START, 1200, seconds(off), seconds(on), "a.edf")
    assert found == in_bed
    assert remarks == ([remark] if remark else [])


def seconds(clock):
    return clock and sum(int(part) * size for part, size in zip(clock.split(":"), (3600, 60, 1), strict=False))


def test_lights_that_are_not_given_limit_nothing_and_need_no_start():
    assert time_in_bed(None, 100, None, None, "a.edf") == (None, [])
    with pytest.raises(UserError, match="a.edf: its start time is not known, so --from and --to cannot be found in it"):
        time_in_bed(None, 100, 0, None, "a.edf")


def test_lights_are_not_looked_for_in_a_recording_whose_start_is_in_utc():
    with pytest.raises(UserError, match=r"a.fif: its start is in UTC, so clock times \(--from, --to\) cannot be found"):
        time_in_bed(START.replace(tzinfo=dt.UTC), 100, 0, None, "a.fif")


@pytest.mark.parametrize(
    ("off", "on"), [("09:00", None), ("09:00", "10:00"), ("23:00", "23:00:29"), (None, "22:13:20")]
)
def test_lights_with_no_sleep_epoch_between_are_refused(off, on):
    with pytest.raises(
        UserError, match="a.edf: no sleep epoch between --from and --to: it starts at 22:13:07 and lasts"
    ):
        time_in_bed(START, 1200, seconds(off), seconds(on), "a.edf")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("1989-04-24T22:13:07", START),
        ("1989-04-24T22:13:07.250000", START),
        ("1989-04-24T22:13:07.5+00:00", START.replace(tzinfo=dt.UTC)),
        ("", None),
        ("24.04.1989", None),
    ],
)
def test_a_start_is_read_to_the_second_or_not_known(text, start):
    assert parse_start(text) == start


def test_a_finished_night_is_kept_and_one_of_other_settings_refused(tmp_path):
    files = written(tmp_path, made_night())
    assert earlier_night(files, SETTINGS, overwrite=False)["n_scored"] == 10
    assert earlier_night(files, SETTINGS, overwrite=True) is None
    other = SETTINGS | {"channel": "C4-M1"}
    message = (
        'night 1.json: there already, scored with other settings or files (channel: "EEG Fpz-Cz" -> "C4-M1"). '
        "Pass --overwrite to replace it, or another --output_dir."
    )
    with pytest.raises(UserError) as refused:
        earlier_night(files, other, overwrite=False)
    assert str(refused.value) == message
    assert earlier_night(files, other, overwrite=True) is None


@pytest.mark.parametrize("lost", [".csv", "-Hypnogram.edf", ".png"])
def test_a_night_that_was_interrupted_is_scored_again(tmp_path, lost):
    files = written(tmp_path, made_night())
    files[lost].unlink()
    assert earlier_night(files, SETTINGS, overwrite=False) is None


def test_further_formats_are_the_nights_own_files_and_go_when_it_is_written_without_them(tmp_path):
    night = made_night()
    files = result_files(tmp_path, night.name, ["lines", "bids"])
    (tmp_path / "night 1.txt").write_text("of a scorer")
    with pytest.raises(
        UserError, match=r"^night 1.txt: there already in .*, and not from a scored night. Pass another"
    ):
        earlier_night(files, SETTINGS, overwrite=True)
    (tmp_path / "night 1.txt").unlink()
    write_night(files, night, {"scoring": SETTINGS})
    files[".png"].touch()
    assert (tmp_path / "night 1.txt").read_text().splitlines() == [str(stage) for stage in STAGES]
    assert earlier_night(files, SETTINGS, overwrite=False)["formats"] == ["lines", "bids"]
    assert earlier_night(result_files(tmp_path, night.name), SETTINGS, overwrite=False)
    more = result_files(tmp_path, night.name, ["lines", "luna"])
    assert earlier_night(more, SETTINGS, overwrite=False) is None
    (tmp_path / "night 1.annot").write_text("of a scorer")
    with pytest.raises(UserError, match=r"^night 1.annot: there already"):
        earlier_night(more, SETTINGS, overwrite=False)
    write_night(result_files(tmp_path, night.name), night, {"scoring": SETTINGS})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "night 1-Hypnogram.edf", "night 1.annot", "night 1.csv", "night 1.json"
    ]  # fmt: skip


def test_writing_again_leaves_nothing_that_the_summary_does_not_tell_of(tmp_path):
    files = written(tmp_path, made_night())
    before = files[".csv"].read_bytes()
    write_night(files, made_night([0] * 12), {"scoring": {}})
    assert not files[".png"].exists()
    assert files[".csv"].read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night 1-Hypnogram.edf", "night 1.csv", "night 1.json"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("night 1-Hypnogram.edf", "of a scorer"),
        ("night 1.csv", "of a scorer"),
        ("night 1.json", '{"TaskName": "sleep", "SamplingFrequency": 256}'),
        ("night 1.json", '{"scoring": 1}'),
        ("night 1.json", "[1]"),
        ("night 1.png", "\0"),
    ],
)
def test_a_file_that_is_not_of_a_scored_night_is_never_replaced(tmp_path, name, content, overwrite):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"^{name}: there already in {tmp_path}, and not from a scored night. Pass"):
        earlier_night(result_files(tmp_path, "night 1"), SETTINGS, overwrite)
    assert (tmp_path / name).read_text() == content
