"""The figures of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from report.results import Results, folds_note, main_protocol, predicted_stages, start_of, typical_recording
from utils.drawing import (
    BLUE,
    GREY,
    INK,
    VERMILION,
    draw_confusion_matrix,
    draw_hypnodensity,
    draw_hypnogram,
    label_time,
    styled,
    write_figure,
)
from utils.experiment import Predictions
from utils.plural import number_of
from utils.stages import N_STAGES, STAGE_NAMES

AGREEMENT = {"total_sleep_time_min": "Total sleep time", "wake_within_sleep_min": "Wake within sleep"}
"""Titles of the statistics in the Bland-Altman plots, in minutes."""


def write_figures(directory: Path, report: Mapping[str, Any], results: Results) -> dict[str, Path]:
    """Write every figure as SVG, PDF and PNG (300 dpi), and return the SVG file of each by its name.

    They show the experiment's own protocol and, beside it, the night context if there is one.
    """
    protocol = main_protocol(report)
    shown = {name: report["protocols"][name] for name in predicted_stages(results.predictions, protocol)}
    labels = [f"Protocol {name}: {figures['label']}" for name, figures in shown.items()]
    note = "\n".join(filter(None, [*labels, folds_note(report)]))
    selected = {fold: of_fold.selected_train_epoch for fold, of_fold in results.folds.items()}
    with styled():
        drawn = {
            "confusion_matrix": confusion_matrices(shown),
            "f1": f1_by_stage(report["protocols"]),
            "hypnogram": hypnogram(results.predictions, typical_recording(report), protocol),
            "bland_altman": bland_altman(report, list(shown)),
            "reliability": reliability(shown),
            "review": review(report["review"]),
        }
        if results.histories:
            drawn["learning_curves"] = learning_curves(results.histories, selected, results.context_histories)
        f1_note = "\n".join(filter(None, [folds_note(report), report["intervals"]["note"]])) or None
        return {
            name: write_figure(directory, name, figure, f1_note if name == "f1" else note)
            for name, figure in drawn.items()
        }


def confusion_matrices(protocols: Mapping[str, Any]) -> Figure:
    """Draw the confusion matrix of each protocol, side by side."""
    figure = Figure(figsize=(4.6 * len(protocols), 4.4))
    panels = figure.subplots(1, len(protocols), squeeze=False)[0]
    for axes, (name, figures) in zip(panels, protocols.items(), strict=True):
        title = f"Confusion matrix, {name}\n(percent of the true stage, count)"
        draw_confusion_matrix(axes, figures["confusion_matrix"], title)
    return figure


def learning_curves(
    histories: Mapping[int, pd.DataFrame],
    selected: Mapping[int, int | None],
    context_histories: Mapping[int, pd.DataFrame],
) -> Figure:
    """Draw loss, accuracy and macro F1 (those in the configuration) over training epochs, a line for each fold.

    `histories` are the `metrics.csv` of the folds; the training epoch (1-based) that was selected is marked.
    `context_histories`, those of the models of the night context, have a row of their own, without marks.
    """
    columns = next(iter(histories.values())).columns
    evaluated_set, subjects = ("valid", "validation") if "valid_loss" in columns else ("test", "test")
    titles = {"loss": "Loss", "accuracy": "Accuracy (%)", "macro_f1": "Macro F1 (%)"}
    titles = {name: title for name, title in titles.items() if f"train_{name}" in columns}
    rows = [("", histories, selected)]
    if context_histories:
        rows.append((", night context", context_histories, {}))
    style: dict[str, Any] = {"lw": 1, "alpha": 1 if len(histories) == 1 else 0.75}
    figure = Figure(figsize=(1.2 + 2.6 * len(titles), 0.5 + 2.7 * len(rows)))
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for panels, (model, of_folds, marks) in zip(grid, rows, strict=True):
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            factor = 1 if name == "loss" else 100
            for fold, history in of_folds.items():
                train_epoch = history["train_epoch"]
                train, evaluated = (factor * history[f"{part}_{name}"] for part in ("train", evaluated_set))
                chosen = train_epoch == marks.get(fold)
                style["marker"] = "." if len(train_epoch) == 1 else None
                axes.plot(train_epoch, train, ":", color=GREY, **style)
                axes.plot(train_epoch, evaluated, "-", color=BLUE, **style)
                axes.plot(train_epoch[chosen], evaluated[chosen], "o", mfc="white", mec=VERMILION, mew=1.4, ms=6,
                          zorder=3)  # fmt: skip
            axes.set(xlabel="Training epoch", title=title + model)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid()
    labels = ["training subjects", f"{subjects} subjects", "selected training epoch"]
    figure.legend(grid[0, 0].get_lines()[:3], labels, loc="outside lower left", ncols=3)
    return figure


def f1_by_stage(protocols: Mapping[str, Any]) -> Figure:
    """Draw each stage's F1 with its interval, the protocols side by side."""
    figure = Figure(figsize=(6 if len(protocols) < 3 else 7.2, 3.4))
    axes = figure.subplots()
    styles = [("o", BLUE, BLUE), ("s", VERMILION, "white"), ("D", INK, INK)]
    for number, ((name, figures), (marker, colour, face)) in enumerate(zip(protocols.items(), styles, strict=False)):
        for position, stage in enumerate(STAGE_NAMES):
            row = figures["per_class"][stage]
            x, f1 = position + 0.3 * (number - (len(protocols) - 1) / 2), 100 * row["f1"]
            if row["f1_interval"] is not None:
                low, high = row["f1_interval"]
                axes.plot([x, x], [100 * low, 100 * high], color=colour, lw=1.6)
            label = f"{name}: {figures['label']}" if position == 0 else None
            axes.plot(x, f1, marker, color=colour, mfc=face, mew=1.4, ms=6, ls="none", label=label)
            side = -1 if number == 0 and len(protocols) == 2 else 1
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


def hypnogram(predictions: Predictions, recording: str, protocol: str) -> Figure:
    """Draw the true and the predicted stages of a recording and their probabilities, stacked; gaps stay blank."""
    night = predictions.take(predictions.recording == recording)
    shown = predicted_stages(night, protocol)
    n, position = len(night.y_true), night.sleep_epoch
    figure = Figure(figsize=(7.2, 1.9 + 2.9 * len(shown)))
    heights = [1] * (1 + len(shown)) + [1.1] * len(shown)
    top, *panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_hypnogram(top, position, night.y_true, INK)
    top.set_title(f"Recording {fill(recording, 90)}: true stages")
    for number, (name, (stages, probabilities)) in enumerate(shown.items()):
        by = f" by protocol {name}" if len(shown) > 1 else ""
        accuracy = 100 * (night.y_true == stages).mean()
        draw_hypnogram(panels[number], position, stages, BLUE)
        panels[number].set_title(f"Predicted stages{by} (as the true ones in {accuracy:.1f} % of {n:,} sleep epochs)")
        draw_hypnodensity(panels[number + len(shown)], position, probabilities)
        panels[number + len(shown)].set_title(f"Hypnodensity{by}: probability of each stage")
    label_time(panels[-1], start_of(night))
    return figure


def bland_altman(report: Mapping[str, Any], protocols: Sequence[str]) -> Figure:
    """Draw predicted minus true against their mean for each recording (Bland and Altman, Lancet 1986)."""
    nights = [row["sleep"] for row in report["per_recording"]]
    figure = Figure(figsize=(7.2, 3.3 * len(protocols)))
    grid = figure.subplots(len(protocols), 2, squeeze=False)
    for row, protocol in zip(grid, protocols, strict=True):
        for axes, (name, title) in zip(row, AGREEMENT.items(), strict=True):
            agreement = report["protocols"][protocol]["sleep_agreement"][name]
            both = [(night["true"][name], night[protocol][name]) for night in nights]
            pairs = np.array([pair for pair in both if None not in pair]).reshape(-1, 2)
            differences = pairs[:, 1] - pairs[:, 0]
            axes.axhline(0, color=GREY, lw=0.8)
            axes.plot(pairs.mean(axis=1), differences, "o", mfc="none", mec=BLUE, mew=1.2, ms=5, alpha=0.8)
            lines = [("mean", "mean", "-", "center")]
            if agreement["sd"]:
                lines += [("low", "−1.96 SD", "--", "top"), ("high", "+1.96 SD", "--", "bottom")]
            for key, words, style, place in lines:
                if (value := agreement[key]) is not None:
                    axes.axhline(value, color=VERMILION, ls=style, lw=1.2)
                    text = f"{words}\n{value:+.1f}".replace("-", "−")
                    axes.annotate(text, (1, value), (3, 0), xycoords=("axes fraction", "data"),
                                  textcoords="offset points", ha="left", va=place, size=7)  # fmt: skip
            by = f"\n{protocol}" if len(protocols) > 1 else ""
            axes.set_title(f"{title}{by} ({number_of(len(pairs), 'recording')})")
            axes.set(xlabel="Mean of true and predicted (min)", ylabel="Predicted minus true (min)")
            axes.margins(x=0.12, y=0.2)
    return figure


def reliability(protocols: Mapping[str, Any]) -> Figure:
    """Draw accuracy against confidence, and how many sleep epochs have which confidence, for each protocol.

    With temperatures, the calibrated probabilities are drawn so, and those before them in grey.
    """
    figure = Figure(figsize=(4.2 * len(protocols), 4.6))
    grid = figure.subplots(2, len(protocols), sharex=True, squeeze=False, height_ratios=[3, 1])
    for (top, bottom), (name, figures) in zip(grid.T, protocols.items(), strict=True):
        before, after = figures["calibration"], figures["calibrated"]
        calibration = after or before
        bins = [bin_ for bin_ in calibration["bins"] if bin_["n"]]
        top.plot([0, 100], [0, 100], "--", color=GREY, lw=1, label="perfect calibration")
        confidence, accuracy = _points(calibration)
        top.vlines(confidence, confidence, accuracy, color=VERMILION, lw=1.4, label="gap")
        label = "with the temperature" if after else "accuracy"
        top.plot(confidence, accuracy, "o-", color=BLUE, lw=1.2, ms=5, clip_on=False, label=label)
        errors = f"{100 * calibration['ece']:.1f} %"
        if after:
            top.plot(*_points(before), "s:", color=GREY, mfc="white", lw=1, ms=4, clip_on=False, label="before")
            errors = f"{100 * before['ece']:.1f} %,\nwith the temperature {errors}"
        top.set(ylabel="Accuracy (%)", ylim=(0, 100), xlim=(0, 100))
        top.set_title(f"Reliability, {name}\n(expected calibration error {errors})")
        top.grid()
        total = sum(bin_["n"] for bin_ in bins)
        for bin_ in bins:
            left, width, height = 100 * bin_["low"], 100 * (bin_["high"] - bin_["low"]), 100 * bin_["n"] / total
            bottom.bar(left, height, width, align="edge", color="#8dbbd6", edgecolor=INK, lw=0.6)
        bottom.set(xlabel="Confidence: highest probability (%)", ylabel="Sleep\nepochs (%)")
    parts = {label: handle for top in grid[0] for handle, label in zip(*top.get_legend_handles_labels(), strict=True)}
    figure.legend(parts.values(), parts.keys(), loc="outside lower left", ncols=2)
    return figure


def _points(calibration: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and accuracy, in percent, of the bins that are not empty."""
    bins = [bin_ for bin_ in calibration["bins"] if bin_["n"]]
    confidence, accuracy = (100 * np.array([bin_[key] for bin_ in bins]) for key in ("confidence", "accuracy"))
    return confidence, accuracy


def review(curves: Mapping[str, Any]) -> Figure:
    """Draw the figures after a review of the least certain sleep epochs, and of as many at random, by protocol."""
    titles = {"accuracy": "Accuracy (%)", "macro_f1": "Macro F1 (%)", "kappa": "Kappa"}
    figure = Figure(figsize=(9, 0.7 + 2.7 * len(curves)))
    grid = figure.subplots(len(curves), len(titles), squeeze=False)
    for panels, (protocol, curve) in zip(grid, curves.items(), strict=True):
        percent = [row["percent"] for row in curve["rows"]]
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            factor = 1 if name == "kappa" else 100
            at_random = [factor * row["random"][name] for row in curve["rows"]]
            axes.plot(percent, at_random, "s:", color=GREY, mfc="white", lw=1, ms=4)
            axes.plot(percent, [factor * row[name] for row in curve["rows"]], "o-", color=BLUE, lw=1.2, ms=5)
            for row in curve["rows"]:
                if row["intervals"][name] is not None:
                    axes.plot([row["percent"]] * 2, factor * np.array(row["intervals"][name]), color=BLUE, lw=1.2)
            axes.set(xlabel="Looked at (% of each night)", title=title + (f", {protocol}" if len(curves) > 1 else ""))
            axes.set_xticks(percent)
            axes.grid()
    labels = ["as many at random", "the least certain sleep epochs, with 95 % intervals over subjects"]
    figure.legend(grid[0, 0].get_lines()[:2], labels, loc="outside lower left", ncols=2)
    return figure
