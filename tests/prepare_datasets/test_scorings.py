import numpy as np
import pytest
from edf_writer import write_profusion
from prepare_datasets.hypnograms import read_profusion_xml, stages_from_annotations

from utils.errors import UserError


def test_every_annotation_text_has_its_stage():
    texts = [f"Sleep stage {letter}" for letter in "W1234R?"] + ["Movement time"]
    stages = stages_from_annotations([(30.0 * i, 30.0, text) for i, text in enumerate(texts)], 8, "here")
    assert stages.tolist() == [0, 1, 2, 3, 3, 4, -1, -1]


def test_what_is_not_annotated_is_not_scored_and_what_has_no_signal_is_left_away():
    annotations = [(60.0, 60.0, "Sleep stage 2"), (150.0, 86400.0, "Sleep stage ?"), (9e9, 30.0, "Sleep stage W")]
    assert stages_from_annotations(annotations, 6, "here").tolist() == [-1, -1, 2, 2, -1, -1]


def test_the_same_stage_twice_is_no_contradiction():
    assert stages_from_annotations([(0, 60, "Sleep stage 3"), (30, 60, "Sleep stage 4")], 3, "here").tolist() == [
        3,
        3,
        3,
    ]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (
            [(0, 30, "Sleep stage W"), (30, 30, "Lights off")],
            r"unknown annotation 'Lights off' at 30 s. Known are",
        ),
        ([(0, 45, "Sleep stage W")], "'Sleep stage W' begins at 0 s and lasts 45 s, not multiples of 30 s"),
        ([(15, 30, "Sleep stage W")], "begins at 15 s and lasts 30 s, not multiples"),
        ([(-30, 30, "Sleep stage W")], "begins at -30 s"),
        ([(0, 0, "Sleep stage W")], "lasts 0 s"),
        (
            [(0, 90, "Sleep stage 1"), (60, 30, "Sleep stage R")],
            "'Sleep stage R' at 60 s overlaps another stage at 60 s",
        ),
        ([(0, 90, "Sleep stage 1"), (60, 30, "Movement time")], "overlaps another stage"),
        ([(0, 30, "Sleep stage ?"), (0, 30, "Sleep stage W")], "overlaps another stage at 0 s"),
    ],
)
def test_annotations_that_cannot_be_stages_are_refused(annotations, message):
    with pytest.raises(UserError, match=f"^here: .*{message}"):
        stages_from_annotations(annotations, 10, "here")


def test_every_profusion_code_has_its_stage(tmp_path):
    path = write_profusion(tmp_path / "night.xml", [0, 1, 2, 3, 4, 5, " 6\n", 9])
    stages = read_profusion_xml(path)
    assert stages.tolist() == [0, 1, 2, 3, 3, 4, -1, -1]
    assert stages.dtype == np.int32


BILLION_LAUGHS = """<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<CMPStudyConfig><SleepStages><SleepStage>&b;</SleepStage></SleepStages></CMPStudyConfig>"""
EXTERNAL = """<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<CMPStudyConfig><SleepStages><SleepStage>&a;</SleepStage></SleepStages></CMPStudyConfig>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "night.xml: not XML that can be read"),
        ("<CMPStudyConfig><SleepStages>", "not XML that can be read"),
        ("<a>\0</a>", "not XML that can be read"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "not XML that can be read"),
        (BILLION_LAUGHS, "declares entities"),
        (EXTERNAL, "declares entities"),
        ("<CMPStudyConfig><ScoredEvents/></CMPStudyConfig>", "no SleepStages/SleepStage in it"),
        ("<CMPStudyConfig><SleepStages/></CMPStudyConfig>", "no SleepStages/SleepStage in it"),
    ],
)
def test_xml_without_readable_stages_is_refused(tmp_path, text, message):
    path = tmp_path / "night.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_profusion_xml(path)


@pytest.mark.parametrize("code", ["7", "-1", "2.0", "REM", "", "9" * 400])
def test_an_unknown_profusion_code_is_refused_with_its_place(tmp_path, code):
    with pytest.raises(UserError, match="sleep epoch 3 has the unknown stage .* Known are 0, 1, 2, 3, 4, 5, 6, 9"):
        read_profusion_xml(write_profusion(tmp_path / "night.xml", [0, 0, code]))
