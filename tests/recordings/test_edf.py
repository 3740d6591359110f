import datetime as dt
import tracemalloc

import mne
import numpy as np
import pytest
from edf_writer import (
    DIGITAL_RANGE,
    DURATION_FIELD,
    HEADER_BYTES_FIELD,
    N_RECORDS_FIELD,
    N_SIGNALS_FIELD,
    PHYSICAL_RANGE,
    RESERVED_FIELD,
    SHARED,
    START,
    START_FIELD,
    cut,
    edit,
    eeg_digits,
    microvolts,
    write_annotations,
    write_hypnogram,
    write_psg,
)
from edfio import Edf, EdfAnnotation, EdfSignal

from recordings import reader
from recordings.edf import read_annotations, read_channel
from recordings.edf_header import read_header
from utils.errors import UserError


@pytest.fixture
def psg(tmp_path):
    return write_psg(tmp_path / "SC4001E0-PSG.edf")


def of_all_channels(path, label):
    """The channel as the released preparation read it: with all others, by way of a table."""
    raw = mne.io.read_raw_edf(path, preload=True, stim_channel=None, verbose="ERROR")
    return raw.to_data_frame(verbose="ERROR")[label].to_numpy().astype(np.float32)


def test_the_header_says_what_was_written(psg):
    header = read_header(psg)
    assert (header.start, header.n_records, header.record_s) == (START, 10, 30)
    assert header.start_time == "1989-04-24T16:13:00"
    assert [signal.label for signal in header.signals] == ["EEG Fpz-Cz", "EEG Pz-Oz", "Resp oro-nasal"]
    assert header.fs("EEG Pz-Oz") == 100


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("31.12.8523.59.59", dt.datetime(1985, 12, 31, 23, 59, 59)),
        ("01.02.8400.00.00", dt.datetime(2084, 2, 1)),
        ("04-03-2022:30:00", dt.datetime(2020, 3, 4, 22, 30)),
        ("4.3.20  9:05:07 ", dt.datetime(2020, 3, 4, 9, 5, 7)),
        ("00.00.0022.30.00", START.replace(hour=22, minute=30)),  # the date of EDF+
        ("31.02.9900.00.00", START.replace(hour=0, minute=0)),
        ("01.01.8524.00.00", None),
        ("01.01.2010:30 PM", None),
    ],
)
def test_dates_and_times_that_are_legible_are_read_with_the_years_of_edf(psg, text, start):
    edit(psg, START_FIELD, text)
    assert read_header(psg).start == start


def test_a_time_without_a_date_is_read(psg):
    edit(psg, 88, "".ljust(80))
    edit(psg, START_FIELD, "00.00.0022.30.00")
    assert read_header(psg).start == dt.datetime(1985, 1, 1, 22, 30)


def test_bytes_after_the_nul_of_a_label_or_a_unit_are_no_part_of_it(psg):
    edit(psg, 256, "EEG Fpz-Cz\0\0x\0\0\0")
    edit(psg, 256 + 3 * 96, "uV\0\0\0\0\0\0")
    np.testing.assert_array_equal(read_channel(read_header(psg), "EEG Fpz-Cz"), microvolts(eeg_digits(30000)))


@pytest.mark.parametrize("broken", ["?", "", "\0\0", "1e99"])
def test_broken_fields_of_another_channel_do_not_matter(psg, broken):
    """All fields of the second of three signals but its label, one after the other and all together."""
    begin = 256 + 3 * 16
    for width in (80, 8, 8, 8, 8, 8, 80, 8, 32):
        edit(psg, begin + width, broken.ljust(width))
        np.testing.assert_array_equal(read_channel(read_header(psg), "EEG Fpz-Cz"), microvolts(eeg_digits(30000)))
        begin += 3 * width
    assert read_header(psg).fs("EEG Pz-Oz") == 100


@pytest.mark.parametrize(("label", "seed"), [("EEG Fpz-Cz", 0), ("EEG Pz-Oz", 1)])
def test_a_channel_is_in_microvolts_and_to_the_bit_as_released(psg, label, seed):
    signal = read_channel(read_header(psg), label)
    assert signal.dtype == np.float32
    np.testing.assert_array_equal(signal, microvolts(eeg_digits(30000, seed)))
    np.testing.assert_array_equal(signal, of_all_channels(psg, label))


@pytest.mark.parametrize(("dimension", "factor"), [("mV", 1e3), ("V", 1e6), ("nV", 1e-3), ("µV", 1)])
def test_every_voltage_becomes_microvolts(tmp_path, dimension, factor):
    path = write_psg(tmp_path / "a.edf", dimension="uV".ljust(8))
    field = 256 + 3 * 96
    for encoding in ("latin-1", "utf-8"):
        edit(path, field, dimension.encode(encoding).decode("latin-1").ljust(8))
        signal = read_channel(read_header(path), "EEG Fpz-Cz")
        np.testing.assert_allclose(signal, microvolts(eeg_digits(30000)) * factor, rtol=1e-6)


def test_only_the_wanted_channel_is_held_in_memory(tmp_path):
    n = 4 * 3600 * 100
    path = write_psg(tmp_path / "a.edf", labels=[f"EEG {i}" for i in range(7)], seconds=n // 100)
    header = read_header(path)
    tracemalloc.start()
    read_channel(header, "EEG 3")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (8 + 4) * n + 1e6, "one channel in float64 and float32"


def replace_by(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (replace_by(b""), "the file is empty"),
        (replace_by(b"<!DOCTYPE html>" + b" " * 300), r"not an EDF file \(it begins with '<!DOCTYP'\)"),
        (replace_by(b"\xffBIOSEMI" + b" " * 300), "not an EDF file"),
        (replace_by(b"\0" * 1000), "not an EDF file"),
        (replace_by(b"0       X"), "cut off within its header"),
        (lambda path: cut(path, path.stat().st_size - 700), r"cut off within its header \(700 of 1024 bytes\)"),
        (lambda path: cut(path, 1000), "cut off: its header promises 10 data records"),
        (lambda path: cut(path, 3 * 2 * 6030 + 1), "cut off: its header promises 10 data records"),
        (lambda path: cut(path, 2 * 6030), "promises 10 data records of 12060 bytes, 120600 bytes in all, but"),
        (lambda path: edit(path, N_RECORDS_FIELD, "11  "), "cut off: its header promises 11 data records"),
        (lambda path: edit(path, N_RECORDS_FIELD, "99999999"), "promises 99999999 data records"),
        (lambda path: edit(path, N_RECORDS_FIELD, "9 "), "too long: its header promises 9 data records of 12060 bytes"),
        (lambda path: edit(path, N_RECORDS_FIELD, "0 "), "no data records"),
        (lambda path: edit(path, N_RECORDS_FIELD, "-1"), "-1 data records: it was never closed"),
        (lambda path: edit(path, N_RECORDS_FIELD, "-7"), "number of data records in its header is '-7'"),
        (lambda path: edit(path, N_RECORDS_FIELD, "1e1"), "number of data records in its header is '1e1'"),
        (lambda path: edit(path, N_SIGNALS_FIELD, "9999"), r"cut off within its header \(.* of 2560000 bytes\)"),
        (lambda path: edit(path, N_SIGNALS_FIELD, "-3  "), "number of signals in its header is '-3'"),
        (lambda path: edit(path, N_SIGNALS_FIELD, "2   "), "a header of 1024 bytes, not 768"),
        (lambda path: edit(path, HEADER_BYTES_FIELD, "99999999"), "a header of 99999999 bytes"),
        (lambda path: edit(path, DURATION_FIELD, "-30"), "data records of '-30' s"),
        (lambda path: edit(path, DURATION_FIELD, "nan"), "data records of 'nan' s"),
        (lambda path: edit(path, 256 + 3 * 216, "99999999"), "cut off: its header promises 10 data records"),
        (
            lambda path: edit(path, 256 + 3 * 216, "3_000   3000.0"),
            "samples per record of 'EEG Fpz-Cz' in its header is '3_0",
        ),
        (
            lambda path: (edit(path, 256 + 3 * 216, "3_000"), cut(path, 6)),
            "samples per record of 'EEG Fpz-Cz' in its header is '3_0",
        ),
    ],
)
def test_a_file_that_is_not_what_its_header_says_is_refused(psg, damage, message):
    damage(psg)
    with pytest.raises(UserError, match=f"^SC4001E0-PSG.edf: .*{message}"):
        read_header(psg)


@pytest.mark.parametrize(
    ("begin", "text", "message"),
    [
        (256 + 3 * 96, "DegC", "'EEG Fpz-Cz' is in 'DegC', which is no voltage"),
        (256 + 3 * 96, "  ", "is in '', which is no voltage"),
        (DURATION_FIELD, "0 ", "3000 samples in data records of 0 s"),
        (256 + 3 * 104, "192  ", "physical range from 192 to 192"),
        (256 + 3 * 104, "x     ", "physical range from nan to 192"),
        (256 + 3 * 120, "2047 ", "digital range from 2047 to 2047"),
        (256 + 3 * 120, "4000 ", "digital range from 4000 to 2047"),
    ],
)
def test_a_channel_that_cannot_become_microvolts_is_refused(psg, begin, text, message):
    edit(psg, begin, text)
    with pytest.raises(UserError, match=f"^SC4001E0-PSG.edf: .*{message}"):
        read_channel(read_header(psg), "EEG Fpz-Cz")


def test_a_header_with_odd_dates_and_filters_is_still_read(psg):
    edit(psg, START_FIELD, "xx.yy.zzaa.bb.cc")
    edit(psg, 8, "X F X X a=b=c")
    edit(psg, 88, "".ljust(80))
    edit(psg, 256 + 3 * 136, "HP:99Hz LP:1Hz")
    header = read_header(psg)
    assert (header.start, header.start_time) == (None, "")
    np.testing.assert_array_equal(read_channel(header, "EEG Fpz-Cz"), microvolts(eeg_digits(30000)))


def test_annotations_come_back_as_written(tmp_path):
    written = [(0.0, 30.0, "Sleep stage W"), (30.0, 2430.0, "Sleep stage ?")]
    assert read_annotations(write_annotations(tmp_path / "a.edf", written)) == written


def test_a_file_without_annotations_is_refused(psg):
    with pytest.raises(UserError, match="SC4001E0-PSG.edf: no annotations in it"):
        read_annotations(psg)


@pytest.mark.parametrize(
    ("garbled", "by"),
    [("+60\x15", "*60\x15"), ("+60\x15", "+6x\x15"), ("\x1530.5\x14", "\x153z.5\x14"), ("N2\x14", "N2\x13")],
)
@pytest.mark.parametrize("write", [write_annotations, lambda path, written: write_psg(path, annotations=written)])
def test_an_annotation_that_is_garbled_is_refused_and_not_passed_over(tmp_path, write, garbled, by):
    path = write(tmp_path / "a.edf", [(0, 60, "W"), (60, 30.5, "N2"), (90, 30, "W")])
    content = path.read_bytes()
    assert content.count(garbled.encode()) == 1
    path.write_bytes(content.replace(garbled.encode(), by.encode()))
    with pytest.raises(UserError, match=r"a\.edf: cannot be read as an annotation: b'"):
        read_annotations(path)


def test_annotations_before_the_start_after_the_end_and_in_gaps_are_read(tmp_path):
    written = [(-5.0, 0.0, "Lights off"), (15.0, 30.0, "N1"), (450.0, 30.0, "N2")]
    path = write_psg(tmp_path / "a.edf", annotations=written)
    assert read_annotations(path) == written
    edit(path, RESERVED_FIELD, "EDF+D")
    path.write_bytes(path.read_bytes().replace(b"+270\x14\x14", b"+500\x14\x14"))
    assert read_annotations(path) == written


def test_a_file_that_calls_itself_continuous_and_has_a_pause_between_its_records_has_a_gap(tmp_path):
    path = write_psg(tmp_path / "a.edf", annotations=[(0.0, 30.0, "W")])
    whole = reader.read_channel(path, "EEG Fpz-Cz")
    for record in range(5, 10):
        path.write_bytes(
            path.read_bytes().replace(f"+{30 * record}\x14\x14".encode(), f"+{30 * record + 300}\x14\x14".encode())
        )
    channel = reader.read_channel(path, "EEG Fpz-Cz")
    assert len(channel.signal) == len(whole.signal) + 30_000
    assert np.isnan(channel.signal[15_000:45_000]).all()
    assert "300 s between its data records were not recorded" in channel.remarks


def test_annotations_are_counted_from_the_first_sample_where_the_recording_starts_within_a_second(tmp_path):
    path = write_psg(tmp_path / "a.edf", start=START.replace(microsecond=250_000), annotations=[(30.0, 30.0, "N1")])
    assert b"+30.25\x15" in path.read_bytes()
    assert read_annotations(path) == [(30.0, 30.0, "N1")]


def test_a_channel_that_an_annotation_names_is_not_part_of_its_text(tmp_path):
    written = [(0.0, 30.0, "N1@@EEG Fpz-Cz"), (30.0, 30.0, "N2@@home")]
    texts = [text for _, _, text in read_annotations(write_psg(tmp_path / "a.edf", annotations=written))]
    assert texts == ["N1", "N2@@home"]


def test_annotations_that_are_no_utf8_are_latin_1(tmp_path):
    path = write_hypnogram(tmp_path / "a.edf", [("Sleep stage W", 1)])
    path.write_bytes(path.read_bytes().replace(b"stage W", b"stage \xff"))
    assert read_annotations(path) == [(0, 30, "Sleep stage \xff")]


def write_edf_plus(path, texts=("a",)):
    signal = EdfSignal.from_digital(
        eeg_digits(1000),
        sampling_frequency=100,
        label="EEG",
        physical_dimension="uV",
        physical_range=PHYSICAL_RANGE,
        digital_range=DIGITAL_RANGE,
    )
    annotations = [EdfAnnotation(i, None, text) for i, text in enumerate(texts)]
    Edf([signal], annotations=annotations, data_record_duration=1).write(path)
    return path


def test_annotations_beside_the_signal_do_not_disturb_it(tmp_path):
    path = write_edf_plus(tmp_path / "a.edf", texts=["a", "b" * 50])
    path.write_bytes(path.read_bytes().replace(b"bb", b"\xff\xfe"))
    np.testing.assert_array_equal(read_channel(read_header(path), "EEG"), microvolts(eeg_digits(1000)))


def test_edf_plus_d_is_read_if_it_has_no_gap_and_refused_if_it_has(tmp_path):
    path = write_edf_plus(tmp_path / "a.edf")
    edit(path, RESERVED_FIELD, "EDF+D")
    assert len(read_channel(read_header(path), "EEG")) == 1000
    path.write_bytes(path.read_bytes().replace(b"+7\x14\x14", b"+8\x14\x14"))
    with pytest.raises(UserError, match=r"a.edf: a gap before data record 8 of 10"):
        read_channel(read_header(path), "EEG")


real_file = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs the files in ../shared/data")


@real_file
def test_the_real_sleep_edf_file_is_read_as_released():
    path = SHARED / "data/sleep_edf/SC4001E0-first-300s-PSG.edf"
    header = read_header(path)
    assert (header.start, header.n_records) == (START, 10)
    for label in ("EEG Fpz-Cz", "EEG Pz-Oz"):
        np.testing.assert_array_equal(read_channel(header, label), of_all_channels(path, label))


@real_file
def test_odd_real_files_are_read_or_refused_by_name():
    cases = SHARED / "data/edf_cases"
    with pytest.raises(UserError, match="zero-data-records.edf: no data records"):
        read_header(cases / "zero-data-records.edf")
    with pytest.raises(UserError, match=r"edfPlusD.edf: a gap before data record 2 of 11"):
        read_channel(read_header(cases / "edfPlusD.edf"), "ECG")
    assert len(read_channel(read_header(cases / "test_utf8.edf"), "Fp1")) == 698 * 128
