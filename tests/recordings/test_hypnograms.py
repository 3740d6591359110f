import datetime as dt
import re

import numpy as np
import pytest
from edf_writer import START, contents, edit, write_annotations, write_psg
from hypnogram_writer import FORMS, LETTERS, STAGE, write_form, write_lines

from recordings.hypnogram_events import Event
from recordings.hypnograms import load_hypnogram, make_hypnogram, read_hypnogram
from utils.errors import UserError

NAMES = {"W": "Sleep stage W", "1": "Sleep stage 1", "2": "Sleep stage 2", "R": "Sleep stage R", "?": "Sleep stage ?"}


def stages(events, n_sleep_epochs, begin_s=0.0):
    events = [Event(onset_s, duration_s, NAMES.get(name, name)) for onset_s, duration_s, name in events]
    return make_hypnogram(events, "here").stages(n_sleep_epochs, begin_s).tolist()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("start", [START, dt.datetime(2020, 2, 28, 23, 50)])
def test_every_form_gives_the_same_stages_and_is_left_as_it_was(tmp_path, form, start):
    path = write_form(form, tmp_path, "night 1", start=start)
    before = contents(tmp_path)
    stages = read_hypnogram(path, len(LETTERS), start.isoformat())
    assert stages.tolist() == [STAGE[letter] for letter in LETTERS]
    assert stages.dtype == np.int32
    assert contents(tmp_path) == before


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_hypnogram_may_have_the_part_of_a_sleep_epoch_at_the_end_of_the_recording(tmp_path, form):
    path = write_form(form, tmp_path, "night")
    stages = read_hypnogram(path, len(LETTERS) - 1, START.isoformat(), has_rest=True)
    assert stages.tolist() == [STAGE[x] for x in LETTERS[:-1]]


def test_annotations_are_read_from_the_recording_itself(tmp_path):
    annotations = [(30.0 * i, 30.0, NAMES[letter]) for i, letter in enumerate("WW122R2?")]
    path = write_psg(tmp_path / "night.edf", seconds=240, annotations=annotations)
    assert read_hypnogram(path, 8, START.isoformat()).tolist() == [0, 0, 1, 2, 2, 4, 2, -1]


def test_bytes_of_the_signal_are_taken_for_no_annotations(tmp_path):
    path = write_psg(tmp_path / "night.edf", annotations=[(0.0, 300.0, "Sleep stage 2")])
    edit(path, path.stat().st_size // 2, "+30\x1530\x14Sleep stage R\x14\x00")
    assert read_hypnogram(path, 10, START.isoformat()).tolist() == [2] * 10


def test_a_start_that_differs_from_the_recordings_is_refused(tmp_path):
    path = write_annotations(tmp_path / "h.edf", [(0, 60, "Sleep stage 2")], start=START.replace(minute=14))
    with pytest.raises(UserError, match="h.edf: starts at 1989-04-24T16:14:00, but its recording at 1989-04-24T16:13"):
        read_hypnogram(path, 2, START.isoformat())
    with pytest.raises(UserError, match="They must agree"):
        read_hypnogram(path, 2, START.replace(minute=14, day=25).isoformat())
    assert read_hypnogram(path, 2, "").tolist() == [2, 2]


def test_a_date_that_was_taken_away_is_no_other_start(tmp_path):
    path = write_annotations(tmp_path / "h.edf", [(0, 60, "Sleep stage 2")], start=START.replace(1985, 1, 1))
    assert read_hypnogram(path, 2, START.isoformat()).tolist() == [2, 2]
    with pytest.raises(UserError, match="They must agree"):
        read_hypnogram(path, 2, START.replace(minute=14).isoformat())


def test_what_is_not_annotated_is_not_scored_and_what_has_no_signal_is_left_away():
    assert stages([(60, 60, "2"), (150, 86400, "?"), (9e9, 30, "W")], 6) == [-1, -1, 2, 2, -1, -1]


def test_the_same_stage_twice_is_no_contradiction():
    assert stages([(0, 60, "Sleep stage 3"), (30, 60, "Sleep stage 4")], 3) == [3, 3, 3]


def test_the_order_of_the_lines_does_not_matter():
    assert stages([(60, 30, "2"), (0, 60, "W")], 3) == [0, 0, 2]


def test_what_is_said_to_be_no_stage_is_passed_over():
    events = [Event(0, 60, "N2"), Event(12.5, 3, "Arousal"), Event(60, 30, "N3")]
    assert make_hypnogram(events, "here", {"Arousal": None}).stages(3).tolist() == [2, 2, 3]
    with pytest.raises(UserError, match="here: no stages in it"):
        make_hypnogram([Event(0, 60, "Arousal")], "here", {"Arousal": None})


def test_stages_scored_in_parts_of_sleep_epochs_are_joined():
    assert stages([(10 * i, 10, "W" if i < 6 else "2") for i in range(9)], 3) == [0, 0, 2]


def test_a_sleep_epoch_that_is_scored_in_part_is_not_scored():
    assert stages([(0, 45, "W"), (60, 40, "2")], 4) == [0, -1, 2, -1]
    assert stages([(15, 75, "W")], 4) == [-1, 0, 0, -1]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([(0, 45, "W"), (45, 45, "2")], "'Sleep stage W' until 45 s and 'Sleep stage 2' from 45 s are in one"),
        ([(0, 35, "W"), (50, 40, "2")], "are in one sleep epoch: not multiples of 30 s from 0 s on"),
        ([(20 * i, 20, "W2"[i % 2]) for i in range(9)], "until 20 s and 'Sleep stage 2' from 20 s are in one"),
        ([(12.5 + 30 * i, 30, "W2"[i % 2]) for i in range(9)], "until 42.5 s and 'Sleep stage 2' from 42.5 s"),
        ([(-30, 30, "W")], "'Sleep stage W' begins at -30 s, before the recording"),
        ([(float("nan"), 30, "W")], "begins at nan s"),
        ([(0, 90, "1"), (60, 30, "R")], "'Sleep stage R' at 60 s overlaps 'Sleep stage 1', which begins at 0 s"),
        ([(0, 300, "2"), (30, 30, "2"), (60, 30, "W")], "'Sleep stage W' at 60 s overlaps 'Sleep stage 2'"),
        ([(0, 90, "1"), (60, 30, "Movement time")], "'Movement time' at 60 s overlaps 'Sleep stage 1'"),
        ([(0, 30, "?"), (0, 30, "W")], "'Sleep stage W' at 0 s overlaps 'Sleep stage [?]'"),
        ([(0, 30, "W"), (30, 30, "Visit")], "unknown stages 'Visit' .1.. "),
        ([(0, 0, "W"), (30, 0, "2"), (120, 0, "W")], "at 30 s has no duration, and the next stage begins 90 s"),
        ([(0, 0, "W"), (0, 0, "W")], "at 0 s has no duration, and the next stage begins 0 s later"),
        ([], "no stages in it"),
    ],
)  # fmt: skip
def test_events_that_do_not_give_each_sleep_epoch_one_stage_are_refused(events, message):
    with pytest.raises(UserError, match=f"^here: .*{message}"):
        stages(events, 10)


def test_stages_without_durations_last_until_the_next_a_sleep_epoch_later():
    assert stages([(0, 0, "W"), (30, 0, "2"), (60, 0, "W")], 4) == [0, 2, 0, -1]


def test_rounded_times_are_on_the_grid():
    assert stages([(0, 59.99, "W"), (59.98, 30.03, "2"), (90.01, 30, "R")], 4) == [0, 0, 2, 4]


@pytest.mark.parametrize(("first_s", "begin_s"), [(30, 0), (12.5, 12.5), (312.5, 12.5), (29.99, 0), (60.01, 0)])
def test_a_hypnogram_says_where_its_sleep_epochs_begin(first_s, begin_s):
    hypnogram = make_hypnogram([Event(0, first_s, "?"), Event(first_s, 60, "W"), Event(first_s + 60, 30, "N2")], "here")
    assert hypnogram.begin_s == begin_s
    first = round((first_s - begin_s) / 30)
    assert hypnogram.stages(first + 3, begin_s).tolist() == [-1] * first + [0, 0, 2]


def test_a_hypnogram_knows_where_sleep_ends():
    assert make_hypnogram([Event(0, 60, "N2"), Event(60, 90, "W"), Event(150, 30, "?")], "here").end_of_sleep_s == 60
    assert make_hypnogram([Event(0, 60, "?")], "here").end_of_sleep_s == 0
    assert make_hypnogram([Event(0, 60, "?")], "here").begin_s == 0


def test_what_was_taken_for_granted_is_remarked(tmp_path):
    path = write_lines(tmp_path / "codes.txt", [0, 1, 2, 3, 4])
    hypnogram = load_hypnogram(path, 5)
    assert hypnogram.remarks == ("codes: 0 is W, 1 is N1, 2 is N2, 3 is N3, 4 is REM",)
    assert hypnogram.stage_codes == {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "REM"}
    names = write_lines(tmp_path / "names.txt", ["Stage", "S2", "MT", "Lights off"])
    hypnogram = load_hypnogram(names, 3)
    assert hypnogram.stage_codes == {"S2": "N2", "MT": "?", "Lights off": "-"}
    assert hypnogram.remarks == ("hypnogram: the first line is its head",)


def test_a_file_that_is_no_hypnogram_is_one_line(tmp_path):
    for name, content, message in (
        ("a.edf", b"", "the file is empty"),
        ("a.edf", b"MZ" + bytes(600), "not an EDF file"),
        ("a.bdf", b"0" + bytes(600), "not a BDF file"),
        ("a.xml", b"\x89PNG", "not XML"),
        ("a.csv", b"", "no stages in it"),
        ("a.txt", bytes(range(256)) * 4, "unknown stages|no table|no column|stages, but"),
        ("a.tsv", b"\xff\xfeW\x00\n\x00", "1 stages, but the recording has 5 sleep epochs"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            read_hypnogram(tmp_path / name, 5)
        assert re.match(r"a\.\w+: ", str(error.value))
        assert "\n" not in str(error.value)
