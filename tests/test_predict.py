import csv
import datetime as dt
import json
import re
import shutil
import sys
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint, write_experiment, write_night_context
from edfio import Edf, EdfAnnotation, EdfSignal, Recording
from scripts import ROOT, contents, run, temporary_files

from predict import find_recordings, main, parse_arguments, score_recording
from prepare_datasets.preparation import exit_code
from scoring.networks import load_networks
from utils.checkpoint import BEST
from utils.errors import UserError
from utils.recording import read_outline, write_recording

PREDICT = [sys.executable, str(ROOT / "predict.py")]
START = dt.datetime(2020, 1, 2, 23, 50, 30)
N = 12
SUFFIXES = ("-Hypnogram.edf", ".csv", ".json", ".png")


def eeg(n=N, fs=100, seed=0):
    """Noise whose size and colour change from sleep epoch to sleep epoch, in microvolts."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 1, (n, 30 * fs)) * rng.uniform(5, 60, (n, 1))
    signal[::2] = np.cumsum(signal[::2], axis=1) / 5
    return np.clip(signal, -1000, 1000).ravel()


def write_edf(path, signals, fs=100, start=START):
    """Write {label: microvolts}."""
    made = [
        EdfSignal(x, sampling_frequency=fs, label=label, physical_dimension="uV", physical_range=(-1000.0, 1000.0))
        for label, x in signals.items()
    ]
    Edf(made, recording=Recording(startdate=start.date()), starttime=start.time(), data_record_duration=1).write(path)
    return path


def table(path):
    """Stages of a table, -1 where not scored, and its probabilities."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    stages = np.array([["W", "N1", "N2", "N3", "REM", "?"].index(row["stage"]) for row in rows])
    columns = ("p_W", "p_N1", "p_N2", "p_N3", "p_REM")
    return np.where(stages == 5, -1, stages), np.array([[float(row[c] or "nan") for c in columns] for row in rows])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two networks, good and bad recordings, and what one run said of them."""
    place = tmp_path_factory.mktemp("a place")
    write_experiment(place / "saved/Exp 1")
    folder = place / "nights of one"
    folder.mkdir()
    write_edf(folder / "SC4001E0-PSG.edf", {"EEG Fpz-Cz": eeg(), "EOG": eeg(seed=1)})
    write_edf(place / "night 2.edf", {"Cz": eeg(seed=2, fs=256), "Fpz": eeg(seed=3, fs=256)}, fs=256)
    write_edf(folder / "other.edf", {"C4": eeg()})
    write_edf(folder / "volts.edf", {"EEG Fpz-Cz": eeg() / 1000})
    (folder / "empty.edf").touch()
    (folder / "notes.txt").write_text("no recording")
    arguments = ["--checkpoint", "saved/Exp 1", "--output_dir", "the results", "night 2.edf", folder, "nothing.edf"]
    return place, run([*PREDICT, *arguments], place)


@pytest.fixture
def predict(monkeypatch, capsys, tmp_path):
    """Run the script's `main` in this process and an empty folder; return exit code, stdout, stderr."""

    def run_main(*arguments, cwd=tmp_path):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        code = exit_code(main)
        return code, *capsys.readouterr()

    return run_main


def test_every_recording_is_scored_and_what_cannot_be_is_told(place):
    folder, (code, out, err) = place
    assert code == 1
    assert sorted(path.name for path in (folder / "the results").iterdir()) == sorted(
        ["summary.csv", *(f"{name}{suffix}" for name in ("SC4001E0", "night 2") for suffix in SUFFIXES)]
    )
    assert err.splitlines() == [
        "",
        "Not scored (4):",
        "  empty.edf: the file is empty. Get it again.",
        "  nothing.edf: there is no such file.",
        "  other.edf: no channel 'EEG Fpz-Cz'. The file has 'C4'. Pass one with --select_ch.",
        "  volts.edf: the signal's standard deviation is "
        + err.split("deviation is ")[1].split(";")[0]
        + "; EEG in microvolts has 2 to 1000. "
        "Are the values z-scored, in volts or raw digits? They must be microvolts.",
    ]
    assert "EEG Fpz-Cz of 6 recordings to the results" in out
    assert "2 scored, 0 kept, 4 with problems: the results" in out
    assert "night 2: EEG Fpz-Cz is 'Fpz' minus 'Cz'" in out
    assert "night 2: resampled from 256 to 100 Hz" in out


def test_the_table_holds_the_mean_of_the_networks_and_python_gives_the_same(place):
    folder, _ = place
    stages, probabilities = table(folder / "the results/SC4001E0.csv")
    written = mne.io.read_raw_edf(folder / "nights of one/SC4001E0-PSG.edf", verbose="ERROR")
    signal = (written.get_data(["EEG Fpz-Cz"])[0] * 1e6).astype(np.float32)
    networks = load_networks([folder / "saved/Exp 1"])
    with torch.inference_mode():
        epochs = torch.from_numpy(signal).reshape(N, 1, 3000)
        expected = np.mean(
            [network(epochs).softmax(dim=1).numpy() for network in (member.network for member in networks.members)],
            axis=0,
        )
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(stages, expected.argmax(axis=1))
    assert len(set(stages.tolist())) > 1
    for scoring in (
        score_recording(written, folder / "saved/Exp 1"),
        score_recording(written, str(folder / "saved/Exp 1"), channel="eeg fpz-cz"),
        score_recording(signal, [folder / "saved/Exp 1/fold_0", folder / "saved/Exp 1/fold_1"], fs=100),
    ):
        np.testing.assert_allclose(scoring.probabilities, probabilities, atol=1e-5)
        np.testing.assert_array_equal(scoring.stages, stages)


def test_a_difference_at_another_rate_is_scored_as_from_python(place):
    folder, _ = place
    raw = mne.io.read_raw_edf(folder / "night 2.edf", verbose="ERROR")
    scoring = score_recording(raw, folder / "saved/Exp 1", "Fpz", "Cz")
    np.testing.assert_allclose(table(folder / "the results/night 2.csv")[1], scoring.probabilities, atol=1e-5)


def test_mne_and_our_own_preparation_read_the_hypnogram_back_to_the_same_stages(place, tmp_path):
    folder, _ = place
    hypnogram = folder / "the results/SC4001E0-Hypnogram.edf"
    stages, _ = table(folder / "the results/SC4001E0.csv")
    raw = mne.io.read_raw_edf(folder / "nights of one/SC4001E0-PSG.edf", verbose="ERROR")
    raw.set_annotations(mne.read_annotations(hypnogram))
    names = {f"Sleep stage {letter}": stage for stage, letter in enumerate(["W", "N1", "N2", "N3", "R"])}
    events, _ = mne.events_from_annotations(raw, names, chunk_duration=30, verbose="ERROR")
    np.testing.assert_array_equal(events[:, 2], stages)
    np.testing.assert_array_equal(events[:, 0], 3000 * np.arange(N))
    data = tmp_path / "data"
    data.mkdir()
    (data / "SC4001E0-PSG.edf").symlink_to(folder / "nights of one/SC4001E0-PSG.edf")
    for scoring in (hypnogram, folder / "the results/SC4001E0.csv"):
        beside = data / f"SC4001E0{scoring.name.removeprefix('SC4001E0')}"
        beside.symlink_to(scoring)
        script = ROOT / "prepare_datasets/prepare_recordings.py"
        arguments = ["--data_dir", data, "--output_dir", tmp_path / scoring.suffix, "--select_ch", "EEG Fpz-Cz"]
        code, out, err = run([sys.executable, script, *arguments], tmp_path)
        assert code == 0, err
        beside.unlink()
        (npz,) = (tmp_path / scoring.suffix).iterdir()
        with np.load(npz) as prepared:
            np.testing.assert_array_equal(prepared["y"], stages)


def test_the_summary_says_what_was_scored_with_what(place):
    folder, _ = place
    said = json.loads((folder / "the results/SC4001E0.json").read_text())
    assert said["start_time"] == START.isoformat()
    assert said["scoring"]["recording"] == str(folder / "nights of one/SC4001E0-PSG.edf")
    assert [checkpoint["fold"] for checkpoint in said["model"]["checkpoints"]] == [0, 1]
    assert said["n_scored"] == N
    assert said["sleep_statistics"]["time_in_bed_min"] == N / 2


def of_nights(folder):
    """Contents of all files but the summary, which every run writes."""
    return {name: content for name, content in contents(folder).items() if name != "summary.csv"}


def test_run_again_what_is_there_is_kept_and_overwrite_does_it_again(place, tmp_path, predict):
    folder, _ = place
    command = [folder / "night 2.edf", "--checkpoint", folder / "saved/Exp 1/fold_1", "--output_dir", tmp_path]
    assert predict(*command)[0] == 0
    before, summary = of_nights(tmp_path), (tmp_path / "summary.csv").read_text()
    code, out, err = predict(*command)
    assert (code, err) == (0, "")
    assert "0 scored, 1 kept, 0 with problems" in out
    assert (tmp_path / "summary.csv").read_text() == summary
    assert of_nights(tmp_path) == before
    code, out, err = predict(*command, "--to", "23:55")
    assert code == 1
    assert 'night 2.json: there already, scored with other settings or files (to: null -> "23:55:00"). Pass --' in err
    assert of_nights(tmp_path) == before
    changed = tmp_path / "changed/night 2.edf"
    changed.parent.mkdir()
    shutil.copy(folder / "night 2.edf", changed)
    arguments = [*command[1:-1], changed.parent]
    assert predict(changed, *arguments)[0] == 0
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, out, err = predict(changed, *arguments)
    assert (code, "scored with other settings or files (made_from.recording.crc32: " in err) == (1, True)
    older = json.loads(changed.with_suffix(".json").read_text())
    del older["scoring"]["made_from"]  # as an earlier version wrote it
    changed.with_suffix(".json").write_text(json.dumps(older))
    assert predict(changed, *arguments)[0] == 0
    shutil.rmtree(changed.parent)
    command += ["--overwrite", "--to", "23:55", "--from", "23:51", "--select_ch", "Fpz", "--reference", "Cz"]
    code, out, _ = predict(*command)
    assert code == 0
    assert "Fpz-Cz of 1 recording " in out
    stages, _ = table(tmp_path / "night 2.csv")
    assert np.flatnonzero(stages != -1).tolist() == list(range(1, 9))
    said = json.loads((tmp_path / "night 2.json").read_text())
    assert (said["n_scored"], said["sleep_statistics"]["time_in_bed_min"]) == (8, 4)
    assert temporary_files(tmp_path) == []


def test_agreement_with_a_hypnogram_is_told_and_written(place, tmp_path, predict):
    folder, _ = place
    stages, _ = table(folder / "the results/SC4001E0.csv")
    names = ["W", "N1", "N2", "N3", "REM"]
    scoring = tmp_path / "scorer 2.txt"
    scoring.write_text("\n".join(names[(stage + (k < 3)) % 5] for k, stage in enumerate(stages)))
    arguments = ["--checkpoint", folder / "saved/Exp 1", "--hypnogram", scoring, "--output_dir", "out"]
    code, out, err = predict(folder / "nights of one/SC4001E0-PSG.edf", *arguments)
    assert (code, err) == (0, "")
    assert "SC4001E0: agrees with the hypnogram in 75.0 % of 12 sleep epochs, kappa 0." in out
    figures = json.loads((tmp_path / "out/SC4001E0.json").read_text())["agreement"]
    assert figures["accuracy"] == 0.75
    assert np.sum(figures["confusion_matrix"]) == 12
    assert figures["f1"].keys() == set(names)


def test_several_scorers_are_compared_with_the_network_and_with_each_other(place, tmp_path, predict):
    folder, _ = place
    stages, _ = table(folder / "the results/SC4001E0.csv")
    names = ["W", "N1", "N2", "N3", "REM"]
    for scorer, wrong in enumerate(([0], [0, 1, 2], [3])):
        said = "\n".join(names[(stage + (k in wrong)) % 5] for k, stage in enumerate(stages))
        (tmp_path / f"scorer {scorer}.txt").write_text(said)
    options = [word for scorer in range(3) for word in ("--hypnogram", f"scorer {scorer}.txt")]
    arguments = [folder / "nights of one/SC4001E0-PSG.edf", "--checkpoint", folder / "saved/Exp 1", *options]
    code, out, err = predict(*arguments, "--output_dir", "out")
    assert (code, err) == (0, "")
    assert "SC4001E0: agrees with the majority of 3 scorers in 91.7 % of 12 sleep epochs" in " ".join(out.split())
    summary = json.loads((tmp_path / "out/SC4001E0.json").read_text())
    assert summary["agreement"]["accuracy"] == 11 / 12
    assert [scorer["name"] for scorer in summary["scorers"]] == ["scorer 0.txt", "scorer 1.txt", "scorer 2.txt"]
    assert [scorer["network"]["accuracy"] for scorer in summary["scorers"]] == [11 / 12, 9 / 12, 11 / 12]
    assert [scorer["others"]["n"] for scorer in summary["scorers"]] == [12, 12, 12]
    assert summary["scoring"]["made_from"].keys() == {"recording", "hypnogram", "hypnogram_2", "hypnogram_3"}
    rows = out[out.index("\nAgreement ") :].split("\n\n")[0].strip().splitlines()
    assert len(rows) == 8
    code, again, _ = predict(*arguments, "--output_dir", "out")
    assert (code, "\n".join(rows) in again, "1 kept" in again) == (0, True, True)
    code, _, err = predict(*arguments[:-2], "--output_dir", "out")
    assert (code, "scored with other settings or files (hypnogram" in err) == (1, True)
    late = "\n".join(["onset,duration,stage", *(f"{12 + 30 * k},30,N2" for k in range(5))])
    (tmp_path / "late.csv").write_text(late)
    code, _, err = predict(*arguments, "--hypnogram", "late.csv", "--output_dir", "other")
    assert code == 1
    assert "begin at different times after its start (scorer 0.txt 0 s, " in err
    assert "late.csv 12 s), so they cannot be compared" in err


def test_scorers_whose_files_have_the_same_name_go_by_their_folders(place, tmp_path, predict):
    options = []
    for scorer in ("A", "B"):
        (tmp_path / scorer).mkdir()
        (tmp_path / scorer / "night.txt").write_text("\n".join(["N2"] * N))
        options += ["--hypnogram", f"{scorer}/night.txt"]
    recording, experiment = place[0] / "nights of one/SC4001E0-PSG.edf", place[0] / "saved/Exp 1"
    assert predict(recording, "--checkpoint", experiment, *options, "--output_dir", "out")[0] == 0
    scorers = json.loads((tmp_path / "out/SC4001E0.json").read_text())["scorers"]
    assert [scorer["name"] for scorer in scorers] == ["A/night.txt", "B/night.txt"]


def test_the_rows_of_a_run_are_those_of_a_sleep_laboratorys_report(place):
    folder, (_, out, _) = place
    statistics = json.loads((folder / "the results/SC4001E0.json").read_text())["sleep_statistics"]
    head = next(line for line in out.splitlines() if "TIB" in line)
    assert re.split(r"  +", head.strip()) == [
        "TIB", "TST", "SE %", "SOL REM lat", "WASO", "N1 %", "N2 %", "N3 %", "REM %"
    ]  # fmt: skip
    row = next(line for line in out.splitlines() if line.startswith("SC4001E0 "))
    names = ["time_in_bed_min", "total_sleep_time_min", "sleep_efficiency_percent", "sleep_latency_min",
             "rem_latency_min", "waso_min", *(f"percent_{stage}" for stage in ("N1", "N2", "N3", "REM"))]  # fmt: skip
    shown = ["-" if statistics[name] is None else f"{statistics[name]:.1f}" for name in names]
    assert row.split()[1:-2] == shown
    assert len(row) <= 100


def test_the_summary_has_a_row_for_each_night_that_is_there_and_none_for_one_that_failed(place, tmp_path, predict):
    folder, _ = place
    with (folder / "the results/summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["SC4001E0", "night 2"]
    arguments = ["--checkpoint", folder / "saved/Exp 1", "--output_dir", "out"]
    assert predict(*arguments, folder / "nights of one/SC4001E0-PSG.edf")[0] == 0
    options = ["--select_ch", "Fpz", "--from", "23:51", "--to", "23:56"]
    assert predict(*arguments, *options, folder / "night 2.edf", folder / "nothing.edf")[0] == 1
    with (tmp_path / "out/summary.csv").open(newline="") as file:
        kept, other = csv.DictReader(file)
    assert kept == rows[0]
    assert (other["name"], other["channel"], other["n_unscored"]) == ("night 2", "Fpz", "2")
    assert other["time_in_bed_is"] == "from lights off to lights on"


def test_a_summary_of_the_users_own_and_a_night_of_that_name_are_refused(place, tmp_path, predict):
    recording = place[0] / "nights of one/SC4001E0-PSG.edf"
    shutil.copy(recording, tmp_path / "Summary.edf")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/summary.csv").write_text("name,age\nA,30\n")
    arguments = ["--checkpoint", place[0] / "saved/Exp 1", "--output_dir", "out"]
    code, out, err = predict(*arguments, recording, "Summary.edf")
    assert code == 1
    assert err.splitlines()[2:] == [
        "  Summary.edf: its table would be summary.csv, which is that of all nights. Rename it.",
        "  out/summary.csv: there already, and not from scored nights. Pass another --output_dir.",
    ]
    assert "1 scored, 0 kept, 2 with problems" in out
    assert (tmp_path / "out/summary.csv").read_text() == "name,age\nA,30\n"


def test_further_formats_are_written_beside_the_others(place, tmp_path, predict):
    recording = place[0] / "nights of one/SC4001E0-PSG.edf"
    arguments = ["--checkpoint", place[0] / "saved/Exp 1", "--output_dir", "out"]
    assert predict(*arguments, "--formats", "lines", "luna", recording)[0] == 0
    stages, _ = table(tmp_path / "out/SC4001E0.csv")
    assert [int(line) for line in (tmp_path / "out/SC4001E0.txt").read_text().split()] == stages.tolist()
    assert (tmp_path / "out/SC4001E0.annot").exists()
    code, out, _ = predict(*arguments, recording)
    assert "1 kept" in out
    code, out, _ = predict(*arguments, "--formats", "bids", recording)
    assert "1 scored" in out
    assert sorted(path.name.removeprefix("SC4001E0") for path in (tmp_path / "out").iterdir()) == sorted(
        [*SUFFIXES, "_events.tsv", "summary.csv"]
    )
    code, _, err = predict(*arguments, recording, "--hypnogram", "out/SC4001E0.csv", "--overwrite")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "out/SC4001E0.json").read_text())["agreement"]["accuracy"] == 1


def test_sleep_epochs_without_signal_are_not_scored_and_their_share_is_told(place, tmp_path, predict):
    signal = eeg().reshape(N, -1)
    signal[2:4] = 37.5
    signal[4] = np.where(np.arange(3000) % 200 < 100, 1000, -1000)
    signal[5] = np.where(np.arange(3000) % 3, 20, 20 + 2000 / 65535)
    write_edf(tmp_path / "a.edf", {"EEG Fpz-Cz": signal.ravel(), "M1": eeg(seed=1)})
    code, out, err = predict("a.edf", "--checkpoint", place[0] / "saved/Exp 1", "--output_dir", "out")
    assert (code, err) == (0, "")
    assert "a: 4 of 12 sleep epochs (33.3 %) are without signal (flat or clipped) and not scored" in out
    stages, probabilities = table(tmp_path / "out/a.csv")
    assert np.flatnonzero(stages == -1).tolist() == [2, 3, 4, 5]
    assert np.isnan(probabilities[2:6]).all()
    summary = json.loads((tmp_path / "out/a.json").read_text())
    assert (summary["n_scored"], summary["n_without_signal"]) == (8, 4)
    annotations = mne.read_annotations(tmp_path / "out/a-Hypnogram.edf")
    assert (60, 120, "Sleep stage ?") in zip(
        annotations.onset, annotations.duration, annotations.description, strict=True
    )
    scoring = score_recording(signal.ravel(), place[0] / "saved/Exp 1", fs=100)
    assert np.flatnonzero(scoring.stages == -1).tolist() == [2, 3, 4, 5]


def test_prepared_recordings_and_gaps_keep_their_places(place, tmp_path, make_recording, predict):
    folder, _ = place
    recording = make_recording(6, sleep_epoch=np.array([2, 3, 4, 8, 9, 10]), start_time="2020-01-01T22:00:00")
    write_recording(tmp_path / "a.npz", recording)
    arguments = ["--checkpoint", folder / "saved/Exp 1/fold_0/model_best.pth", "--output_dir", tmp_path]
    code, out, err = predict(tmp_path / "a.npz", *arguments)
    assert (code, err) == (0, "")
    stages, _ = table(tmp_path / "a.csv")
    assert np.flatnonzero(stages != -1).tolist() == [2, 3, 4, 8, 9, 10]
    assert "a: 5 sleep epochs with a gap are not scored" in out


def test_the_night_around_is_read_where_a_fold_has_a_night_context_and_that_is_said(place, tmp_path, predict):
    folder, _ = place
    recording = folder / "nights of one/SC4001E0-PSG.edf"
    networks = write_experiment(tmp_path / "Exp 2", 1)
    write_night_context(tmp_path / "Exp 2/fold_0")
    for checkpoint, output_dir, said in (
        ("Exp 2", "with", "1 of 1 networks read the night around each sleep epoch."),
        ("Exp 2/fold_0/model_best.pth", "without", "without its night context. Pass the folder, Exp 2/f"),
    ):
        code, out, err = predict(recording, "--checkpoint", checkpoint, "--output_dir", output_dir)
        assert (code, err) == (0, "")
        assert said in " ".join(out.split())
    code, _, err = predict(recording, "--checkpoint", "Exp 2", "--output_dir", "without")
    assert code == 1
    assert "SC4001E0.json: there already, scored with other settings or files (checkpoints: " in err
    _, probabilities = table(tmp_path / "with/SC4001E0.csv")
    _, alone = table(tmp_path / "without/SC4001E0.csv")
    assert np.abs(probabilities - alone).max() > 0.1
    raw = mne.io.read_raw_edf(recording, verbose="ERROR")
    np.testing.assert_allclose(score_recording(raw, tmp_path / "Exp 2").probabilities, probabilities, atol=1e-5)
    signal = torch.from_numpy((raw.get_data(["EEG Fpz-Cz"])[0] * 1e6).astype(np.float32)).reshape(N, 1, 3000)
    with torch.inference_mode():
        np.testing.assert_allclose(networks[0](signal).softmax(dim=1), alone, atol=1e-4)
    models = [json.loads((tmp_path / name / "SC4001E0.json").read_text())["model"] for name in ("with", "without")]
    assert models[0]["checkpoints"][0]["night_context"]["train_epoch"] == 3
    assert models[1]["checkpoints"][0]["night_context"] is None


def test_a_released_model_is_told_its_channel(place, tmp_path, predict):
    sys.path.insert(0, str(ROOT / "tests/model"))
    from released_network import weights_by_formula

    folder, _ = place
    torch.save({"state_dict": weights_by_formula(100)}, tmp_path / "released.pth")
    command = [folder / "nights of one/other.edf", "--checkpoint", tmp_path / "released.pth"]
    code, _, err = predict(*command)
    assert (code, err) == (
        1, "The checkpoint does not say which channel it was trained on. Pass one with --select_ch.\n"
    )  # fmt: skip
    assert predict(*command, "--select_ch", "C4")[0] == 0
    assert {path.name for path in (tmp_path / "scored").iterdir()} == {
        "summary.csv", *(f"other{suffix}" for suffix in SUFFIXES)
    }  # fmt: skip


def test_a_hypnogram_is_read_as_in_preparation_with_a_late_start_other_names_and_columns(place, tmp_path, predict):
    night = write_edf(tmp_path / "late.edf", {"EEG Fpz-Cz": np.concatenate([np.ones(1000) * 5, eeg()])})
    predict("--checkpoint", place[0] / "saved/Exp 1", "--output_dir", "alone", night)
    stages, _ = table(tmp_path / "alone/late.csv")
    names = ["wach", "eins", "zwei", "drei", "traum"]
    rows = [f"{10 + 30 * k},30,{names[stage]}" for k, stage in enumerate(stages[:N])]
    (tmp_path / "scoring.csv").write_text("\n".join(["Zeit in s,Laenge,Schlafart", *rows]) + "\n")
    (tmp_path / "names.json").write_text(json.dumps(dict(zip(names, ["W", "N1", "N2", "N3", "REM"], strict=True))))
    options = ["--stage_names", "names.json", "--columns", "onset=Zeit in s,duration=Laenge,stage=Schlafart"]
    arguments = ["--checkpoint", place[0] / "saved/Exp 1", "--hypnogram", "scoring.csv", *options]
    code, out, err = predict(*arguments, "--output_dir", "beside", night)
    assert (code, err) == (0, "")
    assert "scored in sleep epochs that begin 10 s after its start; cut there" in " ".join(out.split())
    summary = json.loads((tmp_path / "beside/late.json").read_text())
    assert summary["agreement"]["n"] == N
    assert summary["start_time"].endswith("23:50:40")
    formats = ["--formats", "bids", "luna", "--output_dir", "in_its_place", "--hypnogram", "scoring.csv", *options]
    assert predict("--checkpoint", place[0] / "saved/Exp 1", night, *formats)[0] == 0
    for file in ("late.csv", "late_events.tsv", "late.annot"):  # whoever reads them back gets the same sleep epochs
        again = ["--checkpoint", place[0] / "saved/Exp 1", "--output_dir", f"again_{file}", night]
        assert predict(*again, "--hypnogram", f"in_its_place/{file}")[0] == 0, file
        agreement = json.loads((tmp_path / f"again_{file}/late.json").read_text())["agreement"]
        assert (agreement["n"], agreement["accuracy"]) == (N, 1), file


def test_the_hypnograms_in_a_folder_are_not_taken_for_recordings(place, tmp_path):
    folder = tmp_path / "nights"
    folder.mkdir()
    for name in ("a.edf", "a-PSG.bdf"):
        write_edf(folder / name, {"EEG Fpz-Cz": eeg()})
    Edf([], annotations=[EdfAnnotation(0, 30, "Sleep stage W")]).write(folder / "a_scored.edf")
    (folder / "b.npz").touch()
    assert {path.name for path in find_recordings([folder])[0].values()} <= {"a.edf", "a-PSG.bdf", "b.npz"}
    assert "a_scored" not in find_recordings([folder])[0]


def test_a_scorers_own_files_are_never_replaced(place, tmp_path, predict):
    folder, _ = place
    write_edf(tmp_path / "a.edf", {"EEG Fpz-Cz": eeg()})
    (tmp_path / "a-Hypnogram.edf").write_text("of a scorer")
    before = contents(tmp_path)
    arguments = ["--checkpoint", folder / "saved/Exp 1", "--output_dir", tmp_path, "--overwrite"]
    code, _, err = predict(tmp_path, *arguments)
    assert code == 1
    assert f"a-Hypnogram.edf: there already in {tmp_path}, and not from a scored night. Pass another --outp" in err
    assert contents(tmp_path) == before


def test_export_writes_the_network_and_says_where(tmp_path, predict):
    pytest.importorskip("onnxscript")
    write_checkpoint(tmp_path / "fold_0" / BEST)
    write_night_context(tmp_path / "fold_0")
    code, out, err = predict("--export", "folder/model.onnx", "--checkpoint", "fold_0")
    assert (code, out, err) == (0, "ONNX file: folder/model.onnx, without its night context\n", "")
    assert (tmp_path / "folder/model.onnx").stat().st_size > 1e6


def test_help_and_a_wrong_command_line_do_not_wait_for_torch(tmp_path):
    code, out, _ = run([sys.executable, "-X", "importtime", *PREDICT[1:], "--help"], tmp_path)
    assert code == 0
    assert "--select_ch" in out
    code, _, err = run([sys.executable, "-X", "importtime", *PREDICT[1:], "a.edf"], tmp_path)
    assert code == 2
    assert "the following arguments are required: --checkpoint" in err
    assert "numpy" in err
    assert "torch" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--checkpoint a.pth", "name recordings or --export"),
        ("--checkpoint a.edf", "name recordings or --export"),  # one word at least is the checkpoint
        ("--checkpoint a.pth --select_ch a.edf", "name recordings or --export"),
        ("a.edf", "the following arguments are required: --checkpoint"),
        ("a.edf --checkpoint a.pth --export a.onnx", "name recordings or --export"),
        ("a.edf b.edf --checkpoint a.pth --hypnogram b.edf", "--hypnogram is of one recording: name that alone"),
        ("--checkpoint a.pth --hypnogram b.edf --export a.onnx", "--hypnogram is of one recording: name that alone"),
        (". --checkpoint a.pth --hypnogram b.edf", "--hypnogram is of one recording: name that alone"),
        ("a.edf --checkpoint a.pth --hypnogram b.edf --hypnogram ./b.edf", "--hypnogram: the same file twice"),
        ("a.edf --checkpoint a.pth --reference M1", "--reference is subtracted from a channel: name that with --sel"),
        ("a.edf --checkpoint a.pth --formats hyp bids", "--formats: no format 'hyp'. Choose from lines, bids, luna"),
        ("a.edf --checkpoint a.pth --from 24:00", "argument --from: '24:00' is no time of day such as 22:30"),
        ("a.edf --checkpoint a.pth --to soon", "argument --to: 'soon' is no time of day such as 22:30"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments.split()])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "checkpoint", "channel", "recordings"),
    [
        ("--checkpoint saved night.edf", ["saved"], [], ["night.edf"]),
        ("--checkpoint saved b.pth night.edf nights", ["saved", "b.pth"], [], ["night.edf", "nights"]),
        ("--checkpoint saved --select_ch EEG Fpz-Cz night.edf", ["saved"], ["EEG", "Fpz-Cz"], ["night.edf"]),
        ("--checkpoint saved --select_ch C4 nights a.npz", ["saved"], ["C4"], ["nights", "a.npz"]),
        ("x.edf --checkpoint fold y.edf --select_ch C4 z.edf", ["fold"], ["C4"], ["x.edf", "y.edf", "z.edf"]),
        ("--checkpoint fold --formats lines luna nights a.npz", ["fold"], [], ["nights", "a.npz"]),
    ],
)
def test_recordings_are_recognised_wherever_they_stand(
    tmp_path, monkeypatch, arguments, checkpoint, channel, recordings
):
    monkeypatch.chdir(tmp_path)
    for file in ("saved/fold_0/model_best.pth", "fold/model_best.pth", "nights/a.edf"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments.split()])
    parsed = parse_arguments()
    assert [str(path) for path in parsed.checkpoint] == checkpoint
    assert parsed.select_ch == channel
    assert [str(path) for path in parsed.recordings] == recordings


def test_a_checkpoint_that_is_none_is_told_in_one_line(tmp_path, predict):
    (tmp_path / "a.pth").write_text("no checkpoint")
    arguments = ["a.edf", "--checkpoint", "a.pth"]
    for code, out, err in (run([*PREDICT, *arguments], tmp_path), predict(*arguments)):
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("a.pth: no checkpoint that can be read")
    code, out, err = predict("a.edf", "--checkpoint", ".")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(".: neither a fold")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_two_recordings_that_would_write_the_same_files_are_refused_by_name(tmp_path):
    for name in ("one/a.edf", "two/a.bdf", "two/a-PSG.edf", "b.edf", "one/a-Hypnogram.edf", "c.fif.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "none").mkdir()
    paths = [tmp_path / name for name in ("one", "two", "b.edf", "none", "c.fif.gz")] + [tmp_path / "one/../b.edf"]
    recordings, problems = find_recordings(paths)
    assert recordings == {"b": tmp_path / "b.edf", "c": tmp_path / "c.fif.gz"}
    names = ", ".join(str(tmp_path / name) for name in ("one/a.edf", "two/a-PSG.edf", "two/a.bdf"))
    assert problems == [
        f"{tmp_path / 'none'}: no recording in this folder.",
        f"{names}: all would be written as a. Score them into different folders.",
    ]


def test_names_stay_in_the_output_folder(tmp_path):
    (tmp_path / "..edf").touch()
    recordings, _ = find_recordings([tmp_path, Path("..") / "x" / ".." / "y.edf"])
    assert all("/" not in name for name in recordings)
    assert "y" in recordings


@pytest.mark.parametrize(
    ("array", "fs", "message"),
    [
        (np.zeros((2, 3000)), 100, r"An array of shape \(2, 3000\) at fs=100: pass one channel, shape \(n,\), and fs"),
        (np.zeros(3000), None, "at fs=None: pass one channel"),
        (np.zeros(3000), 0, "at fs=0: pass one channel"),
        (np.zeros(3000), float("nan"), "at fs=nan: pass one channel"),
        ([0.0] * 3000, 100, "A list is no recording: pass one of MNE's, or an array"),
        (np.zeros(3000), 100, "the recording: the signal is constant"),
        (np.zeros(100), 100, "the recording: nothing to score: it is shorter than 30 s"),
    ],
)
def test_an_array_that_cannot_be_scored_is_refused(tmp_path, array, fs, message):
    write_checkpoint(tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        score_recording(array, tmp_path / "a.pth", fs=fs)


def test_an_array_of_another_rate_and_type_is_resampled(tmp_path):
    write_checkpoint(tmp_path / "a.pth")
    signal = eeg(fs=200).astype(np.float64)
    signal[6000 * 3 + 5] = np.nan
    scoring = score_recording(signal, tmp_path / "a.pth", fs=200)
    assert len(scoring.stages) == N
    assert np.flatnonzero(scoring.stages == -1).tolist() == [3]


def test_a_raw_without_the_channel_is_answered_with_those_it_has(tmp_path):
    write_checkpoint(tmp_path / "a.pth")
    raw = mne.io.RawArray(np.zeros((1, 3000)), mne.create_info(["C4"], 100, "eeg"), verbose="ERROR")
    with pytest.raises(UserError, match="the recording: no channel 'EEG Fpz-Cz'. The file has 'C4'"):
        score_recording(raw, tmp_path / "a.pth")


def write_trained_experiment(folder, nights, n_folds=3, **about):
    """An experiment whose folds each tested one of `nights` and trained on the others; returns its folder."""
    config = {"arch": {"type": "AttnSleep", "args": {}}, "data_loader": {"args": {"num_folds": len(nights)}}}
    for fold in range(n_folds):
        write_checkpoint(folder / f"fold_{fold}" / BEST, seed=fold, config=config, **about)
        names = list(nights)
        test = {names[fold]: nights[names[fold]]}
        data = {"train": {name: nights[name] for name in names if name not in test}, "valid": {}, "test": test}
        (folder / f"fold_{fold}/data.json").write_text(json.dumps(data))
        (folder / f"fold_{fold}/predictions.npz").touch()
    return folder


def test_a_night_of_the_training_is_scored_by_the_fold_that_tested_it_and_overlap_is_told(tmp_path, predict):
    nights = {"SC4001E0": "1-1", "SC4011E0": "2-2", "SC4021E0": "3-3"}
    write_trained_experiment(tmp_path / "Exp", nights)
    psg = write_edf(tmp_path / "SC4011E0-PSG.edf", {"EEG Fpz-Cz": eeg()})
    hypnogram = tmp_path / "scorer.txt"
    hypnogram.write_text("\n".join(["W", "N2"] * (N // 2)))

    def score(*checkpoints, recording=psg, hypnogram=("--hypnogram", hypnogram), output="out"):
        code, out, err = predict(recording, "--checkpoint", *checkpoints, *hypnogram, "--output_dir", output)
        assert (code, err) == (0, "")
        shutil.move(tmp_path / output, tmp_path / "last")
        said = json.loads(next((tmp_path / "last").glob("*.json")).read_text())
        shutil.rmtree(tmp_path / "last")
        return " ".join(out.split()), said

    out, said = score("Exp")  # the fold that tested it, whose weights were selected on it
    assert "SC4011E0: scored by 1 of 3 networks, of the fold that tested it; --all_folds takes all" in out
    assert "%; but its network was selected on this recording 1 scored" in out
    assert said["training_overlap"] == "its network was selected on this recording"
    (checkpoint,) = said["model"]["checkpoints"]
    assert (checkpoint["fold"], checkpoint["use_of_recording"]) == (1, "tested and selected on this recording")
    out, said = score("Exp", "--all_folds")
    assert "but 2 of 3 networks were trained on this recording; 1 of 3 networks was selected on this recording" in out
    assert [each["use_of_recording"].split()[0] for each in said["model"]["checkpoints"]] == [
        "trained", "tested", "trained"
    ]  # fmt: skip
    for checkpoint in ("Exp/fold_0", "Exp/fold_0/model_best.pth"):
        out, said = score(checkpoint, hypnogram=())
        assert "SC4011E0: its network was trained on this recording" in out
        assert said["training_overlap"] == "its network was trained on this recording"

    other = psg.rename(tmp_path / "SC4012E0-PSG.edf")  # another night of the same subject
    out, said = score("Exp", recording=other)
    assert said["training_overlap"] == "its network was selected on other recordings of its subject"
    assert score("Exp/fold_2", recording=other)[1]["training_overlap"] == (
        "its network was trained on other recordings of its subject"
    )
    unknown = other.rename(tmp_path / "mine.edf")
    out, said = score("Exp", recording=unknown)
    assert said["training_overlap"] is None
    assert len(said["model"]["checkpoints"]) == 3
    (tmp_path / "Exp/fold_1/data.json").write_text("[")
    assert score("Exp", recording=unknown)[1]["training_overlap"] == "what 1 of 3 networks trained on is not known"


def test_a_prepared_recording_is_known_by_its_signal_under_any_name(tmp_path, make_recording, predict):
    write_recording(tmp_path / "renamed.npz", make_recording(6))
    signal, _, _ = read_outline(tmp_path / "renamed.npz").checksum.partition("-")
    write_trained_experiment(tmp_path / "Exp", {"night1": f"{signal}-of another scorer", "night2": "2-2"}, 2)
    code, out, _ = predict("renamed.npz", "--checkpoint", "Exp/fold_1")
    assert code == 0
    assert "renamed: its network was trained on this recording" in out


def test_folds_that_are_missing_or_unfinished_are_told(tmp_path, predict):
    write_edf(tmp_path / "mine.edf", {"EEG Fpz-Cz": eeg()})
    write_trained_experiment(tmp_path / "Exp", {f"night{k}": f"{k}-{k}" for k in range(5)}, 3)
    (tmp_path / "Exp/fold_1/predictions.npz").unlink()
    (tmp_path / "Exp/fold_2/model_best.pth").unlink()
    code, out, _ = predict("mine.edf", "--checkpoint", "Exp")
    assert code == 0
    assert (
        "Exp: fold 2, 3, 4 is missing or has no weights yet; fold 1 is not finished (no predictions.npz) and takes "
        "part as far as it is trained." in " ".join(out.split())
    )
    assert json.loads((tmp_path / "scored/mine.json").read_text())["model"]["experiments"] == [
        {"path": "Exp", "missing_folds": [2, 3, 4], "unfinished_folds": [1]}
    ]
