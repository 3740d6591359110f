"""Read hypnograms in XML: Compumedics Profusion's form, and NSRR's."""

from pathlib import Path
from typing import TYPE_CHECKING

from recordings.hypnogram_events import Event, Reading, consecutive_events
from utils.errors import UserError
from utils.files import read_small
from utils.stages import SLEEP_EPOCH_S

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

PROFUSION, NSRR = "CMPStudyConfig", "PSGAnnotation"  # root elements


def read_xml(path: Path, n_sleep_epochs: int, has_rest: bool = False) -> Reading:
    """Read the stages of a Profusion or NSRR file; see `hypnograms.load_hypnogram` for the parameters."""
    root = _root(path)
    if root.tag == PROFUSION:
        duration_s = _seconds(path, root.findtext("EpochLength", str(SLEEP_EPOCH_S)), "EpochLength")
        codes = _profusion_codes(path, root)
        return consecutive_events(codes, n_sleep_epochs, path.name, duration_s, has_rest)._replace(rk=True)
    if root.tag == NSRR:
        return Reading(_nsrr_events(path, root), rk=True)
    raise UserError(
        f"{path.name}: XML of {root.tag!r}, neither of Profusion ({PROFUSION}) nor of NSRR ({NSRR}). "
        "Export the hypnogram in another form."
    )


def read_profusion_codes(path: Path) -> list[str]:
    """Read the codes of a Profusion file, one for each sleep epoch."""
    return _profusion_codes(path, _root(path))


def _root(path: Path) -> "Element":
    """Parse a file that strangers may have written."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        return fromstring(read_small(path))
    except DefusedXmlException as error:
        raise UserError(f"{path.name}: declares entities, as no hypnogram does. Get it again.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path.name}: not XML that can be read ({error}). Get it again.") from error


def _profusion_codes(path: Path, root: "Element") -> list[str]:
    """Collect the stages of a Profusion file, CMPStudyConfig/SleepStages/SleepStage."""
    codes = [(element.text or "").strip() for element in root.findall("SleepStages/SleepStage")]
    if not codes:
        raise UserError(f"{path.name}: no SleepStages/SleepStage in it. Get the Profusion file of this recording.")
    return codes


def _nsrr_events(path: Path, root: "Element") -> list[Event]:
    """Collect the events of type Stages, whose concept is a name and a code, such as `Stage 2 sleep|2`."""
    events = [
        Event(
            _seconds(path, event.findtext("Start", ""), "Start"),
            _seconds(path, event.findtext("Duration", ""), "Duration"),
            event.findtext("EventConcept", "").split("|")[0].strip(),
        )
        for event in root.findall("ScoredEvents/ScoredEvent")
        if event.findtext("EventType", "").startswith("Stages")
    ]
    if not events:
        raise UserError(f"{path.name}: no ScoredEvent of the EventType Stages in it. Get the file of this recording.")
    return events


def _seconds(path: Path, text: str, element: str) -> float:
    """Parse the text of an element that holds seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{path.name}: {element} {text!r} is no number of seconds. Correct it, or get the file again.")
    return seconds
