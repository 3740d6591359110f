import logging

import pytest

from utils.logs import LOG, SUMMARY, log_to_console, log_to_file


def say_one_of_each():
    LOG.debug("a detail")
    LOG.info("progress")
    LOG.log(SUMMARY, "the result")
    LOG.warning("a warning")


@pytest.mark.parametrize(
    ("verbosity", "lines"),
    [
        (0, ["the result", "a warning"]),
        (1, ["progress", "the result", "a warning"]),
        (2, ["a detail", "progress", "the result", "a warning"]),
    ],
)
def test_the_verbosity_chooses_what_is_shown_and_nothing_goes_to_standard_output(capsys, verbosity, lines):
    log_to_console(verbosity)
    say_one_of_each()
    captured = capsys.readouterr()
    assert captured.err.splitlines() == lines
    assert captured.out == ""


def test_asking_for_the_console_twice_says_things_once(capsys):
    log_to_console(1)
    log_to_console(1)
    LOG.info("once")
    assert capsys.readouterr().err == "once\n"


def test_the_file_is_appended_to_with_time_and_level_and_closed(tmp_path):
    log_to_console(1)
    path = tmp_path / "fold_0" / "info.log"
    for text in ("first", "second"):
        with log_to_file(path):
            LOG.log(SUMMARY, text)
        LOG.info("elsewhere")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO first", "INFO second"]
    assert not any(isinstance(handler, logging.FileHandler) for handler in LOG.handlers)


def test_the_file_is_closed_after_a_failure(tmp_path):
    with pytest.raises(ValueError, match="odd"), log_to_file(tmp_path / "info.log"):
        raise ValueError("odd")
    assert not any(isinstance(handler, logging.FileHandler) for handler in LOG.handlers)
