import datetime as dt
import itertools
import json

import mne
import numpy as np
import pytest
from edf_writer import ROOT, contents, run_script
from in_process import call_script
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prepare_datasets.simulated_eeg import STAGE_OF_RK, simulate_eeg, simulate_hypnogram
from utils.stages import N1, N2, N3, REM, W

SCRIPT = "simulate_recordings.py"
RATES = {
    "EEG Fpz-Cz": 100,
    "EEG Pz-Oz": 100,
    "EOG horizontal": 100,
    "Resp oro-nasal": 1,
    "EMG submental": 1,
    "Temp rectal": 1,
    "Event marker": 1,
}


def simulate(folder, *arguments, n=1, hours=0.5, seed=3):
    return call_script(
        SCRIPT, "--output_dir", folder, "--num_subjects", n, "--hours", hours, "--seed", seed, *arguments
    )


def read(path, label, fs):
    """One channel in microvolts, a row for each sleep epoch, and when it starts."""
    raw = mne.io.read_raw_edf(path, include=[label], stim_channel=None, verbose="ERROR")
    assert raw.info["sfreq"] == fs
    return raw.get_data(units="uV")[0].reshape(-1, 30 * fs), raw.info["meas_date"]


def read_hypnogram(path):
    return [(a["onset"], a["duration"], str(a["description"])) for a in mne.read_annotations(path)]


def power(signal, fs, low, high):
    """Mean power of each sleep epoch between two frequencies."""
    spectrum = np.abs(np.fft.rfft(signal)) ** 2
    hz = np.fft.rfftfreq(signal.shape[1], 1 / fs)
    return spectrum[:, (hz >= low) & (hz < high)].mean(axis=1)


@pytest.fixture(scope="module")
def nights():
    """Microvolts of each sleep epoch, and stages, of six subjects, 2 h each."""
    nights = []
    for subject in range(6):
        stages, traits, rng = (np.random.default_rng([1, subject, stream]) for stream in (0, 1, 2))
        stages = simulate_hypnogram(240, stages)
        nights.append((simulate_eeg(stages, 100, traits, rng).reshape(240, 3000), STAGE_OF_RK[stages]))
    return nights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two Sleep-EDF recordings, made by the script from its folder."""
    folder = tmp_path_factory.mktemp("sleep_edf")
    arguments = ["--output_dir", folder, "--num_subjects", 2, "--hours", 2, "--seed", 3]
    code, out, err = run_script(SCRIPT, *arguments, cwd=ROOT / "prepare_datasets")
    assert (code, err) == (0, "")
    return folder, out


def test_a_sleep_edf_recording_has_the_seven_signals_in_records_of_30_s(folder):
    psg = folder[0] / "SC4011E0-PSG.edf"
    header = psg.read_bytes()[:2048].decode("ascii")
    fields = header[256 + 7 * 216 :]
    n_per_record = [int(fields[8 * k : 8 * k + 8]) for k in range(7)]
    assert [header[256 + 16 * k : 272 + 16 * k].strip() for k in range(7)] == list(RATES)
    assert (header[236:244].strip(), header[244:252].strip()) == ("240", "30")
    assert n_per_record == [30 * fs for fs in RATES.values()]
    assert psg.stat().st_size == 2048 + 240 * 2 * sum(n_per_record)


def test_the_eeg_reads_back_as_microvolts_of_realistic_size(folder):
    for label in ("EEG Fpz-Cz", "EEG Pz-Oz"):
        eeg, _ = read(folder[0] / "SC4001E0-PSG.edf", label, 100)
        assert eeg.shape == (240, 3000)
        assert 10 < eeg.std() < 40
        assert np.abs(eeg).max() <= 197


def test_the_hypnogram_starts_with_the_signal_and_its_unscored_tail_runs_past_the_end(folder):
    _, start = read(folder[0] / "SC4011E0-PSG.edf", "EEG Fpz-Cz", 100)
    hypnogram = folder[0] / "SC4011EC-Hypnogram.edf"
    annotations = read_hypnogram(hypnogram)
    assert dt.datetime.strptime(hypnogram.read_bytes()[168:184].decode(), "%d.%m.%y%H.%M.%S") == start.replace(
        tzinfo=None
    )
    onset, duration, text = (list(column) for column in zip(*annotations, strict=True))
    assert np.array_equal(onset, np.cumsum([0, *duration[:-1]]))
    assert all(seconds % 30 == 0 for seconds in duration)
    assert set(text[:-1]) == {f"Sleep stage {stage}" for stage in "W1234R"}
    assert all(a != b for a, b in itertools.pairwise(text))
    assert (onset[-1], text[-1]) == (7200, "Sleep stage ?")
    assert duration[-1] > 0


def test_the_stages_of_the_files_are_those_that_are_told(folder):
    out = folder[1].splitlines()
    assert len(out) == 3
    assert "say nothing about sleep" in out[-1]
    stage_of = {"W": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "REM"}
    counts = dict.fromkeys(("W", "N1", "N2", "N3", "REM"), 0)
    for _, duration, text in read_hypnogram(folder[0] / "SC4001EC-Hypnogram.edf")[:-1]:
        counts[stage_of[text[-1]]] += round(duration / 30)
    assert out[0] == "SC4001E0: " + ", ".join(f"{stage} {n}" for stage, n in counts.items())


def test_the_preparation_reads_what_is_simulated(folder, tmp_path):
    code, _, err = call_script("prepare_physionet.py", "--data_dir", folder[0], "--output_dir", tmp_path)
    assert (code, err) == (0, "")
    with np.load(tmp_path / "SC4011E0.npz") as npz:
        assert npz["x"].shape == (240, 3000, 1)
        assert np.array_equal(npz["y"], STAGE_OF_RK[simulate_hypnogram(240, np.random.default_rng([3, 1, 0]))])


@pytest.mark.parametrize("hours", [0.5, 2, 5, 8, 22])
@pytest.mark.parametrize("seed", range(5))
def test_a_night_has_wake_at_both_ends_and_every_stage_between(hours, seed):
    rk_stages = simulate_hypnogram(round(hours * 120), np.random.default_rng(seed))
    assert len(rk_stages) == hours * 120
    asleep = np.flatnonzero(rk_stages)
    ends = asleep[0], len(rk_stages) - 1 - asleep[-1]
    assert min(ends) > (60 if hours >= 8 else 0)
    counts = np.bincount(rk_stages, minlength=6)
    assert counts.min() > 0
    if hours >= 2:
        assert np.bincount(STAGE_OF_RK[rk_stages]).min() >= 10


@pytest.mark.parametrize("seed", range(5))
def test_n3_comes_early_and_rem_late(seed):
    stages = STAGE_OF_RK[simulate_hypnogram(960, np.random.default_rng(seed))]
    assert np.flatnonzero(stages == N3).mean() < np.flatnonzero(stages == N2).mean()
    assert np.flatnonzero(stages == REM).mean() > np.flatnonzero(stages == N2).mean()


@pytest.mark.parametrize("seed", range(3))
def test_the_proportions_of_a_night_are_those_of_adults(seed):
    stages = STAGE_OF_RK[simulate_hypnogram(960, np.random.default_rng(seed))]
    asleep = stages[stages != W]
    shares = np.bincount(asleep, minlength=5)[1:] / len(asleep)
    for share, (low, high) in zip(shares, ((0.05, 0.25), (0.35, 0.6), (0.1, 0.25), (0.15, 0.3)), strict=True):
        assert low < share < high
    n_cycles = np.count_nonzero(np.diff((stages == N3).astype(int)) == 1)
    assert 4 <= n_cycles


def test_each_stage_has_its_rhythm(nights):
    for eeg, stages in nights:
        for stage, low, high in ((W, 8, 12), (N2, 12, 14), (N3, 0.5, 2)):
            log_power = np.log(power(eeg, 100, low, high))
            others = [np.median(log_power[stages == other]) for other in range(5) if other not in (stage, N3)]
            assert np.median(log_power[stages == stage]) > max(others) + np.log(1.5)


def test_stages_are_told_apart_well_but_never_perfectly_and_n1_worst(nights):
    bands = [0.5, 2, 4, 7, 9, 12, 14.5, 20, 40]
    features, stages = [], []
    for eeg, of_night in nights:
        features.append(np.log([power(eeg, 100, *band) for band in itertools.pairwise(bands)]).T)
        stages.append(of_night)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.concatenate(features[:4]), np.concatenate(stages[:4]))
    y_true, y_pred = np.concatenate(stages[4:]), model.predict(np.concatenate(features[4:]))
    f1 = f1_score(y_true, y_pred, average=None)
    assert 0.7 < accuracy_score(y_true, y_pred) < 0.92
    assert np.argmin(f1) == N1
    assert f1[N1] > 0.25


def test_the_same_arguments_give_the_same_bytes_however_many_subjects(tmp_path):
    assert simulate(tmp_path / "one", n=1)[0] == 0
    assert simulate(tmp_path / "two", n=2)[0] == 0
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {name: two[name] for name in one} == one
    assert two["SC4001E0-PSG.edf"] != two["SC4011E0-PSG.edf"]
    assert simulate(tmp_path / "other", seed=4)[0] == 0
    assert contents(tmp_path / "other")["SC4001E0-PSG.edf"] != one["SC4001E0-PSG.edf"]


def test_a_second_run_keeps_what_is_there_and_adds_what_is_missing(tmp_path):
    assert simulate(tmp_path, n=2)[0] == 0
    before = contents(tmp_path)
    (tmp_path / "SC4011EC-Hypnogram.edf").unlink()
    written = (tmp_path / "SC4001E0-PSG.edf").stat().st_mtime_ns
    code, out, _ = simulate(tmp_path, n=3)
    assert code == 0
    assert [line.endswith("(kept)") for line in out.splitlines()] == [True, False, False, False]
    assert (tmp_path / "SC4001E0-PSG.edf").stat().st_mtime_ns == written
    after = contents(tmp_path)
    assert len(after) == len(before) + 2
    assert {name: after[name] for name in before} == before


def test_other_arguments_are_refused_in_the_same_folder(tmp_path):
    assert simulate(tmp_path)[0] == 0
    before = contents(tmp_path)
    code, _, err = simulate(tmp_path, "--dataset", "shhs", hours=1, seed=4)
    assert code == 1
    assert err == (
        f"{tmp_path / 'simulated.json'}: made with other settings than "
        '{"dataset": "shhs", "hours": 1.0, "seed": 4}. Pass another --output_dir.\n'
    )
    assert contents(tmp_path) == before


def test_a_folder_of_recordings_that_were_not_simulated_is_left_alone(tmp_path):
    (tmp_path / "SC4001E0-PSG.edf").write_bytes(b"real")
    code, _, err = simulate(tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert "holds recordings that were not simulated. Pass another --output_dir." in err
    assert contents(tmp_path) == {"SC4001E0-PSG.edf": b"real"}


def test_a_folder_that_is_a_file_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = simulate(tmp_path / "file")
    assert (code, err.count("\n")) == (1, 1)
    assert "file: " in err
    assert "Mend that, or pass another --output_dir." in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--num_subjects", "0"], "sleep_edf has names for 1 to 100"),
        (["--num_subjects", "330", "--dataset", "shhs"], "shhs has names for 1 to 329"),
        (["--hours", "0.4"], "--hours 0.4: not from 0.5 to 24"),
        (["--hours", "nan"], "not from 0.5 to 24"),
        (["--seed", "-1"], "--seed -1: below 0"),
    ],
)
def test_arguments_out_of_range_are_told_with_the_range(tmp_path, arguments, told):
    code, _, err = call_script(SCRIPT, "--output_dir", tmp_path / "new", *arguments)
    assert code == 2
    assert told in err
    assert not (tmp_path / "new").exists()


def test_an_shhs_recording_reads_back_at_125_hz_beside_its_xml(tmp_path):
    code, out, err = simulate(tmp_path / "edf", "--dataset", "shhs", n=2, hours=2)
    assert (code, err) == (0, "")
    published = json.loads((ROOT / "data_loader" / "published_folds.json").read_text())["shhs"]["recordings"]
    names = [f"shhs1-{number}" for number in published[:2]]
    assert [line.split(":")[0] for line in out.splitlines()[:2]] == names
    raw = mne.io.read_raw_edf(tmp_path / "edf" / f"{names[0]}.edf", stim_channel=None, verbose="ERROR")
    assert raw.ch_names.index("EEG(sec)") < raw.ch_names.index("EEG")
    first, _ = read(tmp_path / "edf" / f"{names[0]}.edf", "EEG", 125)
    second, _ = read(tmp_path / "edf" / f"{names[0]}.edf", "EEG(sec)", 125)
    assert not np.array_equal(first, second)
    assert 10 < first.std() < 40
    folders = ["--data_dir", tmp_path / "edf", "--ann_dir", tmp_path / "edf", "--output_dir", tmp_path / "npz"]
    code, _, err = call_script("prepare_shhs.py", *folders)
    assert (code, err) == (0, "")
    for subject, name in enumerate(names):
        c4_a1, _ = read(tmp_path / "edf" / f"{name}.edf", "EEG", 125)
        with np.load(tmp_path / "npz" / f"{name}.npz") as npz:
            np.testing.assert_allclose(npz["x"][:, :, 0], c4_a1, rtol=1e-6)
            stages = simulate_hypnogram(240, np.random.default_rng([3, subject, 0]))
            assert np.array_equal(npz["y"], STAGE_OF_RK[stages])
