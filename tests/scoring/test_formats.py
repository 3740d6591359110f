"""What `read_by_others.py` has learnt from YASA, sleep-utils, Luna, MNE and the BIDS validator."""

import csv
import datetime as dt

import edfio
import numpy as np
import pytest

from recordings.hypnograms import load_hypnogram
from scoring.formats import FORMATS, write_csv, write_edf, write_format

STAGES = np.array([-1, 0, 1, 2, 3, 4, 4, 4, -1, 0, 0, 2])
START = dt.datetime(2020, 1, 2, 23, 58, 30)
EXPECTED = {
    "lines": "-1\n0\n1\n2\n3\n4\n4\n4\n-1\n0\n0\n2\n",
    "bids": "onset\tduration\ttrial_type\n0\t30\tn/a\n30\t30\tW\n60\t30\tN1\n90\t30\tN2\n120\t30\tN3\n150\t30\tREM\n",
    "luna": "class\tinstance\tchannel\tstart\tstop\tmeta\n?\t.\t.\t0\t30\t.\nW\t.\t.\t30\t60\t.\nN1\t.\t.\t60\t90\t.\n"
    "N2\t.\t.\t90\t120\t.\nN3\t.\t.\t120\t150\t.\nR\t.\t.\t150\t180\t.\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_the_names_of_stages_that_its_programs_want(tmp_path, name):
    path = tmp_path / f"night{FORMATS[name]}"
    write_format(path, name, STAGES)
    assert path.read_text().startswith(EXPECTED[name])
    assert path.read_text().count("\n") == len(STAGES) + (name != "lines")


def table(path, start=START):
    probabilities = np.full((len(STAGES), 5), 0.2, np.float32)
    write_csv(path, STAGES, probabilities, start)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_clock_times_are_the_last_column_of_the_table_and_pass_midnight(tmp_path):
    rows = table(tmp_path / "a.csv")
    assert list(rows[0])[-2:] == ["confidence", "clock_time"]
    assert [row["clock_time"] for row in rows[:4]] == ["23:58:30", "23:59:00", "23:59:30", "00:00:00"]
    assert {row["clock_time"] for row in table(tmp_path / "b.csv", None)} == {""}
    assert table(tmp_path / "c.csv", START.replace(tzinfo=dt.UTC))[3]["clock_time"] == "00:00:00+00:00"


@pytest.mark.parametrize("begin_s", [0, 12.5])
def test_the_edf_of_a_recording_that_was_cut_starts_with_the_recording(tmp_path, begin_s):
    start = START + dt.timedelta(seconds=int(begin_s))
    write_edf(tmp_path / "a.edf", STAGES, start, begin_s)
    edf = edfio.read_edf(tmp_path / "a.edf")
    assert (edf.starttime, edf.annotations[0].onset) == (START.time(), begin_s)
    hypnogram = load_hypnogram(tmp_path / "a.edf", len(STAGES), START.isoformat(), has_rest=True)
    assert hypnogram.begin_s == begin_s
    np.testing.assert_array_equal(hypnogram.stages(len(STAGES), begin_s), STAGES)


@pytest.mark.parametrize("start", [START, None, START.replace(tzinfo=dt.UTC)])
@pytest.mark.parametrize("kind", [*FORMATS, "csv", "edf"])
def test_our_own_reader_reads_every_form_back(tmp_path, kind, start):
    path = tmp_path / {"csv": "a.csv", "edf": "a-Hypnogram.edf"}.get(kind, f"a{FORMATS.get(kind)}")
    if kind == "csv":
        table(path, start)
    elif kind == "edf":
        write_edf(path, STAGES, start)
    else:
        write_format(path, kind, STAGES)
    start_time = start.isoformat() if start else ""
    # Codes alone can be those of Rechtschaffen & Kales as well, in which 4 is N3.
    codes = {str(stage): stage for stage in range(-1, 5)} if kind == "lines" else None
    hypnogram = load_hypnogram(path, len(STAGES), start_time, codes)
    np.testing.assert_array_equal(hypnogram.stages(len(STAGES), 0), STAGES)
