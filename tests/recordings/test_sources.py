import zlib
from pathlib import Path

import pytest

from recordings.sources import fingerprint
from utils.errors import UserError


def test_a_file_has_its_name_size_and_crc_32(tmp_path):
    content = bytes(range(256)) * 5000  # read in two pieces
    (tmp_path / "a.edf").write_bytes(content)
    assert fingerprint(tmp_path / "a.edf") == {
        "name": "a.edf", "bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"
    }  # fmt: skip


@pytest.mark.parametrize("names", [("a.vhdr", "a.eeg"), ("a.set", "a.fdt"), ("a.mff/info.xml", "a.mff/signal1.bin")])
def test_all_files_of_a_recording_count(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    recording = tmp_path / names[0].split("/")[0]
    before = fingerprint(recording)
    (tmp_path / names[1]).write_text("behind")
    assert fingerprint(recording) == before | {"crc32": fingerprint(recording)["crc32"]}
    assert fingerprint(recording) != before


def test_what_might_never_end_is_not_read():
    with pytest.raises(UserError, match="zero: a folder, pipe or device, not a file"):
        fingerprint(Path("/dev/zero"))
