import os

import pytest

from utils import checked
from utils.checked import FILE, mark, read_marks, write_marks


@pytest.fixture
def settled(monkeypatch):
    """Let files count as settled from the first moment."""
    monkeypatch.setattr(checked, "YOUNG_S", 0.0)


def test_marks_come_back_as_they_were_written(tmp_path):
    marks = {"a.npz": ["00ff-12ab", 7, 10**18 + 1, 10**18 + 2, 5], "ä.npz": ["", 0, 1, 2, 3]}
    assert read_marks(tmp_path, "sums") == {}
    write_marks(tmp_path, "sums", marks)
    assert read_marks(tmp_path, "sums") == marks
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_marks_of_another_check_are_none(tmp_path):
    write_marks(tmp_path, "sums", {"a": ["", 1, 2, 3, 4]})
    assert read_marks(tmp_path, "sums and more") == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"check": "a"}', b'{"check": "a", "passed": [1]}', b"\xff", b"[" * 9999],
)
def test_marks_that_cannot_be_read_are_none(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    assert read_marks(tmp_path, "a") == {}


def same_size(path):
    path.write_bytes(b"three")


def same_size_and_time(path):
    before = path.stat()
    path.write_bytes(b"three")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def another_file_of_that_size_and_time(path):
    other = path.with_name("other")
    other.write_bytes(b"three")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [same_size, same_size_and_time, another_file_of_that_size_and_time])
def test_a_file_that_changed_has_another_mark(tmp_path, settled, change):
    path = tmp_path / "a"
    path.write_bytes(b"seven")
    before = mark(path, "1")
    assert mark(path, "1") == before
    assert mark(path, "2") != before
    change(path)
    assert mark(path, "1") != before


def test_a_file_that_changed_just_now_gets_no_mark(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"seven")
    os.utime(path, (0, 0))  # which also is a change
    assert mark(path, "1") is None


def test_where_nothing_may_be_written_the_marks_are_in_the_users_cache(tmp_path, monkeypatch):
    folder = tmp_path / "npz"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (folder, os.W_OK))
    write_marks(folder, "sums", {"a": ["", 1, 2, 3, 4]})
    assert read_marks(folder, "sums") == {"a": ["", 1, 2, 3, 4]}
    assert read_marks(tmp_path, "sums") == {}
    assert list(folder.iterdir()) == []
    assert len(list((tmp_path / "cache" / "attnsleep").iterdir())) == 1


def test_marks_that_cannot_be_written_are_no_trouble(tmp_path):
    (tmp_path / FILE / "in the way").mkdir(parents=True)
    write_marks(tmp_path, "sums", {"a": ["", 1, 2, 3, 4]})
    assert read_marks(tmp_path, "sums") == {}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
