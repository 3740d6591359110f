import pytest
from edf_writer import write_profusion

from recordings.hypnogram_events import Event
from recordings.hypnogram_xml import read_profusion_codes, read_xml
from utils.errors import UserError

BILLION_LAUGHS = """<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<CMPStudyConfig><SleepStages><SleepStage>&b;</SleepStage></SleepStages></CMPStudyConfig>"""
EXTERNAL = """<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<CMPStudyConfig><SleepStages><SleepStage>&a;</SleepStage></SleepStages></CMPStudyConfig>"""
EVENT = (
    "<PSGAnnotation><ScoredEvents><ScoredEvent><EventType>Stages|Stages</EventType><EventConcept>Wake|0</EventConcept>"
    "<Start>{}</Start><Duration>{}</Duration></ScoredEvent></ScoredEvents></PSGAnnotation>"
)


def test_profusion_codes_are_read_in_turn(tmp_path):
    path = write_profusion(tmp_path / "night.xml", [0, " 5\n", 9])
    assert read_profusion_codes(path) == ["0", "5", "9"]
    assert read_xml(path, 3).events == [Event(0, 30, "0"), Event(30, 30, "5"), Event(60, 30, "9")]


def test_profusion_says_how_long_its_epochs_are(tmp_path):
    path = write_profusion(tmp_path / "night.xml", [0, 1, 1])
    text = path.read_text()
    path.write_text(text.replace("<SleepStages>", "<EpochLength>20</EpochLength><SleepStages>"))
    assert read_xml(path, 2).events == [Event(0, 20, "0"), Event(20, 20, "1"), Event(40, 20, "1")]
    with pytest.raises(UserError, match="night.xml: 3 stages of 20 s, but the recording has 3 sleep epochs of 30 s"):
        read_xml(path, 3)
    path.write_text(text.replace("<SleepStages>", "<EpochLength>long</EpochLength><SleepStages>"))
    with pytest.raises(UserError, match="night.xml: EpochLength 'long' is no number of seconds"):
        read_xml(path, 2)


@pytest.mark.parametrize("n_sleep_epochs", [1, 4])
def test_a_profusion_file_of_another_length_is_refused(tmp_path, n_sleep_epochs):
    path = write_profusion(tmp_path / "night.xml", [0, 1, 1])
    with pytest.raises(UserError, match=f"3 stages of 30 s, but the recording has {n_sleep_epochs} sleep epochs"):
        read_xml(path, n_sleep_epochs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not XML that can be read"),
        ("<CMPStudyConfig><SleepStages>", "not XML that can be read"),
        ("<a>\0</a>", "not XML that can be read"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "not XML that can be read"),
        (BILLION_LAUGHS, "declares entities"),
        (EXTERNAL, "declares entities"),
        ("<annotationlist/>", "XML of 'annotationlist', neither of Profusion .* nor of NSRR"),
        ("<CMPStudyConfig><ScoredEvents/></CMPStudyConfig>", "no SleepStages/SleepStage in it"),
        ("<CMPStudyConfig><SleepStages/></CMPStudyConfig>", "no SleepStages/SleepStage in it"),
        ("<PSGAnnotation/>", "no ScoredEvent of the EventType Stages in it"),
        ("<PSGAnnotation><ScoredEvents><ScoredEvent/></ScoredEvents></PSGAnnotation>", "no ScoredEvent"),
        (EVENT.format("x", "30"), "Start 'x' is no number of seconds"),
        (EVENT.format("0", ""), "Duration '' is no number of seconds"),
        (EVENT.format("-30", "30"), "Start '-30' is no number of seconds"),
        (EVENT.format("0", "inf"), "Duration 'inf' is no number of seconds"),
    ],
)
def test_xml_without_readable_stages_is_refused(tmp_path, text, message):
    path = tmp_path / "night.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^night.xml: {message}"):
        read_xml(path, 1)
