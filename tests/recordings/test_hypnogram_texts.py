import datetime as dt

import pytest
from hypnogram_writer import write_lines

from recordings.hypnogram_events import Event
from recordings.hypnogram_texts import read_text
from utils.errors import UserError

EVENING = "2020-02-28T22:30:00"


@pytest.fixture
def read(tmp_path):
    def read(*lines, n_sleep_epochs=4, start_time=EVENING, encoding="utf-8", end="\n"):
        path = tmp_path / "night.csv"
        path.write_bytes("".join(f"{line}{end}" for line in lines).encode(encoding))
        return read_text(path, n_sleep_epochs, start_time)[0]

    return read


TWO = [Event(0, 60, "N1"), Event(60, 60, "Schlaf ä")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_encoding_line_end_and_delimiter_is_read(read, encoding, end, delimiter):
    lines = [["Onset", "Duration", "Stage"], ["0.0", "60", "N1"], ["60", "60", "Schlaf ä"]]
    assert read(*map(delimiter.join, lines), encoding=encoding, end=end) == TWO


@pytest.mark.parametrize(
    "header",
    [
        "onset,duration,stage",
        "start [s],duration [s],stage",
        "Start (s),Duration_sec,Label",
        "init_sec,duration_sec,stage",
    ],
)
def test_columns_are_known_by_several_names(read, header):
    assert read(header, "0,60,N1", "60,60,Schlaf ä") == TWO


def test_other_columns_do_not_matter_nor_does_their_order(read):
    rows = ["value,trial_type,note,duration,onset", "7,N1,,60,0", '8,Schlaf ä,"a, b",60,60']
    assert read(*rows) == TWO


def test_comments_and_short_lines_are_read_as_one_expects(read):
    assert read("# made by hand", "onset,stage,duration", "0,N1", "30,N2,60") == [
        Event(0, 0, "N1"), Event(30, 60, "N2"),
    ]  # fmt: skip


def test_numbers_may_have_a_comma_and_quotes(read):
    assert read("onset;duration;stage", '"0,0";"60,0";"N1"', "60,0;60;Schlaf ä") == TWO


@pytest.mark.parametrize("duration", ["", "n/a", "N/A", "-1", "0"])
def test_a_duration_may_be_missing(read, duration):
    assert read("onset,duration,stage", f"0,{duration},N1") == [Event(0, 0, "N1")]


def onsets(read, *cells, **options):
    return [event.onset_s for event in read("onset,stage", *(f"{cell},N1" for cell in cells), **options)]


def test_clock_times_are_counted_from_the_start_over_midnight(read):
    assert onsets(read, "22:30:30", "23:59:30", "00:00:00", "04:00:00", n_sleep_epochs=960) == [30, 5370, 5400, 19800]
    assert onsets(read, "23:59", "0:00", n_sleep_epochs=960) == [5340, 5400]


def test_clock_times_may_be_counted_from_zero(read):
    assert onsets(read, "00:00:00", "00:00:30.5000000", "08:00:00", n_sleep_epochs=960) == [0, 30.5, 28800]
    assert onsets(read, "0:00:00", "26:00:00", n_sleep_epochs=3200) == [0, 93600]
    assert onsets(read, "00:00:00", "02:00:00", n_sleep_epochs=960, start_time="") == [0, 7200]


def test_clock_times_in_whole_seconds_are_of_a_start_in_whole_seconds(read):
    assert onsets(read, "22:30:00", "22:30:30", start_time="2020-02-28T22:30:00.400000") == [0, 30]
    assert onsets(read, "22:30:00.400", "22:30:30.400", start_time="2020-02-28T22:30:00.400000") == [0, 30]
    assert onsets(read, "2020-02-28T22:30:30", start_time="2020-02-28T22:30:00.400000") == [30]


@pytest.mark.parametrize(
    ("cells", "start_time", "message"),
    [
        (
            ["00:00:00", "04:00:00"],
            EVENING,
            "as well as times since the start of the recording, which starts at 22:30:00",
        ),
        (["12:00:00", "12:00:30"], EVENING, "no times within the recording, which starts at 22:30:00 and has 960"),
        (["22:30:00", "06:30:30"], EVENING, "no times within the recording"),
        (["22:31:00", "22:30:30"], EVENING, "no times within the recording"),
        (["22:30:00", "22:30:30"], "", "no times within the recording, which starts at an unknown time"),
        (["2020-02-28T22:30:00"], "", "gives dates and times, but its recording has no start time"),
        (["22:30:00", "x"], EVENING, "onsets such as 'x', '22:30:00'. All must be"),
        (["22:30:00", "30"], EVENING, "seconds, or clock times hh:mm:ss, or dates"),
        (["22:75:00"], EVENING, "onsets such as '22:75:00'"),
        (["1e3"], EVENING, "onsets such as '1e3'"),
        (["nan"], EVENING, "onsets such as 'nan'"),
    ],
)
def test_times_that_do_not_tell_where_they_are_in_the_recording_are_refused(read, cells, start_time, message):
    with pytest.raises(UserError, match=f"^night.csv: .*{message}"):
        onsets(read, *cells, n_sleep_epochs=960, start_time=start_time)


def test_dates_with_times_are_counted_from_the_start(read):
    assert onsets(read, "2020-02-28T22:30:30", "2020-02-29 00:00:00.000") == [30, 5400]
    assert onsets(read, "2020-02-28T22:30:30+01:00", start_time=f"{EVENING}+01:00") == [30]
    before = dt.datetime.fromisoformat(EVENING) - dt.timedelta(seconds=30)
    assert onsets(read, before.isoformat()) == [-30]


def test_the_onset_of_the_recording_goes_before_a_column_of_clock_times(read):
    rows = ["Date, Time, Recording onset, Duration, Annotation", "2020-02-28, 22:31:00, 60, 30, Sleep stage N1"]
    assert read(*rows) == [Event(60, 30, "Sleep stage N1")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["onset,duration,who"], "first line is 'onset', 'duration', 'who', in which no column is known for the stage"),
        (["a,b,c", "0,30,W"], "first line is 'a', 'b', 'c'"),
        (["0,W,x,y"], "first line is '0', 'W', 'x', 'y'"),
        (["onset,duration,stage", "0,long,W"], "duration 'long' is no number of seconds"),
        (["onset,duration,stage", "0,-30,W"], "duration '-30' is no number of seconds"),
        (["W\t30", "N1\t30"], "'N1' ends at '30', not after 30 s"),
        (["W\t30", "N1\tx"], "'N1' ends at 'x', not after 30 s"),
        (["time_base 1.0", "1"], "0 stages, but the recording has 4 sleep epochs"),
        (
            ["Epoch,Stage", "0,W"],
            "1 stages, but the recording has 4 sleep epochs of 30 s. Both must be of",
        ),
        (["W"] * 3, "3 stages, but the recording has 4 sleep epochs"),
        (["W"] * 7, "7 stages, but"),
        ([""], "no stages in it"),
        (["*Duration_sec\t60"], "no stages in it"),
    ],
)
def test_texts_that_are_no_hypnogram_of_the_recording_are_refused(read, lines, message):
    with pytest.raises(UserError, match=f"^night.csv: .*{message}"):
        read(*lines)


@pytest.mark.parametrize(("per_epoch", "each_s"), [(1, 30), (2, 15), (3, 10), (5, 6), (6, 5), (15, 2), (30, 1)])
def test_a_list_may_have_several_stages_for_each_sleep_epoch(read, per_epoch, each_s):
    events = read(*["N2"] * per_epoch * 40, n_sleep_epochs=40)
    assert events == [Event(i * each_s, each_s, "N2") for i in range(40 * per_epoch)]


def test_a_list_may_have_a_header(read):
    assert read("Stage", "W", "N1", "N1", "R") == [
        Event(30 * i, 30, name) for i, name in enumerate("W N1 N1 R".split())
    ]


def test_a_description_beside_a_list_says_what_its_codes_are(tmp_path):
    path = write_lines(tmp_path / "hypno.txt", [5, 0, 4])
    write_lines(tmp_path / "hypno_description.txt", ["time 30", "W 5", "N3 0", "", "not of two words"])
    assert read_text(path, 3, "")[0] == [Event(0, 30, "W"), Event(30, 30, "N3"), Event(60, 30, "4")]
    write_lines(tmp_path / "hypno_description.txt", ["time 20", "W 5"])
    with pytest.raises(UserError, match="hypno.txt: 3 stages of 20 s, but the recording has 3 sleep epochs"):
        read_text(path, 3, "")
