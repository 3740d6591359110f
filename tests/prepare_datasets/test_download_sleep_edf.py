import contextlib
import gzip
import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest
from edf_writer import ROOT, contents, run_script, write_hypnogram, write_psg
from in_process import call_script

from prepare_datasets.download_sleep_edf import download, published_files
from utils.errors import UserError

SCRIPT = "download_sleep_edf.py"
NIGHTS = ["SC4001E0", "SC4002E0", "SC4011E0", "SC4131E0"]
"""Of the subjects 0, 1 and 13."""


class Server(ThreadingHTTPServer):
    """A mirror on this machine. `faults` says of a file what happens to it: a list, one for each request."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests, self.redirects, self.n_sent = files, {}, [], {}, 0
        self.url = f"http://127.0.0.1:{self.server_port}/sleep-cassette"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(sending=False)

    def do_GET(self):
        self.answer(sending=True)

    def answer(self, sending):
        name = self.path.removeprefix("/sleep-cassette/")
        self.server.requests.append((self.command, name))
        content = self.server.files.get(name)
        if content is None:
            return self.send_error(404)
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if sending and faults else None
        if fault == "busy":
            return self.send_error(503)
        if name in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[name])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(200)
        if fault in ("endless", "zipped"):  # no size is announced with it
            if fault == "zipped":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            sent = gzip.compress(bytes(50_000_000)) if fault == "zipped" else bytes(1 << 16)
            with contextlib.suppress(OSError):
                while True:
                    self.server.n_sent += self.wfile.write(sent)
            return None
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if sending and fault == "wrong bytes":
            self.wfile.write(content[::-1])
        elif sending and fault == "breaks off":
            self.wfile.write(content[: len(content) // 2])
        elif sending and fault == "stalls":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            time.sleep(60)
        elif sending:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def files(tmp_path):
    """Content of each file by its name."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in NIGHTS:
        write_psg(folder / f"{name}-PSG.edf")
        write_hypnogram(folder / f"{name[:-1]}C-Hypnogram.edf")
    return contents(folder)


@pytest.fixture
def server(files):
    server = Server(dict(files))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(files):
    """SHA-1 by subject and file name."""
    table = {0: {}, 1: {}, 13: {}}
    for name, content in sorted(files.items()):
        table[int(name[3:5])][name] = hashlib.sha1(content).hexdigest()
    return table


@pytest.fixture
def get(server, published, tmp_path, monkeypatch):
    """Download to a folder; returns the exit code."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return lambda subjects=None: download(published, subjects, tmp_path / "sleep edf", server.url)


def names(*nights):
    return sorted(name for night in nights for name in (f"{night}E0-PSG.edf", f"{night}EC-Hypnogram.edf"))


def test_the_published_files_are_those_of_mnes_table():
    published = published_files()
    assert set(range(83)) - published.keys() == {39, 68, 69, 78, 79}
    files = {name: sha1 for of_subject in published.values() for name, sha1 in of_subject.items()}
    assert len(files) == 306
    assert sum(len(published[subject]) for subject in range(20)) == 2 * 39
    assert files["SC4001E0-PSG.edf"] == "adabd3b01fc7bb75c523a974f38ee3ae4e57b40f"
    assert all(re.fullmatch("[0-9a-f]{40}", sha1) for sha1 in files.values())


def test_all_files_are_downloaded_and_their_size_is_told_before(get, server, files, tmp_path, capsys):
    assert get() == 0
    assert contents(tmp_path / "sleep edf") == files
    told = capsys.readouterr()
    size = sum(map(len, files.values())) / 1e6
    assert told.out.splitlines()[:2] == [
        "8 files of 3 subjects; 0 are here and verified.",
        f"8 files of {size:.1f} MB to download from {server.url}/",
    ]
    assert told.out.count("  verified  (") == 8
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "sleep edf").iterdir()} == {0o644}
    assert told.err == ""


def test_only_the_subjects_that_are_asked_for_are_downloaded(get, server, tmp_path, capsys):
    assert get({1, 13}) == 0
    assert sorted(contents(tmp_path / "sleep edf")) == names("SC4011", "SC4131")
    assert "4 files of 2 subjects; 0 are here and verified." in capsys.readouterr().out
    assert {name for _, name in server.requests} == set(names("SC4011", "SC4131"))


def test_subjects_that_do_not_exist_are_said(get, tmp_path, capsys):
    assert get({0, 5, 7}) == 0
    assert "The data set has no subject 5, 7.\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="the data set has 0 to 13, none of these. Pass others"):
        get({5, 14})


def test_what_is_there_and_whole_is_kept_and_the_rest_is_got(get, server, files, tmp_path, capsys):
    folder = tmp_path / "sleep edf"
    get({0})
    (folder / "SC4002E0-PSG.edf").write_bytes(files["SC4002E0-PSG.edf"][:-100])
    before = (folder / "SC4001E0-PSG.edf").stat().st_mtime_ns
    server.requests.clear()
    capsys.readouterr()
    assert get() == 0
    assert contents(folder) == files
    assert (folder / "SC4001E0-PSG.edf").stat().st_mtime_ns == before
    assert {name for _, name in server.requests} == {"SC4002E0-PSG.edf", *names("SC4011", "SC4131")}
    told = capsys.readouterr().out
    assert "8 files of 3 subjects; 3 are here and verified.\n" in told
    assert "SC4002E0-PSG.edf is here, but not with the published checksum: it is replaced" in told
    server.requests.clear()
    assert get() == 0
    assert server.requests == []
    assert "8 are here and verified.\nAll 8 files are in" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["breaks off", "wrong bytes", "busy"])
def test_a_file_that_comes_whole_at_the_second_try_is_taken(get, server, files, tmp_path, fault, capsys):
    server.faults["SC4001E0-PSG.edf"] = [fault]
    assert get({0}) == 0
    assert contents(tmp_path / "sleep edf") == {name: files[name] for name in names("SC4001", "SC4002")}
    assert server.requests.count(("GET", "SC4001E0-PSG.edf")) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("breaks off", r"not downloaded \(.*IncompleteRead.*\)"),
        ("wrong bytes", "the server's file does not have the published checksum, and was not kept"),
        ("busy", r"not downloaded \(503 Server Error: .*\)"),
    ],
)
def test_a_file_that_never_comes_whole_is_named_and_costs_no_other(
    get, server, files, tmp_path, fault, message, capsys
):
    server.faults["SC4001E0-PSG.edf"] = [fault] * 9
    (tmp_path / "sleep edf").mkdir()
    (tmp_path / "sleep edf" / "SC4001E0-PSG.edf").write_bytes(b"what was there")
    assert get({0}) == 1
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert lines[:2] == ["", "Not downloaded (1):"]
    assert re.fullmatch(f"  SC4001E0-PSG.edf: {message}", lines[2])
    assert lines[3:] == ["The same command tries these again; the others are kept."]
    assert server.requests.count(("GET", "SC4001E0-PSG.edf")) == 3
    expected = {name: files[name] for name in names("SC4001", "SC4002")} | {"SC4001E0-PSG.edf": b"what was there"}
    assert contents(tmp_path / "sleep edf") == expected


@pytest.mark.parametrize("fault", ["endless", "zipped"])
def test_a_file_that_does_not_end_is_downloaded_no_further_than_was_announced(
    get, server, files, tmp_path, fault, capsys
):
    server.faults["SC4001E0-PSG.edf"] = [fault] * 9
    assert get({0}) == 1
    n_bytes = len(files["SC4001E0-PSG.edf"])
    assert (
        f"  SC4001E0-PSG.edf: not downloaded (the server sends more than the {n_bytes} bytes that were expected)\n"
        in capsys.readouterr().err
    )
    assert server.n_sent < 3 * n_bytes + 3 * 2**25  # what fits into the buffers of a connection, three times
    assert "SC4001E0-PSG.edf" not in contents(tmp_path / "sleep edf")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("ftp://127.0.0.1/a", "it leads to 'ftp://127.0.0.1/a', which is neither http nor https"),
        ("file:///etc/passwd", "it leads to 'file:///etc/passwd', which is neither http nor https"),
        ("http://[", "it leads to an address that is none: Invalid IPv6 URL"),
    ],
)
def test_a_redirect_that_cannot_be_followed_is_told_as_that(get, server, tmp_path, location, reason):
    server.redirects["SC4001E0-PSG.edf"] = location
    with pytest.raises(UserError, match=rf"cannot be reached \({re.escape(reason)}\)"):
        get({0})
    assert contents(tmp_path / "sleep edf") == {}


def test_a_file_that_the_server_does_not_have_is_named(get, server, tmp_path, capsys):
    del server.files["SC4002EC-Hypnogram.edf"]
    assert get({0}) == 1
    told = capsys.readouterr()
    assert "3 files of 0.2 MB and 1 of unknown size to download from " in told.out
    assert "  SC4002EC-Hypnogram.edf: not downloaded (404 Client Error: " in told.err
    assert sorted(contents(tmp_path / "sleep edf")) == [*names("SC4001"), "SC4002E0-PSG.edf"]


COMMAND = """
import json, sys
from pathlib import Path
from prepare_datasets.download_sleep_edf import download
from prepare_datasets.preparation import exit_code
published, folder, url = sys.argv[1:]
files = {int(subject): names for subject, names in json.loads(published).items()}
sys.exit(exit_code(lambda: download(files, None, Path(folder), url)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_ended_keeps_what_is_finished(server, published, files, tmp_path, number, capsys):
    server.faults["SC4011E0-PSG.edf"] = ["stalls"]
    folder, first = tmp_path / "sleep edf", names("SC4001", "SC4002")
    command = [sys.executable, "-c", COMMAND, json.dumps(published), folder, server.url]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 60
        while server.faults["SC4011E0-PSG.edf"]:  # until it stalls
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in err
    assert {name for name in contents(folder) if name.endswith(".edf")} == {*first}
    if number == signal.SIGINT:
        assert len(contents(folder)) == len(first)
    server.requests.clear()
    assert download(published, None, folder, server.url) == 0
    assert "8 files of 3 subjects; 4 are here and verified." in capsys.readouterr().out
    assert files.items() <= contents(folder).items()
    assert not set(first) & {name for _, name in server.requests}


def test_a_mirror_is_asked_for_the_published_files(server, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    arguments = ["--output_dir", tmp_path / "new" / "folder", "--base_url", f"{server.url}/", "--subjects", "13"]
    code, out, err = call_script(SCRIPT, *arguments)
    assert code == 1  # they are not the published ones
    assert "2 files of 1 subject; 0 are here and verified.\n" in out
    assert err.count("the server's file does not have the published checksum") == 2
    assert contents(tmp_path / "new" / "folder") == {}


@pytest.mark.parametrize(
    ("url", "call"),
    [
        ("http://127.0.0.1:9/nobody", run_script),
        ("no url", call_script),
        ("ftp://127.0.0.1/", call_script),
        ("http://nowhere.invalid/", call_script),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_line(tmp_path, url, call):
    code, out, err = call(SCRIPT, "--output_dir", tmp_path / "a", "--base_url", url, "--subjects", "0")
    assert code == 1
    assert err.startswith(f"{url.rstrip('/')}/: cannot be reached (")
    assert err.count("\n") == 1


@pytest.mark.parametrize("subjects", ["", "a", "3-1", "0-", "-5", "1,,2", "1.5", "0-9999"])
def test_subjects_that_are_no_list_are_refused(tmp_path, subjects):
    code, _, err = call_script(SCRIPT, "--output_dir", tmp_path / "a", f"--subjects={subjects}")
    assert code == 2
    assert f"{subjects!r} is no list of subjects such as 0-19 or 0,3,5-7" in err
    assert not (tmp_path / "a").exists()


def test_an_output_folder_that_cannot_be_is_one_line(server, tmp_path):
    (tmp_path / "a").touch()
    code, _, err = call_script(SCRIPT, "--output_dir", tmp_path / "a", "--base_url", server.url)
    assert (code, err) == (1, f"{tmp_path / 'a'}: File exists. Pass another --output_dir.\n")


def test_a_full_disk_is_one_line(get, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    with pytest.raises(UserError, match="SC4001E0-PSG.edf: No space left on device. Mend that and run"):
        get()
    assert contents(tmp_path / "sleep edf") == {}
