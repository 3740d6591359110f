"""The report as one web page: tables, pictures and nights fill a template; the page needs no other file."""

import base64
import json
import os
import platform
import string
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report.results import Results, folds_note, main_protocol, predicted_stages, start_of, typical_recording
from report.wording import CLASS_FIGURES, METRICS, NO_LIGHTS, goal_in_words, temperatures_in_words, written
from utils.drawing import HYPNOGRAM_ORDER, STAGE_COLOURS, time_label
from utils.experiment import Predictions
from utils.files import write_text
from utils.plural import number_of
from utils.stages import SLEEP_EPOCH_S, STAGE_NAMES

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib")
LEVELS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"  # a probability as one character

SLEEP_STATISTICS = {
    "total_sleep_time_min": "Total sleep time, min",
    "wake_within_sleep_min": "Wake within sleep, min",
    "rem_latency_min": "REM latency, min",
    **{f"minutes_{name}": f"{name}, min" for name in STAGE_NAMES if name != "W"},
}
"""Those that need neither lights off nor lights on; `NO_LIGHTS` says why."""


def write_page(directory: Path, report: Mapping[str, Any], results: Results, figures: Mapping[str, Path]) -> Path:
    """Write `report.html`, which needs no other file and no network; `figures` are SVG files by their names."""
    templates = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(figure=_figure, interval=_interval, plus_minus=_plus_minus)
    environment.filters.update(duration=_duration, number_of=number_of)
    environment.filters.update(temperatures=temperatures_in_words, goal=goal_in_words)
    text = environment.get_template("report.html.jinja").render(
        report=report,
        name=results.name if results.evaluation else results.config["name"],
        seconds=results.seconds,
        main=main_protocol(report),
        typical=typical_recording(report),
        partial=folds_note(report),
        pictures={name: base64.b64encode(path.read_bytes()).decode() for name, path in figures.items()},
        config=results.config,
        config_text=json.dumps(results.config, indent=2, ensure_ascii=False),
        shown=list(predicted_stages(results.predictions, main_protocol(report))),
        context=results.predictions.y_pred_context is not None,
        nights=_nights(results.predictions, main_protocol(report)),
        subjects={row["subject"] for row in report["per_recording"]},
        stages=STAGE_NAMES,
        metrics={name: _heading(METRICS[name]) if name in METRICS else name for name in report["metrics"]},
        class_figures={name: _heading(title) for name, title in CLASS_FIGURES.items()},
        sleep_statistics=SLEEP_STATISTICS,
        no_lights=NO_LIGHTS,
        versions={"Python": platform.python_version()} | {library: version(library) for library in LIBRARIES},
        machine={
            "System": platform.platform(),
            "Processor": platform.processor() or platform.machine(),
            "Cores": str(os.cpu_count()),
        },
    )
    write_text(directory / "report.html", text)
    return directory / "report.html"


def _nights(predictions: Predictions, protocol: str) -> dict[str, Any]:
    """Pack the nights for the script of the page: a character for each sleep epoch, a dot where one is missing."""
    levels = np.array(list(LEVELS))
    by_name: dict[str, dict[str, Any]] = {}
    for name, positions in predictions.nights().items():
        night = predictions.take(positions)
        start, begin = start_of(night), night.sleep_epoch.min()
        by_name[name] = {
            "begin": begin.item(),
            "start_hour": None if start is None else start.hour + start.minute / 60 + start.second / 3600,
            "time_label": time_label(start),
            "true": _letters(night.sleep_epoch - begin, night.y_true.astype(str)),
            "predicted": {
                shown: {
                    "stages": _letters(night.sleep_epoch - begin, stages.astype(str)),
                    "probabilities": _letters(
                        night.sleep_epoch - begin,
                        levels[np.rint(probabilities.clip(0, 1) * (len(LEVELS) - 1)).astype(int)],
                    ),
                }
                for shown, (stages, probabilities) in predicted_stages(night, protocol).items()
            },
        }
    return {
        "recordings": by_name,
        "protocols": list(predicted_stages(predictions, protocol)),
        "levels": LEVELS,
        "order": list(HYPNOGRAM_ORDER),
        "names": list(STAGE_NAMES),
        "colours": [STAGE_COLOURS[stage] for stage in range(len(STAGE_NAMES))],
        "hours": SLEEP_EPOCH_S / 3600,
    }


def _letters(position: np.ndarray, characters: np.ndarray) -> str:
    """Put the characters of sleep epochs (n,) or (n, 5) at their positions, with dots between, and join them."""
    letters = np.full((position.max() + 1, *characters.shape[1:]), ".")
    letters[position] = characters
    return "".join(letters.ravel())


def _heading(title: str) -> str:
    """Begin a title with a capital letter."""
    return title[0].upper() + title[1:]


_figure = partial(written, missing="–")


def _interval(limits: Sequence[float] | None, title: str, signed: bool = False) -> str:
    """Write the two ends of an interval, or nothing."""
    return " to ".join(written(limit, title, signed) for limit in limits or ())


def _plus_minus(spread: Mapping[str, float | None], title: str, signed: bool = False) -> str:
    """Write a mean and, if there is one, its standard deviation."""
    mean, sd = _figure(spread["mean"], title, signed), spread["sd"]
    return mean if sd is None else f"{mean} ± {_figure(sd, title)}"


def _duration(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds."""
    minutes, s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {s} s" if minutes else f"{s} s"
    return f"{minutes // 60} h {minutes % 60} min {s} s"
