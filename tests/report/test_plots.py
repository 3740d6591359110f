import itertools
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from report_inputs import (
    FIGURES,
    NIGHT,
    history,
    night_predictions,
    report_of,
    results,
    with_context,
    with_temperatures,
)

from report import plots
from report.report import make_report
from report.statistics import few_subjects
from utils import drawing


def night(stages, name="a"):
    """Predictions of one recording."""
    return night_predictions({name: stages})[0]


def draw(directory, nights, seconds=(1, 1, 1)):
    """Write all figures of {recording: stages} and return the paths of the SVG files."""
    folds = night_predictions(nights)
    everything = results(folds, seconds=dict.fromkeys(folds, seconds))
    return plots.write_figures(directory, make_report(everything), everything)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("figures"), {"a": NIGHT, "b": NIGHT[::-1]})


def test_every_figure_is_written_as_vector_and_with_300_dots_per_inch(figures):
    assert figures.keys() == set(FIGURES)
    for path in figures.values():
        svg = ElementTree.parse(path).getroot()
        size = [300 / 72 * float(svg.get(side).removesuffix("pt")) for side in ("width", "height")]
        assert struct.unpack(">II", path.with_suffix(".png").read_bytes()[16:24]) == pytest.approx(size, abs=1)
        assert not list(svg.iter("{http://www.w3.org/2000/svg}image"))
        pdf = path.with_suffix(".pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/Subtype /Image" not in pdf
    assert len(list(path.parent.iterdir())) == 3 * len(FIGURES)


def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings_are(figures, tmp_path):
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5, "svg.hashsalt": None}):
        again = draw(tmp_path, {"a": NIGHT, "b": NIGHT[::-1]})
        assert matplotlib.rcParams["font.size"] == 20
    for name, path in figures.items():
        for suffix in (".svg", ".pdf", ".png"):
            assert path.with_suffix(suffix).read_bytes() == again[name].with_suffix(suffix).read_bytes(), name


def test_one_recording_without_n3_one_fold_and_one_training_epoch_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "write_figure", lambda *arguments: arguments[2].draw_without_rendering())
    assert draw(tmp_path, {"$x^2<b>&_\\frac": [0, 0, 1, 2, 2, 4]}, seconds=(1,)).keys() == set(FIGURES)


def test_a_name_with_markup_and_mathematics_is_drawn_as_text():
    figure = plots.hypnogram(night(NIGHT, "$x^2<b>&"), "$x^2<b>&", "released")
    assert figure.axes[0].get_title() + figure.axes[0].get_title("left") == "Recording $x^2<b>&: true stages"


def test_the_confusion_matrix_shows_percent_of_the_true_stage_and_counts():
    counts = np.zeros((5, 5), int)
    counts[1] = [1, 2, 0, 0, 1]
    shown = texts(drawing.confusion_matrix(counts.tolist()))
    assert shown[10:20] == ["25.0 %", "1", "50.0 %", "2", "0.0 %", "0", "0.0 %", "0", "25.0 %", "1"]
    assert shown[:2] == ["0.0 %", "0"]


def test_hypnograms_have_wake_on_top_and_n3_at_the_bottom():
    axes = plots.hypnogram(night(NIGHT), "a", "released").axes[0]
    bottom, top = axes.get_ylim()
    assert bottom > top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["W", "REM", "N1", "N2", "N3"]
    levels = np.concatenate([line.get_ydata()[:-1] for line in axes.lines[::2]])
    np.testing.assert_array_equal(levels, np.array([0, 2, 3, 4, 1])[NIGHT])


def test_dropped_sleep_epochs_are_blank_in_hypnogram_and_hypnodensity():
    figure = plots.hypnogram(night(NIGHT), "a", "released")
    for axes in figure.axes[:2]:
        spans = [(line.get_xdata()[0] * 120, line.get_xdata()[-1] * 120) for line in axes.lines[::2]]
        np.testing.assert_allclose(spans, [(20, 25), (27, 32)])
    for layer in figure.axes[2].patches:
        assert np.isnan(layer.get_data().values).nonzero()[0].tolist() == [5, 6]


def test_the_layers_of_the_hypnodensity_add_up_to_all_with_wake_on_top():
    layers = plots.hypnogram(night(NIGHT), "a", "released").axes[2].patches
    assert [layer.get_label() for layer in layers] == ["N3", "N2", "N1", "REM", "W"]
    np.testing.assert_allclose(layers[-1].get_data().values[:5], 100, rtol=1e-5)
    np.testing.assert_array_equal(layers[0].get_data().baseline, 0)


def test_learning_curves_mark_the_selected_training_epoch_of_each_fold():
    histories = {fold: history(fold, [1] * 4) for fold in range(2)}
    figure = plots.learning_curves(histories, {0: 3, 1: 1}, {})
    marked = figure.axes[0].lines[2::3]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in marked] == [([3], [1 / 3]), ([1], [2])]
    assert [axes.get_title() + axes.get_title("left") for axes in figure.axes] == [
        "Loss",
        "Accuracy (%)",
        "Macro F1 (%)",
    ]


def test_learning_curves_show_the_metrics_that_the_configuration_has():
    only_accuracy = history().drop(columns=["train_macro_f1", "test_macro_f1"])
    assert len(plots.learning_curves({0: only_accuracy}, {0: 1}, {}).axes) == 2


@pytest.mark.parametrize(("evaluated_set", "words"), [("test", "test subjects"), ("valid", "validation subjects")])
def test_learning_curves_say_on_whom_they_are_evaluated(evaluated_set, words):
    figure = plots.learning_curves({0: history(evaluated_set=evaluated_set)}, {0: 1}, {})
    assert [text.get_text() for text in figure.legends[0].get_texts()][1] == words


def test_bland_altman_compares_each_recording_in_minutes():
    report = report_of(night_predictions({"a": NIGHT, "b": NIGHT[::-1], "c": NIGHT * 2}))
    figure = plots.bland_altman(report, ["released"])
    for axes, name in zip(figure.axes, ("total_sleep_time_min", "wake_within_sleep_min"), strict=True):
        sleep = [row["sleep"] for row in report["per_recording"]]
        expected = [night["released"][name] - night["true"][name] for night in sleep]
        np.testing.assert_allclose(axes.lines[1].get_ydata(), expected)
        mean = report["protocols"]["released"]["sleep_agreement"][name]["mean"]
        assert f"mean\n{mean:+.1f}".replace("-", "−") in texts(figure)


def test_few_subjects_are_told_above_f1(tmp_path, monkeypatch):
    notes = {}
    monkeypatch.setattr(plots, "write_figure", lambda directory, name, figure, note: notes.update({name: note}))
    draw(tmp_path, {"a": NIGHT, "b": NIGHT})
    assert notes["f1"] == few_subjects(2)


def test_f1_is_drawn_with_its_interval_where_there_is_one():
    per_class = {stage: {"f1": 0.5, "f1_interval": [0.4, 0.7]} for stage in ("W", "N1", "N2", "N3")}
    per_class["REM"] = {"f1": 0, "f1_interval": None}
    figure = plots.f1_by_stage({"holdout": {"label": "tested once", "per_class": per_class}})
    assert texts(figure) == ["50.0"] * 4 + ["0.0"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx([40, 70])
    assert len(figure.axes[0].lines) == 2 * 4 + 1


def test_the_reliability_diagram_leaves_empty_bins_out():
    bins = [
        {"low": 0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1, "n": 4, "confidence": 0.8, "accuracy": 0.75},
    ]
    top, bottom = plots.reliability({"holdout": {"calibration": {"ece": 0.05, "bins": bins}, "calibrated": None}}).axes
    assert top.lines[-1].get_xydata().tolist() == [[80, 75]]
    assert [bar.get_height() for bar in bottom.patches] == [100]


def test_the_reliability_diagram_shows_probabilities_before_and_with_the_temperature():
    def one_bin(confidence):
        bins = [{"low": 0, "high": 1, "n": 4, "confidence": confidence, "accuracy": 0.75}]
        return {"ece": confidence - 0.75, "bins": bins}

    top, _ = plots.reliability({"holdout": {"calibration": one_bin(0.9), "calibrated": one_bin(0.8)}}).axes
    points = {line.get_label(): line.get_xydata().tolist() for line in top.lines[1:]}
    assert points == {"with the temperature": [[80, 75]], "before": [[90, 75]]}
    assert top.get_title().endswith("(expected calibration error 15.0 %,\nwith the temperature 5.0 %)")


def test_the_review_is_drawn_beside_a_choice_at_random_with_its_intervals():
    curves = make_report(results(night_predictions({"a": NIGHT * 9, "b": NIGHT[::-1] * 9})))["review"]
    rows = curves["released"]["rows"]
    axes = plots.review(curves).axes[2]
    assert axes.get_title() == "Kappa"
    at_random, reviewed, *intervals = axes.lines
    assert at_random.get_ydata().tolist() == [row["random"]["kappa"] for row in rows]
    assert reviewed.get_xydata().tolist() == [[row["percent"], row["kappa"]] for row in rows]
    assert [line.get_ydata().tolist() for line in intervals] == [row["intervals"]["kappa"] for row in rows]


def crowded(report):
    """Make the predictions of a report's nights far from the true stages, and its counts long."""
    report["protocols"]["released"]["confusion_matrix"] = (10**6 * np.ones((5, 5), int)).tolist()
    for number, row in enumerate(report["per_recording"]):
        row["sleep"]["released"]["total_sleep_time_min"] += 200 * (-1) ** number
    report["protocols"]["released"]["sleep_agreement"]["total_sleep_time_min"] |= {
        "mean": -123.4, "low": -1500.1, "high": 1253.3,
    }  # fmt: skip
    return report


@pytest.mark.parametrize(("n_nights", "context"), [(1, False), (2, False), (20, True)])
def test_no_text_of_a_figure_is_cut_off_or_lies_on_another(tmp_path, monkeypatch, n_nights, context):
    nights = {f"a-recording-with-a-rather-long-name-{number:02}": NIGHT * 30 for number in range(n_nights)}
    folds = night_predictions(nights)
    folds = with_temperatures(with_context(folds)) if context else folds
    everything = results(folds, seconds=dict.fromkeys(folds, [1] * 100), num_folds=n_nights + 20)
    report = crowded(make_report(everything))
    figures = {}
    monkeypatch.setattr(drawing, "_METADATA", {})  # nothing is written
    monkeypatch.setattr(
        plots, "write_figure",
        lambda directory, name, figure, note: figures.update({name: figure}) or drawing.write_figure(
            directory, name, figure, note
        ),
    )  # fmt: skip
    plots.write_figures(tmp_path, report, everything)
    with drawing.styled():
        for figure in figures.values():
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            pixels = np.asarray(canvas.buffer_rgba())
            for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
                assert (edge == 255).all(), figure.axes[0].get_title("left")
            shown = [child for axes in figure.axes for child in [*axes.get_children(), axes.xaxis.label]]
            boxes = [text.get_window_extent() for text in shown if isinstance(text, Text) and text.get_text()]
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other), figure.axes[0].get_title("left")


def test_the_night_context_is_in_every_figure(tmp_path, monkeypatch):
    folds = with_context(night_predictions({"a": NIGHT, "b": NIGHT[::-1]}))
    everything = results(folds)
    figures = {}
    monkeypatch.setattr(plots, "write_figure", lambda directory, name, figure, note: figures.update({name: figure}))
    plots.write_figures(tmp_path, make_report(everything), everything)
    assert figures.keys() == set(FIGURES)
    for name, figure in figures.items():
        titles = [axes.get_title("left") + axes.get_title() for axes in figure.axes]
        titles += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert any("context" in title for title in titles), name


@pytest.mark.parametrize(
    ("start", "label", "ticks"),
    [
        ("2020-01-01T22:50:20", "Clock time", ["23:01", "23:02", "23:03"]),
        ("2020-01-01T22:50:20+00:00", "Clock time (UTC)", ["23:01", "23:02", "23:03"]),
        ("2020-01-01", "Time since the start of the recording (h:min)", ["0:10", "0:11", "0:12"]),
        ("", "Time since the start of the recording (h:min)", ["0:10", "0:11", "0:12"]),
    ],
)
def test_the_hypnogram_has_clock_times_where_the_start_is_known(start, label, ticks):
    of_night = replace(night(NIGHT), start_time=np.full(len(NIGHT), start))
    bottom = plots.hypnogram(of_night, "a", "released").axes[-1]
    assert bottom.get_xlabel() == label
    assert [text.get_text() for text in bottom.get_xticklabels()][:3] == ticks
