from pathlib import Path

import pytest
from edf_writer import cut, write_annotations, write_psg

from prepare_datasets.pairing import pair_files


def paths(*names, folder="nights"):
    return [Path(folder, name) for name in names]


def names_of(pairs):
    return {name: tuple(path.name for path in pair) for name, pair in pairs.items()}


@pytest.mark.parametrize(
    ("recording", "hypnogram", "name"),
    [
        ("night1.edf", "night1.csv", "night1"),
        ("night1.edf", "night1-Hypnogram.edf", "night1"),
        ("night1.bdf", "night1_hypnogram.edf", "night1"),
        ("night1.edf", "night1_annotations.txt", "night1"),
        ("night1-PSG.edf", "night1-PSG_annotations.csv", "night1"),
        ("night1-PSG.edf", "night1-Hypnogram.edf", "night1"),
        ("sub-01_task-sleep_eeg.edf", "sub-01_task-sleep_events.tsv", "sub-01_task-sleep"),
        ("sub-01_task-sleep_eeg.vhdr", "sub-01_task-sleep_events.tsv", "sub-01_task-sleep"),
        ("shhs1-200001.edf", "shhs1-200001-nsrr.xml", "shhs1-200001"),
        ("shhs1-200001.edf", "shhs1-200001-profusion.xml", "shhs1-200001"),
        ("SN001.edf", "SN001_sleepscoring.edf", "SN001"),
        ("01-01-0001 PSG.edf", "01-01-0001 Base.edf", "01-01-0001"),
        ("my night.v2.EDF", "my night.v2_SleepStages.TXT", "my night.v2"),
        ("night.fif.gz", "night.hyp", "night"),
        ("night1.set", "night1.ids", "night1"),
        ("stages.edf", "stages.csv", "stages"),
        ("night1.edf", "night1.annot", "night1"),
        ("night1.edf", "night1.eannot", "night1"),
        ("night1-raw.fif", "night1-raw-annot.fif", "night1-raw"),
        ("night1.edf", "night1_TRUE.npy", "night1"),
    ],
)
def test_a_hypnogram_is_known_by_its_name(recording, hypnogram, name):
    pairs, problems, notes = pair_files(*[paths(recording, hypnogram)] * 2)
    assert (names_of(pairs), problems, notes) == ({name: (recording, hypnogram)}, [], [])


def test_no_hypnogram_goes_to_a_recording_of_another_name(tmp_path):
    write_psg(tmp_path / "night1.edf")
    files = [
        *tmp_path.iterdir(),
        *paths("night10.csv", "night1b_hypnogram.csv", "Night1.csv", "notes.txt", "night1.png"),
    ]
    pairs, problems, notes = pair_files(files, files)
    assert pairs == {}
    assert problems == [
        "night1.edf: no hypnogram night1.csv, night1-Hypnogram.edf, night1-nsrr.xml or the like, and no annotations in "
        "it. Add one, or say how its name ends by --scoring."
    ]
    assert notes == ["Hypnograms without a recording: night1b_hypnogram.csv"]


def test_annotations_in_the_recording_are_its_hypnogram_if_there_is_no_other(tmp_path):
    inside = write_psg(tmp_path / "a.edf", annotations=[(0, 30, "W")])
    damaged = write_psg(tmp_path / "b.edf")
    cut(damaged, 100)  # which is told when it is read
    both = write_psg(tmp_path / "c.edf", annotations=[(0, 30, "W")])
    beside = write_annotations(tmp_path / "c_hypnogram.edf", [(0, 30, "W")])
    pairs, problems, _ = pair_files(*[sorted(tmp_path.iterdir())] * 2)
    assert pairs == {"a": (inside, inside), "b": (damaged, damaged), "c": (both, beside)}
    assert problems == []


def test_json_is_a_hypnogram_if_it_holds_stages_and_there_is_no_other(tmp_path):
    for name in ("a.edf", "b.edf", "b.csv", "c.edf"):
        (tmp_path / name).touch()
    (tmp_path / "a.json").write_text('{"values": ["W"]}')
    (tmp_path / "b.json").write_text('{"values": ["W"]}')
    (tmp_path / "c.json").write_text('{"SamplingFrequency": 100}')
    (tmp_path / "c_stages.npy").touch()
    pairs, problems, _ = pair_files(*[sorted(tmp_path.iterdir())] * 2)
    hypnograms = {"a": ("a.edf", "a.json"), "b": ("b.edf", "b.csv"), "c": ("c.edf", "c_stages.npy")}
    assert (names_of(pairs), problems) == (hypnograms, [])


def test_ambiguous_pairs_are_named():
    files = paths("a.edf", "a.csv", "a-nsrr.xml", "b.edf", "b-PSG.edf", "b.csv", "c.vhdr", "d.edf", "d.txt")
    pairs, problems, _ = pair_files(files, files)
    assert list(pairs) == ["d"]
    assert [problem.split(". ")[0] for problem in problems] == [
        "a.edf, a.csv, a-nsrr.xml: 2 hypnograms of one recording",
        "b.edf, b-PSG.edf, b.csv: 2 recordings of one name",
        "c.vhdr: no hypnogram c.csv, c-Hypnogram.edf, c-nsrr.xml or the like, and no annotations in it",
    ]


def test_the_user_may_say_how_the_hypnograms_end():
    files = paths("a.edf", "a_hypnogram.edf", "a_two.csv", "a.csv", "b-PSG.edf", "b-PSG_two.csv", "c.vhdr", "c.csv")
    pairs, problems, notes = pair_files(files, files, "_two.csv")
    assert names_of(pairs) == {"a": ("a.edf", "a_two.csv"), "b": ("b-PSG.edf", "b-PSG_two.csv")}
    assert [problem.split(", ")[0] for problem in problems] == ["c.vhdr: no hypnogram c_two.csv"]
    assert notes == []


def test_hypnograms_may_be_in_another_folder():
    recordings = paths("a.edf", "a_hypnogram.edf", "b.edf")
    hypnograms = paths("a.csv", "b-Hypnogram.edf", "c-Hypnogram.edf", "d.edf", folder="hypnograms")
    pairs, problems, notes = pair_files(recordings, hypnograms)
    assert pairs == {"a": (recordings[0], hypnograms[0]), "b": (recordings[2], hypnograms[1])}
    assert problems == []
    assert notes == ["Hypnograms without a recording: c-Hypnogram.edf"]
