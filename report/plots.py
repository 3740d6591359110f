"""The figures of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from report.results import folds_note, main_protocol, typical_recording
from utils.drawing import (
    BLUE,
    GREY,
    INK,
    VERMILION,
    draw_hypnodensity,
    draw_hypnogram,
    new_figure,
    styled,
    write_figure,
)
from utils.experiment import Predictions
from utils.stages import N_STAGES, STAGE_NAMES

AGREEMENT = {"total_sleep_time_min": ("Total sleep time", "min", 1), "sleep_efficiency": ("Sleep efficiency", "%", 100)}
"""Title, unit, and the factor that gives this unit, of the statistics that are compared as Bland and Altman do."""


def write_figures(
    directory: Path,
    report: Mapping[str, Any],
    predictions: Predictions,
    metrics: Mapping[int, Path],
    selected: Mapping[int, int],
) -> dict[str, Path]:
    """Write every figure as SVG, PDF and PNG (300 dpi).

    Parameters
    ----------
    directory : Path
        `<last fold>/figures`; is made if it is missing.
    report : mapping
        What `report.json` holds.
    predictions : Predictions
        Of all folds, pooled.
    metrics : mapping of int to Path
        The metrics.csv of each fold.
    selected : mapping of int to int
        The training epoch (1-based) that was selected in each fold.

    Returns
    -------
    dict of str to Path
        The SVG file of each figure: `confusion_matrix`, `learning_curves`, `f1`, `hypnogram`, `bland_altman` (only
        where the report has sleep statistics), `reliability` (only where it has a calibration).
    """
    protocol = main_protocol(report)
    scores = report["protocols"][protocol]
    note = " | ".join(filter(None, [f"Protocol {protocol}: {scores['label']}", folds_note(report)]))
    with styled():
        figures = {
            "confusion_matrix": confusion_matrix(scores["confusion_matrix"]),
            "learning_curves": learning_curves(metrics, selected),
            "f1": f1_by_stage(report["protocols"]),
            "hypnogram": hypnogram(predictions, typical_recording(report)),
            "bland_altman": bland_altman(report, protocol),
            "reliability": reliability(scores.get("calibration")),
        }
        return {
            name: write_figure(directory, name, figure, note if name != "f1" else folds_note(report))
            for name, figure in figures.items()
            if figure is not None
        }


def confusion_matrix(counts: Sequence[Sequence[int]]) -> Figure:
    """Draw counts of shape (5, 5), true stages down and predicted ones across, with the percent of each row."""
    matrix = np.asarray(counts)
    percent = 100 * matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    figure, axes = _figure(4.6, 4.3)
    blues = LinearSegmentedColormap.from_list("blues", ["#ffffff", "#8dbbd6", "#22608c", "#0b2343"])
    edges = np.arange(N_STAGES + 1) - 0.5
    axes.pcolormesh(edges, edges, percent, cmap=blues, vmin=0, vmax=100, edgecolors="white", linewidth=1)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    for (row, column), n in np.ndenumerate(matrix):
        colour = "white" if percent[row, column] > 52 else INK
        position: dict[str, Any] = {"ha": "center", "color": colour}
        axes.text(column, row - 0.04, f"{percent[row, column]:.1f} %", va="bottom", weight="bold", **position)
        axes.text(column, row + 0.06, f"{n:,}", va="top", size=8, **position)
    axes.set(xlabel="Predicted stage", ylabel="True stage", title="Confusion matrix (percent of the true stage, count)")
    axes.set_xticks(range(N_STAGES), STAGE_NAMES)
    axes.set_yticks(range(N_STAGES), STAGE_NAMES)
    axes.tick_params(length=0)
    return figure


def learning_curves(metrics: Mapping[int, Path], selected: Mapping[int, int]) -> Figure:
    """Draw loss, accuracy and macro F1 over training epochs, a line per fold, the selected epoch marked."""
    histories = {fold: pd.read_csv(path) for fold, path in metrics.items()}
    columns = {column for history in histories.values() for column in history}
    scored_on = "valid" if "valid_loss" in columns else "test"
    shown = {"loss": "Loss", "accuracy": "Accuracy (%)", "macro_f1": "Macro F1 (%)"}
    titles = {name: title for name, title in shown.items() if f"train_{name}" in columns}
    figure = new_figure(1.2 + 2.6 * len(titles), 3.2)
    row = figure.subplots(1, len(titles), squeeze=False)[0] if titles else []
    for axes, (name, title) in zip(row, titles.items(), strict=True):
        factor = 1 if name == "loss" else 100
        for fold, history in histories.items():
            _draw_fold(axes, history, name, scored_on, factor, selected.get(fold), 1 if len(histories) == 1 else 0.75)
        axes.set(xlabel="Training epoch", title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid()
    if titles:
        handles, labels = row[0].get_legend_handles_labels()
        by_label = dict(zip(labels, handles, strict=True))
        figure.legend(by_label.values(), by_label.keys(), loc="outside lower left", ncols=3)
    return figure


def _draw_fold(
    axes: Axes,
    history: pd.DataFrame,
    name: str,
    scored_on: str,
    factor: float,
    selected: int | None,
    alpha: float,
) -> None:
    """Draw one fold's curve on the training set and on the set it is scored on."""
    train_epoch = history["train_epoch"]
    lone = "." if len(train_epoch) == 1 else None
    words = {"valid": "validation", "test": "test"}
    train, score = (
        factor * history.get(f"{part}_{name}", np.full(len(train_epoch), np.nan)) for part in ("train", scored_on)
    )
    axes.plot(train_epoch, train, ":", marker=lone, color=GREY, lw=1, alpha=alpha, label="training subjects")
    axes.plot(train_epoch, score, "-", marker=lone, color=BLUE, lw=1, alpha=alpha, label=f"{words[scored_on]} subjects")
    at = train_epoch == selected
    style: dict[str, Any] = {"mfc": "white", "mec": VERMILION, "mew": 1.4, "ms": 6, "zorder": 3}
    axes.plot(train_epoch[at], score[at], "o", ls="none", label="selected training epoch", **style)


def f1_by_stage(protocols: Mapping[str, Any]) -> Figure:
    """Draw each stage's F1 with its interval, the protocols side by side."""
    figure, axes = _figure(5.2, 3.4)
    styles = [("o", BLUE, BLUE), ("s", VERMILION, "white"), ("D", INK, INK)]
    for number, (name, scores) in enumerate(protocols.items()):
        marker, colour, face = styles[number % len(styles)]
        for position, stage in enumerate(STAGE_NAMES):
            row = scores["per_class"].get(stage) or {}
            if row.get("f1") is None:
                continue
            x, f1 = position + 0.24 * (number - (len(protocols) - 1) / 2), 100 * row["f1"]
            low, high = 100 * np.asarray(row.get("f1_interval") or [row["f1"], row["f1"]], float)
            axes.plot([x, x], [low, high], color=colour, lw=1.6)
            label = f"{name}: {scores['label']}" if position == 0 else None
            axes.plot(x, f1, marker, color=colour, mfc=face, mew=1.4, ms=6, ls="none", label=label)
            side = -1 if number == 0 and len(protocols) > 1 else 1
            axes.annotate(
                f"{f1:.1f}", (x, f1), (6 * side, 0), textcoords="offset points", size=7.5, va="center",
                ha="right" if side < 0 else "left",
            )  # fmt: skip
    axes.set(ylabel="F1 (%)", ylim=(0, 103), xlim=(-0.6, N_STAGES - 0.4))
    axes.set_title("F1 of each stage, 95 % interval over subjects")
    axes.set_xticks(range(N_STAGES), STAGE_NAMES)
    axes.grid(axis="y")
    figure.legend(loc="outside lower left")
    return figure


def hypnogram(predictions: Predictions, recording: str) -> Figure:
    """Draw the true and the predicted stages of a recording over the stacked probabilities; gaps stay blank."""
    of = predictions.recording == recording
    order = np.argsort(predictions.sleep_epoch[of], kind="stable")
    position = predictions.sleep_epoch[of][order].astype(np.int64)
    y_true, y_pred = predictions.y_true[of][order], predictions.y_pred[of][order]
    figure = new_figure(7.2, 4.8)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 1.1])
    accuracy = 100 * (y_true == y_pred).mean()
    draw_hypnogram(top, position, y_true, INK)
    draw_hypnogram(middle, position, y_pred, BLUE)
    draw_hypnodensity(bottom, position, predictions.probabilities[of][order])
    top.set_title(f"Recording {recording}: true stages")
    middle.set_title(f"Predicted stages (as the true ones in {accuracy:.1f} % of {len(position):,} sleep epochs)")
    bottom.set_title("Hypnodensity: probability of each stage")
    return figure


def bland_altman(report: Mapping[str, Any], protocol: str) -> Figure | None:
    """Draw predicted minus true against their mean for each recording; None where there are no sleep statistics."""
    agreement = report["protocols"][protocol].get("sleep_agreement") or {}
    points = {name: _sleep_pairs(report["per_recording"], protocol, name) for name in AGREEMENT}
    if not any(len(pairs) for pairs in points.values()):
        return None
    figure = new_figure(7.2, 3.3)
    for axes, (name, (title, unit, factor)) in zip(figure.subplots(1, 2), AGREEMENT.items(), strict=True):
        pairs = factor * points[name]
        axes.axhline(0, color=GREY, lw=0.8)
        axes.plot(pairs.mean(axis=1), pairs[:, 1] - pairs[:, 0], "o", mfc="none", mec=BLUE, mew=1.2, ms=5, alpha=0.8)
        for key, words, style in (("mean", "mean", "-"), ("low", "−1.96 SD", "--"), ("high", "+1.96 SD", "--")):
            value = (agreement.get(name) or {}).get(key)
            if value is not None:
                value *= factor
                axes.axhline(value, color=VERMILION, ls=style, lw=1.2)
                text = f"{words}\n{value:+.1f}".replace("-", "−")
                axes.annotate(text, (1, value), (3, 0), xycoords=("axes fraction", "data"),
                              textcoords="offset points", ha="left", va="center", size=7)  # fmt: skip
        axes.set(title=f"{title} ({len(pairs)} recordings)", xlabel=f"Mean of true and predicted ({unit})")
        axes.set_ylabel(f"Predicted minus true ({unit})")
        axes.margins(x=0.12, y=0.2)
    return figure


def _sleep_pairs(rows: Sequence[Mapping[str, Any]], protocol: str, name: str) -> np.ndarray:
    """Collect a statistic of each recording, true and predicted, shape (n, 2), where both are known."""
    pairs = [[((row.get("sleep") or {}).get(kind) or {}).get(name) for kind in ("true", protocol)] for row in rows]
    return np.asarray([pair for pair in pairs if None not in pair], float).reshape(-1, 2)


def reliability(calibration: Mapping[str, Any] | None) -> Figure | None:
    """Draw accuracy against confidence, and how many sleep epochs have which confidence; None where not known."""
    bins = [bin_ for bin_ in (calibration or {}).get("bins") or [] if bin_["n"]]
    if not bins or calibration is None:
        return None
    figure = new_figure(4.2, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 100], [0, 100], "--", color=GREY, lw=1, label="perfect calibration")
    confidence, accuracy = (100 * np.array([bin_[key] for bin_ in bins]) for key in ("confidence", "accuracy"))
    top.vlines(confidence, confidence, accuracy, color=VERMILION, lw=1.4, label="gap")
    top.plot(confidence, accuracy, "o-", color=BLUE, lw=1.2, ms=5, clip_on=False, label="accuracy")
    ece = calibration.get("ece")
    top.set(ylabel="Accuracy (%)", ylim=(0, 100), xlim=(0, 100), title="Reliability")
    if ece is not None:
        top.set_title(f"Reliability (expected calibration error {100 * ece:.1f} %)")
    top.legend(loc="upper left")
    top.grid()
    total = sum(bin_["n"] for bin_ in bins)
    edges = [(100 * bin_["low"], 100 * (bin_["high"] - bin_["low"]), 100 * bin_["n"] / total) for bin_ in bins]
    left, width, height = zip(*edges, strict=True)
    bottom.bar(left, height, width, align="edge", color="#8dbbd6", edgecolor=INK, lw=0.6)
    bottom.set(xlabel="Confidence: highest probability (%)", ylabel="Sleep\nepochs (%)")
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.subplots()
