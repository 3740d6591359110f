import pytest

from utils.files import replacing, write_text


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
