"""Names that are paths, markup, formulas or no text, and pipes, devices, folders and links where files should be."""

import csv
import json
import os
import sys

import edf_writer
import numpy as np
import pytest
from checkpoints import write_experiment
from scripts import ROOT, TRAIN, finish, run, settings, start, temporary_files, train, write_nights

from utils.errors import UserError
from utils.files import replacing, write_text
from utils.recording import Recording, read_outline, write_recording

PREDICT = [sys.executable, str(ROOT / "predict.py")]
PREPARE = [sys.executable, str(ROOT / "prepare_datasets/prepare_recordings.py"), "--select_ch", "EEG", "--jobs", "1"]
ODD = ("x\n..\nevil", "no\udcff text", "a\x1b[2Jb", "no\ufffexml")
"""Names that no log and no workbook can hold."""
LEGAL = ("x..%2F..%2Fevil", "x..\\..\\evil", "x...", "=1+1", "<b>", "睡眠 ночь", "-rf", "n" * 230)


def write_recordings(folder, names):
    """Write recordings with a scoring inside, and beside them a pipe, a device, a folder, and links to nothing."""
    folder.mkdir()
    for name in names:
        edf_writer.write_psg(
            folder / f"{name}.edf",
            labels=("EEG",),
            annotations=[(30 * n, 30, f"Sleep stage {n % 4}") for n in range(10)],
        )
    os.mkfifo(folder / "pipe.edf")
    (folder / "device.edf").symlink_to("/dev/zero")
    (folder / "folder.edf").mkdir()
    (folder / "loop.edf").symlink_to(folder / "loop.edf")
    return folder


def check_problems(code, err):
    assert code == 1
    for name in ODD:
        assert repr(name)[1:-1] in err
    for name in ("pipe", "device", "folder", "loop"):
        assert f"{name}.edf: " in err
    assert "unexpected" not in err


def test_scoring_recordings_of_odd_names_stays_in_its_folder(tmp_path):
    write_experiment(tmp_path / "place/saved/Exp1", 1)
    folder = write_recordings(tmp_path / "place/nights", [*LEGAL, *ODD])
    command = [*PREDICT, "--checkpoint", tmp_path / "place/saved/Exp1", "--select_ch", "EEG"]
    code, _, err = run([*command, "--output_dir", folder / "scored", folder], tmp_path / "place")
    check_problems(code, err)
    names = {path.name for path in (folder / "scored").iterdir()}
    files = {f"{name}{end}" for name in LEGAL for end in (".json", ".csv", ".png", "-Hypnogram.edf")}
    assert names == files | {"summary.csv"}
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    with (folder / "scored/=1+1.csv").open() as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert json.loads((folder / "scored/<b>.json").read_text())["n_scored"] == 10


def test_preparing_recordings_of_odd_names_stays_in_its_folder(tmp_path):
    folder = write_recordings(tmp_path / "nights", [*LEGAL, *ODD])
    code, _, err = run([*PREPARE, "--data_dir", folder, "--output_dir", folder / "npz"], tmp_path)
    check_problems(code, err)
    assert {path.name for path in (folder / "npz").iterdir()} == {f"{name}.npz" for name in LEGAL}
    assert [path.name for path in tmp_path.iterdir()] == ["nights"]


def test_training_on_what_is_no_recording_is_refused_by_name(tmp_path):
    nights = write_nights(tmp_path / "npz", dict.fromkeys(["SC4001E0", *ODD], 5))
    os.mkfifo(nights / "pipe.npz")
    (nights / "device.npz").symlink_to("/dev/zero")
    (nights / "folder.npz").mkdir()
    code, _, err = run([*TRAIN, "--fold_id", "0", "--np_data_dir", nights, *settings()], tmp_path)
    assert code == 1
    for name in (*ODD, "pipe", "device", "folder"):
        assert repr(f"{name}.npz")[1:-1] in err
    assert not (tmp_path / "saved").exists()


def test_names_of_markup_and_formulas_are_trained_on_and_reported(tmp_path):
    nights = write_nights(
        tmp_path / "npz", dict.fromkeys(["=1+1", "<script>alert(1)</script>".replace("/", "_"), "睡眠"], 6)
    )
    changes = settings(trainer__epochs=1, name="@SUM(A1)")
    code, _, err = train("--fold_id", "all", "--device", "cpu", "--np_data_dir", nights, *changes, cwd=tmp_path)
    assert code == 0, err
    page = (tmp_path / "saved/@SUM(A1)/fold_2/report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "睡眠" in page


@pytest.mark.parametrize("name", ODD)
def test_a_recording_of_an_odd_name_is_written_in_its_folder_and_not_taken(tmp_path, name):
    night = Recording(np.ones((1, 3000), np.float32), np.zeros(1), 100, "EEG\n../x", np.zeros(1))
    write_recording(tmp_path / "npz" / f"{name}.npz", night)
    with pytest.raises(UserError, match=r"its name has line breaks or invalid characters\. Rename it"):
        read_outline(tmp_path / "npz" / f"{name}.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["npz"]


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "report.json"
    victim.write_text("mine")
    (tmp_path / ".writing-report.json").symlink_to(victim)
    with pytest.raises(OSError, match=r"symbolic links: .*\.writing-report\.json"):
        write_text(path, "new")
    assert victim.read_text() == "mine"


def test_two_that_write_the_same_file_wait_for_each_other(tmp_path):
    path = tmp_path / "night.npz"
    script = f"from pathlib import Path; from utils.files import write_text; write_text(Path({str(path)!r}), 'second')"
    with replacing(path) as temporary:
        temporary.write_text("first")
        second = start([sys.executable, "-c", script], ROOT)
        with pytest.raises(Exception, match="timed out"):
            second.wait(timeout=2)
        assert temporary.read_text() == "first"
    assert finish(second)[0] == 0
    assert path.read_text() == "second"
    assert temporary_files(tmp_path) == []
