import datetime as dt

import mne
import numpy as np
import pytest
from edf_writer import write_psg
from scipy.io import savemat

from recordings.reader import read_channel
from utils.errors import UserError

FS, N = 100, 6000
RAMP = np.arange(N, dtype=np.float32)


def write_brainvision(path, segments, text=""):
    """A ramp from 0 to 5999 microvolts at 100 Hz, with a segment (first sample, time) in each line of the markers."""
    RAMP.astype("<i2").tofile(path.with_suffix(".eeg"))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        "NumberOfChannels=1\nSamplingInterval=10000\n[Binary Infos]\nBinaryFormat=INT_16\n"
        "[Channel Infos]\nCh1=C4,,1,µV\n",
        encoding="utf-8",
    )
    marks = [f"Mk{i}=New Segment,{text},{begin + 1},1,0{time}" for i, (begin, time) in enumerate(segments, 1)]
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\n" + "\n".join([*marks, "Mk9=Stimulus,S  1,50,1,0"]) + "\n"
    )
    return path


def write_eeglab(path, *events):
    """A ramp from 0 to 5999 microvolts at 100 Hz, with events (type, latency in samples from 1, duration)."""
    fields = [(name, object) for name in ("type", "latency", "duration")]
    eeg = {"setname": "a", "nbchan": 1, "pnts": N, "trials": 1, "srate": float(FS), "xmin": 0.0, "xmax": (N - 1) / FS,
           "data": RAMP[None], "chanlocs": np.array([("C4",)], [("labels", object)]),
           "event": np.array(list(events), fields), "icawinv": [], "icaweights": [], "icasphere": [],
           "epoch": []}  # fmt: skip
    savemat(path, {"EEG": eeg}, appendmat=False)
    return path


def with_gaps(*gaps):
    """The ramp with a number of missing samples before some of its samples."""
    return np.insert(RAMP, np.repeat([at for at, _ in gaps], [n for _, n in gaps]), np.nan)


def test_segments_of_brainvision_begin_when_their_times_say(tmp_path):
    times = [",20200102223000000000", ",20200102223100000000", ",20200102224010500000", ",20200103000000000000"]
    path = write_brainvision(tmp_path / "a.vhdr", list(zip([0, 3000, 4000, N], times, strict=True)))
    channel = read_channel(path, "C4")
    np.testing.assert_array_equal(channel.signal, with_gaps((3000, 3000), (4000, 54_050)))
    assert channel.remarks == ("570 s within it were not recorded",)
    assert channel.start_time == "2020-01-02T22:30:00"


def test_a_segment_that_follows_at_once_is_no_pause_though_clocks_differ(tmp_path):
    segments = [(0, ",20200102223000000000"), (3000, ",20200102223029800000")]
    channel = read_channel(write_brainvision(tmp_path / "a.vhdr", segments), "C4")
    np.testing.assert_array_equal(channel.signal, RAMP)
    assert channel.remarks == ()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("", "'New Segment' at 30 s marks a pause, and how long it was is not known. Cut the recording there"),
        (",00000000000000000000", "'New Segment' at 30 s marks a pause"),
        (",20200102223000000000", "the segment at 30 s began at 2020-01-02 22:30:00, but the one before it, which"),
    ],
)
def test_segments_whose_times_do_not_say_how_long_the_pause_was_are_refused(tmp_path, second, message):
    path = write_brainvision(tmp_path / "a.vhdr", [(0, ",20200102223000000000"), (3000, second)])
    with pytest.raises(UserError, match=f"^a.vhdr: {message}"):
        read_channel(path, "C4")


def test_boundaries_of_eeglab_last_as_long_as_they_say_even_beyond_the_end(tmp_path):
    events = [("N2", 1.0, 0.0), ("boundary", 3000.5, 2000.0), ("boundary", 5500.5, 9000.0), ("boundary", 6000.5, 5.0)]
    channel = read_channel(write_eeglab(tmp_path / "a.set", *events), "C4")
    np.testing.assert_array_equal(channel.signal, with_gaps((3000, 2000), (5500, 9000)))
    assert channel.remarks == ("110 s within it were not recorded",)
    first = read_channel(write_eeglab(tmp_path / "b.set", ("boundary", 0.5, 300.0), ("x", 9.0, 0.0)), "C4")
    np.testing.assert_array_equal(first.signal, with_gaps((0, 300)))


@pytest.mark.parametrize("duration", [np.nan, 0.0])
def test_boundaries_of_eeglab_without_a_duration_are_refused(tmp_path, duration):
    path = write_eeglab(tmp_path / "a.set", ("boundary", 3001.0, duration), ("x", 9.0, 0.0))
    with pytest.raises(UserError, match="^a.set: 'boundary' at 30 s marks a pause, and how long it was is not known"):
        read_channel(path, "C4")


def made_raw():
    raw = mne.io.RawArray(RAMP[None] * 1e-6, mne.create_info(["C4"], FS, "eeg"), verbose="ERROR")
    return raw.set_meas_date(dt.datetime(2020, 1, 2, 22, 30, tzinfo=dt.UTC))


def test_recordings_that_were_put_together_are_refused_and_marks_at_their_ends_are_not(tmp_path):
    mne.concatenate_raws([made_raw(), made_raw()], verbose="ERROR").save(tmp_path / "a_raw.fif", verbose="ERROR")
    with pytest.raises(UserError, match="^a_raw.fif: 'BAD boundary' at 60 s marks a pause"):
        read_channel(tmp_path / "a_raw.fif", "C4")
    raw = made_raw()
    raw.set_annotations(mne.Annotations([0, 5], [0, 0], ["BAD boundary", "boundary of tea"], raw.info["meas_date"]))
    raw.save(tmp_path / "b_raw.fif", verbose="ERROR")
    assert len(read_channel(tmp_path / "b_raw.fif", "C4").signal) == N


def test_what_a_fif_says_was_skipped_is_missing_and_told(tmp_path):
    raw = made_raw()
    raw.set_annotations(mne.Annotations([12], [5], ["BAD_ACQ_SKIP"], raw.info["meas_date"]))
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    channel = read_channel(tmp_path / "a_raw.fif", "C4")
    assert np.flatnonzero(np.isnan(channel.signal)).tolist() == list(range(1200, 1700))
    assert "5 s within it were not recorded" in channel.remarks


@pytest.mark.parametrize("text", ["boundary", "EDGE boundary", "New Segment/", "Comment/New Segment/"])
def test_marks_of_pauses_that_a_conversion_to_edf_has_kept_are_refused(tmp_path, text):
    path = write_psg(tmp_path / "a.edf", annotations=[(100.0, 0.0, text), (120.0, 30.0, "Sleep stage W")])
    with pytest.raises(UserError, match=f"^a.edf: '{text}' at 100 s marks a pause"):
        read_channel(path, "EEG Fpz-Cz")


def test_sample_times_of_persyst_that_leave_a_pause_are_refused(tmp_path):
    np.zeros(N, "<i2").tofile(tmp_path / "a.dat")
    lay = ("[FileInfo]\nFile=a.dat\nFileType=Interleaved\nSamplingRate=100\nHeaderLength=0\nCalibration=1.0\n"
           "WaveformCount=1\nDataType=0\n[ChannelMap]\nC4-Ref=1\n[Patient]\nTestDate=01/02/2020\nTestTime=22:30:00\n"
           "BirthDate=01/02/1980\nHand=\nSex=\nFirst=\nLast=\nID=\n"
           "[SampleTimes]\n0=81000.0\n3000=%s\n[Comments]\n0.0,0.0,0,100,a\n")  # fmt: skip
    (tmp_path / "a.lay").write_text(lay % "81030.1")
    assert len(read_channel(tmp_path / "a.lay", "C4").signal) == N
    (tmp_path / "a.lay").write_text(lay % "81100.0")
    with pytest.raises(UserError, match="^a.lay: 'SampleTimes' at 30 s marks a pause"):
        read_channel(tmp_path / "a.lay", "C4")


def test_a_pause_that_no_memory_could_hold_is_refused(tmp_path):
    segments = [(0, ",20200102223000000000"), (3000, ",99990102223100000000")]
    with pytest.raises(UserError, match=r"^a.vhdr: pauses of 2.52e\+13 samples; at most 100000000 are read"):
        read_channel(write_brainvision(tmp_path / "a.vhdr", segments), "C4")


def test_a_data_set_of_eeglab_without_events_has_no_pauses(tmp_path):
    np.testing.assert_array_equal(read_channel(write_eeglab(tmp_path / "a.set"), "C4").signal, RAMP)


@pytest.mark.parametrize("mark", ["Boundary", -99.0, "-99"])
def test_boundaries_of_eeglab_are_known_in_other_spellings(tmp_path, mark):
    channel = read_channel(write_eeglab(tmp_path / "a.set", (mark, 3000.5, 2000.0), ("x", 9.0, 0.0)), "C4")
    np.testing.assert_array_equal(channel.signal, with_gaps((3000, 2000)))


def test_markers_of_brainvision_may_have_spaces_and_lost_samples_are_refused(tmp_path):
    times = [",20200102223000000000", ",20200102223100000000"]
    path = write_brainvision(tmp_path / "a.vhdr", list(zip([0, 3000], times, strict=True)))
    markers = path.with_suffix(".vmrk")
    text = markers.read_text()
    markers.write_text(text.replace("Mk2=New Segment,,3001", "Mk2= New Segment, ,3001"))
    np.testing.assert_array_equal(read_channel(path, "C4").signal, with_gaps((3000, 3000)))
    markers.write_text(
        text.replace("Mk2=New Segment,,3001,1,0,20200102223100000000", "Mk2=Comment,LostSamples: 30,3001,1,0")
    )
    with pytest.raises(UserError, match="a.vmrk says 'LostSamples: 30', and what is missing there cannot be placed"):
        read_channel(path, "C4")
