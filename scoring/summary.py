"""The figures of a scored night in one row: of the summary of a folder, of the table of a run, and of the picture."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recordings.reader import derivation_name
from scoring.night import read_json
from utils.errors import UserError
from utils.files import replacing
from utils.sleep_statistics import sleep_statistics
from utils.stages import STAGE_NAMES

SUMMARY = "summary.csv"

UNITS = "Times in minutes; SE in percent of time in bed, stages in percent of total sleep time."

_HEADS = {
    "TIB": "time_in_bed_min",
    "TST": "total_sleep_time_min",
    "SE %": "sleep_efficiency_percent",
    "SOL": "sleep_latency_min",
    "REM lat": "rem_latency_min",
    "WASO": "waso_min",
    **{f"{name} %": f"percent_{name}" for name in STAGE_NAMES[1:]},
}
HEADS = tuple(_HEADS)
"""Heads of the figures that a sleep laboratory's report shows first."""

_OLD = "sleep_efficiency"  # a fraction, in the JSON file alone
_STATISTICS = [name for name in sleep_statistics(np.zeros(1, int), np.zeros(1, int), (0, 1)) if name != _OLD]
_DIGITS = 4
_N_OLDEST = 5  # columns by which a summary is known


def main_figures(statistics: Mapping[str, Any]) -> tuple[str, ...]:
    """Write the figures below HEADS, `-` where there is none."""
    figures = (statistics.get(name) for name in _HEADS.values())
    return tuple("-" if figure is None else f"{figure:.1f}" for figure in figures)


def headline(statistics: Mapping[str, Any]) -> str:
    """Write the main figures of a night in one line."""
    parts = []
    for head, figure in zip(HEADS, main_figures(statistics), strict=True):
        unit = "" if figure == "-" else " %" if head.endswith(" %") else " min"
        parts.append(f"{head.removesuffix(' %')} {figure}{unit}")
    return ", ".join(parts)


def write_summary(directory: Path) -> None:
    """Write one row for each night whose JSON file is in a folder, in one move; nothing if there is no such night.

    A run that ends while another one works writes the rows of the nights that are there then, and the last one to end
    writes all.

    Raises
    ------
    UserError
        The file is there already and is no summary of scored nights.
    """
    path = directory / SUMMARY
    if not any(nights_of(directory)):
        return
    columns = list(_row("", {}))
    before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    if before is not None and not before.startswith(",".join(columns[:_N_OLDEST])):
        raise UserError(f"{path}: there already, and not from scored nights. Pass another --output_dir.")
    with replacing(path) as temporary:  # which waits for another run that writes this file
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(name, night) for name, night in nights_of(directory))
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")


def nights_of(directory: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each scored night in a folder, and what its JSON file says."""
    for path in sorted(directory.glob("*.json")):
        night = None if path.name.startswith(".") else read_json(path)
        if night is not None and isinstance(night.get("sleep_statistics"), dict):
            yield path.stem, night


def _row(name: str, night: Mapping[str, Any]) -> dict[str, Any]:
    """Make the row of a night; what an earlier version did not write is empty."""
    scoring, statistics, agreement = (night.get(key) or {} for key in ("scoring", "sleep_statistics", "agreement"))
    n, n_scored = night.get("n_sleep_epochs", 0), night.get("n_scored", 0)
    row = {
        "name": name,
        "channel": derivation_name(scoring.get("channel", ""), scoring.get("reference")),
        "start_time": night.get("start_time"),
        "n_sleep_epochs": n,
        "n_unscored": n - n_scored,
        "n_without_signal": night.get("n_without_signal"),
        "time_in_bed_is": night.get("time_in_bed_is"),
        **{key: statistics.get(key) for key in _STATISTICS},
        "mean_confidence_percent": _percent(night.get("mean_confidence")),
        "n_compared": agreement.get("n"),
        "accuracy_percent": _percent(agreement.get("accuracy")),
        "macro_f1_percent": _percent(agreement.get("macro_f1")),
        "kappa": agreement.get("kappa"),
        "training_overlap": night.get("training_overlap"),
    }
    return {key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in row.items()}


def _percent(fraction: float | None) -> float | None:
    """Convert a fraction to percent."""
    return None if fraction is None else 100 * fraction
