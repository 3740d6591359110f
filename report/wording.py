"""How figures are written for people. A title ends in the unit: `macro F1 %` is in percent, `kappa` has no unit."""

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = {"accuracy": "accuracy %", "macro_f1": "macro F1 %", "kappa": "kappa", "mgm": "MGm %"}
"""Titles of the published metrics, in their order. Any other metric has its name as title, and no unit."""

CLASS_FIGURES = {"precision": "precision %", "recall": "recall %", "f1": "F1 %", "g_mean": "G-mean %"}
"""Titles of the figures of each stage."""


NO_LIGHTS = (
    "Sleep latency, sleep efficiency, time in bed and wake after sleep onset are not reported. They depend on lights "
    "off and lights on, which are not known: prepared nights are cut from 30 min before to 30 min after sleep. "
    "Wake within sleep is that between the first and the last sleep."
)


def title_of(metric: str) -> str:
    """Title of a metric."""
    return METRICS.get(metric, metric)


def scaled(value: float | None, title: str) -> float | None:
    """Convert a fraction to percent if the title says so."""
    return None if value is None else value * (100 if title.endswith(" %") else 1)


def written(value: float | None, title: str, signed: bool = False, missing: str = "-") -> str:
    """Write a figure in the unit of its title, with one decimal, or with three where there is no unit."""
    decimals = 1 if title.endswith((" %", " min")) else 3
    return missing if value is None else f"{scaled(value, title):{'+' if signed else ''}.{decimals}f}"


def with_interval(
    value: float | None, limits: Sequence[float] | None, title: str, signed: bool = False, unit: str = ""
) -> str:
    """Write a figure, a unit, and the interval if there is one: `79.0 % [77.1, 80.8]`."""
    text = written(value, title, signed) + ("" if value is None else unit)
    if limits is None:
        return text
    low, high = (written(limit, title, signed) for limit in limits)
    return f"{text} [{low}, {high}]"


def temperatures_in_words(calibrated: Mapping[str, Any]) -> str:
    """Write temperatures as `the temperatures 1.10 to 1.30, fitted on the validation subjects of each fold`."""
    low, high = min(calibrated["temperatures"]), max(calibrated["temperatures"])
    values = f"temperature {low:.2f}" if low == high else f"temperatures {low:.2f} to {high:.2f}"
    return f"the {values}, fitted on {calibrated['fitted_on']} of each fold"


def goal_in_words(curve: Mapping[str, Any]) -> str:
    """Write how much must be looked at until kappa is at its goal."""
    if curve["goal_percent"] is None:
        return f"kappa does not reach {curve['goal']:.2f}"
    return f"kappa is {curve['goal']:.2f} or more from {curve['goal_percent']} % on"
