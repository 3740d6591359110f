import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from edf_writer import (
    NIGHT,
    ROOT,
    START,
    contents,
    cut,
    eeg_digits,
    microvolts,
    not_prepared,
    run_script,
    start_script,
    write_hypnogram,
    write_psg,
)
from hypnogram_writer import FORMS, write_form, write_lines
from in_process import call_script

from recordings.edf import read_annotations

SCRIPT = "prepare_recordings.py"
LETTERS = [*"WW" * 40, *"1122M2222333444?22RRRR", *"WW" * 40, *"??"]
"""Of a night with more than 30 min of W at either end."""


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def prepare(data, *arguments, channel="EEG Fpz-Cz"):
    output = data.parent / "npz"
    return call_script(SCRIPT, "--data_dir", data, "--output_dir", output, "--select_ch", channel, *arguments)


def read(path):
    with np.load(path, allow_pickle=False) as npz:
        return dict(npz)


def write_night(data, name="night", names=("W", "N1", "N2", "N2", "R"), **psg):
    """A recording of `names`, and its scoring beside it."""
    psg = {"labels": ("C4-M1",), "seconds": 30 * len(names), "record_s": 1} | psg
    write_lines(data / f"{name}.csv", ["onset,duration,stage", *(f"{30 * i},30,{x}" for i, x in enumerate(names))])
    return write_psg(data / f"{name}.edf", **psg)


def compare_with_sleep_edf(folder, psg, hypnogram, letters):
    """Prepare one night through every form of its scoring, and hold each against what prepare_physionet makes of it."""
    sleep_edf, data = folder / "sleep_edf", folder / "data"
    sleep_edf.mkdir()
    os.link(psg, sleep_edf / "SC4001E0-PSG.edf")
    os.link(hypnogram, sleep_edf / "SC4001EC-Hypnogram.edf")
    code, _, err = call_script("prepare_physionet.py", "--data_dir", sleep_edf, "--output_dir", folder / "expected")
    assert (code, err) == (0, "")
    expected = read(folder / "expected" / "SC4001E0.npz")
    for form in FORMS:
        os.link(psg, data / f"{form.__name__}-PSG.edf")
        write_form(form, data, form.__name__, letters, START)
    code, out, err = prepare(data)
    assert (code, err) == (0, "")
    assert len(contents(data.parent / "npz")) == len(FORMS)
    for form in FORMS:
        found = read(data.parent / "npz" / f"{form.__name__}.npz")
        assert found.keys() == expected.keys()
        assert set(json.loads(str(found.pop("stage_codes"))).values()) >= {"W", "N1", "N2", "N3", "REM"}
        assert str(found.pop("source_file")) == f"{form.__name__}-PSG.edf"
        found.pop("made_from")  # names the files of each form
        assert str(found.pop("subject")) == ""
        for key, values in found.items():
            assert values.tobytes() == expected[key].tobytes(), (form, key)
    return expected


def test_every_form_of_a_scoring_gives_the_npz_of_prepare_physionet_to_the_bit(data, tmp_path):
    psg = write_psg(tmp_path / "psg.edf", seconds=30 * len(LETTERS) - 45, record_s=15)
    hypnogram = write_form(FORMS[0], tmp_path, "sleep", LETTERS)
    expected = compare_with_sleep_edf(tmp_path, psg, hypnogram, LETTERS[:-1])
    assert expected["x"].shape == (60 + 20 + 60, 3000, 1)


def test_a_real_night_gives_the_npz_of_prepare_physionet_to_the_bit(data, tmp_path, shared):
    subprocess.run([sys.executable, shared / "tools/sleep_edf_recordings.py", tmp_path, "SC4001E0"], check=True)
    psg, hypnogram = sorted(tmp_path.glob("SC*"))
    letter = {"Movement time": "M"}
    annotations = read_annotations(hypnogram)
    night = [letter.get(text, text[-1]) for _, duration_s, text in annotations for _ in range(int(duration_s) // 30)]
    assert compare_with_sleep_edf(tmp_path, psg, hypnogram, night[:2650])["x"].shape == (841, 3000, 1)


def test_annotations_in_the_recording_are_read(data):
    annotations = [(30.0 * i, 30.0, f"Sleep stage {x}") for i, x in enumerate("W1224R")]
    write_psg(data / "night.edf", seconds=180, annotations=annotations, record_s=1)
    assert prepare(data)[0] == 0
    found = read(data.parent / "npz" / "night.npz")
    np.testing.assert_array_equal(found["y"], [0, 1, 2, 2, 3, 4])
    np.testing.assert_array_equal(found["x"].ravel(), microvolts(eeg_digits(18000)))


@pytest.mark.parametrize(
    ("labels", "channel"),
    [(("C4-M1", "C4"), ["C4-M1"]), (("C4", "M1"), ["C4-M1"]), (("EEG C4", "EEG M1"), ["EEG", "C4-M1"])],
)
def test_a_channel_may_be_the_difference_of_two(data, labels, channel):
    write_night(data, labels=labels)
    output = data.parent / "npz"
    code, _, err = call_script(SCRIPT, "--data_dir", data, "--output_dir", output, "--select_ch", *channel)
    assert (code, err) == (0, "")
    found = read(output / "night.npz")
    signals = [microvolts(eeg_digits(15000, seed)) for seed in (0, 1)]
    np.testing.assert_array_equal(found["x"].ravel(), signals[0] if "C4-M1" in labels else signals[0] - signals[1])
    assert found["ch_label"] == " ".join(channel)


def test_another_rate_is_prepared_as_it_is_or_resampled_and_said(data):
    write_night(data, fs=256)
    code, out, err = prepare(data, channel="C4-M1")
    assert (code, err) == (0, "")
    assert "night: 256 Hz, but training takes 100 or 125 Hz: pass --fs" in out
    assert read(data.parent / "npz" / "night.npz")["x"].shape == (5, 7680, 1)
    code, out, err = prepare(data, "--fs", "100", channel="C4-M1")
    assert code == 1
    assert "night.npz: is there already, with another channel or rate ('C4-M1', 256 Hz). Pass --overwrite" in err
    code, out, err = prepare(data, "--fs", "100", "--overwrite", channel="C4-M1")
    assert (code, err) == (0, "")
    assert "night: resampled from 256 to 100 Hz" in out
    found = read(data.parent / "npz" / "night.npz")
    assert (found["x"].shape, found["fs"]) == ((5, 3000, 1), 100)
    assert "1 kept" in prepare(data, "--fs", "100", channel="C4-M1")[1]


@pytest.mark.parametrize("fs", ["0", "-100", "nan", "inf", "fast"])
def test_a_rate_that_is_none_is_refused(data, fs):
    code, _, err = prepare(data, "--fs", fs)
    assert code == 2
    assert "is no sampling rate in Hz from 1 to 10000" in err


def test_a_scoring_that_begins_within_the_recording_cuts_it_there(data):
    write_night(data, names=["W"] * 6)
    write_lines(
        data / "night.csv", ["onset,stage", *(f"{12.5 + 30 * i},{x}" for i, x in enumerate(["W", "N1", "N2", "R"]))]
    )
    code, out, err = prepare(data, channel="C4-M1")
    assert (code, err) == (0, "")
    assert "night: scored in sleep epochs that begin 12.5 s after its start; cut there" in out
    found = read(data.parent / "npz" / "night.npz")
    np.testing.assert_array_equal(found["x"].ravel(), microvolts(eeg_digits(18000))[1250:13250])
    np.testing.assert_array_equal(found["y"], [0, 1, 2, 4])
    np.testing.assert_array_equal(found["sleep_epoch"], range(4))
    assert found["start_time"] == "1989-04-24T16:13:12.500000"


def test_sleep_epochs_with_gaps_in_them_are_dropped_and_shift_no_other(data):
    annotations = [(30.0 * i, 30.0, f"Sleep stage {x}") for i, x in enumerate("W12RR2")]
    path = write_psg(data / "night.edf", seconds=150, record_s=1, annotations=annotations)
    make_gap(path, after=75, gap_s=30)
    code, out, err = prepare(data)
    assert (code, err) == (0, "")
    assert "night: 30 s between its data records were not recorded" in out
    found, signal = read(data.parent / "npz" / "night.npz"), microvolts(eeg_digits(15000)).reshape(-1, 1500)
    np.testing.assert_array_equal(found["sleep_epoch"], [0, 1, 4, 5])
    np.testing.assert_array_equal(found["y"], [0, 1, 4, 2])
    np.testing.assert_array_equal(found["x"].reshape(-1, 1500), signal[[0, 1, 2, 3, 6, 7, 8, 9]])


def make_gap(path, after, gap_s):
    """Turn EDF+C into EDF+D, in which the data records from `after` on begin `gap_s` later."""
    content = path.read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    for record in reversed(range(after, 150)):
        old, new = b"+%d\x14\x14\x00" % record, b"+%d\x14\x14\x00" % (record + gap_s)
        assert content.count(old) == 1
        begin = content.index(old)
        n_more = len(new) - len(old)  # taken from the zeros after the annotations of the data record
        padding = content.index(b"\0" * (1 + n_more), begin) + 1
        content = content[:begin] + new + content[begin + len(old) : padding] + content[padding + n_more :]
    assert len(content) == path.stat().st_size
    path.write_bytes(content)


def test_unknown_stages_are_told_with_the_json_that_maps_them(data, tmp_path):
    write_night(data, names=["munter", "N1", "tief", "tief", "Visite", "N2"])
    code, out, err = prepare(data, channel="C4-M1")
    assert code == 1
    (problem,) = not_prepared(err)
    assert problem.startswith("night.csv: unknown stages 'tief' (2), 'munter' (1), 'Visite' (1). ")
    names = json.loads(re.search(r"\{.*\}", problem)[0]) | {"tief": "N3", "munter": "W"}
    (tmp_path / "names.json").write_text(json.dumps(names))
    code, out, err = prepare(data, "--stage_names", tmp_path / "names.json", channel="C4-M1")
    assert (code, err) == (0, "")
    found = read(data.parent / "npz" / "night.npz")
    np.testing.assert_array_equal(found["y"], [0, 1, 3, 3, 2])
    np.testing.assert_array_equal(found["sleep_epoch"], [0, 1, 2, 3, 5])


def test_columns_are_named_and_codes_are_told(data):
    rows = [f"22:{30 + (i + 1) // 2}:{(i + 1) % 2 * 30:02d};{code}" for i, code in enumerate([0, 1, 2, 3, 4])]
    write_psg(data / "night.edf", labels=("C4-M1",), seconds=180, record_s=1, start=START.replace(hour=22, minute=30))
    write_lines(data / "night.csv", ["Ajankohta;Stage", *rows])
    code, out, err = prepare(data, channel="C4-M1")
    assert code == 1
    assert "column 'Ajankohta' holds times or counts the rows" in err
    code, out, err = prepare(data, "--columns", 'onset="Ajankohta",stage="Stage"', channel="C4-M1")
    assert (code, err) == (0, "")
    assert "night: codes: 0 is W, 1 is N1, 2 is N2, 3 is N3, 4 is REM" in out
    found = read(data.parent / "npz" / "night.npz")
    np.testing.assert_array_equal(found["sleep_epoch"], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(found["y"], [0, 1, 2, 3, 4])
    assert json.loads(str(found["stage_codes"])) == {"0": "W", "1": "N1", "2": "N2", "3": "N3", "4": "REM"}
    assert "before each = stands stage, onset, end" in prepare(data, "--columns", "when=x", channel="C4-M1")[2]


def test_subjects_are_checked_and_listed(data):
    for name in ("p1_a", "p1_b", "p2_a"):
        write_night(data, name)
    code, out, err = prepare(data, "--subject_pattern", r"^p(\d)_x?", channel="C4-M1")
    assert (code, err) == (0, "")
    assert "Subjects (2): 1: p1_a, p1_b; 2: p2_a\n" in out
    assert "Train with --set 'data_loader.args.subject_pattern=^p(\\d)_x?'\n" in out
    code, out, err = prepare(data, "--subject_pattern", r"p(1)", channel="C4-M1")
    assert (code, out) == (1, "")
    assert err == "--subject_pattern 'p(1)' finds no subject in p2_a. Mend the pattern.\n"
    assert "Each recording counts as a subject." in prepare(data, channel="C4-M1")[1]


@pytest.mark.parametrize("pattern", ["(", "p", "(a)(b)"])
def test_a_subject_pattern_that_is_none_is_refused(data, pattern):
    code, _, err = prepare(data, "--subject_pattern", pattern)
    assert code == 2
    assert f"--subject_pattern {pattern!r}: not a regular expression with one group" in err


def too_long(data, name):
    write_lines(data / f"{name}.csv", ["onset,duration,stage", "0,30,W", "30,300,N2"])


def other_start(data, name):
    (data / f"{name}.csv").unlink()
    write_hypnogram(data / f"{name}-Hypnogram.edf", NIGHT, START.replace(minute=14))


BAD = [
    (lambda data, name: (data / f"{name}.csv").unlink(), "edf: no hypnogram .*, and no annotations in it"),
    (lambda data, name: write_lines(data / f"{name}.txt", ["W"]), "edf, .*csv, .*txt: 2 hypnograms of one recording"),
    (lambda data, name: cut(data / f"{name}.edf", 100), "edf: cut off"),
    (lambda data, name: write_night(data, name, dimension="mmHg"), "edf: 'C4-M1' is in 'mmHg', which is no voltage"),
    (lambda data, name: write_night(data, name, labels=("C3-M2",)), "edf: no channel 'C4-M1'. The file has 'C3-M2', "),
    (lambda data, name: (data / f"{name}.csv").write_text(""), "csv: no stages in it"),
    (lambda data, name: write_night(data, name, ["W"] * 5), "csv: no sleep at all"),
    (too_long, "csv: sleep until 330 s, but .*edf ends after 150 s. They are not of one night"),
    (other_start, "Hypnogram.edf: starts at 1989-04-24T16:14:00, but its recording at 1989-04-24T16:13:00"),
    (lambda data, name: write_night(data, name, fs=100.25, record_s=4, seconds=152), "edf: 100.25 Hz gives no whole"),
]


def test_bad_recordings_cost_no_other_and_get_one_line_each(data):
    for number, (spoil, _) in enumerate(BAD):
        write_night(data, f"bad{number}")
        spoil(data, f"bad{number}")
    write_night(data, "good night")
    code, out, err = prepare(data, "--jobs", "1", channel="C4-M1")
    assert code == 1
    assert list(contents(data.parent / "npz")) == ["good night.npz"]
    assert f"1 prepared, 0 kept, {len(BAD)} with problems" in out
    assert "Traceback" not in out + err
    lines = sorted(not_prepared(err))
    for number, (_, message) in enumerate(BAD):
        assert re.match(rf"bad{number}[.-].*{message}", lines[number]), lines[number]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no recording in it. Pass the folder that holds them."),
        (["--ann_dir", "nowhere"], "nowhere: No such file or directory"),
    ],
)
def test_a_folder_without_recordings_is_one_line(data, arguments, message):
    (data / "README.txt").touch()
    code, out, err = prepare(data, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_stage_names_that_cannot_be_read_are_one_line(data):
    write_night(data)
    code, out, err = prepare(data, "--stage_names", data / "no.json", channel="C4-M1")
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_a_channel_must_be_named(data):
    code, _, err = call_script(SCRIPT, "--data_dir", data)
    assert code == 2
    assert "--select_ch" in err


def test_shards_prepare_all_recordings_once_side_by_side(data, tmp_path):
    names = [f"night {number:02d}" for number in range(7)]
    for name in names:
        write_night(data, name)
    write_psg(data / "unscored.edf")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["--data_dir", data, "--select_ch", "C4-M1", "--jobs", "1", "--output_dir"]
    assert run_script(SCRIPT, *arguments, whole, cwd=ROOT / "prepare_datasets")[0] == 1
    running = [start_script(SCRIPT, *arguments, parts, "--shard", f"{k}/3") for k in (1, 2, 3)]
    told = [process.communicate(timeout=120) for process in running]
    assert contents(parts) == contents(whole)
    assert sorted(process.returncode for process in running) == [0, 0, 1]
    for k, (out, err) in enumerate(told, start=1):
        mine = names[k - 1 :: 3]
        assert f"C4-M1 of {len(mine)} of 7 recordings to {parts}, shard {k}/3\n" in out
        assert re.findall(r"^night \d\d", out, re.MULTILINE) == mine
        assert f"{len(mine)} prepared, 0 kept, {int('unscored' in err)} with problems: {parts}, shard {k}/3" in out
    assert sum("unscored.edf: no hypnogram" in err for _, err in told) == 1


def test_an_npz_that_was_made_from_other_files_or_options_is_refused(data, tmp_path):
    recording = write_night(data)
    for end, first in (("_scorer1.csv", "W"), ("_scorer2.csv", "N1")):
        write_lines(data / f"night{end}", ["onset,duration,stage", f"0,30,{first}", "30,120,N2"])
    (data / "night.csv").unlink()
    names = tmp_path / "names.json"
    names.write_text('{"W": "N1"}')
    first = ("--scoring", "_scorer1.csv")
    assert prepare(data, *first, channel="C4-M1")[0] == 0
    before = contents(tmp_path / "npz")
    assert prepare(data, *first, channel="C4-M1")[0] == 0  # kept

    def refused(*arguments):
        code, _, err = prepare(data, *arguments, channel="C4-M1")
        assert code == 1
        assert contents(tmp_path / "npz") == before
        assert err.endswith("). Pass --overwrite to replace it, or another --output_dir.\n")
        return err.partition("night.npz: is there already, made from other files or options (")[2]

    assert 'hypnogram.name: "night_scorer1.csv" -> "night_scorer2.csv"' in refused("--scoring", "_scorer2.csv")
    assert refused(*first, "--stage_names", names).startswith('stage_names: null -> {"W": 1})')
    assert refused(*first, "--fs", "100").startswith("fs: null -> 100.0)")
    others = tmp_path / "others"
    others.mkdir()
    write_lines(others / "night_scorer1.csv", ["onset,duration,stage", "0,30,R", "30,120,N2"])
    assert re.match(r"hypnogram\.crc32: [^;]*\)", refused(*first, "--ann_dir", others))
    content = recording.read_bytes()
    recording.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert re.match(r"recording\.crc32: [^;]*\)", refused(*first))
    assert prepare(data, *first, "--overwrite", channel="C4-M1")[0] == 0
    assert prepare(data, *first, channel="C4-M1")[0] == 0
