"""The tables of a report: the sheets of the workbook and the lines of the log."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from openpyxl.styles import Alignment

from report.results import OTHER_NIGHTS, folds_note, main_protocol
from report.statistics import LEVEL
from report.wording import (
    CLASS_FIGURES,
    NO_LIGHTS,
    goal_in_words,
    scaled,
    temperatures_in_words,
    title_of,
    with_interval,
)
from utils.files import replacing
from utils.plural import number_of
from utils.stages import STAGE_NAMES

AGREEMENT = {
    "true_mean": "mean of the true ones",
    "predicted_mean": "mean of the predicted ones",
    "mean": "mean difference (predicted - true)",
    "sd": "its standard deviation",
    "low": "lower limit of agreement",
    "high": "upper limit of agreement",
    "n": "recordings that have it",
}
"""Rows below those of the recordings, in the sheet of sleep statistics."""

WIDEST = 60  # characters in a column of a sheet; longer text wraps


def write_workbook(path: Path, report: Mapping[str, Any]) -> None:
    """Write the tables of a report into an Excel file, a sheet for each."""
    with replacing(path) as temporary, pd.ExcelWriter(temporary, engine="openpyxl") as writer:
        for sheet, table in tables(report).items():
            table.to_excel(writer, sheet_name=sheet)
            fit_columns(writer.sheets[sheet])


def tables(report: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Make the sheets of the workbook, by title; the published metrics in percent but for kappa."""
    protocols = report["protocols"]
    note = {"note on intervals": report["intervals"]["note"] or None}
    overall = {}
    for name, figures in protocols.items():
        row: dict[str, Any] = {}
        for metric in report["metrics"]:
            row |= _with_limits(title_of(metric), figures[metric], figures["intervals"][metric])
        row["n"] = figures["n"]
        if report["per_fold"]:
            row["folds"] = folds_note(report) or f"all {len(report['per_fold'])}"
        row["subjects"] = report["intervals"]["n_subjects"]
        overall[_label(name, figures)] = row | note

    def by_protocol(make_table: Callable[[Any], pd.DataFrame], key: str, index: str) -> pd.DataFrame:
        """Make the table of each protocol's figures at `key`, one below the other."""
        by_label = {_label(name, figures): make_table(figures[key]) for name, figures in protocols.items()}
        return pd.concat(by_label, names=["protocol", index])

    transitions = {name: _transition_table(of_hypnogram) for name, of_hypnogram in report["transitions"].items()}
    by_fold = {}
    if report["per_fold"]:
        rows = pd.concat([_rows_table(report, "fold"), _fold_rows(protocols)]).rename_axis("fold")
        by_fold = {"per fold": rows}
    remarks = {"remarks": pd.DataFrame({"remark": report["remarks"]})} if report["remarks"] else {}
    reviews = {_label(name, protocols[name]): _review_table(curve) for name, curve in report["review"].items()}
    return {
        "overall": pd.DataFrame.from_dict(overall, orient="index").rename_axis("protocol"),
        **remarks,
        "per class": by_protocol(_class_table, "per_class", "stage").assign(**note),
        "confusion matrix": by_protocol(_confusion_table, "confusion_matrix", "true stage"),
        **by_fold,
        "per recording": _rows_table(report, "recording"),
        "sleep statistics": _sleep_table(report),
        "calibration": _calibration_tables(protocols),
        "review": pd.concat(reviews, names=["protocol", "% looked at"]).assign(**note),
        "transitions": pd.concat(transitions, names=["hypnogram", "stage"]),
    }


def summary(report: Mapping[str, Any]) -> str:
    """Sum a report up in a few lines of text."""
    partial = folds_note(report)
    lines = [*report["remarks"], *([f"{partial}."] if partial else [])]
    for name, figures in report["protocols"].items():
        f1 = (f"{stage} {100 * figures['per_class'][stage]['f1']:.1f}" for stage in STAGE_NAMES)
        lines += [
            f"Protocol {_label(name, figures)}: {number_of(figures['n'], 'sleep epoch')}",
            "  " + "   ".join(_in_words(figures, metric) for metric in report["metrics"]),
            f"  F1 in percent: {'   '.join(f1)}",
        ]
    if report["context_difference"] is not None:
        lines.append(_context_line(report))
    lines += [_calibration_line(name, report["protocols"][name]) for name in report["review"]]
    lines += [_review_line(name, curve) for name, curve in report["review"].items()]
    n_subjects, note = report["intervals"]["n_subjects"], report["intervals"]["note"]
    if n_subjects > 1:
        lines.append(f"In brackets: {LEVEL} % intervals, by bootstrap over the {n_subjects} subjects.")
    if note:
        lines.append(note)
    if timing := report["timing"]:
        lines.append(f"Training took {timing['mean']:.0f} s per fold, {timing['total']:.0f} s in all.")
    return "\n".join(lines)


def _in_words(figures: Mapping[str, Any], metric: str) -> str:
    """Write a metric as `accuracy 79.0 % [77.1, 80.8]`."""
    title = title_of(metric)
    name = title.removesuffix(" %")
    value = with_interval(figures[metric], figures["intervals"][metric], title, unit=title.removeprefix(name))
    return f"{name} {value}"


def _context_line(report: Mapping[str, Any]) -> str:
    """Compare the figures with and without the night context."""
    difference = report["context_difference"]["macro_f1"]
    gain = with_interval(difference["mean"], difference["interval"], title_of("macro_f1"), signed=True)
    changes = {name: f"{counted['changes_per_night']:.0f}" for name, counted in report["transitions"].items()}
    errors = {name: f"{100 * figures['calibration']['ece']:.1f}" for name, figures in report["protocols"].items()}
    single = main_protocol(report)
    return (
        f"Night context: macro F1 {gain} points by subject; "
        f"changes of stage a night: {changes['true']} true, {changes[single]} without it, {changes['context']} with it"
        f"; expected calibration error: {errors[single]} % without it, {errors['context']} % with it."
    )


def _calibration_line(protocol: str, figures: Mapping[str, Any]) -> str:
    """Say the expected calibration error before and after the temperatures."""
    line = f"Calibration ({protocol}): expected calibration error {100 * figures['calibration']['ece']:.1f} %"
    calibrated = figures["calibrated"]
    if protocol == OTHER_NIGHTS:
        return f"{line}, of the probabilities with which the networks score: with the temperatures that they have."
    if calibrated is None:
        return f"{line}; no temperature, because an earlier version trained the folds."
    return f"{line}, {100 * calibrated['ece']:.1f} % with {temperatures_in_words(calibrated)}."


def _review_line(protocol: str, curve: Mapping[str, Any]) -> str:
    """Say what a review of the least certain sleep epochs gives, and when the goal is reached."""
    first, *_, last = curve["rows"]
    after = with_interval(last["kappa"], last["intervals"]["kappa"], title_of("kappa"))
    return (
        f"Review ({protocol}): kappa {first['kappa']:.3f}, {after} after a scorer has corrected the least certain "
        f"{last['percent']} % of each night, {last['random']['kappa']:.3f} after as many at random; "
        f"{goal_in_words(curve)}."
    )


def fit_columns(sheet: Any) -> None:
    """Make the columns of a sheet of openpyxl as wide as their longest cell, wrap notes, and show two decimals.

    A recording may be called `=1+1`: no cell is a formula.
    """
    for column in sheet.columns:
        width = 2 + max(
            len(f"{cell.value:.2f}" if isinstance(cell.value, float) else str(cell.value or "")) for cell in column
        )
        sheet.column_dimensions[column[0].column_letter].width = min(width, WIDEST)
        for cell in column:
            if len(str(cell.value)) > WIDEST:
                cell.alignment = Alignment(wrap_text=True, vertical="top")
            if cell.data_type == "f":
                cell.data_type = "s"
            if isinstance(cell.value, float):
                cell.number_format = "0.000" if abs(cell.value) <= 1 else "0.00"
    sheet.freeze_panes = "B2"


def _label(protocol: str, figures: Mapping[str, Any]) -> str:
    return f"{protocol} ({figures['label']})"


def _with_limits(title: str, value: float | None, limits: Sequence[float] | None) -> dict[str, float | None]:
    """Columns of a figure and of the two ends of its interval."""
    low, high = limits or (None, None)
    columns = {title: value, f"{title} low": low, f"{title} high": high}
    return {column: scaled(number, title) for column, number in columns.items()}


def _class_table(per_class: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per stage, F1 with its interval."""
    rows = {}
    for stage, figures in per_class.items():
        row: dict[str, Any] = {title: scaled(figures[name], title) for name, title in CLASS_FIGURES.items()}
        row |= _with_limits(CLASS_FIGURES["f1"], figures["f1"], figures["f1_interval"])
        rows[stage] = row | {"support": figures["support"], "subjects": figures["n_subjects"]}
    return pd.DataFrame.from_dict(rows, orient="index")


def _confusion_table(matrix: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Lay the counts beside the percent of the true stage."""
    counts = pd.DataFrame(matrix, index=list(STAGE_NAMES), columns=[f"{stage} (count)" for stage in STAGE_NAMES])
    percent = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    percent.columns = pd.Index([f"{stage} (% of row)" for stage in STAGE_NAMES])
    return counts.join(percent)


def _transition_table(of_hypnogram: Mapping[str, Any]) -> pd.DataFrame:
    """Lay the transitions out as a confusion matrix is, and beside them how often the stage changes in a night."""
    table = _confusion_table(of_hypnogram["counts"])
    table.columns = pd.Index([f"then {column}" for column in table.columns])
    return table.assign(**{"changes per night": of_hypnogram["changes_per_night"]})


def _rows_table(report: Mapping[str, Any], key: str) -> pd.DataFrame:
    """One row per fold or recording (`key`), the metrics of each protocol side by side."""
    table = pd.DataFrame({name: [row[name] for row in report[f"per_{key}"]] for name in (key, "n")})
    for protocol in report["protocols"]:
        for name in report["metrics"]:
            title = title_of(name)
            table[f"{protocol}: {title}"] = [scaled(row[protocol][name], title) for row in report[f"per_{key}"]]
    return table.astype({key: object, "n": "Int64"}).set_index(key)


def _fold_rows(protocols: Mapping[str, Any]) -> pd.DataFrame:
    """Two rows below those of the folds: mean and standard deviation over them."""
    columns = {
        f"{protocol}: {title_of(name)}": [scaled(spread[key], title_of(name)) for key in ("mean", "sd")]
        for protocol, figures in protocols.items()
        for name, spread in figures["folds"].items()
    }
    return pd.DataFrame(columns, index=pd.Index(["mean", "standard deviation"]), dtype=float)


def _sleep_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Sleep statistics of each recording's hypnograms, and below them how well true and predicted ones agree."""
    rows = {(row["recording"], name): night for row in report["per_recording"] for name, night in row["sleep"].items()}
    for name, figures in report["protocols"].items():
        for key, title in AGREEMENT.items():
            rows[title, name] = {statistic: nights[key] for statistic, nights in figures["sleep_agreement"].items()}
    table = pd.DataFrame(list(rows.values()), dtype=float)
    table.index = pd.MultiIndex.from_tuples(rows, names=["recording", "hypnogram"])
    note = pd.Series(NO_LIGHTS, table.index[:1])  # beside the first row alone
    return table.rename(columns=_sleep_title).assign(note=note)


def _sleep_title(statistic: str) -> str:
    """Title of a sleep statistic, with its unit."""
    kind, _, stage = statistic.partition("_")
    if stage in STAGE_NAMES:
        return f"{stage} {'min' if kind == 'minutes' else '% of sleep'}"
    return statistic.replace("_", " ").replace("rem ", "REM ")


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


def _calibration_tables(protocols: Mapping[str, Any]) -> pd.DataFrame:
    """Lay the calibration of each protocol above that with its temperatures, if it has any."""
    by_label = {}
    for name, figures in protocols.items():
        by_label[_label(name, figures)] = _calibration_table(figures["calibration"])
        if figures["calibrated"] is not None:
            label = f"{_label(name, figures)}, with {temperatures_in_words(figures['calibrated'])}"
            by_label[label] = _calibration_table(figures["calibrated"])
    return pd.concat(by_label, names=["protocol", "bin"])


def _review_table(curve: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each percent that is looked at."""
    rows = {}
    for row in curve["rows"]:
        columns: dict[str, Any] = {"sleep epochs": row["n"], "changed": row["n_changed"]}
        for name in row["random"]:
            title = title_of(name)
            columns |= _with_limits(title, row[name], row["intervals"][name])
            columns[f"{title} at random"] = scaled(row["random"][name], title)
        rows[row["percent"]] = columns
    table = pd.DataFrame.from_dict(rows, orient="index").astype({"sleep epochs": "Int64", "changed": "Int64"})
    return table.assign(**{f"% until kappa {curve['goal']:.2f}": curve["goal_percent"]})
