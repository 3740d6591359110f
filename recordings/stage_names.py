"""Find the stage that a scorer's name or code stands for."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from utils.errors import UserError
from utils.files import read_small
from utils.stages import N1, N2, N3, REM, W

UNSCORED = -1
"""Stage of a sleep epoch that is not scored or scored as movement."""

ALL_OTHERS = "*"
"""Key of a user's stage names that stands for all names that are not known."""

_N_SHOWN = 20  # unknown names in a message

# Keys as `_key` makes them. The AASM's N3 is stages 3 and 4 of Rechtschaffen & Kales.
_NAMES = {
    **dict.fromkeys(("w", "wake", "awake", "wakefulness", "s0", "n0"), W),
    **dict.fromkeys(("n1", "s1", "nrem1"), N1),
    **dict.fromkeys(("n2", "s2", "nrem2"), N2),
    **dict.fromkeys(("n3", "s3", "nrem3", "n4", "s4", "nrem4", "sws"), N3),
    **dict.fromkeys(("r", "rem"), REM),
    **dict.fromkeys(("?", "unscored", "unknown", "undefined", "uns", "outofbounds", "n/a", "nan"), UNSCORED),
    **dict.fromkeys(("movementtime", "movement", "mt", "artifact", "artefact", "art"), UNSCORED),
}
_RK_CODES = {0: W, 1: N1, 2: N2, 3: N3, 4: N3, 5: REM, 6: UNSCORED, 9: UNSCORED, -1: UNSCORED, -2: UNSCORED}
_AASM_CODES = {0: W, 1: N1, 2: N2, 3: N3, 4: REM, -1: UNSCORED, -2: UNSCORED}

_CHOICES = "W, N1, N2, N3, REM, ? (not scored) or null (no stage)"


def resolve(
    names: Iterable[str], source: str, stage_names: Mapping[str, int | None] | None = None, *, rk: bool = False
) -> tuple[dict[str, int | None], tuple[str, ...]]:
    """Find the stage of each name in a hypnogram.

    Case, spaces and a leading `Sleep stage` make no difference. Numbers are codes. If 4 is the largest, they are the
    stages W, N1, N2, N3, REM in this order; otherwise they are Rechtschaffen & Kales' codes (4 is N3, 5 is REM).

    Parameters
    ----------
    names, source
        All names in the hypnogram, and that of its file.
    stage_names : mapping of str to int or None, optional
        Stages that the user gives, which come first; see `read_stage_names`.
    rk : bool
        Numbers are Rechtschaffen & Kales' codes in any case.

    Returns
    -------
    stages : dict of str to int or None
        Stage by name: 0 to 4, `UNSCORED` (-1), or None for what is no stage.
    remarks : tuple of str
        What was assumed.

    Raises
    ------
    UserError
        Names are unknown; the message lists them and how to map them.
    """
    given, counts = stage_names or {}, Counter(names)
    numbers = {number for name in counts if name not in given and (number := _number(name)) is not None}
    aasm = not rk and 4 in numbers and max(numbers) == 4
    codes = _AASM_CODES if aasm else _RK_CODES
    stages, unknown = {}, Counter[str]()
    for name, count in counts.items():
        number, key = _number(name), _key(name)
        if name in given:
            stages[name] = given[name]
        elif number in codes:
            stages[name] = codes[number]
        elif key in _NAMES:
            stages[name] = _NAMES[key]
        elif ALL_OTHERS in given:
            stages[name] = given[ALL_OTHERS]
        else:
            unknown[name] = count
    if unknown:
        raise _unknown(source, unknown)
    return stages, ("code 4 taken for REM",) if aasm else ()


def read_stage_names(path: Path) -> dict[str, int | None]:
    """Read a user's stage names: a JSON object such as `{"Stage V": "REM", "Lights off": null}`; null is no stage."""
    try:
        stage_names = json.loads(read_small(path).decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Pass a JSON file with --stage_names.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON ({error}). Correct it.") from error
    if not isinstance(stage_names, dict):
        raise UserError(f'{path}: no JSON object such as {{"Stage V": "REM", "Lights off": null}}. Correct it.')
    for name, stage in stage_names.items():
        if stage is not None and (not isinstance(stage, str) or _key(stage) not in _NAMES):
            raise UserError(f"{path}: {name!r} is said to be {json.dumps(stage)}. It can be {_CHOICES}.")
    return {name.strip(): stage if stage is None else _NAMES[_key(stage)] for name, stage in stage_names.items()}


def _number(name: str) -> int | None:
    """Parse a whole number in any notation, such as numpy's 2.000000000000000000e+00; None if the name is none."""
    try:
        number = float(name)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _key(name: str) -> str:
    """Shorten a name to what identifies the stage: `Sleep stage N2`, `stage 2 sleep`, `SLEEP-S2` to n2, n2, s2."""
    letters = re.sub(r"[\s_.-]+", "", name.casefold())
    bare = re.sub("^(sleep)?(stage)?|sleep$", "", letters)
    return f"n{bare}" if re.fullmatch("[0-4]", bare) and bare != letters else bare


def _unknown(source: str, unknown: Counter[str]) -> UserError:
    """Make the error that lists unknown names with their counts, and the JSON that would map them."""
    shown = unknown.most_common(_N_SHOWN)
    listed = ", ".join(f"{name!r} ({count})" for name, count in shown)
    more = f" and {len(unknown) - len(shown)} more" if len(unknown) > len(shown) else ""
    mapping = json.dumps(dict.fromkeys([name for name, _ in shown]), ensure_ascii=False)
    return UserError(
        f"{source}: unknown stages {listed}{more}. Correct them there, or map them in a JSON file and pass it to "
        f'prepare_recordings.py with --stage_names: {mapping}, each {_CHOICES}; "{ALL_OTHERS}" stands for all others.'
    )
