"""Time zones, changes of the clock, and dates of recordings whose date is not known."""

import datetime as dt

import pytest
from hypnogram_writer import write_lines

from recordings.clock_times import onsets_from_dates
from recordings.hypnograms import load_hypnogram
from utils.errors import UserError

START = dt.datetime(2024, 1, 10, 22)


def stamps(first, *seconds):
    first = dt.datetime.fromisoformat(first)
    return [first + dt.timedelta(seconds=after_s) for after_s in seconds]


def runs(tmp_path, start_time, *rows):
    """Begins of the stages W, N2, W of a table with onset, duration and stage."""
    names = ("W", "N2", "W", "N2")
    lines = ["onset,duration,stage", *(f"{row},{name}" for row, name in zip(rows, names, strict=False))]
    path = write_lines(tmp_path / "night.csv", lines)
    return [run.begin_s for run in load_hypnogram(path, 960, start_time).runs]


@pytest.mark.parametrize(
    ("first", "start"),
    [
        ("2024-01-11T03:00:00+00:00", START),  # a recorder at UTC-5
        ("2024-01-11T04:00:00+01:00", START),
        ("2024-01-10T22:10:00+01:00", START),
        ("2024-01-10T22:10:00", START.replace(tzinfo=dt.UTC)),
        ("2024-01-10T17:00:00", START.replace(tzinfo=dt.UTC)),
    ],
)
def test_a_zone_whose_relation_to_the_clock_of_the_recording_is_not_known_is_refused(first, start):
    with pytest.raises(UserError, match=r"^a.csv: begins at .* what lies between them is not known. Write seconds"):
        onsets_from_dates(stamps(first, 0, 30), start, "a.csv")


@pytest.mark.parametrize(
    ("first", "start"),
    [
        ("2024-01-11T03:00:20+00:00", START.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))),
        ("2024-01-10T23:00:20+01:00", START.replace(tzinfo=dt.UTC)),
        ("2024-01-10T22:00:20-05:00", START),
        ("2024-01-10T22:00:20", START.replace(tzinfo=dt.UTC)),  # a start that is called UTC, but is not
        ("2024-01-10T22:00:20", START.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))),
    ],
)
def test_a_zone_that_both_have_or_a_begin_in_the_first_sleep_epoch_tells_the_times(first, start):
    assert onsets_from_dates(stamps(first, 0, 30), start, "a.csv") == [20, 50]


def test_an_offset_that_changes_within_the_night_counts(tmp_path):
    rows = ["2024-03-31T00:30:00+01:00,5400", "2024-03-31T03:00:00+02:00,3600", "2024-03-31T04:00:00+02:00,30"]
    assert runs(tmp_path, "2024-03-31T00:30:00", *rows) == [0, 5400, 9000]


def test_stamps_with_and_without_a_zone_are_refused():
    with pytest.raises(UserError, match="^a.csv: some of its dates have a time zone and some have none"):
        onsets_from_dates([START, START.replace(tzinfo=dt.UTC)], START, "a.csv")


@pytest.mark.parametrize("date", ["", "2024-03-31T"])
@pytest.mark.parametrize(
    ("clocks", "what"),
    [
        (["01:00:00,1800", "01:30:00,1800", "03:00:00,30"], "missing between its times 2 and 3"),
        (["01:00:00,3600", "02:00:00,3570", "02:59:30,30", "02:00:00,30"], "there twice between its times 3 and 4"),
    ],
)
def test_a_night_in_which_the_clock_was_changed_is_refused(tmp_path, date, clocks, what):
    with pytest.raises(UserError, match=f"^night.csv: an hour is {what}, as when the clocks change. Write seconds"):
        runs(tmp_path, "2024-03-31T01:00:00", *(date + clock for clock in clocks))


def test_a_pause_of_another_length_is_none_of_the_clock(tmp_path):
    rows = ["22:00:00,1800", "22:30:00,1800", "23:59:00,30"]
    assert runs(tmp_path, "2024-03-31T22:00:00", *rows) == [0, 1800, 7140]


def test_clock_times_for_a_start_in_utc_count_if_they_begin_with_it(tmp_path):
    assert runs(tmp_path, "2024-01-10T22:00:00+00:00", "22:00:20,30", "22:00:50,30") == [20, 50]
    with pytest.raises(UserError, match=r"no times within the recording, which starts at 22:00:00\+00:00"):
        runs(tmp_path, "2024-01-10T22:00:00+00:00", "23:00:00,30", "23:00:30,30")


@pytest.mark.parametrize("first", ["2024-01-10T22:10:00", "2024-01-11T00:10:00"])
def test_dates_for_a_recording_without_a_date_are_of_its_night(first):
    after_s = (dt.datetime.fromisoformat(first) - START).total_seconds()
    start = dt.datetime(1985, 1, 1, 22)
    assert onsets_from_dates(stamps(first, 0, 30), start, "a.csv") == [after_s, after_s + 30]
