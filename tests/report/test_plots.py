import itertools
import struct
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from report_inputs import FIGURES, NIGHT, history, night_predictions, report_of, results

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
    figure = plots.hypnogram(night(NIGHT, "$x^2<b>&"), "$x^2<b>&")
    assert figure.axes[0].get_title() + figure.axes[0].get_title("left") == "Recording $x^2<b>&: true stages"


def test_the_confusion_matrix_shows_percent_of_the_true_stage_and_counts():
    counts = np.zeros((5, 5), int)
    counts[1] = [1, 2, 0, 0, 1]
    shown = texts(plots.confusion_matrix(counts.tolist()))
    assert shown[10:20] == ["25.0 %", "1", "50.0 %", "2", "0.0 %", "0", "0.0 %", "0", "25.0 %", "1"]
    assert shown[:2] == ["0.0 %", "0"]


def test_hypnograms_have_wake_on_top_and_n3_at_the_bottom():
    axes = plots.hypnogram(night(NIGHT), "a").axes[0]
    bottom, top = axes.get_ylim()
    assert bottom > top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["W", "REM", "N1", "N2", "N3"]
    levels = np.concatenate([line.get_ydata()[:-1] for line in axes.lines[::2]])
    np.testing.assert_array_equal(levels, np.array([0, 2, 3, 4, 1])[NIGHT])


def test_dropped_sleep_epochs_are_blank_in_hypnogram_and_hypnodensity():
    figure = plots.hypnogram(night(NIGHT), "a")
    for axes in figure.axes[:2]:
        spans = [(line.get_xdata()[0] * 120, line.get_xdata()[-1] * 120) for line in axes.lines[::2]]
        np.testing.assert_allclose(spans, [(20, 25), (27, 32)])
    for layer in figure.axes[2].patches:
        assert np.isnan(layer.get_data().values).nonzero()[0].tolist() == [5, 6]


def test_the_layers_of_the_hypnodensity_add_up_to_all_with_wake_on_top():
    layers = plots.hypnogram(night(NIGHT), "a").axes[2].patches
    assert [layer.get_label() for layer in layers] == ["N3", "N2", "N1", "REM", "W"]
    np.testing.assert_allclose(layers[-1].get_data().values[:5], 100, rtol=1e-5)
    np.testing.assert_array_equal(layers[0].get_data().baseline, 0)


def test_learning_curves_mark_the_selected_training_epoch_of_each_fold():
    histories = {fold: history(fold, [1] * 4) for fold in range(2)}
    figure = plots.learning_curves(histories, {0: 3, 1: 1})
    marked = figure.axes[0].lines[2::3]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in marked] == [([3], [1 / 3]), ([1], [2])]
    assert [axes.get_title() + axes.get_title("left") for axes in figure.axes] == [
        "Loss",
        "Accuracy (%)",
        "Macro F1 (%)",
    ]


def test_learning_curves_show_the_metrics_that_the_configuration_has():
    only_accuracy = history().drop(columns=["train_macro_f1", "test_macro_f1"])
    assert len(plots.learning_curves({0: only_accuracy}, {0: 1}).axes) == 2


@pytest.mark.parametrize(("evaluated_set", "words"), [("test", "test subjects"), ("valid", "validation subjects")])
def test_learning_curves_say_on_whom_they_are_evaluated(evaluated_set, words):
    figure = plots.learning_curves({0: history(evaluated_set=evaluated_set)}, {0: 1})
    assert [text.get_text() for text in figure.legends[0].get_texts()][1] == words


def test_bland_altman_compares_each_recording_in_minutes_and_percent():
    report = report_of(night_predictions({"a": NIGHT, "b": NIGHT[::-1], "c": NIGHT * 2}))
    figure = plots.bland_altman(report, "released")
    for axes, name, factor in zip(figure.axes, ("total_sleep_time_min", "sleep_efficiency"), (1, 100), strict=True):
        sleep = [row["sleep"] for row in report["per_recording"]]
        expected = [factor * (night["released"][name] - night["true"][name]) for night in sleep]
        np.testing.assert_allclose(axes.lines[1].get_ydata(), expected)
        mean = factor * report["protocols"]["released"]["sleep_agreement"][name]["mean"]
        assert f"mean\n{mean:+.1f}".replace("-", "−") in texts(figure)


def test_few_subjects_are_told_above_f1(tmp_path, monkeypatch):
    notes = {}
    monkeypatch.setattr(plots, "write_figure", lambda directory, name, figure, note: notes.update({name: note}))
    draw(tmp_path, {"a": NIGHT, "b": NIGHT})
    assert notes["f1"].replace("\n", " ") == few_subjects(2)
    assert max(map(len, notes["f1"].splitlines())) <= 90


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
    top, bottom = plots.reliability({"ece": 0.05, "bins": bins}).axes
    assert top.lines[-1].get_xydata().tolist() == [[80, 75]]
    assert [bar.get_height() for bar in bottom.patches] == [100]


def crowded_report(nights):
    """Report of many nights whose predictions are far from the true stages."""
    report = report_of(night_predictions(nights))
    for number, row in enumerate(report["per_recording"]):
        row["sleep"]["released"]["total_sleep_time_min"] += 200 * (-1) ** number
    report["protocols"]["released"]["sleep_agreement"]["total_sleep_time_min"] |= {
        "mean": -123.4, "low": -1500.1, "high": 1253.3,
    }  # fmt: skip
    return report


@pytest.mark.parametrize("n_nights", [1, 2, 20])
def test_no_text_of_a_figure_is_cut_off_or_lies_on_another(n_nights):
    nights = {f"a-recording-with-a-rather-long-name-{number:02}": NIGHT * 30 for number in range(n_nights)}
    report, folds = crowded_report(nights), night_predictions(nights)
    with drawing.styled():
        figures = [
            plots.confusion_matrix((10**6 * np.ones((5, 5), int)).tolist()),
            plots.learning_curves({fold: history(fold, [1] * 100) for fold in folds}, dict.fromkeys(folds, 3)),
            plots.f1_by_stage(report["protocols"]),
            plots.hypnogram(folds[0], next(iter(nights))),
            plots.bland_altman(report, "released"),
            plots.reliability(report["protocols"]["released"]["calibration"]),
        ]
        for figure in figures:
            figure.suptitle("Protocol", x=0.01, ha="left")
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            pixels = np.asarray(canvas.buffer_rgba())
            for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
                assert (edge == 255).all(), figure.axes[0].get_title("left")
            shown = [child for axes in figure.axes for child in [*axes.get_children(), axes.xaxis.label]]
            boxes = [text.get_window_extent() for text in shown if isinstance(text, Text) and text.get_text()]
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other), figure.axes[0].get_title("left")
