import re
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from prepare_datasets import preparation
from prepare_datasets.preparation import (
    LeftOut,
    Task,
    argument_parser,
    exit_code,
    list_files,
    prepare,
    run,
)
from utils.errors import UserError
from utils.recording import Recording, read_outline, write_recording

CHANNEL = "EEG Fpz-Cz"


def night(channel=CHANNEL):
    stages = np.array([0, 1, 2, 2, 4], np.int32)
    return Recording(
        np.resize(np.float32([-40, 0, 0, 0, 0, 0, 0, 40]), (5, 300)),
        stages,
        10.0,
        channel,
        np.arange(5, dtype=np.int32),
    )


def remarked(*remarks):
    return replace(night(), remarks=remarks)


def failing(error):
    raise error


def arguments(tmp_path, *more):
    parser = argument_parser("Test.", output_dir=str(tmp_path / "npz"), channel=CHANNEL)
    return parser.parse_args(["--data_dir", str(tmp_path), "--jobs", "1", *more])


@pytest.mark.parametrize("words", [["EEG", "Fpz-Cz"], ["EEG Fpz-Cz"]])
def test_the_channel_may_be_quoted_or_not(tmp_path, words, capsys):
    assert run([Task("a", night)], arguments(tmp_path, "--select_ch", *words)) == 0
    assert capsys.readouterr().out.startswith(f"{CHANNEL} of 1 recording ")


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5"])
def test_jobs_are_a_whole_number_above_0(tmp_path, jobs, capsys):
    with pytest.raises(SystemExit):
        arguments(tmp_path, "--jobs", jobs)
    assert "is not a whole number above 0" in capsys.readouterr().err


def test_a_recording_is_prepared_once_and_then_kept(tmp_path, capsys):
    tasks = [Task("a", night), Task("b", night)]
    assert run(tasks, arguments(tmp_path)) == 0
    assert "2 prepared, 0 kept, 0 with problems" in capsys.readouterr().out
    assert run([Task(name, partial(failing, AssertionError())) for name in "ab"], arguments(tmp_path)) == 0
    told = capsys.readouterr()
    assert "0 prepared, 2 kept, 0 with problems" in told.out
    assert [line.split() for line in told.out.splitlines() if line.startswith(("a ", "total"))] == [
        ["a", "1", "1", "2", "0", "1", "5", "0.0", "kept"],
        ["total", "2", "2", "4", "0", "2", "10", "0.1"],
    ]
    assert told.err == ""


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "3/0", "-1/3", "1/3/5", "a/b", "", "1.0/3", "1/-3", "/", "²/3"])
def test_a_shard_that_is_none_is_refused(tmp_path, shard, capsys):
    with pytest.raises(SystemExit):
        arguments(tmp_path, f"--shard={shard}")
    assert f"{shard!r} is no part such as 3/16" in capsys.readouterr().err


def test_a_shard_does_its_part_of_the_sorted_list_and_says_so(tmp_path, capsys):
    tasks = [Task(name, night) for name in "ecabd"]
    assert run(tasks, arguments(tmp_path, "--shard", "2/3"), ["x: wrong.", "y: wrong."]) == 1
    told = capsys.readouterr()
    assert told.out.startswith(f"EEG Fpz-Cz of 2 of 5 recordings to {tmp_path / 'npz'}, shard 2/3\n")
    assert told.out.endswith(f"2 prepared, 0 kept, 1 with problems: {tmp_path / 'npz'}, shard 2/3\n")
    assert told.err.splitlines() == ["", "Not prepared (1):", "  y: wrong."]
    assert sorted(path.stem for path in (tmp_path / "npz").iterdir()) == ["b", "e"]


@pytest.mark.parametrize(("n_recordings", "n_shards"), [(7, 3), (2, 3)])
def test_shards_prepare_each_recording_once(tmp_path, n_recordings, n_shards, capsys):
    tasks = [Task(f"night{number}", night) for number in range(n_recordings)]
    for number in range(1, n_shards + 1):
        assert run(tasks, arguments(tmp_path, "--shard", f"{number}/{n_shards}")) == 0
        assert f"{len(tasks[number - 1 :: n_shards])} prepared, 0 kept" in capsys.readouterr().out
    assert len(list((tmp_path / "npz").iterdir())) == n_recordings


def test_sleep_epochs_without_signal_are_prepared_like_all_others_and_told(tmp_path, capsys):
    recording = night()
    recording.signal[1] = 0
    assert run([Task("a", lambda: recording)], arguments(tmp_path)) == 0
    told = "a: 1 of 5 sleep epochs (20.0 %) are without signal (flat or clipped); they are kept"
    assert told in capsys.readouterr().out
    with np.load(tmp_path / "npz/a.npz") as npz:
        np.testing.assert_array_equal(npz["x"][..., 0], recording.signal)


def test_a_shard_of_which_nothing_can_be_prepared_is_no_problem(tmp_path):
    assert run([Task("a", partial(failing, LeftOut("it snowed.")))], arguments(tmp_path, "--shard", "1/3")) == 0


def test_a_recording_that_is_there_at_another_rate_is_refused(tmp_path, capsys):
    run([Task("a", night)], arguments(tmp_path))
    assert run([Task("a", night, fs=10.0)], arguments(tmp_path)) == 0
    assert run([Task("a", night, fs=100.0)], arguments(tmp_path)) == 1
    message = "a.npz: is there already, with another channel or rate ('EEG Fpz-Cz', 10 Hz). Pass --overwrite"
    assert message in capsys.readouterr().err


def test_remarks_are_told_once_with_the_recordings_that_they_hold_for(tmp_path, capsys):
    tasks = [Task(name, partial(remarked, "resampled", *(["cut"] if name == "c" else []))) for name in "abcd"]
    assert run(tasks, arguments(tmp_path)) == 0
    told = capsys.readouterr().out
    assert "\na, b, c and 1 more: resampled\n\nc: cut\n\n4 prepared" in told


def test_overwrite_prepares_again(tmp_path):
    run([Task("a", night)], arguments(tmp_path))
    assert run([Task("a", partial(night, "EEG Pz-Oz"))], arguments(tmp_path, "--overwrite")) == 0
    assert read_outline(tmp_path / "npz" / "a.npz").channel == "EEG Pz-Oz"


def test_what_was_made_from_another_channel_is_refused_and_left_as_it_is(tmp_path, capsys):
    run([Task("a", night)], arguments(tmp_path))
    before = (tmp_path / "npz" / "a.npz").read_bytes()
    assert run([Task("a", night)], arguments(tmp_path, "--select_ch", "EEG", "Pz-Oz")) == 1
    message = "a.npz: is there already, with another channel or rate ('EEG Fpz-Cz', 10 Hz). Pass --overwrite"
    assert message in capsys.readouterr().err
    assert (tmp_path / "npz" / "a.npz").read_bytes() == before


def test_a_damaged_npz_is_refused_and_left_as_it_is(tmp_path, capsys):
    (tmp_path / "npz").mkdir()
    (tmp_path / "npz" / "a.npz").write_bytes(b"PK")
    assert run([Task("a", night)], arguments(tmp_path)) == 1
    assert "a.npz: not a readable npz file" in (err := capsys.readouterr().err)
    assert "Pass --overwrite" in err
    assert (tmp_path / "npz" / "a.npz").read_bytes() == b"PK"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("a.edf: wrong. Mend it."), "^a.edf: wrong. Mend it.$"),
        (PermissionError(13, "Permission denied", "/data/a.edf"), "^a.edf: Permission denied. .* run the same command"),
        (OSError(28, "No space left on device"), "^a.npz: No space left on device. The disk of .* is full: make room"),
        (MemoryError(), "^a: not enough memory. .* fewer --jobs"),
        (ValueError("one\ntwo"), r"^a: unexpected ValueError \(one two\). Please report it.$"),
    ],
)
def test_whatever_goes_wrong_with_a_recording_is_told_in_one_line(tmp_path, error, text):
    outcome = prepare(Task("a", partial(failing, error)), tmp_path, CHANNEL, overwrite=False)
    assert outcome.state == "problem"
    pytest.raises(UserError, failing, UserError(outcome.text)).match(text)


def test_recordings_without_a_result_are_named_when_a_process_was_killed(tmp_path, capsys, monkeypatch):
    def one_and_then_killed(work, tasks, jobs):
        yield work(tasks[0])
        raise BrokenProcessPool

    monkeypatch.setattr(preparation, "results", one_and_then_killed)
    assert run([Task(name, night) for name in "abcdef"], arguments(tmp_path), ["x.edf: wrong."]) == 1
    told = capsys.readouterr()
    assert "1 prepared, 0 kept, 1 with problems, 5 not done: " in told.out
    assert told.err.splitlines() == [
        "",
        "Not prepared (6):",
        "  x.edf: wrong.",
        "  b, c, d and 2 more: not done, because a process was killed. Perhaps the memory was full. Run the same "
        "command again, with fewer --jobs if need be; finished recordings are kept.",
    ]


def test_problems_are_listed_at_the_end_and_the_others_are_done(tmp_path, capsys):
    tasks = [Task("a", partial(failing, UserError("a.edf: wrong."))), Task("b", night)]
    assert run(tasks, arguments(tmp_path), problems=["c.edf: alone."]) == 1
    told = capsys.readouterr()
    assert told.err.splitlines() == ["", "Not prepared (2):", "  c.edf: alone.", "  a.edf: wrong."]
    assert "1 prepared, 0 kept, 2 with problems" in told.out


@pytest.mark.parametrize(("factor", "shown"), [(1000, r"2e\+04"), (0.001, "0.02"), (0.05, "1")])
def test_a_signal_in_another_unit_than_its_header_says_is_refused(tmp_path, factor, shown):
    wrong = replace(night(), signal=night().signal * np.float32(factor), source_file="a.edf")
    outcome = prepare(Task("a", lambda: wrong), tmp_path, CHANNEL, overwrite=False)
    assert outcome.state == "problem"
    assert re.match(rf"a.edf: the signal's standard deviation is {shown}; .* The unit in its header", outcome.text)
    assert not list(tmp_path.iterdir())


def test_what_a_rule_leaves_out_is_listed_and_no_problem(tmp_path, capsys):
    tasks = [Task("a", partial(failing, LeftOut("it snowed."))), Task("b", night)]
    assert run(tasks, arguments(tmp_path), notes=["Missing: c, d"]) == 0
    out = capsys.readouterr().out
    assert "Left out (1):\n  a: it snowed.\n" in out
    assert "\nMissing: c, d\n" in out


def test_to_prepare_nothing_at_all_is_a_problem(tmp_path, capsys):
    assert run([Task("a", partial(failing, LeftOut("it snowed.")))], arguments(tmp_path)) == 1
    assert "nothing was prepared" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "npz").write_text("a file")
    with pytest.raises(UserError, match="npz: File exists. Pass another --output_dir"):
        run([Task("a", night)], arguments(tmp_path))


def test_files_are_listed_by_name_without_hidden_ones(tmp_path):
    for name in ("b.edf", "a.edf", "._a.edf", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_files(tmp_path, "*.edf")] == ["a.edf", "b.edf"]
    with pytest.raises(UserError, match="nowhere: No such file or directory. Pass the folder that"):
        list_files(tmp_path / "nowhere", "*.edf")
    with pytest.raises(UserError, match="c.txt: Not a directory"):
        list_files(tmp_path / "c.txt", "*.edf")


def test_what_ends_a_script_is_one_line_and_a_code(capsys):
    assert exit_code(lambda: 0) == 0
    assert exit_code(partial(failing, UserError("wrong."))) == 1
    assert capsys.readouterr().err == "wrong.\n"
    assert exit_code(partial(failing, PermissionError(13, "Permission denied", "a.onnx"))) == 1
    assert capsys.readouterr().err == "[Errno 13] Permission denied: 'a.onnx'\n"
    assert exit_code(partial(failing, KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.startswith("Interrupted. ")


@pytest.mark.parametrize("made_from", ["", "{", "[]", "[" * 100_000, '{"recording": 1}'])
def test_an_npz_that_does_not_say_what_it_was_made_from_is_kept_and_one_that_says_nonsense_is_refused(
    tmp_path, made_from, capsys
):
    write_recording(tmp_path / "npz/a.npz", replace(night(), made_from=made_from))
    task = Task("a", partial(failing, AssertionError()), sources=partial(dict, recording=2))
    assert run([task], arguments(tmp_path)) == (1 if made_from else 0)
    assert ("a.npz: is there already, made from other files" in capsys.readouterr().err) == bool(made_from)
