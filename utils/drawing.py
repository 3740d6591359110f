"""Style, colours and files of figures, and how hypnograms are drawn: PDF and PNG for papers, SVG for pages.

The same input gives the same bytes. Figures can be read in grey: colours also differ in lightness, and lines in style
or marker.
"""

import io
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib.image
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from utils.files import replacing
from utils.stages import N1, N2, N3, N_STAGES, REM, SLEEP_EPOCH_S, STAGE_NAMES, W

HYPNOGRAM_ORDER = (W, REM, N1, N2, N3)
"""Stages from top to bottom."""

STAGE_COLOURS = {W: "#f9edbe", REM: "#efa33a", N1: "#5596ba", N2: "#22608c", N3: "#0b2343"}
"""Darker from stage to stage, in the order of hypnograms."""

INK, BLUE, VERMILION, GREY = "#1b2733", "#005a8c", "#c04a00", "#6b7680"

_TICK_HOURS = (1 / 60, 1 / 12, 0.25, 0.5, 1, 2, 3, 4, 6, 12, 24)
_MAX_TICKS = 12

_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
_STYLE: list[Any] = [
    "default",
    {
        "svg.hashsalt": "attnsleep",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": "#dde2e6",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
    },
]


def styled() -> AbstractContextManager[None]:
    """Context in which figures get the style of this project, whatever the user's own settings are."""
    return matplotlib.style.context(_STYLE)


def write_figure(directory: Path, name: str, figure: Figure, note: str | None = None) -> Path:
    """Write a figure as SVG, PDF and PNG (300 dpi), with a note above it, and return the path of the SVG."""
    if note is not None:
        lines = [textwrap.fill(line, int(17 * figure.get_figwidth())) for line in note.splitlines()]
        figure.suptitle("\n".join(lines), x=0.01, ha="left", size=7.5, color=GREY)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is final now and the same in all formats
    for suffix, metadata in _METADATA.items():
        with replacing(directory / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, dpi=300, metadata=metadata)
            if suffix == "svg":
                temporary.write_text(_shorten(temporary.read_text(encoding="utf-8")), encoding="utf-8")
    return directory / f"{name}.svg"


def draw_hypnogram(axes: Axes, position: np.ndarray, stages: np.ndarray, colour: str) -> None:
    """Draw stages over hours as a staircase with gaps where sleep epochs are missing, and REM as a thick bar.

    `position` of shape (n,) is that of each sleep epoch in the night, ascending.
    """
    height = np.empty(N_STAGES)
    height[list(HYPNOGRAM_ORDER)] = range(N_STAGES)
    breaks = np.flatnonzero(np.diff(position) != 1) + 1
    for run in np.split(np.arange(len(position)), breaks):
        edges = np.append(position[run], position[run[-1]] + 1) * SLEEP_EPOCH_S / 3600
        levels = height[stages[run]]
        bars = np.where(stages[run] == REM, levels, np.nan)
        axes.step(edges, np.append(levels, levels[-1]), where="post", color=colour, lw=0.7)
        axes.step(edges, np.append(bars, bars[-1]), where="post", color=colour, lw=2.8, solid_capstyle="butt")
    axes.set_yticks(range(N_STAGES), [STAGE_NAMES[stage] for stage in HYPNOGRAM_ORDER])
    axes.set_ylim(N_STAGES - 0.6, -0.4)
    axes.grid(axis="y")


def draw_hypnodensity(axes: Axes, position: np.ndarray, probabilities: np.ndarray) -> None:
    """Draw probabilities (n, 5) over hours, stacked, with a legend on the right; gaps stay blank."""
    begin, end = position[0], position[-1] + 1
    lower = np.zeros(end - begin)
    edges = np.arange(begin, end + 1) * SLEEP_EPOCH_S / 3600
    for stage in reversed(HYPNOGRAM_ORDER):
        layer = np.full(len(lower), np.nan)
        layer[position - begin] = probabilities[:, stage]
        upper = lower + layer
        axes.stairs(100 * upper, edges, baseline=100 * lower, fill=True, color=STAGE_COLOURS[stage], lw=0,
                    label=STAGE_NAMES[stage])  # fmt: skip
        lower = upper
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 100), ylabel="Probability (%)")
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5))
    for box in legend.get_patches():
        box.set(edgecolor=GREY, linewidth=0.6)


def label_time(axes: Axes, start: datetime | None) -> None:
    """Label an axis of hours at round clock times, or at round hours from the start if that is not known."""
    first, last = axes.get_xlim()
    step = next((step for step in _TICK_HOURS if (last - first) / step < _MAX_TICKS), _TICK_HOURS[-1])
    midnight = 0.0
    if start is not None:
        midnight = -(start - start.replace(hour=0, minute=0, second=0, microsecond=0)) / timedelta(hours=1)
    ticks = np.arange(np.ceil((first - midnight) / step), np.floor((last - midnight) / step) + 1) * step
    minutes = np.round(ticks * 60).astype(int).tolist()
    if start is None:
        axes.set_xticks(ticks, [f"{minute // 60}:{minute % 60:02d}" for minute in minutes])
    else:
        axes.set_xticks(ticks + midnight, [f"{minute // 60 % 24:02d}:{minute % 60:02d}" for minute in minutes])
    axes.set_xlabel(time_label(start))
    axes.set_xlim(first, last)


def time_label(start: datetime | None) -> str:
    """Label of an axis of times in a recording with this start, or with one that is not known."""
    if start is None:
        return "Time since the start of the recording (h:min)"
    return "Clock time (UTC)" if start.utcoffset() == timedelta(0) else "Clock time"


def colours_as_png(values: np.ndarray, low: float, high: float) -> bytes:
    """Encode values (rows, columns) from `low` to `high` as a picture of as many dots, the first row at the bottom.

    NaN is transparent.
    """
    picture = io.BytesIO()
    matplotlib.image.imsave(picture, values, vmin=low, vmax=high, cmap="magma", origin="lower", format="png")
    return picture.getvalue()


def _shorten(svg: str) -> str:
    """Round the coordinates of paths to a hundredth of a point, which halves the file."""
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)


def confusion_matrix(counts: Sequence[Sequence[int]]) -> Figure:
    """Draw counts of shape (5, 5) alone in a figure, see `draw_confusion_matrix`."""
    figure = Figure(figsize=(4.6, 4.3))
    draw_confusion_matrix(figure.subplots(), counts, "Confusion matrix (percent of the true stage, count)")
    return figure


def draw_confusion_matrix(axes: Axes, counts: Sequence[Sequence[int]], title: str) -> None:
    """Draw counts of shape (5, 5), true stages down and predicted ones across, with the percent of each row."""
    matrix = np.asarray(counts)
    percent = 100 * matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    blues = LinearSegmentedColormap.from_list("blues", ["#ffffff", "#8dbbd6", "#22608c", "#0b2343"])
    edges = np.arange(N_STAGES + 1) - 0.5
    axes.pcolormesh(edges, edges, percent, cmap=blues, vmin=0, vmax=100, edgecolors="white", linewidth=1)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    for (row, column), n in np.ndenumerate(matrix):
        colour = "white" if percent[row, column] > 52 else INK
        bold = f"{percent[row, column]:.1f} %"
        axes.text(column, row - 0.04, bold, ha="center", va="bottom", weight="bold", color=colour)
        axes.text(column, row + 0.06, f"{n:,}", ha="center", va="top", size=8, color=colour)
    axes.set(xlabel="Predicted stage", ylabel="True stage", title=title)
    axes.set_xticks(range(N_STAGES), STAGE_NAMES)
    axes.set_yticks(range(N_STAGES), STAGE_NAMES)
    axes.tick_params(length=0)
