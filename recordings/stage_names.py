"""Find the stage that a scorer's name or code stands for."""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from utils.errors import UserError
from utils.files import read_small
from utils.stages import N1, N2, N3, REM, STAGE_NAMES, W

UNSCORED = -1
"""Stage of a sleep epoch that is not scored or scored as movement."""

ALL_OTHERS = "*"
"""Key of a user's stage names that stands for all names that are not known."""

_N_SHOWN = 20  # unknown names in a message

# Keys as `_key` makes them. The AASM's N3 is stages 3 and 4 of Rechtschaffen & Kales. None is no stage.
_NAMES: dict[str, int | None] = {
    **dict.fromkeys(("w", "wake", "awake", "wakefulness", "s0", "n0", "wach", "eveil", "veille", "veglia"), W),
    **dict.fromkeys(("n1", "s1", "nrem1"), N1),
    **dict.fromkeys(("n2", "s2", "nrem2"), N2),
    **dict.fromkeys(("n3", "s3", "nrem3", "n4", "s4", "nrem4", "sws"), N3),
    **dict.fromkeys(("r", "rem"), REM),
    **dict.fromkeys(("?", "unscored", "unknown", "undefined", "uns", "outofbounds", "n/a", "nan"), UNSCORED),
    **dict.fromkeys(("notscored", "unstaged", "nostage", "none", "unscorable"), UNSCORED),
    **dict.fromkeys(("movementtime", "movement", "mt", "artifact", "artefact", "art"), UNSCORED),
    **dict.fromkeys(("lightsoff", "lightson", "lightoff", "lighton", "lichtaus", "lichtan"), None),
}
_RK_CODES = {0: W, 1: N1, 2: N2, 3: N3, 4: N3, 5: REM, 6: UNSCORED, 9: UNSCORED, -1: UNSCORED, -2: UNSCORED}
_AASM_CODES = {0: W, 1: N1, 2: N2, 3: N3, 4: REM, -1: UNSCORED, -2: UNSCORED}
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4"}

# What tells codes from others: no night is without W, REM is no rarity in sleep, and R&K's 4 lies beside 3.
_LEAST_W, _LEAST_REM, _LEAST_BESIDE_3 = 0.02, 0.05, 0.25
_MOST_BESIDE_3 = 0.5  # for a `Stage 4` that is N3 without doubt
_LONG_N1 = 5  # entries in a row: rare for N1, usual for W

_CHOICES = "W, N1, N2, N3, REM, ? (not scored) or null (no stage)"


def resolve(
    names: Iterable[str], source: str, stage_names: Mapping[str, int | None] | None = None, *, rk: bool = False
) -> tuple[dict[str, int | None], tuple[str, ...]]:
    """Find the stage of each name in a hypnogram.

    Case, spaces and a leading `Sleep stage` make no difference. Numbers are codes: either Rechtschaffen & Kales', in
    which 4 is N3 and 5 is REM, or the stages W, N1, N2, N3, REM from 0 to 4. The other entries of the hypnogram decide
    which. So they do for a `Stage 4`, which is N3 unless it can be REM.

    Parameters
    ----------
    names, source
        All names in the hypnogram in the order of the night, and that of its file.
    stage_names : mapping of str to int or None, optional
        Stages that the user gives, which come first; see `read_stage_names`.
    rk : bool
        Numbers are Rechtschaffen & Kales' codes in any case.

    Returns
    -------
    stages : dict of str to int or None
        Stage by name: 0 to 4, `UNSCORED` (-1), or None for what is no stage.
    remarks : tuple of str
        Which code is which stage.

    Raises
    ------
    UserError
        Names are unknown, or codes can be read in two ways; the message says how to map them.
    """
    given, names = stage_names or {}, list(names)
    codes = _RK_CODES if rk else _codes(names, source, given)
    stages, unknown = {}, Counter[str]()
    for name, count in Counter(names).items():
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
    return stages, (*_told_codes(stages), *(() if rk else _told_stage_4(names, source, given, stages)))


def is_known(name: str, stage_names: Mapping[str, int | None] | None = None) -> bool:
    """Tell whether a name is one that the user gives, or that of a stage, or a code."""
    return name in (stage_names or {}) or _number(name) in _RK_CODES or _key(name) in _NAMES


def stage_label(stage: int | None) -> str:
    """Return the name of a stage: W to REM, `?` if not scored, `-` for what is no stage."""
    return "-" if stage is None else "?" if stage == UNSCORED else STAGE_NAMES[stage]


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
        if stage is not None and (not isinstance(stage, str) or _NAMES.get(_key(stage)) is None):
            raise UserError(f"{path}: {name!r} is said to be {json.dumps(stage)}. It can be {_CHOICES}.")
    return {name.strip(): stage if stage is None else _NAMES[_key(stage)] for name, stage in stage_names.items()}


def _codes(names: Sequence[str], source: str, given: Mapping[str, int | None]) -> dict[int, int]:
    """Choose between the two codes, or refuse numbers that can be read in two ways."""
    numbers = [number for name in names if name not in given and (number := _number(name)) is not None]
    counts = Counter(number for number in numbers if 1 <= number <= 5)
    coded, distinct = sorted(counts), set(names)
    words = {_NAMES.get(_key(name)) for name in distinct if name not in given and _number(name) is None}
    named = words | {given[name] for name in distinct if name in given}
    told = any(_number(name) in range(1, 6) for name in distinct if name in given)
    rare_5 = counts[5] < _LEAST_REM * counts.total()

    def refuse(*readings: Mapping[int, int]) -> UserError:
        spelled = [(name, number) for name in sorted(distinct - {*given}) if (number := _number(name)) is not None]
        listed = {str(number): count for number, count in sorted(Counter(numbers).items())}
        lines = [{name: reading[number] for name, number in spelled if number in reading} for reading in readings]
        return _ambiguous(source, listed, lines)

    zeros = numbers.count(0)
    if zeros and W in words:
        raise refuse({0: W}, {0: UNSCORED})
    if not coded:
        return _RK_CODES
    few_w = zeros < min(_LEAST_W * len(numbers), counts[1] or math.inf)
    if (few_w or (5 in counts and _is_w_1(numbers))) and W not in named and not told:
        codes = _RK_CODES if 5 in counts else _AASM_CODES  # or counting begins at 1, which is W
        known = [0, *coded] if zeros else coded
        raise refuse({code: codes[code] for code in known}, {code: code - 1 for code in known})
    if 5 in counts and (REM in named or (rare_5 and 4 not in counts)):
        raise refuse({5: UNSCORED}, {5: REM})
    if 4 not in counts:
        if not counts[5] and REM not in named and not told:
            raise refuse({coded[-1]: _RK_CODES[coded[-1]]}, {coded[-1]: REM})
        return _RK_CODES
    if REM in named:
        if N3 in words:
            raise refuse({4: N3}, {4: UNSCORED})
        return _RK_CODES
    if 5 in counts:
        if rare_5 or _beside_3(numbers) < _LEAST_BESIDE_3:
            raise refuse({4: REM, 5: UNSCORED}, {4: N3, 5: REM})
        return _RK_CODES
    if max(numbers) > 5 and N3 not in words:
        raise refuse({4: REM}, {4: N3})
    aasm = {code: _AASM_CODES[code] for code in sorted({*numbers} & {0, 1, 2, 3, 4})}
    scored = [number for number in numbers if number in aasm]
    if (counts[4] > 1 or len(_beside_4(scored)) > 1) and _beside_3(scored) >= _LEAST_BESIDE_3:
        raise refuse(aasm, aasm | {4: N3})
    if zeros and W not in named and (scored[0] == 4 or (scored[0] != 0 and scored[-1] == 4)):
        raise refuse(aasm, aasm | {0: REM, 4: W})  # no night begins with REM
    return _AASM_CODES | {code: UNSCORED for code in (6, 9)}


def _is_w_1(numbers: Sequence[int]) -> bool:
    """Tell whether codes can be 0 for what is not scored, and 1 to 5 for W to REM.

    Then 0 is only at the beginning and the end, and 1 lasts as long as W or 5 mostly follows 3 (N2).
    """
    scored = "".join(str(number) for number in numbers if 0 <= number <= 5).strip("0")
    before_5 = re.findall("([^5])5", scored)
    follows_3 = len(before_5) > 1 and before_5.count("3") > len(before_5) / 2
    return 0 in numbers and "0" not in scored and ("1" * _LONG_N1 in scored or follows_3)


def _beside_4(numbers: Sequence[int]) -> list[int]:
    """Return the codes on the other side of each begin and end of code 4."""
    return [a + b - 4 for a, b in pairwise(numbers) if (a == 4) != (b == 4)]


def _beside_3(numbers: Sequence[int]) -> float:
    """Return the share of the begins and ends of code 4 at which code 3 is on the other side."""
    others = _beside_4(numbers)
    return others.count(3) / len(others) if others else 0.0


def _told_stage_4(
    names: Sequence[str], source: str, given: Mapping[str, int | None], stages: Mapping[str, int | None]
) -> tuple[str, ...]:
    """Say that a `Stage 4` is N3 where no other name is REM, or refuse it if it is not mostly beside a `Stage 3`."""
    keys = {name: _key(name) for name in stages if name not in given}
    numbers = [int(key[1]) if re.fullmatch("[ns][0-4]", key := keys.get(name, "")) else UNSCORED for name in names]
    fours = sorted(name for name, key in keys.items() if key in ("n4", "s4"))
    if not fours or REM in stages.values() or not {0, 3} & {*numbers}:
        return ()
    if _beside_3(numbers) < _MOST_BESIDE_3:
        counts = Counter(name for name in names if name in keys)
        raise _ambiguous(source, counts, [dict.fromkeys(fours, stage) for stage in (N3, REM)])
    return (f"codes: {' and '.join(fours)} {'is' if len(fours) == 1 else 'are'} N3",)


def _told_codes(stages: Mapping[str, int | None]) -> tuple[str, ...]:
    """Say which code is which stage: `codes: 0 is W, 3 and 4 are N3`."""
    codes: dict[int | None, list[int]] = {}
    stage_of = {number: stage for name, stage in stages.items() if (number := _number(name)) is not None}
    for number in sorted(stage_of):
        codes.setdefault(stage_of[number], []).append(number)
    parts = []
    for stage, numbers in codes.items():
        of = "no stage" if stage is None else "not scored" if stage == UNSCORED else STAGE_NAMES[stage]
        parts.append(f"{' and '.join(map(str, numbers))} {'is' if len(numbers) == 1 else 'are'} {of}")
    return (f"codes: {', '.join(parts)}",) if parts else ()


def _number(name: str) -> int | None:
    """Parse a whole number in any notation, such as numpy's 2.000000000000000000e+00; None if the name is none."""
    try:
        number = float(name)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _key(name: str) -> str:
    """Shorten a name to what identifies the stage: `Sleep stage N2@@EEG`, `stage II`, `NonREM 2` to n2, n2, nrem2."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.split("@@")[0]) if not unicodedata.combining(c))
    letters = re.sub(r"[\s_.-]+", "", plain.casefold())
    bare = re.sub("^(sleep|schlaf)?(stage|stadium|stade|stadio|estadio|fase)?|sleep$", "", letters)
    bare = re.sub("^nonrem", "nrem", bare)
    if match := re.fullmatch("(n|s|nrem|)(i{1,3}|iv)", bare):
        bare = match[1] + _ROMAN[match[2]] if bare != letters or match[1] else bare
    return f"n{bare}" if re.fullmatch("[0-4]", bare) and bare != letters else bare


def _ambiguous(source: str, counts: Mapping[str, int], readings: Iterable[Mapping[str, int]]) -> UserError:
    """Make the error for codes with two readings, and the two JSON objects that would settle it."""
    listed = ", ".join(f"{code} ({count})" for code, count in list(counts.items())[:_N_SHOWN])
    lines = [json.dumps({name: stage_label(stage) for name, stage in reading.items()}) for reading in readings]
    return UserError(
        f"{source}: its codes {listed} can be read in two ways. Write the right one to a JSON file and pass that with "
        f"--stage_names: {' or '.join(lines)}"
    )


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
