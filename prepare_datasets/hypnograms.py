"""Hypnograms as scorers' programs write them, to one stage for each 30-s position of the night."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.stages import N1, N2, N3, REM, SLEEP_EPOCH_S, W

UNSCORED = -1
"""Stands for a position that is not scored, scored as movement, or absent from the hypnogram."""

# Rechtschaffen & Kales: stages 3 and 4 are one in the AASM's stages
ANNOTATION_STAGES = {
    "Sleep stage W": W,
    "Sleep stage 1": N1,
    "Sleep stage 2": N2,
    "Sleep stage 3": N3,
    "Sleep stage 4": N3,
    "Sleep stage R": REM,
    "Sleep stage ?": UNSCORED,
    "Movement time": UNSCORED,
}
"""Stage of each annotation text of Sleep-EDF."""

PROFUSION_STAGES = {0: W, 1: N1, 2: N2, 3: N3, 4: N3, 5: REM, 6: UNSCORED, 9: UNSCORED}
"""Stage of each code of a Profusion XML file; 6 is movement, 9 unscored."""


def stages_from_annotations(
    annotations: Iterable[tuple[float, float, str]], n_sleep_epochs: int, source: str
) -> np.ndarray:
    """Lay annotations out over the sleep epochs of a signal.

    Parameters
    ----------
    annotations : iterable of tuple
        Onset in s, duration in s, text.
    n_sleep_epochs : int
        Whole sleep epochs that the signal has. What is annotated beyond is left away.
    source : str
        Name of the file, for messages.

    Returns
    -------
    ndarray of shape (n_sleep_epochs,), int32
        0 to 4; `UNSCORED` (-1) for what is not scored.

    Raises
    ------
    UserError
        A text is unknown, an onset or a duration no multiple of 30 s, or two stages share a position.
    """
    stages = np.full(n_sleep_epochs, UNSCORED, np.int32)
    taken = np.zeros(n_sleep_epochs, bool)
    for onset_s, duration_s, text in annotations:
        if text not in ANNOTATION_STAGES:
            known = ", ".join(map(repr, ANNOTATION_STAGES))
            raise UserError(
                f"{source}: unknown annotation {text!r} at {onset_s:g} s. Known are {known}. "
                "Correct it, or take it out of the hypnogram."
            )
        begin, n = _whole(onset_s), _whole(duration_s)
        if begin is None or n is None or begin < 0 or n < 1:
            raise UserError(
                f"{source}: {text!r} begins at {onset_s:g} s and lasts {duration_s:g} s, not multiples of "
                f"{SLEEP_EPOCH_S} s. Correct it: stages are scored in sleep epochs of {SLEEP_EPOCH_S} s."
            )
        stage, where = ANNOTATION_STAGES[text], slice(begin, begin + n)
        clash = np.flatnonzero(taken[where] & (stages[where] != stage))
        if len(clash):
            at_s = (begin + clash[0]) * SLEEP_EPOCH_S
            raise UserError(
                f"{source}: {text!r} at {onset_s:g} s overlaps another stage at {at_s} s. "
                "Correct it: each sleep epoch has one stage."
            )
        stages[where], taken[where] = stage, True
    return stages


def read_profusion_xml(path: Path) -> np.ndarray:
    """Read the stages of a Profusion XML file: CMPStudyConfig/SleepStages/SleepStage, one code for each sleep epoch.

    Returns
    -------
    ndarray of shape (n_sleep_epochs,), int32
        0 to 4; `UNSCORED` (-1) for movement and unscored.

    Raises
    ------
    UserError
        The XML does not parse or declares entities, it has no stages, or a code is unknown.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        tree = parse(path)
    except DefusedXmlException as error:
        raise UserError(
            f"{path.name}: declares entities, as no Profusion file does, and was not read. Get it again."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path.name}: not XML that can be read ({error}). Get it again.") from error
    codes = [(element.text or "").strip() for element in tree.findall("SleepStages/SleepStage")]
    if not codes:
        raise UserError(f"{path.name}: no SleepStages/SleepStage in it. Get the Profusion file of this recording.")
    return np.array([_profusion_stage(path, position, code) for position, code in enumerate(codes)], np.int32)


def _profusion_stage(path: Path, position: int, code: str) -> int:
    """Return the stage of one code."""
    stage = PROFUSION_STAGES.get(int(code)) if re.fullmatch("[0-9]{1,9}", code) else None
    if stage is None:
        raise UserError(
            f"{path.name}: sleep epoch {position + 1} has the unknown stage {code!r}. "
            f"Known are {', '.join(map(str, PROFUSION_STAGES))}. Correct it, or get the file again."
        )
    return stage


def _whole(seconds: float) -> int | None:
    """Return how many sleep epochs `seconds` are, None if not a whole number of them."""
    n = round(seconds / SLEEP_EPOCH_S)
    return n if abs(seconds - n * SLEEP_EPOCH_S) < 1e-6 else None
