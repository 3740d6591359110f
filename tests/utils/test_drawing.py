import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.drawing import HYPNOGRAM_ORDER, STAGE_COLOURS, draw_hypnogram, write_figure


def test_the_colours_of_the_stages_differ_in_grey():
    colours = [matplotlib.colors.to_rgb(STAGE_COLOURS[stage]) for stage in HYPNOGRAM_ORDER]
    grey = np.array(colours) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(grey) < -0.12).all()


def test_a_note_wraps_within_its_figure(tmp_path):
    figure = Figure(figsize=(4.2, 2))
    write_figure(tmp_path, "a", figure, "Partial: 19 of 20 folds (" + ", ".join(map(str, range(19))) + "); missing: 19")
    assert figure.get_suptitle().count("\n") == 1
    FigureCanvasAgg(figure).draw()
    assert figure.get_tightbbox().x1 < 4.2


def test_rem_is_a_thick_bar_and_nothing_else_is():
    axes = Figure(figsize=(4, 2)).subplots()
    draw_hypnogram(axes, np.arange(6), np.array([0, 4, 4, 2, 4, 3]), "black")
    thin, thick = axes.lines
    assert thick.get_linewidth() > 2 * thin.get_linewidth()
    assert np.isnan(thick.get_ydata()).tolist() == [True, False, False, True, False, True, True]
