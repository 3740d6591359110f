import json
import re

import numpy as np
import pytest
from edf_writer import (
    ROOT,
    contents,
    eeg_digits,
    microvolts,
    not_prepared,
    run_script,
    write_profusion,
    write_psg,
)
from in_process import call_script

from recordings.reader import read_channel

SCRIPT = "prepare_shhs.py"
PUBLISHED = json.loads((ROOT / "data_loader/published_folds.json").read_text())["shhs"]["recordings"]
CODES = [0, 0, 1, 2, 2, 3, 4, 5, 5, 0]


@pytest.fixture
def folders(tmp_path):
    edf, annotations = tmp_path / "edf", tmp_path / "xml"
    edf.mkdir()
    annotations.mkdir()
    return edf, annotations


def write_shhs(folders, number, codes=CODES, labels=("EEG(sec)", "EEG"), seconds=300, **psg):
    name = f"shhs1-{number}"
    write_psg(folders[0] / f"{name}.edf", labels=labels, seconds=seconds, fs=125, record_s=1, **psg)
    write_profusion(folders[1] / f"{name}-profusion.xml", codes)


def prepare(folders, *arguments, call=call_script, **options):
    output = folders[0].parent / "npz"
    return call(
        SCRIPT, "--data_dir", folders[0], "--ann_dir", folders[1], "--output_dir", output, *arguments, **options
    )


@pytest.mark.parametrize(
    ("channel", "seed"), [([], 1), (["EEG", "C4-A1"], 1), (["EEG C3-A2"], 0), (["EEG(sec)"], 0), (["EEG"], 1)]
)
def test_a_night_becomes_an_npz_of_the_channel_that_was_asked_for(folders, channel, seed):
    write_shhs(folders, PUBLISHED[0])
    code, out, err = prepare(folders, *(["--select_ch", *channel] if channel else []))
    assert (code, err) == (0, "")
    with np.load(folders[0].parent / "npz" / f"shhs1-{PUBLISHED[0]}.npz", allow_pickle=False) as npz:
        np.testing.assert_array_equal(npz["x"], microvolts(eeg_digits(37500, seed)).reshape(10, 3750, 1))
        np.testing.assert_array_equal(npz["y"], [0, 0, 1, 2, 2, 3, 3, 4, 4, 0])
        np.testing.assert_array_equal(npz["sleep_epoch"], range(10))
        assert npz["fs"] == 125
        assert npz["ch_label"] == (" ".join(channel) or "EEG C4-A1")
        assert npz["source_file"] == f"shhs1-{PUBLISHED[0]}.edf"
        assert npz["start_time"] == "1989-04-24T16:13:00"


def test_a_night_is_resampled_to_the_rate_that_was_asked_for(folders):
    write_shhs(folders, PUBLISHED[0])
    code, out, err = prepare(folders, "--fs", 100)
    assert (code, err) == (0, "")
    assert "resampled from 125 to 100 Hz" in out
    expected = read_channel(folders[0] / f"shhs1-{PUBLISHED[0]}.edf", "EEG", fs=100).signal
    with np.load(folders[0].parent / "npz" / f"shhs1-{PUBLISHED[0]}.npz", allow_pickle=False) as npz:
        np.testing.assert_array_equal(npz["x"], expected.reshape(10, 3000, 1))
        np.testing.assert_array_equal(npz["y"], [0, 0, 1, 2, 2, 3, 3, 4, 4, 0])
        assert npz["fs"] == 100
    assert prepare(folders, "--fs", 100)[0] == 0
    for arguments in ([], ["--fs", 125]):
        code, _, err = prepare(folders, *arguments)
        assert code == 1
        assert "is there already" in err


def test_the_published_are_prepared_and_the_missing_ones_listed(folders):
    for number in (PUBLISHED[3], PUBLISHED[300], 200001):
        write_shhs(folders, number)
    write_profusion(folders[1] / f"shhs1-{PUBLISHED[7]}-profusion.xml", CODES)
    code, out, err = prepare(folders)
    assert (code, err) == (0, "")
    assert "2 prepared, 0 kept, 0 with problems" in out
    listed = re.sub(r"\s+", " ", out)
    assert f"Missing 327 of the published 329: shhs1-{PUBLISHED[0]}, shhs1-{PUBLISHED[1]}" in listed
    assert listed.count("shhs1-") == 2 + 3
    assert "and 324 more." in listed
    assert "200001" not in out


def test_all_recordings_are_whatever_is_there(folders):
    write_shhs(folders, 200001)
    write_shhs(folders, PUBLISHED[0])
    write_profusion(folders[1] / "shhs1-200003-profusion.xml", CODES)
    code, out, err = prepare(folders, "--recordings", "all", call=run_script, cwd=ROOT / "prepare_datasets")
    assert (code, err) == (0, "")
    assert sorted(contents(folders[0].parent / "npz")) == ["shhs1-200001.npz", f"shhs1-{PUBLISHED[0]}.npz"]
    assert "Annotations without a recording: shhs1-200003" in out


def test_a_recording_with_a_code_above_5_is_left_out_whole_and_listed(folders):
    write_shhs(folders, 200001)
    write_shhs(folders, 200002, codes=[*CODES[:8], 6, 9])
    code, out, err = prepare(folders, "--recordings", "all")
    assert (code, err) == (0, "")
    assert "Left out (1):\n  shhs1-200002: 2 of 10 sleep epochs have a code above 5 (movement or unscored)." in out
    assert list(contents(folders[0].parent / "npz")) == ["shhs1-200001.npz"]


def test_stages_match_the_signal_with_or_without_its_last_part(folders):
    for number, seconds, n_stages in ((200001, 329, 10), (200002, 329, 11), (200003, 300, 10)):
        write_shhs(folders, number, codes=[2] * n_stages, seconds=seconds)
    for number, seconds, n_stages in ((200011, 329, 9), (200012, 329, 12), (200013, 300, 11), (200014, 300, 9)):
        write_shhs(folders, number, codes=[2] * n_stages, seconds=seconds)
    code, out, err = prepare(folders, "--recordings", "all", "--jobs", "1")
    assert code == 1
    assert sorted(contents(folders[0].parent / "npz")) == [f"shhs1-20000{n}.npz" for n in (1, 2, 3)]
    with np.load(folders[0].parent / "npz" / "shhs1-200002.npz") as npz:
        assert npz["x"].shape == (10, 3750, 1)
    remedy = "They are not of one night: get both files again."
    assert not_prepared(err) == [
        f"shhs1-200011-profusion.xml: 9 stages, but shhs1-200011.edf has 10 sleep epochs and a part of one. {remedy}",
        f"shhs1-200012-profusion.xml: 12 stages, but shhs1-200012.edf has 10 sleep epochs and a part of one. {remedy}",
        f"shhs1-200013-profusion.xml: 11 stages, but shhs1-200013.edf has 10 sleep epochs. {remedy}",
        f"shhs1-200014-profusion.xml: 9 stages, but shhs1-200014.edf has 10 sleep epochs. {remedy}",
    ]


def test_bad_recordings_get_one_line_each_and_cost_no_other(folders):
    numbers = range(200001, 200008)
    for number in numbers:
        write_shhs(folders, number)
    edf = [folders[0] / f"shhs1-{number}.edf" for number in numbers]
    xml = [folders[1] / f"shhs1-{number}-profusion.xml" for number in numbers]
    xml[0].unlink()
    xml[1].write_text("<CMPStudyConfig><SleepStages>")
    xml[2].write_text('<!DOCTYPE a [<!ENTITY b "c">]><CMPStudyConfig>&b;</CMPStudyConfig>')
    xml[3].write_text("<CMPStudyConfig/>")
    write_profusion(xml[4], [0, 2, 7])
    write_psg(edf[5], labels=("ECG",), fs=125, record_s=1)
    code, out, err = prepare(folders, "--recordings", "all", "--jobs", "1")
    assert code == 1
    assert list(contents(folders[0].parent / "npz")) == ["shhs1-200007.npz"]
    assert "Traceback" not in out + err
    messages = [
        r"shhs1-200001.edf: no shhs1-200001-profusion.xml in .*xml. Add it, or move the recording away.",
        r"shhs1-200002-profusion.xml: not XML that can be read \(no element found: .*\). Get it again.",
        r"shhs1-200003-profusion.xml: declares entities, .* Get it again.",
        r"shhs1-200004-profusion.xml: no SleepStages/SleepStage in it. Get the Profusion file of this recording.",
        r"shhs1-200005-profusion.xml: unknown stages '7' \(1\). .*",
        r"shhs1-200006.edf: no channel 'EEG C4-A1' \(nor 'EEG'\). The file has 'ECG', .* Pass one with --select_ch.",
    ]
    lines = not_prepared(err)
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert re.fullmatch(message, line)


def test_folders_without_what_is_looked_for_are_one_line(folders):
    def one_line(text, *arguments):
        code, out, err = prepare(folders, *arguments)
        assert (code, out) == (1, "")
        assert re.search(text, err)
        assert err.count("\n") == 1

    one_line(r"no file shhs1-\*.edf in it")
    one_line("nowhere: No such file or directory", "--ann_dir", folders[1] / "nowhere")
    write_shhs(folders, 200001)
    one_line("none of the published 329 recordings in it. Pass --recordings all to prepare the 1 that")
    assert prepare(folders, "--recordings", "all")[0] == 0


def test_to_leave_out_all_there_is_is_a_problem(folders):
    write_shhs(folders, 200001, codes=[9] * 10)
    code, _, err = prepare(folders, "--recordings", "all")
    assert code == 1
    assert "nothing was prepared" in err


def test_a_night_whose_scoring_has_changed_is_not_kept(folders):
    write_shhs(folders, PUBLISHED[0])
    assert prepare(folders)[0] == 0
    assert "0 prepared, 1 kept" in prepare(folders)[1]
    write_profusion(folders[1] / f"shhs1-{PUBLISHED[0]}-profusion.xml", CODES[::-1])
    code, _, err = prepare(folders)
    assert code == 1
    assert "is there already, made from other files or options (hypnogram.crc32: " in err
