import hashlib
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from edf_writer import ROOT, contents, run_script, write_hypnogram, write_psg

from prepare_datasets import download_sleep_edf
from prepare_datasets.download_sleep_edf import download
from prepare_datasets.sleep_edf_files import read_records
from utils.errors import UserError

SCRIPT = "download_sleep_edf.py"
NIGHTS = ["SC4001E0", "SC4002E0", "SC4011E0", "SC4131E0"]  # subjects 0, 1, 13: there is no subject 2 to 12
TABLE = "subject,night,record type,age,sex,lights off,sha,fname\n"


class Server(ThreadingHTTPServer):
    """A mirror on this machine. `faults` says of a file what happens to it: a list, one for each request."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = files, {}, []
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
        self.send_response(200)
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
def table(files, tmp_path):
    """Table of the files in the form of MNE's."""
    rows = "".join(
        f"{int(name[3:5])},{name[5]},{name[9:-4]},33,female,00:38:00,{hashlib.sha1(content).hexdigest()},{name}\n"
        for name, content in sorted(files.items())
    )
    path = tmp_path / "records.csv"
    path.write_text(TABLE + rows)
    return path


@pytest.fixture
def get(server, table, tmp_path, monkeypatch):
    """Download to a folder; returns the exit code."""
    monkeypatch.setattr(download_sleep_edf.time, "sleep", lambda seconds: None)
    return lambda subjects=None: download(read_records(table), subjects, tmp_path / "sleep edf", server.url)


def names(*nights):
    return sorted(name for night in nights for name in (f"{night}E0-PSG.edf", f"{night}EC-Hypnogram.edf"))


def test_all_files_are_downloaded_and_prepared_from_their_folder(get, files, tmp_path, capsys):
    assert get() == 0
    assert contents(tmp_path / "sleep edf") == files
    told = capsys.readouterr()
    assert told.err == ""
    code, _, err = run_script(
        "prepare_physionet.py", "--data_dir", tmp_path / "sleep edf", "--output_dir", tmp_path / "npz"
    )
    assert (code, err) == (0, "")
    assert sorted(contents(tmp_path / "npz")) == [f"{name}.npz" for name in NIGHTS]


def test_sizes_and_time_are_told_before_it_starts(get, server, files, capsys):
    server.files = files | {name: content + bytes(2_000_000) for name, content in files.items() if "PSG" in name}
    get()
    lines = capsys.readouterr().out.splitlines()
    total = sum(map(len, server.files.values()))
    at = next(number for number, line in enumerate(lines) if line.startswith("To get from"))
    assert lines[at] == (
        f"To get from {server.url}/: 8 files of {total / 1e6:.1f} MB together. "
        f"That takes {total / 1e6:.0f} s at 1 MB/s, {total / 1e7:.0f} s at 10 MB/s."
    )
    assert not any("verified  (" in line for line in lines[:at])


def test_only_the_subjects_that_are_asked_for_are_downloaded(get, server, tmp_path, capsys):
    assert get({1, 13}) == 0
    assert sorted(contents(tmp_path / "sleep edf")) == names("SC4011", "SC4131")
    assert "The data set has no night 2 of subject 1, 2 of subject 13." in capsys.readouterr().out
    assert {name for _, name in server.requests} == set(names("SC4011", "SC4131"))


def test_subjects_that_do_not_exist_are_said(get, tmp_path, capsys):
    assert get({0, 5, 7}) == 0
    assert "The data set has no subjects 5, 7.\n" in capsys.readouterr().out
    for subjects in ({5}, {0, 14}):
        with pytest.raises(UserError, match="the data set has the subjects 0 to 13 without 2, 3, .* 12. Pass some"):
            get(subjects)


def test_what_is_there_and_whole_is_kept_and_the_rest_is_got(get, server, files, tmp_path, capsys):
    folder = tmp_path / "sleep edf"
    get({0})
    (folder / "SC4002E0-PSG.edf").write_bytes(files["SC4002E0-PSG.edf"][:-100])
    (folder / ".writing-SC4011E0-PSG.edf").write_bytes(b"a part")
    before = (folder / "SC4001E0-PSG.edf").stat().st_mtime_ns
    server.requests.clear()
    capsys.readouterr()
    assert get() == 0
    assert contents(folder) == files
    assert (folder / "SC4001E0-PSG.edf").stat().st_mtime_ns == before
    assert {name for _, name in server.requests} == {"SC4002E0-PSG.edf", *names("SC4011", "SC4131")}
    told = capsys.readouterr().out
    assert "SC4002E0-PSG.edf is here, but not with the published checksum: it is replaced" in told
    assert "8 files of 3 subjects, 3 of them here and verified.\n" in told
    server.requests.clear()
    assert get() == 0
    assert server.requests == []
    assert "8 of them here and verified.\nAll 8 files are in" in capsys.readouterr().out


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
        ("breaks off", r"broke off \(.*IncompleteRead.*\)"),
        ("wrong bytes", "the server's file has another checksum than the published one, and was not kept"),
        ("busy", "the server answers 503"),
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


def test_a_file_that_the_server_does_not_have_is_named_at_once(get, server, tmp_path, capsys):
    del server.files["SC4002EC-Hypnogram.edf"]
    assert get({0}) == 1
    told = capsys.readouterr()
    assert "3 files of 0.2 MB together, and 1 files whose sizes it does not say." in told.out
    assert "  SC4002EC-Hypnogram.edf: the server answers 404" in told.err
    assert server.requests.count(("GET", "SC4002EC-Hypnogram.edf")) == 1
    assert sorted(contents(tmp_path / "sleep edf")) == [*names("SC4001"), "SC4002E0-PSG.edf"]


COMMAND = """
import sys
from pathlib import Path
from prepare_datasets.download_sleep_edf import download
from prepare_datasets.preparation import exit_code
from prepare_datasets.sleep_edf_files import read_records
table, folder, url = sys.argv[1:]
sys.exit(exit_code(lambda: download(read_records(Path(table)), None, Path(folder), url)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_ended_goes_on_where_it_was(server, table, files, tmp_path, number):
    server.faults["SC4011E0-PSG.edf"] = ["stalls"]
    folder, first = tmp_path / "sleep edf", names("SC4001", "SC4002")
    command = [sys.executable, "-c", COMMAND, table, folder, server.url]
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
    assert {name for name in contents(folder) if not name.startswith(".")} == {*first}
    server.requests.clear()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "8 files of 3 subjects, 4 of them here and verified." in done.stdout
    assert contents(folder) == files
    assert not set(first) & {name for _, name in server.requests}


def test_the_script_asks_a_mirror_for_the_published_files(server, tmp_path):
    arguments = ["--output_dir", tmp_path / "new" / "folder", "--base_url", f"{server.url}/", "--subjects", "12-13"]
    code, out, err = run_script(SCRIPT, *arguments, cwd=tmp_path)
    assert code == 1  # they are not the published ones
    assert "The data set has no night 2 of subject 13.\n6 files of 2 subjects, 0 of them here and verified.\n" in out
    assert err.count("the server's file has another checksum than the published one") == 2
    assert err.count("the server answers 404") == 4
    assert contents(tmp_path / "new" / "folder") == {}


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/nobody", "no url", "ftp://127.0.0.1/", "http://nowhere.invalid/"])
def test_a_server_that_cannot_be_reached_is_one_line(tmp_path, url):
    code, out, err = run_script(SCRIPT, "--output_dir", tmp_path / "a", "--base_url", url, "--subjects", "0")
    assert code == 1
    assert err.startswith(f"{url.rstrip('/')}/: cannot be reached (")
    assert err.count("\n") == 1


@pytest.mark.parametrize("subjects", ["", "a", "3-1", "0-", "-5", "1,,2", "1.5", "0-9999"])
def test_subjects_that_are_no_list_are_refused(tmp_path, subjects):
    code, _, err = run_script(SCRIPT, "--output_dir", tmp_path / "a", f"--subjects={subjects}")
    assert code == 2
    assert f"{subjects!r} is no list of subjects such as 0-19 or 0,3,5-7" in err
    assert not (tmp_path / "a").exists()


def test_an_output_folder_that_cannot_be_is_one_line(server, tmp_path):
    (tmp_path / "a").touch()
    code, _, err = run_script(SCRIPT, "--output_dir", tmp_path / "a", "--base_url", server.url)
    assert (code, err) == (1, f"{tmp_path / 'a'}: File exists. Pass another --output_dir.\n")


def test_a_disk_without_room_is_told_before_it_starts(get, server, monkeypatch, tmp_path):
    monkeypatch.setattr(download_sleep_edf.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="sleep edf: 0.0 MB free, but 0.5 MB are needed. Make room."):
        get()
    assert {method for method, _ in server.requests} == {"HEAD"}


def test_help_waits_for_no_heavy_import():
    command = [sys.executable, "-X", "importtime", ROOT / "prepare_datasets" / SCRIPT, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"mne", "torch", "pandas", "scipy", "requests", "pooch"}
