import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from utils.errors import UserError
from utils.recording import Recording, open_signal, read_outline, write_recording

N, N_SAMPLES = 4, 300


class Payload:
    """Pickled; makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def signal():
    return np.random.default_rng(0).normal(0, 30, (N, N_SAMPLES)).astype(np.float32)


@pytest.fixture
def foreign(tmp_path, signal):
    """Write an npz as other toolkits do, members changed or, where None, left out; return its path."""

    def write(**changes):
        members = {"x": signal[:, :, None], "y": np.array([0, 1, 2, 4]), "fs": 10} | changes
        np.savez(tmp_path / "n1.npz", **{name: value for name, value in members.items() if value is not None})
        return tmp_path / "n1.npz"

    return write


def test_a_recording_comes_back_as_it_was_written(tmp_path, signal):
    path = tmp_path / "deep" / "SC4001E0.npz"
    stages = np.array([0, 2, 3, 4])
    recording = Recording(
        signal, stages, 100.0, "EEG Fpz-Cz", np.array([60, 61, 63, 64]), "1989-04-24T16:13:00", "a.edf"
    )
    write_recording(path, recording)
    outline = read_outline(path)
    assert outline.name == "SC4001E0"
    assert outline.stages.tolist() == [0, 2, 3, 4]
    assert outline.stages.dtype == np.int64
    assert outline.sleep_epoch.tolist() == [60, 61, 63, 64]
    assert (outline.n_samples, outline.fs, outline.channel) == (N_SAMPLES, 100.0, "EEG Fpz-Cz")
    np.testing.assert_array_equal(open_signal(outline), signal)


def test_the_file_has_the_members_that_other_toolkits_read_and_no_pickles(tmp_path, signal):
    path = tmp_path / "n1.npz"
    write_recording(path, Recording(signal, np.array([0, 1, 2, 3]), 100, "EEG", np.arange(N), "1989-04-24", "a.edf"))
    with np.load(path, allow_pickle=False) as npz:
        members = {name: npz[name] for name in npz}
    assert (members["x"].dtype, members["x"].shape) == (np.float32, (N, N_SAMPLES, 1))
    assert (members["y"].dtype, members["y"].shape) == (np.int32, (N,))
    assert members["fs"] == 100
    assert str(members["ch_label"]) == "EEG"
    assert members["sleep_epoch"].tolist() == [0, 1, 2, 3]
    assert (str(members["start_time"]), str(members["source_file"])) == ("1989-04-24", "a.edf")


def test_writing_replaces_in_one_move_and_leaves_nothing_else(tmp_path, signal):
    for channel in ("first", "second"):
        write_recording(tmp_path / "n1.npz", Recording(signal, np.zeros(N), 100, channel, np.arange(N)))
    assert [path.name for path in tmp_path.iterdir()] == ["n1.npz"]
    assert read_outline(tmp_path / "n1.npz").channel == "second"


LAYOUTS = {
    "(n, n_samples, 1)": lambda x: x[:, :, None],
    "(n, n_samples)": lambda x: x,
    "(n, 1, n_samples)": lambda x: x[:, None],
    "double": lambda x: x.astype(np.float64),
    "big endian": lambda x: x.astype(">f4"),
    "Fortran order": np.asfortranarray,
    "Fortran order of three axes": lambda x: np.asfortranarray(x[:, :, None]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_signal_is_understood(foreign, signal, layout):
    outline = read_outline(foreign(x=LAYOUTS[layout](signal)))
    assert outline.n_samples == N_SAMPLES
    found = open_signal(outline)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, signal)


def test_whole_numbers_and_compressed_files_are_understood(foreign, signal):
    path = foreign(x=np.round(signal).astype(np.int16))
    np.testing.assert_array_equal(open_signal(read_outline(path)), np.round(signal))
    np.savez_compressed(path, x=signal, y=np.zeros(N), fs=10)
    np.testing.assert_array_equal(open_signal(read_outline(path)), signal)


def test_a_single_sleep_epoch_is_understood(foreign, signal):
    outline = read_outline(foreign(x=signal[:1, :, None], y=np.array([3])))
    np.testing.assert_array_equal(open_signal(outline), signal[:1])


@pytest.mark.parametrize("fs", [100, 100.0, np.array(100), np.array([100.0]), np.array([[100]]), np.float32(100)])
def test_the_rate_may_be_a_number_or_an_array(foreign, fs):
    assert read_outline(foreign(fs=fs)).fs == 100


@pytest.mark.parametrize("y", [[0.0, 1.0, 2.0, 4.0], [[0], [1], [2], [4]], np.array([0, 1, 2, 4], np.uint8)])
def test_stages_may_be_written_as_floats_or_in_a_column(foreign, y):
    stages = read_outline(foreign(y=np.array(y))).stages
    assert stages.tolist() == [0, 1, 2, 4]
    assert stages.dtype == np.int64


def test_what_is_not_there_has_a_default(foreign):
    outline = read_outline(foreign())
    assert outline.channel == ""
    assert outline.sleep_epoch.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("label", [np.array("EEG"), np.array(["EEG"])])
def test_the_channel_may_be_a_text_or_an_array_of_one(foreign, label):
    assert read_outline(foreign(ch_label=label)).channel == "EEG"


def test_pickled_members_of_other_toolkits_are_never_unpickled(foreign, signal, tmp_path):
    victim = tmp_path / "victim"
    path = foreign(header_raw=np.array([Payload(victim), None], object))
    np.testing.assert_array_equal(open_signal(read_outline(path)), signal)
    assert not victim.exists()


@pytest.mark.parametrize("member", ["x", "y", "fs", "ch_label", "sleep_epoch"])
def test_a_pickled_member_that_is_needed_is_refused_and_not_unpickled(foreign, tmp_path, member):
    victim = tmp_path / "victim"
    path = foreign(**{member: np.array([Payload(victim)] * N, object)})
    with pytest.raises(UserError, match="^n1.npz: "):
        read_outline(path)
    assert not victim.exists()


@pytest.mark.parametrize("missing", ["x", "y", "fs"])
def test_a_member_that_is_missing_is_named(foreign, missing):
    with pytest.raises(UserError, match=rf"^n1.npz: no {missing} in it; it has (x|y)"):
        read_outline(foreign(**{missing: None}))


@pytest.mark.parametrize(
    ("shape", "dtype", "text"),
    [
        ((N * N_SAMPLES,), np.float32, rf"float32 of shape \({N * N_SAMPLES},\)"),
        ((N, N_SAMPLES, 2), np.float32, rf"float32 of shape \({N}, {N_SAMPLES}, 2\)"),
        ((N, N_SAMPLES, 1, 1), np.float32, "float32 of shape"),
        ((N, 1, 1), np.float32, "float32 of shape"),
        ((), np.float32, "float32 of shape"),
        ((N, N_SAMPLES), np.complex64, "complex64 of shape"),
        ((N, N_SAMPLES), bool, "bool of shape"),
        ((N, N_SAMPLES), "U3", "<U3 of shape"),
    ],
)
def test_a_signal_of_another_shape_or_kind_is_refused(foreign, shape, dtype, text):
    with pytest.raises(
        UserError, match=rf"^n1.npz: x is {text}.*not numbers of shape \(n_sleep_epochs, n_samples, 1\)"
    ):
        read_outline(foreign(x=np.zeros(shape, dtype)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"y": np.array([0, 1, 2])}, r"4 sleep epochs of signal \(x\) but 3 stages \(y\)"),
        ({"y": np.eye(4, 5)}, r"4 sleep epochs of signal \(x\) but 20 stages \(y\)"),
        ({"y": np.array([0, 0.5, 1, 2])}, "stages that are not whole numbers"),
        ({"y": np.array([0, np.nan, 1, 2])}, "stages that are not whole numbers"),
        ({"y": np.array([0, np.inf, 1, 2])}, "stages that are not whole numbers"),
        ({"y": np.array(["W", "N1", "N2", "R"])}, "not a readable npz file"),
        ({"sleep_epoch": np.arange(3)}, r"3 positions \(sleep_epoch\) but 4 stages \(y\)"),
        ({"sleep_epoch": np.array(3)}, "not a readable npz file"),
        ({"fs": 0}, "fs is 0, which is no sampling rate"),
        ({"fs": -100}, "fs is -100, which is no sampling rate"),
        ({"fs": np.nan}, "fs is nan, which is no sampling rate"),
        ({"fs": np.inf}, "fs is inf, which is no sampling rate"),
        ({"fs": np.array([])}, "not a readable npz file"),
        ({"fs": np.array("fast")}, "not a readable npz file"),
    ],
)
def test_members_that_do_not_fit_are_refused(foreign, changes, text):
    with pytest.raises(UserError, match=f"^n1.npz: .*{text}"):
        read_outline(foreign(**changes))


def test_values_beyond_single_precision_become_infinite_without_a_warning(foreign):
    assert np.isinf(open_signal(read_outline(foreign(x=np.full((N, N_SAMPLES), 1e300))))).all()


def npy():
    content = io.BytesIO()
    np.save(content, np.zeros((N, N_SAMPLES)))
    return content.getvalue()


def other_zip():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "no arrays here")
    return content.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"a text", npy(), other_zip()], ids=["empty", "short", "text", "npy", "zip"]
)
def test_what_is_no_npz_is_refused_by_name(tmp_path, content):
    (tmp_path / "n1.npz").write_bytes(content)
    with pytest.raises(UserError, match="^n1.npz: "):
        read_outline(tmp_path / "n1.npz")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="^n1.npz: not a readable npz file .*No such file"):
        read_outline(tmp_path / "n1.npz")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_refused_by_name(foreign, share):
    path = foreign()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="^n1.npz: not a readable npz file"):
        read_outline(path)


def test_a_damaged_file_is_refused_by_name_or_gives_what_was_written(foreign, signal):
    """Every third byte around the values is turned over, one at a time, and nothing but a UserError comes out."""
    path = foreign()
    content = path.read_bytes()
    begin = content.find(signal.tobytes())
    refused = 0
    for position in (*range(0, begin, 3), *range(begin + signal.nbytes, len(content), 3)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            outline = read_outline(path)
            found = open_signal(outline)
        except UserError as error:
            assert str(error).startswith("n1.npz: ")  # noqa: PT017 (most positions raise, some do not)
            refused += 1
        else:
            assert outline.stages.tolist() == [0, 1, 2, 4]
            np.testing.assert_array_equal(found, signal)
    assert refused > 100


def test_the_checksum_tells_recordings_with_other_signals_or_stages_apart(foreign, signal):
    checksums = {
        read_outline(foreign(**changes)).checksum
        for changes in ({}, {"x": signal + 1}, {"y": np.array([0, 1, 2, 3])}, {"fs": 20}, {"header": np.array("a")})
    }
    assert len(checksums) == 4
    night = {"sleep_epoch": np.arange(4), "ch_label": np.array("C4")}
    further = (night, night | {"sleep_epoch": np.array([0, 1, 2, 9])}, night | {"ch_label": np.array("C3")})
    assert len(checksums | {read_outline(foreign(**changes)).checksum for changes in further}) == 7
