"""The report as one web page: a template filled with tables, pictures and the nights, nothing outside the file."""

import base64
import json
import os
import platform
import string
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report.results import folds_note, main_protocol, typical_recording
from utils.drawing import HYPNOGRAM_ORDER, STAGE_COLOURS
from utils.experiment import Predictions
from utils.files import write_text
from utils.stages import SLEEP_EPOCH_S, STAGE_NAMES

PAGE = "report.html"

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib")

LEVELS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
"""A probability as one character: 64 levels from 0 to 1."""

METRICS = {"accuracy": "Accuracy %", "macro_f1": "Macro F1 %", "kappa": "Kappa", "mgm": "MGm %"}

CLASS_METRICS = {"precision": "Precision %", "recall": "Recall %", "f1": "F1 %", "g_mean": "G-mean %"}

SLEEP_STATISTICS = {
    "total_sleep_time_min": "Total sleep time, min",
    "sleep_efficiency": "Sleep efficiency, %",
    "sleep_latency_min": "Sleep latency, min",
    "waso_min": "Wake after sleep onset, min",
    "rem_latency_min": "REM latency, min",
    **{f"minutes_{name}": f"{name}, min" for name in STAGE_NAMES},
}


def write_page(
    directory: Path,
    report: Mapping[str, Any],
    predictions: Predictions,
    figures: Mapping[str, Path],
    config: Mapping[str, Any],
) -> Path:
    """Write `report.html`, which needs no other file and no network.

    Parameters
    ----------
    directory : Path
        Folder of the last fold.
    report : mapping
        What `report.json` holds.
    predictions : Predictions
        Of all folds, pooled.
    figures : mapping of str to Path
        SVG files, as `report.plots.write_figures` returns them.
    config : mapping
        Resolved configuration.

    Returns
    -------
    Path
        The page.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=_figure, interval=_interval, plus_minus=_plus_minus, duration=_duration, pretty=_pretty
    )
    text = environment.get_template("report.html.jinja").render(
        report=report,
        seconds=_seconds(report),
        main=main_protocol(report),
        typical=typical_recording(report),
        partial=folds_note(report),
        figures={name: _data_uri(path) for name, path in figures.items()},
        config=config,
        nights=_nights(predictions),
        subjects={row.get("subject") for row in report["per_recording"]} - {None},
        stages=STAGE_NAMES,
        metrics=METRICS,
        class_metrics=CLASS_METRICS,
        sleep_statistics=SLEEP_STATISTICS,
        versions=_versions(),
        machine=_machine(),
    )
    write_text(directory / PAGE, text)
    return directory / PAGE


def _nights(predictions: Predictions) -> dict[str, Any]:
    """Pack the nights for the page's script: a character per sleep epoch and track, a dot where one is missing."""
    tracks = {"true": predictions.y_true, "predicted": predictions.y_pred}
    levels = np.array(list(LEVELS))
    by_name = {}
    for name in np.unique(predictions.recording).tolist():
        of = predictions.recording == name
        position = predictions.sleep_epoch[of].astype(np.int64)
        begin = position.min()
        packed: dict[str, Any] = {"begin": begin.item()}
        for track, stages in tracks.items():
            letters = np.full(position.max() - begin + 1, ".")
            letters[position - begin] = stages[of].astype(str)
            packed[track] = "".join(letters)
        probabilities = np.nan_to_num(predictions.probabilities[of]).clip(0, 1)
        letters = np.full((position.max() - begin + 1, len(STAGE_NAMES)), ".")
        letters[position - begin] = levels[np.rint(probabilities * (len(LEVELS) - 1)).astype(int)]
        packed["probabilities"] = "".join(letters.ravel())
        by_name[name] = packed
    return {
        "recordings": by_name,
        "levels": LEVELS,
        "order": list(HYPNOGRAM_ORDER),
        "names": list(STAGE_NAMES),
        "colours": [STAGE_COLOURS[stage] for stage in range(len(STAGE_NAMES))],
        "hours": SLEEP_EPOCH_S / 3600,
    }


def _seconds(report: Mapping[str, Any]) -> dict[int, float | None]:
    """Look up how long each fold trained."""
    return {row["fold"]: row["seconds"] for row in (report.get("timing") or {}).get("per_fold") or []}


def _data_uri(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _figure(value: float | None, name: str, signed: bool = False) -> str:
    """Write a figure as people read it: fractions in percent, but for kappa; a dash for none."""
    if value is None or not np.isfinite(value):
        return "–"
    sign = "+" if signed else ""
    if name == "kappa":
        return f"{value:{sign}.3f}"
    if name.endswith("_min") or name.startswith("minutes_"):
        return f"{value:{sign}.1f}"
    return f"{100 * value:{sign}.1f}"


def _interval(limits: tuple[float, float] | None, name: str, signed: bool = False) -> str:
    """Write a pair of limits, or nothing."""
    if limits is None or None in limits:
        return ""
    return f"{_figure(limits[0], name, signed)} to {_figure(limits[1], name, signed)}"


def _plus_minus(spread: Mapping[str, float | None] | None, name: str) -> str:
    """Write mean and standard deviation, or nothing."""
    if not spread or spread.get("mean") is None:
        return ""
    sd = spread.get("sd")
    return _figure(spread["mean"], name) + (f" ± {_figure(sd, name)}" if sd is not None else "")


def _duration(seconds: float | None) -> str:
    """Write seconds as people read them."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if whole >= 60 else "", f"{whole % 60} s"]
    return " ".join(part for part in parts if part)


def _pretty(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False)


def _versions() -> dict[str, str]:
    """Name the version of Python and of the libraries that are installed."""
    found = {"Python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # this figure needs no such library
            continue
    return found


def _machine() -> dict[str, str]:
    return {
        "System": platform.platform(),
        "Processor": platform.processor() or platform.machine(),
        "Cores": str(os.cpu_count() or "unknown"),
    }
