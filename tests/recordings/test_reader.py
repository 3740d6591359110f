import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import mne
import numpy as np
import pytest
from edf_writer import (
    RESERVED_FIELD,
    SHARED,
    START,
    START_FIELD,
    cut,
    edit,
    eeg_digits,
    microvolts,
    write_hypnogram,
    write_psg,
)
from edfio import Bdf, BdfSignal, Edf, EdfAnnotation, EdfSignal

from recordings.alignment import aligned
from recordings.reader import Channel, from_raw, is_recording, read_channel, resampled
from utils.errors import UserError
from utils.recording import Recording, write_recording


def channel_of(signal, fs=100.0):
    return Channel(np.asarray(signal, np.float32), fs, "EEG", "", ())


def sine(hz, fs, seconds=60):
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * fs)) / fs).astype(np.float32) * 50


def write_bdf(path, seconds=20):
    digits = np.random.default_rng(0).integers(-(2**22), 2**22, seconds * 128).astype(np.int32)
    signal = BdfSignal.from_digital(
        digits, sampling_frequency=128, label="C4", physical_dimension="uV",
        physical_range=(-262144.0, 262143.0), digital_range=(-8388608, 8388607),
    )  # fmt: skip
    Bdf([signal], annotations=[EdfAnnotation(1, None, "a")], data_record_duration=1).write(path)
    return path, digits * (524287 / 16777215) + (-262144 + 8388608 * 524287 / 16777215)


def write_edf_plus_d(path, onsets, fs=100, record_s=10, first_s=0.0):
    """Data records that begin at `onsets`; the samples of record k are k + 1."""
    digits = np.repeat(np.arange(len(onsets), dtype=np.int16) + 1, fs * record_s)
    signal = EdfSignal.from_digital(
        digits, sampling_frequency=fs, label="EEG", physical_dimension="uV",
        physical_range=(-2048.0, 2047.0), digital_range=(-2048, 2047),
    )  # fmt: skip
    Edf([signal], annotations=[EdfAnnotation(0, None, "a")], data_record_duration=record_s).write(path)
    content = path.read_bytes()
    for record, onset_s in reversed(list(enumerate(onsets))):
        old = f"+{record * record_s}\x14\x14\0".encode()
        new = f"+{onset_s + first_s}\x14\x14\0".encode()
        at = content.index(old)
        end = at + max(len(old), len(new))
        content = content[:at] + new.ljust(end - at, b"\0") + content[end:]
    path.write_bytes(content)
    edit(path, RESERVED_FIELD, "EDF+D")
    return path


def made_raw(fs=128, seconds=40, names=("C4", "M1", "temp"), start=dt.datetime(2020, 1, 2, 22, 30, tzinfo=dt.UTC)):
    rng = np.random.default_rng(0)
    types = ["misc" if name == "temp" else "eeg" for name in names]
    info = mne.create_info(list(names), fs, types)
    raw = mne.io.RawArray(rng.normal(0, 20e-6, (len(names), seconds * fs)), info, verbose="ERROR")
    return raw.set_meas_date(start)


def test_edf_comes_through_the_strict_door(tmp_path):
    path = write_psg(tmp_path / "night 1.edf")
    channel = read_channel(path, "EEG Pz-Oz")
    np.testing.assert_array_equal(channel.signal, microvolts(eeg_digits(30000, 1)))
    assert channel.signal.dtype == np.float32
    assert (channel.fs, channel.name, channel.start_time, channel.remarks) == (100, "EEG Pz-Oz", START.isoformat(), ())
    cut(path, 1)
    with pytest.raises(UserError, match="night 1.edf: cut off: its header promises 10 data records"):
        read_channel(path, "EEG Pz-Oz")


def test_case_and_spaces_do_not_matter_and_what_was_taken_is_told(tmp_path):
    channel = read_channel(write_psg(tmp_path / "a.edf"), "fpz -CZ")
    np.testing.assert_array_equal(channel.signal, microvolts(eeg_digits(30000, 0)))
    assert channel.remarks == ("'EEG Fpz-Cz' taken for 'fpz -CZ'",)


@pytest.mark.parametrize(("name", "reference"), [("C4-M1", None), ("C4", "m1"), ("EEG C4-M1", None)])
def test_a_difference_of_two_channels_is_told(tmp_path, name, reference):
    channel = read_channel(write_psg(tmp_path / "a.edf", labels=("M1", "EOG", "C4")), name, reference)
    expected = microvolts(eeg_digits(30000, 2)) - microvolts(eeg_digits(30000, 0))
    np.testing.assert_array_equal(channel.signal, expected)
    assert channel.name == (f"{name}-{reference}" if reference else name)
    assert channel.remarks == (f"{channel.name} is 'C4' minus 'M1'",)


def test_channels_of_two_rates_have_no_difference(tmp_path):
    path = write_psg(tmp_path / "a.edf", labels=("C4",))
    edit(path, 256 + 2 * 96 + 8, "uV")
    with pytest.raises(UserError, match="a.edf: 'C4' has 100 Hz, but 'Resp oro-nasal' 1 Hz. Pass two of one rate"):
        read_channel(path, "C4", "Resp oro-nasal")


def test_a_unit_that_was_converted_is_told_and_one_that_is_no_voltage_refused(tmp_path):
    path = write_psg(tmp_path / "a.edf", dimension="mV")
    channel = read_channel(path, "EEG Fpz-Cz")
    np.testing.assert_allclose(channel.signal, 1000 * microvolts(eeg_digits(30000)), rtol=1e-6)
    assert channel.remarks == ("converted from mV to microvolts",)
    edit(path, 256 + 3 * 96, "%   ")
    with pytest.raises(UserError, match="a.edf: 'EEG Fpz-Cz' is in '%', which is no voltage"):
        read_channel(path, "EEG Fpz-Cz")


@pytest.mark.parametrize(
    ("text", "start", "remark"),
    [
        ("01.01.8523.10.00", "1985-01-01T23:10:00", "its date is not known (1 January 1985 stands for it)"),
        ("xx.yy.zz23.xx.00", "", "its header has no valid start time"),
    ],
)
def test_a_start_that_is_not_known_is_told(tmp_path, text, start, remark):
    path = write_psg(tmp_path / "a.edf")
    edit(path, START_FIELD, text)
    channel = read_channel(path, "EEG Fpz-Cz")
    assert (channel.start_time, channel.remarks) == (start, (remark,))


def test_bdf_is_read_by_the_same_rules(tmp_path):
    path, expected = write_bdf(tmp_path / "a.bdf")
    channel = read_channel(path, "C4")
    assert channel.fs == 128
    np.testing.assert_allclose(channel.signal, expected, rtol=1e-5, atol=1e-3)
    cut(path, 5)
    with pytest.raises(UserError, match="a.bdf: cut off: its header promises 20 data records"):
        read_channel(path, "C4")
    for wrong in (path.rename(tmp_path / "b.edf"), write_psg(tmp_path / "c.edf").rename(tmp_path / "c.bdf")):
        with pytest.raises(UserError, match=f"{wrong.name}: not an? .DF file"):
            read_channel(wrong, "C4")


def test_a_file_called_rec_is_edf_or_bdf_or_refused(tmp_path):
    edf = write_psg(tmp_path / "a.edf", labels=["C4"]).rename(tmp_path / "a.rec")
    np.testing.assert_array_equal(read_channel(edf, "C4").signal, microvolts(eeg_digits(30000)))
    bdf = write_bdf(tmp_path / "b.bdf")[0].rename(tmp_path / "b.REC")
    assert read_channel(bdf, "C4").fs == 128
    (tmp_path / "c.rec").write_text("a record of another kind")
    with pytest.raises(UserError, match="c.rec: not an EDF file"):
        read_channel(tmp_path / "c.rec", "C4")


def test_gaps_of_edf_plus_d_are_missing_where_they_are_and_shift_nothing(tmp_path):
    path = write_edf_plus_d(tmp_path / "a.edf", [0, 10, 35, 45.5])
    channel = read_channel(path, "EEG")
    expected = np.full(5550, np.nan)
    for value, (begin, end) in enumerate([(0, 1000), (1000, 2000), (3500, 4500), (4550, 5550)], 1):
        expected[begin:end] = value
    np.testing.assert_allclose(channel.signal, expected)
    assert "16 s between its data records were not recorded" in channel.remarks


def test_a_start_within_a_second_is_no_gap_and_a_clock_that_rounds_makes_none(tmp_path):
    channel = read_channel(write_edf_plus_d(tmp_path / "a.edf", [0, 10.004, 20, 30.001], first_s=0.5), "EEG")
    np.testing.assert_allclose(channel.signal, np.repeat([1, 2, 3, 4], 1000))
    late = read_channel(write_edf_plus_d(tmp_path / "b.edf", [0, 10], first_s=7.25), "EEG").signal
    assert np.isnan(late[:700]).all()
    np.testing.assert_allclose(late[700:], np.repeat([1, 2], 1000))


@pytest.mark.parametrize(
    ("onsets", "message"),
    [
        ([0, 10, 15], "data record 3 of 3 begins at 15 s, but the one before it at 10 s lasts 10 s"),
        ([0, 10, 5], "data record 3 of 3 begins at 5 s"),
        ([0, 10, 999_999], "data records begin at 0 to 999999 s"),
    ],
)
def test_times_of_data_records_that_make_no_sense_are_refused(tmp_path, onsets, message):
    with pytest.raises(UserError, match=f"a.edf: .*{message}"):
        read_channel(write_edf_plus_d(tmp_path / "a.edf", onsets), "EEG")


@pytest.mark.parametrize("suffix", [".fif", ".vhdr"])
def test_what_else_mne_reads_comes_in_microvolts(tmp_path, suffix):
    raw, path = made_raw(), tmp_path / f"night_raw{suffix}"
    if suffix == ".fif":
        raw.save(path, verbose="ERROR")
    else:
        write_brainvision(path, raw)
    channel = read_channel(path, "C4", "M1")
    difference = 1e6 * (raw.get_data(["C4"])[0] - raw.get_data(["M1"])[0])
    np.testing.assert_allclose(channel.signal, difference, atol=0.02)
    assert (channel.fs, channel.name) == (128, "C4-M1")
    in_utc = suffix == ".fif"
    assert channel.remarks == ("C4-M1 is 'C4' minus 'M1'", *["its start is in UTC"] * in_utc)
    assert channel.start_time == "2020-01-02T22:30:00" + "+00:00" * in_utc
    with pytest.raises(UserError, match=f"night_raw{suffix}: no channel 'C3'. The file has 'C4', 'M1'"):
        read_channel(path, "C3")


def test_a_start_in_utc_with_the_offset_of_the_recorder_is_told_by_its_clock(tmp_path):
    raw = made_raw()
    with raw.info._unlock():
        raw.info["utc_offset"] = "+0130"  # as MNE takes it from EGI's MFF
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    channel = read_channel(tmp_path / "a_raw.fif", "C4")
    assert (channel.start_time, channel.remarks) == ("2020-01-03T00:00:00+01:30", ())


def write_brainvision(path, raw):
    data = np.round(raw.get_data(["C4", "M1"]) * 1e8).astype("<i2")  # steps of 0.01 microvolts
    data.T.tofile(path.with_suffix(".eeg"))
    interval = round(1e6 / raw.info["sfreq"], 4)
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels=2\nSamplingInterval={interval}\n[Binary Infos]\nBinaryFormat=INT_16\n"
        "[Channel Infos]\nCh1=C4,,0.01,µV\nCh2=M1,,0.01,µV\n",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0,20200102223000000000\n"
    )


def test_a_channel_of_an_mne_recording_that_is_no_voltage_is_refused():
    with pytest.raises(UserError, match=r"the recording: 'temp' is no voltage \(type misc, unit .*NONE.*\)\. Pass"):
        from_raw(made_raw(), "temp")


def test_what_mne_knows_as_skipped_is_missing_and_the_start_is_that_of_the_first_sample():
    raw = made_raw(fs=100)
    raw.set_annotations(mne.Annotations([25, 12], [5, 1], ["BAD_ACQ_SKIP", "BAD_arm"], raw.info["meas_date"]))
    channel = from_raw(raw.crop(10), "C4")
    assert channel.start_time == "2020-01-02T22:30:10"
    assert np.flatnonzero(np.isnan(channel.signal)).tolist() == list(range(1500, 2000))


def test_a_file_that_mne_cannot_read_is_told_in_one_line(tmp_path):
    for name, content in {"a.fif": b"no fif", "a.xyz": b"", "a.vhdr": b"\0"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"^{name}: MNE cannot read it \([^\n]*\)"):
            read_channel(tmp_path / name, "EEG")
    with pytest.raises(UserError, match=r"nothing.edf: there is no such file"):
        read_channel(tmp_path / "nothing.edf", "EEG")


def test_a_prepared_recording_is_laid_out_in_its_night(tmp_path, make_recording):
    recording = make_recording([0, 1, 2], sleep_epoch=np.array([1, 2, 5]), start_time="2020-01-01T23:00:00")
    write_recording(tmp_path / "a.npz", recording)
    channel = read_channel(tmp_path / "a.npz", "fpz-cz")
    night = channel.signal.reshape(6, 3000)
    np.testing.assert_array_equal(night[[1, 2, 5]], recording.signal)
    assert np.isnan(night[[0, 3, 4]]).all()
    assert (channel.fs, channel.start_time) == (100, "2020-01-01T23:00:00")
    with pytest.raises(UserError, match="a.npz: no channel 'C4-M1'. The file has 'EEG Fpz-Cz'"):
        read_channel(tmp_path / "a.npz", "C4", "M1")


def test_an_npz_of_another_program_is_read_as_long_as_it_has_the_keys(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3000, 1), np.float32), y=[0, 1], fs=100)
    channel = read_channel(tmp_path / "a.npz", "EEG Fpz-Cz")
    assert (channel.name, channel.start_time, len(channel.signal)) == ("EEG Fpz-Cz", "", 6000)
    np.savez(tmp_path / "b.npz", x=np.ones((2, 3000, 1), np.float32), y=[0, 1], fs=100, sleep_epoch=[-1, 0])
    with pytest.raises(UserError, match="b.npz: its positions"):
        read_channel(tmp_path / "b.npz", "EEG Fpz-Cz")
    write_recording(tmp_path / "c.npz", Recording(np.ones((0, 3000)), np.ones(0), 100, "", np.ones(0)))
    with pytest.raises(UserError, match="c.npz: no sleep epochs"):
        read_channel(tmp_path / "c.npz", "EEG Fpz-Cz")


@pytest.mark.parametrize("fs", [50, 90.9, 128, 199.98, 256, 512, 1000 / 3])
def test_resampling_keeps_what_is_slow_where_it_is_and_takes_away_what_is_fast(fs):
    slow = resampled(channel_of(sine(7, fs), fs), 100)
    assert slow.fs == 100
    assert slow.remarks == (f"resampled from {fs:g} to 100 Hz",)
    n = min(len(slow.signal), 6000)
    assert n >= 5998
    inside = slice(100, n - 100)
    np.testing.assert_allclose(slow.signal[:n][inside], sine(7, 100)[:n][inside], atol=1)
    if fs > 150:
        fast = resampled(channel_of(sine(min(fs / 2 - 5, 70), fs), fs), 100).signal
        assert np.abs(fast[100:-100]).max() < 1, "its alias would be at 50 microvolts"


def test_resampling_holds_the_beat_over_a_day():
    seconds, fs = 22 * 3600, 50.005
    signal = np.zeros(round(seconds * fs), np.float32)
    signal[round(21 * 3600 * fs)] = 1000
    peak = int(np.argmax(resampled(channel_of(signal, fs), 50).signal))
    assert peak == pytest.approx(21 * 3600 * 50, abs=1)


@pytest.mark.parametrize("fs", [64, 256])
def test_resampling_leaves_gaps_as_long_as_they_are_and_what_is_beside_them_untouched(fs):
    signal = 100 + sine(3, fs, 300)
    begin, end = 60 * fs, 75 * fs
    whole, signal[begin:end] = signal.copy(), np.nan
    expected, with_gap = (resampled(channel_of(x, fs), 100).signal for x in (whole, signal))
    missing = np.flatnonzero(np.isnan(with_gap))
    assert missing[0] == pytest.approx(6000, abs=1)
    assert missing[-1] == pytest.approx(7499, abs=1)
    assert len(missing) == missing[-1] - missing[0] + 1
    assert np.abs(with_gap - expected)[np.r_[0:5900, 7600:30000]].max() < 0.5
    assert np.abs(with_gap - expected)[np.r_[5900:5999, 7502:7600]].max() < 60, "no ringing"


@pytest.mark.parametrize("fs", [64, 90.9, 200, 256, 1000])
def test_a_single_missing_sample_is_missing_in_its_own_sleep_epoch_alone(fs):
    n = round(30 * fs)
    for position in (0, n - 1, n, n + n // 3, 2 * n - 1):
        signal = sine(3, fs, 90)
        signal[position] = np.nan
        missing = np.flatnonzero(np.isnan(resampled(channel_of(signal, fs), 100).signal))
        assert set((missing // 3000).tolist()) == {position // n}


@pytest.mark.parametrize("signal", [[], [np.nan] * 500, [5.0], [5.0] * 500])
def test_resampling_takes_what_is_empty_missing_or_constant(signal):
    longer = resampled(channel_of(signal, 50), 100).signal
    assert len(longer) == 2 * len(signal)
    np.testing.assert_allclose(longer, np.resize(signal[:1], len(longer)), rtol=1e-4)


def test_a_channel_that_has_the_rate_is_left_alone():
    channel = channel_of([1.0, 2.0])
    assert resampled(channel, 100) is channel


def test_a_folder_gives_recordings_and_not_what_lies_beside_them():
    names = ["a.edf", "b.BDF", "c_raw.fif.gz", "d.vhdr", "a-Hypnogram.edf", "SC4001EC-Hypnogram.edf", "a.csv", ".a.edf",
             "a-hypnogram.rec", "d.eeg", "d.vmrk", "a.xml", "a.npz"]  # fmt: skip
    assert [name for name in names if is_recording(Path(name))] == names[:4]


def test_hypnograms_have_no_channels(tmp_path):
    with pytest.raises(UserError, match="a.edf: no channel 'EEG'. The file has none at all"):
        read_channel(write_hypnogram(tmp_path / "a.edf"), "EEG")


def test_the_real_file_with_gaps_is_laid_out_by_its_own_times():
    path = SHARED / "data/edf_cases/edfPlusD.edf"
    if not path.is_file():
        pytest.skip("needs the files in ../shared/data")
    signal = read_channel(path, "ECG").signal
    seconds = ~np.isnan(signal.reshape(20, 200)).any(axis=1)
    assert np.flatnonzero(seconds).tolist() == [0, 2, 4, 5, 6, 7, 8, 9, 12, 15, 19]


def test_what_mne_cannot_do_under_oo_is_not_taken_for_a_bad_file(tmp_path, monkeypatch):
    (tmp_path / "a.fif").write_bytes(b"a")
    monkeypatch.setattr("recordings.reader.sys", SimpleNamespace(flags=SimpleNamespace(optimize=2)))
    with pytest.raises(UserError, match=r"a.fif: MNE reads it, which does not run under PYTHONOPTIMIZE=2 \(-OO\)"):
        read_channel(tmp_path / "a.fif", "C4")


DEAD = {
    "flat": lambda x: x * 0 + 7,
    "flickering": lambda x: np.where(x > 0, 7, 8),
    "clipped": lambda x: np.where(np.arange(x.shape[1]) % 100 < 50, 192, -192),
}


def write_dead(path, kind, fs, **others):
    """Eight sleep epochs of noise, of which 2 to 4 are dead in C4, and others as they are passed."""
    rng = np.random.default_rng(0)
    nights = {name: rng.normal(0, 20, (8, 30 * fs)) for name in ("C4", "M1")}
    nights["C4"][2:5] = DEAD[kind](nights["C4"][2:5])
    signals = [
        EdfSignal(
            np.clip(night.ravel(), -192, 192), fs, label=name, physical_dimension="uV", physical_range=(-192.0, 192.0),
            digital_range=(-192, 191),
        )
        for name, night in (nights | others).items()
    ]  # fmt: skip
    Edf(signals, data_record_duration=1).write(path)
    return path


@pytest.mark.parametrize("fs", [100, 256])
@pytest.mark.parametrize("reference", [None, "M1"])
@pytest.mark.parametrize("kind", DEAD)
def test_flat_and_clipped_sleep_epochs_are_those_of_the_recorded_signal(tmp_path, kind, reference, fs):
    channel = read_channel(write_dead(tmp_path / "a.edf", kind, fs), "C4", reference, 100)
    assert np.flatnonzero(channel.without_signal()).tolist() == [2, 3, 4]
    scoring = tmp_path / "a.csv"
    scoring.write_text("\n".join(["onset,duration,stage", *(f"{20 + 30 * k},30,N2" for k in range(6))]))
    cut, _ = aligned(channel, tmp_path / "a.edf", scoring)
    whole, most_of_it = [2, 3], [1]
    assert np.flatnonzero(cut.without_signal()).tolist() == [*(most_of_it if kind == "clipped" else []), *whole]


def test_a_reference_that_is_zero_throughout_is_no_lack_of_signal_and_one_that_fails_is(tmp_path):
    zeros, failing = np.zeros((8, 3000)), np.random.default_rng(1).normal(0, 20, (8, 3000))
    failing[6] = 0
    path = write_dead(tmp_path / "a.edf", "flat", 100, Cz=zeros, A1=failing)
    assert np.flatnonzero(read_channel(path, "C4", "Cz").without_signal()).tolist() == [2, 3, 4]
    assert np.flatnonzero(read_channel(path, "C4", "A1").without_signal()).tolist() == [2, 3, 4, 6]
    assert read_channel(path, "Cz", "A1").without_signal().all()


def test_a_gap_is_no_sleep_epoch_without_signal():
    signal = np.zeros(9000)
    signal[3005] = np.nan
    channel = channel_of(signal)
    assert channel.without_signal().tolist() == [True, False, True]
    assert resampled(channel, 64).without_signal().tolist() == [True, False, True]
    assert resampled(channel_of(np.zeros(10), 1.0), 100).without_signal().tolist() == []
