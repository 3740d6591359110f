import fcntl

import pytest

from utils.lock import locked


def is_free(path):
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_file_is_held_until_the_block_ends(tmp_path):
    path = tmp_path / "info.log"
    with locked(path):
        assert not is_free(path)
    assert is_free(path)


def test_a_failure_lets_go_of_the_file(tmp_path):
    with pytest.raises(ValueError, match="odd"), locked(tmp_path / "info.log"):
        raise ValueError("odd")
    assert is_free(tmp_path / "info.log")


def test_what_stands_in_the_file_stays(tmp_path):
    (tmp_path / "info.log").write_text("a line\n")
    with locked(tmp_path / "info.log"):
        pass
    assert (tmp_path / "info.log").read_text() == "a line\n"
