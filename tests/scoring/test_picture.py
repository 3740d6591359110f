import datetime as dt
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from scoring.night import Night, Scoring
from scoring.picture import draw_night, write_picture
from utils.drawing import styled

FS = 100
START = dt.datetime(2020, 1, 2, 22, 40)


def made(n=120, start=START, gap=None, hypnogram=None, name="night 1", overlap="", stages=None):
    """Night whose signal is a sine of 5 Hz up to the middle and of 20 Hz from there."""
    rng = np.random.default_rng(0)
    n = n if stages is None else len(stages)
    stages = rng.integers(0, 5, n) if stages is None else np.array(stages)
    probabilities = rng.dirichlet(np.ones(5), n).astype(np.float32)
    t = np.arange(n * 30 * FS) / FS
    signal = (30 * np.sin(2 * np.pi * np.where(t < t[-1] / 2, 5, 20) * t) + rng.normal(0, 1, len(t))).astype(np.float32)
    if gap:
        stages[gap], probabilities[gap] = -1, np.nan
        signal.reshape(n, -1)[gap] = np.nan
    scoring = Scoring(stages, probabilities)
    return Night(name, "EEG Fpz-Cz", start, scoring, hypnogram=hypnogram, training_overlap=overlap), signal


def figure_of(*arguments, **changes):
    with styled():
        figure = draw_night(*made(*arguments, **changes), FS)
        figure.draw_without_rendering()
    return figure


def test_spectrogram_hypnogram_and_probabilities_share_one_axis_of_clock_times():
    axes = figure_of().axes
    top, middle, bottom = axes[:3]
    assert {part.get_xlim() for part in (top, middle, bottom)} == {(0, 1)}
    labels = [label.get_text() for label in bottom.get_xticklabels()]
    assert labels == ["22:45", "23:00", "23:15", "23:30"]
    np.testing.assert_allclose(bottom.get_xticks(), np.array([5, 20, 35, 50]) / 60)
    assert bottom.get_xlabel() == "Clock time"
    assert [label.get_text() for label in middle.get_yticklabels()] == ["W", "REM", "N1", "N2", "N3"]
    assert top.get_title("left") == "night 1: EEG Fpz-Cz, 2 January 2020"


def test_the_main_figures_stand_below_the_picture():
    night, signal = made(stages=[0] * 4 + [2] * 12 + [4] * 4)
    with styled():
        known = draw_night(replace(night, in_bed=(0, 20)), signal, FS).get_supxlabel()
    assert known == (
        "TIB 10.0 min, TST 8.0 min, SE 80.0 %, SOL 2.0 min, REM lat 6.0 min, WASO 0.0 min, "
        "N1 0.0 %, N2 75.0 %, N3 0.0 %, REM 25.0 %"
    )
    without_rem, signal = made(stages=[0, 0, 2])
    with styled():
        line = draw_night(without_rem, signal, FS).get_supxlabel()
    assert "REM lat -, " in line
    assert line.endswith("(TIB: the scored span)")


def test_a_night_across_midnight_has_clock_times_of_both_days():
    labels = [label.get_text() for label in figure_of(960).axes[2].get_xticklabels()]
    assert labels == ["23:00", "00:00", "01:00", "02:00", "03:00", "04:00", "05:00", "06:00"]


def test_without_a_start_the_axis_counts_hours():
    bottom = figure_of(start=None).axes[2]
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["0:00", "0:15", "0:30", "0:45", "1:00"]
    assert bottom.get_xlabel() == "Time since the start of the recording (h:min)"


@pytest.mark.parametrize("n", [120, 2650])
def test_the_spectrogram_shows_the_frequency_of_each_time(n):
    image = figure_of(n).axes[0].images[0]
    decibels, (left, right, low, high) = np.asarray(image.get_array()), image.get_extent()
    assert (left, right) == pytest.approx((0, n / 120), abs=0.03)
    for column, hz in ((decibels.shape[1] // 4, 5), (3 * decibels.shape[1] // 4, 20)):
        row = np.nanargmax(decibels[:, column])
        assert low + (row + 0.5) * (high - low) / len(decibels) == pytest.approx(hz, abs=0.3)
    assert decibels.shape[1] <= 1000


def test_what_was_not_recorded_is_blank_in_all_parts():
    figure = figure_of(gap=slice(40, 60))
    top, middle, bottom = figure.axes[:3]
    columns = np.isnan(np.asarray(top.images[0].get_array().filled(np.nan))).all(axis=0)
    assert np.flatnonzero(columns)[[0, -1]] / len(columns) == pytest.approx([40 / 120, 60 / 120], abs=0.02)
    spans = sorted({tuple(np.round(np.array(line.get_xdata())[[0, -1]] * 120)) for line in middle.lines})
    assert spans == [(0, 40), (60, 120)]
    assert np.isnan(bottom.patches[0].get_data().values).nonzero()[0].tolist() == list(range(40, 60))


def test_a_flat_part_is_blank_and_leaves_the_colours_to_the_rest():
    night, signal = made()
    signal.reshape(120, -1)[40:60] = 0.123
    with styled():
        image = draw_night(night, signal, FS).axes[0].images[0]
    blank = np.isnan(image.get_array().filled(np.nan)).all(axis=0)
    assert np.flatnonzero(blank)[[0, -1]] / len(blank) == pytest.approx([40 / 120, 60 / 120], abs=0.02)
    assert min(image.get_clim()) > -40


def test_a_night_that_is_flat_where_it_is_scored_is_drawn():
    night, signal = made()
    with styled():
        figure = draw_night(night, np.full_like(signal, 7), FS)
        figure.draw_without_rendering()
    assert np.isnan(figure.axes[0].images[0].get_array().filled(np.nan)).all()


@pytest.mark.parametrize(
    ("n", "ticks"), [(8, ["22:41", "22:42", "22:43", "22:44"]), (100, ["23:20", "23:25", "23:30"])]
)
def test_a_short_recording_has_ticks_closer_together(n, ticks):
    assert [label.get_text() for label in figure_of(n).axes[2].get_xticklabels()][-len(ticks) :] == ticks


def test_a_hypnogram_to_compare_with_is_drawn_above_with_the_agreement():
    night, _ = made()
    hypnogram = night.scoring.stages.copy()
    hypnogram[:12] = (hypnogram[:12] + 1) % 5
    axes = figure_of(hypnogram=hypnogram).axes
    assert axes[1].get_title("left") == "Stages of the hypnogram"
    assert (
        axes[2].get_title("left").startswith("Scored stages: as in the hypnogram in 90.0 % of 120 sleep epochs, kappa")
    )
    title = figure_of(hypnogram=hypnogram, overlap="1 was trained on it; 1 was selected on it").axes[2]
    assert title.get_title("left").endswith("\n(1 was trained on it;\n1 was selected on it)")
    levels = np.concatenate([axes[1].lines[0].get_ydata()[:-1]])
    np.testing.assert_array_equal(levels, np.array([0, 2, 3, 4, 1])[hypnogram])


def test_a_hypnogram_without_any_stage_is_not_drawn():
    axes = figure_of(hypnogram=np.full(120, -1)).axes
    assert [part.get_title("left") for part in axes[1:3]] == ["Scored stages", "Probability of each stage"]


@pytest.mark.parametrize("n", [3, 20])
def test_the_shortest_night_is_drawn(n):
    assert len(figure_of(n).axes) >= 3


def test_the_picture_is_written_in_the_same_bytes_whatever_the_users_settings_are(tmp_path):
    night, signal = made(20, name="$x^2 <b> \u00e4")
    write_picture(tmp_path / "a.png", night, signal, FS)
    with matplotlib.rc_context({"font.size": 20, "image.cmap": "jet"}):
        write_picture(tmp_path / "b.png", night, signal, FS)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_sleep_epochs_without_signal_are_blank_shaded_and_labelled():
    night, signal = made(gap=slice(40, 60))
    empty = np.zeros(120, bool)
    empty[[3, *range(40, 60)]] = True
    signal.reshape(120, -1)[40:60] = np.where(np.arange(3000) % 200 < 100, 192, -192)
    night = replace(night, empty=empty)
    with styled():
        figure = draw_night(night, signal, FS)
        figure.draw_without_rendering()
    top, middle, bottom = figure.axes[:3]
    blank = np.isnan(np.asarray(top.images[0].get_array().filled(np.nan))).all(axis=0)
    assert np.flatnonzero(blank)[-1] / len(blank) == pytest.approx(60 / 120, abs=0.02)
    for axes in (top, middle):
        shaded = [(patch.get_x() * 120, (patch.get_x() + patch.get_width()) * 120) for patch in axes.patches]
        np.testing.assert_allclose(shaded, [(3, 4), (40, 60)])
    assert len(bottom.patches) == 5 + 2
    assert [(text.get_text(), text.get_position()[0] * 120) for text in top.texts] == [("no signal", 50)]
    assert not figure_of().axes[0].patches
