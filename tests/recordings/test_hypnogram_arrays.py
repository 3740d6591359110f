import json

import mne
import numpy as np
import pytest

from recordings.hypnogram_arrays import holds_stages, read_array
from recordings.hypnogram_events import Event
from utils.errors import UserError

EVENING = "2020-02-28T22:30:00"
IN_TURN = [Event(0, 30, "W"), Event(30, 30, "N1"), Event(60, 30, "REM")]


def save(path, values):
    np.save(path, values)
    return path


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("values", [["W", "N1", "REM"], [b"W", b"N1", b"REM"], [["W"], ["N1"], ["REM"]]])
def test_stages_may_be_an_array(tmp_path, values):
    assert read_array(save(tmp_path / "night.npy", values), 3, "").events == IN_TURN


def test_probabilities_become_the_most_probable_stage_and_that_is_told(tmp_path):
    path = save(tmp_path / "night.npy", np.eye(5, dtype=np.float32)[[0, 1, 4]] * 0.5 + 0.1)
    reading = read_array(path, 3, "")
    assert reading.events == IN_TURN
    assert reading.remarks == (
        "its columns are the probabilities of W, N1, N2, N3, REM, of which the largest is taken",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([-1.0, 2, 3, 4, 5])[None].repeat(3, 0) * [[1], [2], [3]], "no probabilities"),
        (np.zeros((3, 2)), "of shape .3, 2., not one stage for each sleep epoch"),
        (np.array([1j, 2, 3]), "complex128 of shape"),
        (np.array(["W", None], object), "not a npy file that can be read"),
        (np.array([2**31], np.uint32).view("U1"), "texts with letters that do not exist"),
        (np.zeros(4), "4 stages, but the recording has 3 sleep epochs"),
    ],
)
def test_other_arrays_are_refused(tmp_path, values, message):
    with pytest.raises(UserError, match=f"^night.npy: .*{message}"):
        read_array(save(tmp_path / "night.npy", values), 3, "")


def test_stages_may_be_json(tmp_path):
    path = tmp_path / "night.json"
    assert read_array(write_json(path, ["W", "N1", "REM"]), 3, "").events == IN_TURN
    assert read_array(write_json(path, {"stages": [0, 1, None]}), 3, "").events[2] == Event(60, 30, "?")
    yasa = {"values": ["W", "N1", "REM"], "freq": "30s", "start": "2020-02-28T22:30:20"}
    late = [event._replace(onset_s=event.onset_s + 20) for event in IN_TURN]
    assert read_array(write_json(path, yasa), 4, EVENING).events == late
    assert read_array(write_json(path, yasa | {"freq": "1min", "start": None}), 6, "").events[1] == Event(60, 60, "N1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sleep_epochs": [1, 2]}, "no list of stages in it"),
        ([[0], [1]], "no list of stages in it"),
        ({"values": ["W"], "freq": "1d"}, "freq '1d' is no duration"),
        ({"values": ["W"], "start": "evening"}, "start 'evening' is no date with a time"),
        ({"values": ["W"], "start": "2020-02-28T22:30:20"}, "its recording has no start time"),
    ],
)
def test_other_json_is_refused(tmp_path, content, message):
    path = write_json(tmp_path / "night.json", content)
    with pytest.raises(UserError, match=f"^night.json: .*{message}"):
        read_array(path, 1, "")
    path.write_text("{")
    with pytest.raises(UserError, match="night.json: no JSON"):
        read_array(path, 1, "")
    assert not holds_stages(path)


@pytest.mark.parametrize(
    "unread",
    [{"start_time": "22:30:20"}, {"onset": 20}, {"about": {"begins": "2020-02-28T22:30:20"}}, {"onsets": ["22:30:20"]}],
)
def test_a_start_in_json_that_is_not_read_is_refused(tmp_path, unread):
    path = write_json(tmp_path / "night.json", {"stages": ["W", "N1", "REM"], **unread})
    with pytest.raises(UserError, match="night.json: .*(holds a time, and the stages have none|may tell when)"):
        read_array(path, 3, EVENING)


def test_other_values_in_json_do_not_matter(tmp_path):
    others = {"start_time": "22:30:00", "onset": 0, "total_sleep_time": 400, "created": "2024-01-01T10:00:00"}
    path = write_json(tmp_path / "night.json", {"stages": ["W", "N1", "REM"], "scorer": "x", **others})
    assert read_array(path, 3, EVENING).events == IN_TURN


def test_a_fif_file_that_holds_no_annotations_is_refused(tmp_path):
    raw = mne.io.RawArray(np.zeros((1, 200)), mne.create_info(["C4"], 100, "eeg"), verbose="ERROR")
    raw.save(tmp_path / "night-raw.fif", verbose="ERROR")
    (tmp_path / "night-raw.fif").rename(path := tmp_path / "night-annot.fif")
    with pytest.raises(UserError, match="night-annot.fif: MNE cannot read annotations from it|no annotations"):
        read_array(path, 1, "")
    path.write_bytes(b"no fif")
    with pytest.raises(UserError, match="night-annot.fif: MNE cannot read annotations from it"):
        read_array(path, 1, "")
