"""A report laid out for people: the sheets of the workbook and the lines of the log."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from report.results import folds_note
from report.statistics import HEADLINE, LEVEL
from utils.stages import STAGE_NAMES

FEW_SUBJECTS = 10
"""With fewer, percentile intervals fall well short of their level."""

SLEEP_EFFICIENCY = "sleep_efficiency"

AGREEMENT = {
    "mean": "mean difference (predicted - true)",
    "sd": "its standard deviation",
    "low": "lower limit of agreement",
    "high": "upper limit of agreement",
    "n": "recordings that have it",
}
"""What the rows below those of the recordings hold."""


def tables(report: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Turn a report into the sheets of the workbook, by title; metrics in percent but for kappa."""
    protocols = report["protocols"]
    labels = {name: _label(name, scores) for name, scores in protocols.items()}
    overall = pd.DataFrame({labels[name]: _overall(scores) for name, scores in protocols.items()}).T
    overall["folds"] = folds_note(report) or f"all {len(report['per_fold'])}"
    return {
        "overall": overall.rename_axis("protocol"),
        "per class": pd.concat(
            {labels[name]: _class_table(scores["per_class"]) for name, scores in protocols.items()},
            names=["protocol", "stage"],
        ),
        "confusion matrix": pd.concat(
            {labels[name]: _confusion_table(scores["confusion_matrix"]) for name, scores in protocols.items()},
            names=["protocol", "true stage"],
        ),
        "per fold": pd.concat([_rows_table(report["per_fold"], "fold", protocols), _fold_rows(protocols)]).rename_axis(
            "fold"
        ),
        "per recording": _rows_table(report["per_recording"], "recording", protocols),
        "sleep statistics": _sleep_table(report),
        "calibration": pd.concat(
            {labels[name]: _calibration_table(scores["calibration"]) for name, scores in protocols.items()},
            names=["protocol", "bin"],
        ),
        "transitions": pd.concat(
            {name: _transition_table(found) for name, found in report["transitions"].items()},
            names=["hypnogram", "stage"],
        ),
    }


def summary(report: Mapping[str, Any]) -> str:
    """Say the headline of a report in a few lines of text."""
    partial = folds_note(report)
    lines = [f"{partial}."] if partial else []
    for name, scores in report["protocols"].items():
        lines.append(f"Protocol {_label(name, scores)}: {scores['n']} sleep epochs")
        between = scores["intervals"] or {}
        lines.append(
            f"  accuracy {in_percent(scores['accuracy'], between.get('accuracy'), ' %')}   "
            f"macro F1 {in_percent(scores['macro_f1'], between.get('macro_f1'), ' %')}   "
            f"kappa {with_interval(scores['kappa'], between.get('kappa'), '.3f')}   "
            f"MGm {in_percent(scores['mgm'], None, ' %')}"
        )
        f1 = (f"{stage} {100 * scores['per_class'][stage]['f1']:.1f}" for stage in STAGE_NAMES)
        lines.append(f"  F1 in percent: {'   '.join(f1)}")
    if report["context_difference"] is not None:
        lines.append(_context_line(report))
    n_subjects = len({row["subject"] for row in report["per_recording"]})
    if n_subjects > 1:
        few = " So few give intervals that are too narrow." if n_subjects < FEW_SUBJECTS else ""
        lines.append(f"In brackets: {LEVEL} % intervals, by bootstrap over the {n_subjects} subjects.{few}")
    else:
        lines.append("No intervals: they come from resampling subjects, and there is only one.")
    timing = report["timing"]
    if timing["mean"] is not None:
        lines.append(f"Training took {timing['mean']:.0f} s per fold, {timing['total']:.0f} s in all.")
    return "\n".join(lines)


def _context_line(report: Mapping[str, Any]) -> str:
    """Say what the model of the night adds to the single sleep epochs."""
    difference = report["context_difference"]["macro_f1"]
    between = difference["interval"] and [100 * end for end in difference["interval"]]
    changes = {name: f"{found['changes_per_night']:.0f}" for name, found in report["transitions"].items()}
    errors = {name: in_percent(scores["calibration"]["ece"]) for name, scores in report["protocols"].items()}
    single = next(iter(report["protocols"]))
    return (
        f"Night context: macro F1 {with_interval(100 * difference['mean'], between, '+.1f')} points by subject; "
        f"changes of stage a night: {changes['true']} true, {changes[single]} without it, {changes['context']} with it"
        f"; expected calibration error: {errors[single]} % without it, {errors['context']} % with it."
    )


def with_interval(value: float, between: Sequence[float] | None, form: str, unit: str = "") -> str:
    """Write a figure with its interval, if there is one: `0.790 [0.771, 0.808]`."""
    return f"{value:{form}}{unit}" + (f" [{between[0]:{form}}, {between[1]:{form}}]" if between else "")


def in_percent(value: float, between: Sequence[float] | None = None, unit: str = "") -> str:
    """Write a fraction in percent, with its interval if there is one."""
    return with_interval(100 * value, between and [100 * end for end in between], ".1f", unit)


def fit_columns(sheet: Any) -> None:
    """Make the columns of a sheet of openpyxl as wide as their longest cell and show two decimals.

    A recording may be called `=1+1`: no cell is a formula.
    """
    for column in sheet.columns:
        sheet.column_dimensions[column[0].column_letter].width = 2 + max(
            len(f"{cell.value:.2f}" if isinstance(cell.value, float) else str(cell.value or "")) for cell in column
        )
        for cell in column:
            if cell.data_type == "f":
                cell.data_type = "s"
            if isinstance(cell.value, float):
                cell.number_format = "0.000" if abs(cell.value) <= 1 else "0.00"
    sheet.freeze_panes = "B2"


def _label(protocol: str, scores: Mapping[str, Any]) -> str:
    return f"{protocol} ({scores['label']})"


def _title(column: str) -> str:
    """Name a column for people."""
    titles = {"f1": "F1 %", "macro_f1": "macro F1 %", "mgm": "MGm %", "g_mean": "G-mean %"}
    plain = {"n", "kappa", "support"}
    return column if column in plain else titles.get(column, f"{column} %")


def _scaled(column: str, value: float) -> float:
    """Put a metric in percent; kappa and counts stay."""
    return value if column in {"kappa", "n", "support"} else 100 * value


def _ends(column: str, between: Sequence[float] | None) -> dict[str, float | None]:
    """Lay the interval of a metric into two columns."""
    low, high = (None, None) if between is None else (_scaled(column, end) for end in between)
    return {f"{_title(column)} low": low, f"{_title(column)} high": high}


def _headline(scores: Mapping[str, Any]) -> dict[str, float]:
    """Headline figures under their titles."""
    return {_title(name): _scaled(name, scores[name]) for name in HEADLINE}


def _overall(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Headline figures, each followed by its interval, and the number of sleep epochs."""
    row: dict[str, Any] = {}
    for name in HEADLINE:
        between = scores["intervals"][name] if scores["intervals"] else None
        row |= {_title(name): _scaled(name, scores[name])} | _ends(name, between)
    return row | {"n": scores["n"]}


def _class_table(per_class: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per stage, F1 followed by its interval."""
    rows = {}
    for stage, figures in per_class.items():
        row: dict[str, Any] = {}
        for name, value in figures.items():
            row |= _ends("f1", value) if name == "f1_interval" else {_title(name): _scaled(name, value)}
        rows[stage] = row
    columns = ["precision %", "recall %", "F1 %", "F1 % low", "F1 % high", "G-mean %", "support"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _confusion_table(matrix: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Lay the counts beside the percent of the true stage."""
    counts = pd.DataFrame(matrix, index=list(STAGE_NAMES), columns=[f"{stage} (count)" for stage in STAGE_NAMES])
    percent = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    percent.columns = pd.Index([f"{stage} (% of row)" for stage in STAGE_NAMES])
    return counts.join(percent)


def _transition_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Lay the transitions out as a confusion matrix is, and beside them how often the stage changes in a night."""
    table = _confusion_table(found["counts"])
    table.columns = pd.Index([f"then {column}" for column in table.columns])
    return table.assign(**{"changes per night": found["changes_per_night"]})


def _rows_table(rows: Iterable[Mapping[str, Any]], key: str, protocols: Iterable[str]) -> pd.DataFrame:
    """One row per fold or recording, the figures of each protocol side by side."""
    names = list(protocols)
    table = pd.DataFrame(
        [
            {key: row[key], "n": row["n"]}
            | {f"{name}: {title}": value for name in names for title, value in _headline(row[name]).items()}
            for row in rows
        ]
    )
    return table.astype({key: object, "n": "Int64"}).set_index(key)


def _fold_rows(protocols: Mapping[str, Any]) -> pd.DataFrame:
    """Two rows below those of the folds: mean and standard deviation over them."""
    return pd.DataFrame(
        {
            row: {
                f"{name}: {_title(figure)}": None if value[key] is None else _scaled(figure, value[key])
                for name, scores in protocols.items()
                for figure, value in scores["folds"].items()
            }
            for row, key in (("mean", "mean"), ("standard deviation", "sd"))
        },
        dtype=float,
    ).T


def _sleep_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Sleep statistics of each recording's hypnograms, and below them how well the predicted ones agree."""
    rows: dict[tuple[str, str], dict[str, Any]] = {
        (row["recording"], name): values for row in report["per_recording"] for name, values in row["sleep"].items()
    }
    for name, scores in report["protocols"].items():
        for key, title in AGREEMENT.items():
            rows[title, name] = {statistic: figures[key] for statistic, figures in scores["sleep_agreement"].items()}
    table = pd.DataFrame(list(rows.values()), dtype=float)
    table.index = pd.MultiIndex.from_tuples(rows, names=["recording", "hypnogram"])
    counts = table.index.get_level_values("recording") == AGREEMENT["n"]
    table.loc[~counts, SLEEP_EFFICIENCY] *= 100
    return table.rename(columns=_sleep_title)


def _sleep_title(statistic: str) -> str:
    """Name a sleep statistic for people, with its unit."""
    if statistic == SLEEP_EFFICIENCY:
        return "sleep efficiency %"
    kind, _, stage = statistic.partition("_")
    if stage in STAGE_NAMES:
        return f"{stage} {'min' if kind == 'minutes' else '% of sleep'}"
    return statistic.replace("_", " ").replace("waso", "WASO").replace("rem ", "REM ")


def _calibration_table(calibration: Mapping[str, Any]) -> pd.DataFrame:
    """One row per bin of the highest probability; in the last one the expected calibration error."""
    table = pd.DataFrame(calibration["bins"]).astype({"confidence": float, "accuracy": float})
    table["error"] = (table["confidence"] - table["accuracy"]).abs()
    total = {"low": 0.0, "high": 1.0, "n": int(table["n"].sum()), "error": calibration["ece"]}
    table.index = pd.Index([*range(1, len(table) + 1)], dtype=object)
    table = pd.concat([table, pd.DataFrame(total, index=pd.Index(["expected calibration error"], dtype=object))])
    fractions = ["confidence", "accuracy", "error"]
    table[fractions] *= 100
    return table.rename(columns={name: f"{name} %" for name in fractions})
