import subprocess
import sys
from pathlib import Path

import pytest

from utils.files import replacing, write_text

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_and_its_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "äé")
    assert path.read_text(encoding="utf-8") == "äé"
    assert [file.name for file in path.parent.iterdir()] == ["c.txt"]


def test_until_the_block_ends_the_old_file_is_there(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
        assert temporary.suffix == path.suffix
    assert path.read_text() == "new"
    assert not temporary.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "c.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["c.txt"]


def test_what_a_killed_run_left_is_taken_over(tmp_path):
    path = tmp_path / "c.txt"
    with replacing(path) as temporary:
        temporary.write_text("first")
    temporary.write_text("left behind, and longer")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["c.txt"]


WRITE = """
import sys
from pathlib import Path
from utils.files import write_text

for n in range(50):
    write_text(Path(sys.argv[1]), sys.argv[2] * (200_000 - 1000 * (n % 7)))
"""


def test_processes_that_write_one_file_at_once_take_turns(tmp_path):
    path = tmp_path / "c.txt"
    write_text(path, "a")
    running = [
        subprocess.Popen([sys.executable, "-c", WRITE, path, letter], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for letter in "abc"
    ]
    seen = set()
    while any(process.poll() is None for process in running):
        text = path.read_text()
        assert text == text[0] * len(text)
        assert len(text) == 1 or len(text) in range(194_000, 200_001, 1000)
        seen.add(text[0])
    assert [process.communicate()[1] for process in running] == ["", "", ""]
    assert seen == set("abc")
    assert [file.name for file in tmp_path.iterdir()] == ["c.txt"]
