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


NAMES = ("W", "N1", "N2", "N2")


def clock(i, late_s=20):
    return f"22:{30 + (late_s + 30 * i) // 60}:{(late_s + 30 * i) % 60:02d}"


LATE = [Event(20 + 30 * i, 0, name) for i, name in enumerate(NAMES)]
IN_TURN = [Event(30 * i, 30, name) for i, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    "column",
    ["Start Time", "Timestamp", "Clock Time", "Time [hh:mm:ss]", "Epoch start", "Uhrzeit", "Heure de début", "Hora"],
)
def test_columns_of_times_are_known_by_the_names_that_programs_give_them(read, column):
    rows = [f"{i + 1} ; {clock(i)} ; {name}" for i, name in enumerate(NAMES)]
    assert read(f"Epoch Number ; {column} ; Sleep Stage", *rows) == LATE


@pytest.mark.parametrize(
    "first",
    ["10:30:20 PM", "10:30:20 p.m.", "22.30.20", "28.02.2020 22:30:20", "2/28/2020 10:30:20 PM", "2020/2/28 22:30:20"],
)
def test_clock_times_and_dates_may_have_the_form_of_other_countries(read, first):
    assert read("Time,Stage", f"{first},W") == LATE[:1]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("tmin,tmax,stage", "20,50,W"),
        ("Start,End,Stage", "22:30:20,22:30:50,W"),
        ("onset_ms,duration_ms,stage", "20000,30000,W"),
        ("Start (min),Dauer [s],Stadium", "0.33333333333333333,30,W"),
        ("begin,stop,duration,label", "20,50,30,W"),
        ("start,duration,stage", "20,00:00:30,W"),
    ],
)
def test_ends_and_units_are_read(read, header, row):
    (event,) = read(header, row)
    assert event == (pytest.approx(20), pytest.approx(30), "W")


def test_rows_of_numbered_sleep_epochs_may_be_in_any_order_and_some_may_be_missing(read):
    assert read("epoch,stage", "3,N2", "1,W", "4,N2", "2,N1") == IN_TURN
    assert read("Stage,index", "W,0", "N2,3", "N1,1", "N2,2") == IN_TURN
    assert sorted(read("epoch,stage", "4,N2", "2,N1")) == [IN_TURN[1], IN_TURN[3]]
    assert read("epoch,stage", "0,W", "2,N2") == [IN_TURN[0], IN_TURN[2]]
    for numbers in ("12", "13", "115", "05"):
        with pytest.raises(UserError, match="2 rows are numbered from|3 rows are|2 stages, but"):
            read("epoch,stage", *(f"{number},W" for number in numbers))


def test_durations_without_onsets_follow_each_other_if_they_fill_the_recording(read):
    assert read("Stage,Dauer", "W,30", "N1,30", "N2,60") == [*IN_TURN[:2], Event(60, 60, "N2")]
    with pytest.raises(UserError, match="its durations are 90 s in all, but the recording has 4 sleep epochs"):
        read("Stage,Dauer", "W,30", "N2,60")


@pytest.mark.parametrize("cells", [[clock(i) for i in range(4)], ["0", "30", "60", "90"], ["1", "10", "100", "2"]])
def test_a_column_that_may_hold_times_and_is_not_known_is_refused_until_it_is_named(tmp_path, read, cells):
    rows = ["Ajankohta,Stage", *(f"{cell},{name}" for cell, name in zip(cells, NAMES, strict=True))]
    message = 'column \'Ajankohta\' holds times or counts the rows.* --columns onset="Ajankohta",stage="Stage"'
    with pytest.raises(UserError, match=f"^night.csv: {message}"):
        read(*rows)
    path = write_lines(tmp_path / "night.csv", [rows[0].replace("Stage", "Vaihe"), *rows[1:]])
    chosen = {"onset": "ajankohta ", "stage": "Vaihe"}
    events = read_text(path, 4, EVENING, None, chosen).events if cells[1] != "10" else []
    assert [event.onset_s for event in events] in ([20, 50, 80, 110], [0, 30, 60, 90], [])
    with pytest.raises(UserError, match="no line with the columns 'Zeitpunkt'"):
        read_text(path, 4, EVENING, None, {"onset": "Zeitpunkt"})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Time,A,B", "22:30:20,W,N1"], "no column is known for the stage. Call it stage, or name it with --columns"),
        (["onset (samples),stage", "2000,W"], "column 'onset .samples.' is in 'samples', no known unit of time"),
        (["onset,duration,end,stage", "0,30,90,W"], "from '0' to '90' are not 30 s"),
        (["start,end,stage", "30,30,W"], "from '30' to '30' is no time that a stage can last"),
        (["start,end,stage", "0,x,W"], "from '0' to 'x' is no time that"),
    ],
)
def test_tables_that_can_be_misread_are_refused(read, lines, message):
    with pytest.raises(UserError, match=f"^night.csv: .*{message}"):
        read(*lines)


def test_the_column_of_the_stages_may_have_the_name_of_the_scorer(read):
    rows = [f"{clock(i)},0.{(i + 2) % 4},{name}" for i, name in enumerate(NAMES)]
    assert read("Time,confidence,M. Muster", *rows) == LATE


PREAMBLE = ["Event Export", "Patient:;n1", "Start Time:;22:30:00", "Epoch Length;30", ""]


def test_lines_before_a_table_are_left_away(read):
    rows = [f"{name};{clock(i)}" for i, name in enumerate(NAMES)]
    assert read(*PREAMBLE, "Sleep Stage;Time [hh:mm:ss]", *rows) == LATE
    assert read("sep=;", "Sleep Stage;Time [hh:mm:ss]", *rows) == LATE


@pytest.mark.parametrize(
    "head", [["Hypno"], ["0"], ["Patient 7"], ["Patient: 7", "Scorer: x", ""], ["Sleep stage", ""]]
)
def test_the_head_of_a_list_is_no_sleep_epoch(read, head):
    assert read(*head, *NAMES) == IN_TURN


def test_a_list_is_one_longer_only_if_the_recording_has_a_rest(tmp_path):
    path = write_lines(tmp_path / "night.csv", ["W", *NAMES])
    assert len(read_text(path, 4, "", has_rest=True).events) == 5
    with pytest.raises(UserError, match="5 stages, but the recording has 4 sleep epochs of 30 s. Both"):
        read_text(path, 4, "")
    write_lines(path, [0, 0, 1, 2, 2])  # pandas' head, or the first stage
    for has_rest in (False, True):
        with pytest.raises(UserError, match="its first line, 0, is the first stage or, as pandas writes it, the head"):
            read_text(path, 4, "", has_rest=has_rest)


def test_a_blank_line_inside_a_list_is_a_sleep_epoch_that_is_not_scored(tmp_path, read):
    assert [event.name for event in read("W", "", "N2", "N2", "")] == ["W", "?", "N2", "N2"]
    assert read(*NAMES, end="\n\n") == IN_TURN
    assert [event.name for event in read("epoch,stage", "1,W", "2,", "3,N2", "4,N2")] == ["W", "?", "N2", "N2"]
    path = write_lines(tmp_path / "night.csv", ["W", "", *NAMES[1:]])
    with pytest.raises(UserError, match="its length fits with and without its blank lines .1.. Write"):
        read_text(path, 4, "", has_rest=True)


@pytest.mark.parametrize(
    "lines",
    [
        ["W,N1,N2,N2"], ["W N1 N2 N2"], ["[W; N1; N2; N2]"], ["W,", "N1,", "N2,", "N2,"],
        ["  1 W", "  2 N1", "  3 N2", "  4 N2"], ["0\tW", "1\tN1", "2\tN2", "3\tN2"], ["W 1", "N1 2", "N2 3", "N2 4"],
        ["1. W", "2. N1", "3. N2", "4. N2"], [",0", "0,W", "1,N1", "2,N2", "3,N2"],
    ],
)  # fmt: skip
def test_a_list_may_be_in_one_line_or_numbered(read, lines):
    assert read(*lines) == IN_TURN


def test_tables_without_a_header_are_known_by_what_they_hold(read):
    assert read(*(f"{clock(i)} {name}" for i, name in enumerate(NAMES))) == LATE
    assert read(*(f"{i + 1},{clock(i)},{name}" for i, name in enumerate(NAMES))) == LATE
    assert read("0,30,W", "30,60,N1", "60,120,N2") == [*IN_TURN[:2], Event(60, 60, "N2")]


def test_a_stage_for_each_20_s_is_known_by_their_number(read):
    assert read(*["N2"] * 6) == [Event(20 * i, 20, "N2") for i in range(6)]


def test_luna_gives_times_in_many_ways(tmp_path):
    path = tmp_path / "night.annot"
    rows = ["W . e:1 .", "N1 . 0+00:00:30 +30", "N2 . 60 ...", "L . 90 120"]
    assert read_text(write_lines(path, rows), 4, "").events == [
        *IN_TURN[:2],
        Event(60, 30, "N2"),
        Event(90, 30, "Lights on"),
    ]
    write_lines(path, ["class\tstart\tstop", "W\t22.30.20\t22.30.50"])
    assert read_text(path, 4, EVENING).events == [Event(20, 30, "W")]
    with pytest.raises(UserError, match="night.annot: 2 columns, but Luna's annot has 3, 4 or 6"):
        read_text(write_lines(path, ["W\t30"]), 4, "")


TIMES = ["22:30:20", "22:30:50", "22:31:20", "22:31:50"]


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        *((f"Zeitpunkt{end}", [f"{begin}{time.replace(':', sign)}{end}" for time in TIMES]) for begin, sign, end in [
            ("", ":", " Uhr"), ("", "-", ""), ("", ":", ":000"), ("20200304T", "", ""), ("04-Mar-2020 ", ":", ""),
            ("04.03.2020, ", ":", ""), ("Wed ", ":", ""), ("2020/03/04 ", ":", " UTC"), ("", " ", ""), ("", "h", "s"),
        ]),
        ("Zeitpunkt", [*TIMES[:3], "n/a"]),
        ("Ep", ["E1", "E10", "E2", "E3"]),
        ("Ep", ["1/4", "10/4", "2/4", "3/4"]),
        ("Std;Min;Sek", [time.replace(":", ";") for time in TIMES]),
        ("Epoche;Zeitpunkt", [f"{i + 1};{time} Uhr" for i, time in enumerate(TIMES)]),
    ],
)  # fmt: skip
def test_a_column_that_changes_from_row_to_row_is_refused_if_no_onset_is_known(read, column, cells):
    rows = [f"{cell};{name}" for cell, name in zip(cells, NAMES, strict=True)]
    with pytest.raises(UserError, match=r"holds times or counts the rows.* as in --columns onset=.*Remove it from"):
        read(f"{column};Stadium", *rows)


@pytest.mark.parametrize(
    ("column", "cells"),
    [("Nummer", "1234"), ("P", ["0.9", "0.8", "0.91", "0.7"]), ("Note", ["", "", "12 Hz", ""]), ("s", ["30"] * 4)],
)
def test_columns_that_tell_no_times_do_not_matter(read, column, cells):
    rows = [f"{cell};{name}" for cell, name in zip(cells, NAMES, strict=True)]
    assert read(f"{column};Stadium", *rows) == IN_TURN


def test_naming_the_stages_alone_does_not_allow_unknown_times(tmp_path):
    rows = [f"{time};{name}" for time, name in zip(TIMES, NAMES, strict=True)]
    with pytest.raises(UserError, match="column 'Ajankohta' holds times"):
        read_text(write_lines(tmp_path / "n.csv", ["Ajankohta;Vaihe", *rows]), 4, EVENING, None, {"stage": "Vaihe"})


def test_two_columns_of_one_name_are_refused(read):
    with pytest.raises(UserError, match="2 columns are called 'stage', and they differ.*rename or remove"):
        read("stage,stage", *(f"W,{name}" for name in NAMES))
    assert read("stage,stage", *(f"{name},{name}" for name in NAMES)) == IN_TURN


def test_blank_lines_before_a_list_count_if_it_is_as_long_as_the_recording_with_them(tmp_path, read):
    for head in ([], ["Stage"], ["Patient: 7"]):
        assert [event.name for event in read(*head, "", *NAMES[1:])] == ["?", "N1", "N2", "N2"]
        path = write_lines(tmp_path / "night.txt", [*head, "", *NAMES])
        with pytest.raises(UserError, match="fits (the recording )?with and without"):
            read_text(path, 4, EVENING, has_rest=True)


@pytest.mark.parametrize("mark", ["*", "#"])
def test_a_lone_mark_is_a_line_of_a_list_and_no_comment(read, mark):
    assert [event.name for event in read("# made by hand", "W", mark, "N2", "N2")] == ["W", mark, "N2", "N2"]
    assert read("#,Stage", *(f"{i},{name}" for i, name in enumerate(NAMES))) == IN_TURN


@pytest.mark.parametrize(
    "line",
    [
        "Start;22:30:20", "Start: 04.03.2020 22:30:20", "# Start 22:30:20", "Startzeit 22.30.20",
        "Start: 20200304T223020", "Start 22h30m20s", "Start Time: 10:30:20 PM", "Night of 2020-03-04 22:31",
    ],
)  # fmt: skip
def test_a_start_before_stages_without_times_is_refused_unless_it_is_that_of_the_recording(read, line):
    table = "Epoche;Stadium", *(f"{i + 1};{name}" for i, name in enumerate(NAMES))
    for stages in (table, NAMES, [",".join(NAMES)]):
        with pytest.raises(UserError, match="holds a time, and the stages have none.*The recording starts at 22:30:00"):
            read(line, *stages)
        own = line.replace("20 PM", "00 PM").replace("30:20", "30:00").replace("30.20", "30.00")
        own = own.replace("3020", "3000").replace("30m20", "30m00").replace(":31", ":30")
        assert read(own, *stages) == IN_TURN
    assert read(line, "onset,stage", *(f"{clock(i)},{name}" for i, name in enumerate(NAMES))) == LATE


@pytest.mark.parametrize("line", ["Date: 04.03.20", "Epoch length: 00:00:30", "Exported 2024-01-01 10:00:00"])
def test_other_times_before_stages_do_not_matter(read, line):
    assert read(line, *NAMES) == IN_TURN


def test_an_impossible_date_in_a_comment_is_refused(read):
    with pytest.raises(UserError, match="orig_time 2020-99-04 22:30:20 is no date with a time"):
        read("# orig_time : 2020-99-04 22:30:20", "onset,duration,description", "0,30,W")


@pytest.mark.parametrize("rows", [["22:30:00;22:30:59", "22:31:00;22:31:59"], ["0;59", "60;119"], ["0;59", "60;120"]])
def test_ends_may_be_the_last_second_of_a_stage(tmp_path, rows):
    path = write_lines(tmp_path / "night.csv", ["start;end;stage", *(f"{r};N{i}" for i, r in enumerate(rows))])
    reading = read_text(path, 4, EVENING)
    assert [event[:2] for event in reading.events] == [(0, 60), (60, 60 + rows[1].endswith("120"))]
    assert reading.remarks == ("each stage ends 1 s before the next begins: its end is read as its last second",)
    write_lines(path, ["start;end;stage", "1;60;W", "61;120;N2"])
    with pytest.raises(UserError, match="first stage begins at 1, .*counted from 1. Write the onsets in seconds from"):
        read_text(path, 4, EVENING)


@pytest.mark.parametrize("head", ["0", "1", "REM", "Night 7", "100"])
def test_a_first_line_that_may_be_the_head_of_a_list_is_refused_if_it_fits_with_and_without_it(tmp_path, head):
    names = ["1", *"122"] if head == "0" else ["0", *"012"]
    path = write_lines(tmp_path / "night.txt", [head, *names, "0"])
    with pytest.raises(UserError, match=f"its first line, {head}, is the first stage or the head|as pandas writes"):
        read_text(path, 5, "", has_rest=True)
