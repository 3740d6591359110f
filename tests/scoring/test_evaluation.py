"""What is evaluated on other nights, and five ways in which a night that training used might slip in."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import write_checkpoint

from recordings.reader import Channel, resampled
from scoring.evaluation import evaluate, find_nights
from scoring.networks import load_networks
from utils.checkpoint import BEST
from utils.errors import UserError
from utils.recording import read_outline, write_recording

MADE_FROM = '{"recording": {"crc32": "%s"}}'
NIGHTS = {"SC4001E0": "aa", "SC4011E0": "bb", "SC4021E0": "cc"}
"""A training, a validation and a test night of fold 0, with the checksum of the EDF that each was prepared from."""


@pytest.fixture
def nights(make_recording):
    return {
        name: make_recording(seed=seed, made_from=MADE_FROM % crc, start_time="2001-02-03T22:00:00")
        for seed, (name, crc) in enumerate(NIGHTS.items())
    }


@pytest.fixture
def experiment(tmp_path, nights):
    """Two folds: what the one trained on is the other's test set."""
    for name, recording in nights.items():
        write_recording(tmp_path / f"trained/{name}.npz", recording)
    checksums = {name: read_outline(tmp_path / f"trained/{name}.npz").checksum for name in nights}
    for fold, sets in enumerate((list(nights), list(nights)[::-1])):
        data = {which: {name: checksums[name]} for which, name in zip(("train", "valid", "test"), sets, strict=True)}
        amplitude = {"median": 20.0 + fold, "low": 10.0, "high": 30.0}
        write_checkpoint(tmp_path / f"Exp1/fold_{fold}" / BEST, seed=fold, data=data, amplitude_uv=amplitude)
    return tmp_path / "Exp1"


@pytest.fixture
def folder(tmp_path, make_recording):
    """A folder with a night that training never saw."""
    write_recording(tmp_path / "other/x1.npz", make_recording(seed=9, subject="x"))
    return tmp_path / "other"


def at_fs(recording, fs):
    """Prepare the same night at another rate."""
    signal = resampled(Channel(recording.signal.ravel(), recording.fs, "", "", ()), fs).signal
    return replace(recording, signal=signal.reshape(len(recording.stages), -1), fs=fs)


def other_labels(recording):
    """Change scorer: other stages, and other sleep epochs at the ends."""
    kept = slice(1, -1)
    return replace(
        recording,
        stages=(recording.stages[kept] + 1) % 5,
        signal=recording.signal[kept],
        sleep_epoch=recording.sleep_epoch[kept],
    )


LEAKS = {
    "renamed": ("new", lambda recording: recording, "trained on this recording"),
    "another scorer's labels, renamed": ("new", other_labels, "trained on this recording"),
    "other night of the same subject": (
        "SC4002E0",
        lambda recording: replace(recording, signal=recording.signal[::-1].copy(), made_from=""),
        "trained on other recordings of its subject",
    ),
    "the same EDF at another rate, renamed": (
        "new",
        lambda recording: at_fs(recording, 50),
        "trained on this recording",
    ),
    "the same name, in other letters": (
        "sc4001e0",
        lambda recording: replace(recording, signal=recording.signal + 1, made_from=""),
        "trained on this recording",
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_night_that_the_networks_were_trained_on_is_left_out_and_named(experiment, folder, nights, leak):
    name, change, reason = LEAKS[leak]
    write_recording(folder / f"{name}.npz", change(nights["SC4001E0"]))
    one_rate = [read_outline(path) for path in sorted(folder.glob("*.npz"))]
    evaluation = evaluate(load_networks([experiment / "fold_0"]), one_rate)
    assert evaluation.left_out == {name: reason}
    assert set(evaluation.predictions.recording) == {"x1"}
    assert f"1 night left out ({reason}): {name}." in evaluation.remarks


@pytest.mark.parametrize("leak", LEAKS)
def test_of_an_experiment_only_the_fold_that_tested_such_a_night_scores_it(experiment, folder, nights, leak):
    name, change, _ = LEAKS[leak]
    write_recording(folder / f"{name}.npz", change(nights["SC4001E0"]))
    outlines = [read_outline(path) for path in sorted(folder.glob("*.npz"))]
    evaluation = evaluate(load_networks([experiment]), outlines)
    assert evaluation.left_out == {}
    assert evaluation.scored_by == {name: [1], "x1": [0, 1]}
    assert any(f"each scored by the one fold that tested it: {name}." in remark for remark in evaluation.remarks)


def test_a_night_that_selected_the_weights_is_left_out(experiment, tmp_path):
    with pytest.raises(UserError, match="No night is left to evaluate on"):
        evaluate(load_networks([experiment]), [read_outline(tmp_path / "trained/SC4011E0.npz")])


def test_a_night_that_is_there_twice_is_refused(folder, nights):
    for name in (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")):
        write_recording(folder / f"{name}.npz", nights["SC4001E0"])
    with pytest.raises(UserError, match="the same signal"):
        find_nights(folder)


def test_the_predictions_are_what_the_networks_score(experiment, folder):
    networks = load_networks([experiment])
    outline = read_outline(folder / "x1.npz")
    predictions = evaluate(networks, [outline]).predictions
    signal = np.load(outline.path)["x"].ravel()
    expected = networks.score(signal, "x1")
    np.testing.assert_array_equal(predictions.y_pred, expected.stages)
    np.testing.assert_allclose(predictions.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_array_equal(predictions.y_true, outline.stages)
    np.testing.assert_array_equal(predictions.sleep_epoch, outline.sleep_epoch)
    assert set(predictions.subject) == {"x"}


def test_a_night_of_another_rate_is_scored_at_the_rate_of_the_networks(experiment, folder, make_recording):
    write_recording(folder / "x1.npz", at_fs(make_recording(20, seed=9), 200))
    networks = load_networks([experiment])
    signal = np.load(folder / "x1.npz")["x"].ravel()
    expected = networks.score(resampled(Channel(signal, 200.0, "", "", ()), 100.0).signal, "x1").stages
    predictions = evaluate(networks, find_nights(folder)).predictions
    assert (predictions.y_pred == expected).mean() > 0.8  # the filter sees what lies before the night's first epoch
    assert len(predictions.y_pred) == 20


def test_channel_rate_and_amplitude_are_told_where_they_differ(experiment, folder, make_recording):
    outlines = [read_outline(folder / "x1.npz")]
    remarks = evaluate(load_networks([experiment]), outlines).remarks
    assert not any("Another" in remark for remark in remarks)
    assert "20.5 µV (10.0 to 30.0 µV) in the training recordings" in "".join(remarks)
    large = make_recording(channel="C4-M1", seed=3, fs=128)
    write_recording(folder / "x1.npz", replace(large, signal=4 * large.signal))
    remarks = evaluate(load_networks([experiment]), [read_outline(folder / "x1.npz")]).remarks
    assert "Another channel than in training: C4-M1 (x1), not EEG Fpz-Cz." in remarks
    assert "Another rate than in training: 128 Hz, resampled to 100 Hz." in remarks
    assert any(remark.startswith("Another amplitude than in training. Standard deviation") for remark in remarks)


def test_what_older_checkpoints_do_not_say_is_not_known(tmp_path, folder):
    write_checkpoint(tmp_path / "a.pth")
    remarks = "\n".join(evaluate(load_networks([tmp_path / "a.pth"]), find_nights(folder)).remarks)
    assert "What the networks were trained on is not known: they may have learned x1." in remarks
    assert "that of the training recordings is not known" in remarks


def test_a_signal_that_cannot_be_eeg_is_left_out_and_named(experiment, folder, make_recording):
    volts = make_recording(seed=5)
    write_recording(folder / "x2.npz", replace(volts, signal=volts.signal / 1e6))
    evaluation = evaluate(load_networks([experiment]), find_nights(folder))
    assert evaluation.left_out.keys() == {"x2"}
    assert "Are the values z-scored, in volts" in evaluation.left_out["x2"]


def test_weights_selected_on_the_test_set_are_told_to_be_optimistic(tmp_path, folder):
    data = {"train": {"a": "1"}, "valid": {}, "test": {"x1": "2"}}
    write_checkpoint(tmp_path / "Exp1/fold_0" / BEST, data=data)
    remarks = evaluate(load_networks([tmp_path / "Exp1"]), find_nights(folder)).remarks
    assert "1 night on which the weights were selected, which is optimistic: x1." in remarks
