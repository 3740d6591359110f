"""Find the table in a text file, and which of its columns holds what."""

import argparse
import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import ne

from recordings.stage_names import is_known
from utils.errors import UserError

ROLES = {
    "stage": (
        "stage", "stages", "sleep_stage", "sleep_stages", "sleepstage", "sleepstages", "stage_name", "hypnogram",
        "hypno", "staging", "annotation", "annotations", "description", "trial_type", "label", "class", "event",
        "value", "score", "stadium", "schlafstadium", "schlafphase", "stade", "stade_de_sommeil", "estadio", "fase",
        "stadio", "slaapfase",
    ),
    "onset": (
        "recording_onset", "onset", "onset_time", "init", "start", "begin", "tmin", "start_time", "starttime",
        "begin_time", "time_start", "t_start", "epoch_start", "epoch_start_time", "epoch_time", "from", "time",
        "elapsed_time", "datetime", "date_time", "timestamp", "time_stamp", "clock_time", "clocktime", "clock",
        "startzeit", "beginn", "anfang", "zeit", "uhrzeit", "debut", "heure_de_debut", "heure", "temps", "inicio",
        "hora_inicio", "hora", "tiempo", "inizio", "ora", "tijd", "starttijd", "date",
    ),
    "end": (
        "end", "stop", "end_time", "endtime", "stop_time", "time_end", "t_end", "tmax", "epoch_end", "epoch_end_time",
        "to", "until", "offset", "ende", "endzeit", "fin", "heure_de_fin", "hora_fin", "fine", "einde", "fim",
    ),
    "duration": (
        "duration", "dur", "length", "epoch_length", "dauer", "duree", "duracion", "durata", "duur", "duracao",
    ),
    "epoch": (
        "epoch", "epochs", "epoch_number", "epoch_no", "epoch_nr", "epoch_num", "epoch_index", "epoch_idx", "epoch_id",
        "sleep_epoch", "number", "no", "nr", "index", "idx", "unnamed_0", "", "epoche", "epochennummer", "epoque",
        "epoca",
    ),
}  # fmt: skip
"""Names of columns in lower case, without accents and units. Of several, the first that a file has is used."""

_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sek", "sekunden"), 1.0),
    **dict.fromkeys(("ms", "msec", "milliseconds"), 1e-3),
    **dict.fromkeys(("min", "mins", "minutes", "minuten"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hours"), 3600.0),
}
_TIMES = ("onset", "end", "duration")
_DELIMITERS = "\t|;,"
_MAX_PREAMBLE, _MAX_CELLS = 200, 10**7
_CHANGING = 0.4  # of the rows: minutes change with every other sleep epoch


@dataclass(frozen=True)
class Table:
    """The rows of a table, and the columns that matter."""

    rows: list[list[str]]  # all of one length, without the header
    columns: dict[str, int]  # position of each column by its role; the keys are those of ROLES
    units_s: dict[str, float] = field(default_factory=dict)  # seconds in one unit of a column, by its role
    preamble: Sequence[str] = ()  # lines before the header

    def cells(self, role: str) -> list[str]:
        """Return the cells of one column."""
        return [row[self.columns[role]] for row in self.rows]


def find_table(
    lines: Sequence[str],
    source: str,
    chosen: Mapping[str, str] | None = None,
    stage_names: Mapping[str, int | None] | None = None,
) -> Table | None:
    """Find a table with a header and at least two columns; None if there is none.

    Parameters
    ----------
    lines, source
        Lines of the file without comments, and its name. Lines before the header are left away.
    chosen : mapping of str to str, optional
        Columns that the user names by their role, such as `{"onset": "Zeitpunkt"}`.
    stage_names : mapping of str to int or None, optional
        See `stage_names.resolve`.

    Raises
    ------
    UserError
        A column that may hold times, or the column of the stages, is not known by its name.
    """
    wanted = {_plain(name) for name in (chosen or {}).values()}
    for number, line in enumerate(lines[:_MAX_PREAMBLE]):
        for delimiter in (*_DELIMITERS, None):
            header = split([line], delimiter, source)[0]
            if len(header) < 2:
                continue
            if wanted:
                is_header = wanted <= {_plain(cell) for cell in header}
            else:
                following = next((text for text in lines[number + 1 :] if text.strip()), "")
                is_header = _is_header(header, split([following], delimiter, source)[0], number == 0, delimiter)
            if is_header:
                below = split([text for text in lines[number + 1 :] if text.strip()], delimiter, source)
                rows = [row[: len(header)] for row in equally_long([header, *below], source)[1:] if any(row)]
                table = _table(header, rows, source, chosen or {}, stage_names)
                return replace(table, preamble=lines[:number])
    if chosen:
        raise UserError(
            f"{source}: no line with the columns {', '.join(map(repr, chosen.values()))}. Pass the names that its "
            "header has with --columns."
        )
    return None


def split(lines: Sequence[str], delimiter: str | None, source: str) -> list[list[str]]:
    """Split lines into cells; without a delimiter, at spaces."""
    if delimiter is None:
        return [line.split() for line in lines]
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)] or [[""]]
    except csv.Error as error:
        raise UserError(f"{source}: no table ({error}). Export the hypnogram again.") from error


def equally_long(rows: Sequence[Sequence[str]], source: str) -> list[list[str]]:
    """Fill short rows with empty cells."""
    width = max(map(len, rows))
    if len(rows) * width > _MAX_CELLS:
        raise UserError(f"{source}: {len(rows)} lines, one of which has {width} cells. Export the hypnogram again.")
    return [[*row, *[""] * (width - len(row))] for row in rows]


def parse_number(text: str) -> float | None:
    """Parse a finite number with a point or a comma; None if the text is none."""
    return float(text.replace(",", ".")) if re.fullmatch(r"[+-]?\d{1,300}([.,]\d*)?", text) else None


def is_time_of_day(text: str) -> bool:
    """Tell whether a text is a clock time, perhaps with a date."""
    clock = r"\d{1,3}:\d\d(:\d\d([.,]\d+)?)?|\d\d\.\d\d\.\d\d([.,]\d+)?"
    return bool(re.fullmatch(rf"([\d./-]{{6,10}}[ T])?\s*({clock})\s*([ap]\.?m\.?)?\s*(Z|[+-]\d\d:?\d\d)?", text, re.I))


def is_numbering(cells: Sequence[str]) -> bool:
    """Tell whether cells are numbers that may count the rows: whole and all different, in any order, or rising."""
    numbers = [parse_number(cell) for cell in cells]
    values = [number for number in numbers if number is not None]
    if len(values) < max(3, len(numbers)):
        return False
    rising = all(before < after for before, after in zip(values, values[1:], strict=False))
    return rising or (len(set(values)) == len(values) and all(value.is_integer() for value in values))


def _is_header(header: Sequence[str], following: Sequence[str], first: bool, delimiter: str | None) -> bool:
    """Tell whether a line is the header of a table, by the names in it and by what stands below them.

    In the first line, the name of a column for the stage is enough.
    """
    roles = [_role(cell)[0] for cell in header]
    if delimiter is None and not all(roles):  # a sentence
        return False
    below = [*following, *[""] * len(header)]
    if header[0] and any(is_time_of_day(cell) or parse_number(cell) is not None for cell in header):
        return False  # pandas' header of an unnamed column is `,0`
    times = [i for i, role in enumerate(roles) if role in (*_TIMES, "epoch")]
    stages = [i for i, role in enumerate(roles) if role == "stage"]
    if any(is_time_of_day(below[i]) or parse_number(below[i]) is not None for i in times):
        return len(following) >= 2
    return bool(stages) and (first or any(is_known(below[i]) for i in stages))


def _table(
    header: Sequence[str],
    rows: list[list[str]],
    source: str,
    chosen: Mapping[str, str],
    stage_names: Mapping[str, int | None] | None,
) -> Table:
    """Choose the columns of a table by their names, by the user's choice, and the stages' by what it holds."""
    by_name = {_plain(cell): position for position, cell in reversed(list(enumerate(header)))}
    columns = {role: by_name[_plain(name)] for role, name in chosen.items()}
    units: dict[str, str] = {}
    known = [_role(cell) for cell in header]
    for position, (role, _, unit) in sorted(enumerate(known), key=lambda item: item[1][1]):
        holds = [row[position] for row in rows]
        if role == "epoch" and unit in _SECONDS:
            role = "onset"
        is_date = role == "onset" and all(
            re.fullmatch(r"|\d+[./-]\d+[./-]\d+", cell) and not is_time_of_day(cell) for cell in holds
        )
        if is_date or not any(holds):
            continue
        if role and role not in columns and position not in columns.values():
            columns[role], units[role] = position, unit
    others = [i for i in range(len(header)) if i not in columns.values() and not known[i][0]]
    listed = ", ".join(map(repr, header))
    if "stage" not in columns:
        candidates = [i for i in others if rows and all(not r[i] or is_known(r[i], stage_names) for r in rows)]
        candidates = [i for i in candidates if any(row[i] for row in rows)]
        words = [i for i in candidates if not all(parse_number(row[i]) is not None for row in rows)]
        candidates = words if len(words) == 1 else candidates
        if len(candidates) != 1:
            raise UserError(
                f"{source}: its columns are {listed}, in which no column is known for the stage. "
                'Call it stage, or name it with --columns stage="...".'
            )
        columns["stage"] = candidates[0]
    _refuse_equal_names(header, rows, columns.values(), source)
    if not chosen.keys() - {"stage"} and not ("onset" in columns and {"end", "duration"} & columns.keys()):
        has_times = bool({"onset", "end"} & columns.keys())
        unused = [i for i in range(len(header)) if i not in columns.values() and known[i][0] not in _TIMES]
        for i in others if has_times else unused:
            cells = [row[i] for row in rows if row[i]]
            if i != columns["stage"] and _may_tell_times(cells, len(rows), has_times, stage_names):
                stage = header[columns["stage"]]
                raise UserError(
                    f"{source}: column {header[i]!r} holds times or counts the rows, but its name is not known. The "
                    f'columns are {listed}: say which is which, as in --columns onset="{header[i]}",stage="{stage}" '
                    "(or end, duration, epoch). Remove it from the file if it does not tell when the stages are."
                )
    units_s = {}
    for role in _TIMES:
        if (unit := units.get(role, "")) and not re.fullmatch(r"[hmsfdyz:./_ -]{4,}", unit):
            if unit not in _SECONDS:
                raise UserError(
                    f"{source}: column {header[columns[role]]!r} is in {unit!r}, no known unit of time "
                    f"({', '.join(_SECONDS)}). Write seconds."
                )
            units_s[role] = _SECONDS[unit]
    return Table(rows, columns, units_s)


def _refuse_equal_names(
    header: Sequence[str], rows: Sequence[Sequence[str]], positions: Iterable[int], source: str
) -> None:
    """Refuse a column that is used if another one has the same name, but holds something else."""
    for position in positions:
        name, cells = _plain(header[position]), [row[position] for row in rows]
        others = [[row[i] for row in rows] for i in range(len(header)) if _plain(header[i]) == name]
        if any(other != cells and any(other) for other in others):
            raise UserError(
                f"{source}: {len(others)} columns are called {header[position]!r}, and they differ. Which is meant is "
                "not known: rename or remove the others."
            )


def _may_tell_times(
    cells: Sequence[str], n_rows: int, has_times: bool, stage_names: Mapping[str, int | None] | None
) -> bool:
    """Tell whether the filled cells of an unknown column may hold times, or the numbers of the rows.

    In a table that has no other times, all is suspect that changes from row to row, such as `22h30m20s`, `E10`, or the
    seconds of a clock in a column of their own. Not so are numbers of the rows in order, stages, and probabilities.
    """
    cells = [cell for cell in cells if re.search(r"\d", cell)]
    if not cells:
        return False
    numbers = [parse_number(cell) for cell in cells]
    if not has_times and len(cells) == n_rows and numbers[0] in (0, 1):
        if numbers == [numbers[0] + i for i in range(n_rows)]:
            return False
    if all(map(is_time_of_day, cells)) or is_numbering(cells):
        return True
    if has_times or len(cells) < _CHANGING * n_rows or all(is_known(cell, stage_names) for cell in cells):
        return False
    if all(number is not None and 0 <= number <= 1 for number in numbers):
        return False
    n_different, n_changes = len(set(cells)), sum(map(ne, cells, cells[1:]))
    return n_different > max(1, _CHANGING * len(cells)) or n_changes > _CHANGING * (len(cells) - 1)


def _plain(name: str) -> str:
    """Write a column's name in lower case, without accents and signs, words joined by `_`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[\W_]+", "_", "".join(c for c in letters if not unicodedata.combining(c))).strip("_")


def column_role(name: str) -> str:
    """Return the role of a column by its name alone, such as `Start [s]`; an empty text if it is not known."""
    return _role(name)[0]


def _role(cell: str) -> tuple[str, int, str]:
    """Return the role of a column, its rank among those of this role, and its unit; an empty role if not known."""
    match = re.fullmatch(r"(.*?)[\s_]*[\[(](.*?)[\])]?", cell.strip())
    name, unit = (match[1], match[2].casefold().strip()) if match else (cell, "")
    name = _plain(name)
    if not match and "_" in name and (words := name.rpartition("_"))[2] in _SECONDS and words[0] != "sleep":
        name, unit = (words[0], words[2]) if _rank(words[0]) else (name, "")
    role, rank = _rank(name) or ("", 0)
    return role, rank, unit if role in (*_TIMES, "epoch") else ""


def _rank(name: str) -> tuple[str, int] | None:
    """Return the role of a column and its rank among the names of this role."""
    return next(((role, names.index(name)) for role, names in ROLES.items() if name in names), None)


def parse_columns(text: str) -> dict[str, str]:
    """Parse the columns of a command line by their role, as in `onset="Zeitpunkt",stage="Stadium"`."""
    columns = {}
    for part in re.split(",(?=[a-z]+=)", text):
        role, _, name = part.partition("=")
        if role not in ROLES or not name.strip():
            raise argparse.ArgumentTypeError(
                f'{text!r} is not such as onset="Zeitpunkt",stage="Stadium"; before each = stands {", ".join(ROLES)}'
            )
        columns[role] = name.strip().strip("\"'")
    return columns
