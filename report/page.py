"""The report as one web page: tables, pictures and nights fill a template; the page needs no other file."""

import base64
import json
import os
import platform
import string
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report.results import folds_note, main_protocol, typical_recording
from report.wording import CLASS_FIGURES, METRICS, written
from utils.drawing import HYPNOGRAM_ORDER, STAGE_COLOURS
from utils.experiment import Predictions
from utils.files import write_text
from utils.stages import SLEEP_EPOCH_S, STAGE_NAMES

PAGE = "report.html"

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib")

LEVELS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
"""A probability as one character: 64 levels from 0 to 1."""

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
        Content of `report.json`.
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
        seconds={row["fold"]: row["seconds"] for row in report["timing"]["per_fold"]},
        main=main_protocol(report),
        typical=typical_recording(report),
        partial=folds_note(report),
        pictures={name: _data_uri(path) for name, path in figures.items()},
        config=config,
        nights=_nights(predictions),
        subjects={row["subject"] for row in report["per_recording"]},
        stages=STAGE_NAMES,
        metrics={name: _heading(METRICS[name]) if name in METRICS else name for name in report["metrics"]},
        class_figures={name: _heading(title) for name, title in CLASS_FIGURES.items()},
        sleep_statistics=SLEEP_STATISTICS,
        versions={"Python": platform.python_version()} | {library: version(library) for library in LIBRARIES},
        machine={
            "System": platform.platform(),
            "Processor": platform.processor() or platform.machine(),
            "Cores": str(os.cpu_count()),
        },
    )
    write_text(directory / PAGE, text)
    return directory / PAGE


def _nights(predictions: Predictions) -> dict[str, Any]:
    """Pack the nights for the script of the page: a character for each sleep epoch, a dot where one is missing."""
    levels = np.array(list(LEVELS))
    by_name = {}
    for name in np.unique(predictions.recording).tolist():
        night = predictions.take(predictions.recording == name)
        begin = night.sleep_epoch.min()
        packed: dict[str, Any] = {"begin": begin.item()}
        position, length = night.sleep_epoch - begin, night.sleep_epoch.max() - begin + 1
        for track, stages in (("true", night.y_true), ("predicted", night.y_pred)):
            letters = np.full(length, ".")
            letters[position] = stages.astype(str)
            packed[track] = "".join(letters)
        letters = np.full((length, len(STAGE_NAMES)), ".")
        letters[position] = levels[np.rint(night.probabilities.clip(0, 1) * (len(LEVELS) - 1)).astype(int)]
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


def _data_uri(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _heading(title: str) -> str:
    """Begin a title with a capital letter."""
    return title[0].upper() + title[1:]


def _figure(value: float | None, title: str, signed: bool = False) -> str:
    return written(value, title, signed, missing="–")


def _interval(limits: Sequence[float] | None, title: str, signed: bool = False) -> str:
    """Write the two ends of an interval, or nothing."""
    return " to ".join(written(limit, title, signed) for limit in limits or ())


def _plus_minus(spread: Mapping[str, float | None], title: str, signed: bool = False) -> str:
    """Write a mean and, if there is one, its standard deviation."""
    mean, sd = _figure(spread["mean"], title, signed), spread["sd"]
    return mean if sd is None else f"{mean} ± {_figure(sd, title)}"


def _duration(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if whole >= 60 else "", f"{whole % 60} s"]
    return " ".join(part for part in parts if part)


def _pretty(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False)
