import hashlib
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from checkpoints import write_experiment
from scripts import ROOT, call, run

import scoring.fetching as fetching
from scoring.fetching import fetched
from scoring.networks import load_networks
from scoring.share import main as share
from utils.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(ThreadingHTTPServer):
    """Files by their paths, as a web server and as the hub serve them; counts what is sent."""

    files: dict[str, bytes]
    sent: list[str]
    states: str | None = None  # the checksum that the hub states, if not that of the file


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):  # noqa: N802
        self.answer(with_body=False)

    def do_GET(self):  # noqa: N802
        self.answer(with_body=True)

    def answer(self, with_body):
        path = re.sub(r"^/anna/sleep/resolve/(main|v1)/", "/hub/", self.path)
        content = self.server.files.get(path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.server.states or hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if with_body:
            self.server.sent.append(self.path)
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def shared(tmp_path):
    """A file of shared networks."""
    write_experiment(tmp_path / "Exp1", n_folds=1)
    call(share, [tmp_path / "Exp1", "--output", tmp_path / "a.safetensors"], tmp_path)
    return tmp_path / "a.safetensors"


@pytest.fixture
def server(tmp_path, monkeypatch, shared):
    """A server on this machine, and caches of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with Server(("127.0.0.1", 0), Handler) as server:
        template = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        server.files, server.sent = {"/hub/nets/a.safetensors": shared.read_bytes()}, []
        server.files["/files/a.safetensors"] = shared.read_bytes()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server, sha256):
    return f"http://127.0.0.1:{server.server_port}/files/a.safetensors#sha256={sha256}"


def test_a_file_of_the_web_is_fetched_once_told_with_its_size_and_scored_with(server, shared, capsys):
    source = address(server, hashlib.sha256(shared.read_bytes()).hexdigest())
    networks = load_networks([source])
    assert len(networks.members) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{source}: fetched, {shared.stat().st_size / 1e6:.1f} MB, verified, at ")
    assert fetched(source).read_bytes() == shared.read_bytes()
    assert f"{source}: kept from before" in capsys.readouterr().err
    assert server.sent == ["/files/a.safetensors"]


def test_a_file_of_the_web_with_another_sha256_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(UserError, match=r"a\.safetensors#sha256=0+: what came has another SHA-256, and was not kept"):
        fetched(address(server, "0" * 64))
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_kept_file_that_was_changed_is_fetched_again(server, shared):
    source = address(server, hashlib.sha256(shared.read_bytes()).hexdigest())
    fetched(source).write_bytes(b"changed")
    assert fetched(source).read_bytes() == shared.read_bytes()


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_a_file_of_the_hub_is_fetched_once_told_with_its_size_and_scored_with(server, shared, capsys, revision):
    source = f"hf://anna/sleep/nets/a.safetensors{revision}"
    assert len(load_networks([source]).members) == 1
    assert f"{source}: fetched, {shared.stat().st_size / 1e6:.1f} MB, verified, at " in capsys.readouterr().err
    assert fetched(source).read_bytes() == shared.read_bytes()
    assert f"{source}: kept from before" in capsys.readouterr().err
    assert server.sent == [f"/anna/sleep/resolve/{revision[1:] or 'main'}/nets/a.safetensors"]


@pytest.mark.parametrize("states", ["0" * 64, "0" * 40, "something"])
def test_a_file_of_the_hub_without_the_stated_checksum_is_refused_and_not_kept(server, tmp_path, states):
    server.states = states
    with pytest.raises(UserError, match="does not have the checksum that the hub states, and was not kept"):
        fetched("hf://anna/sleep/nets/a.safetensors")
    assert [path for path in (tmp_path / "hub").rglob("*.safetensors") if path.exists()] == []
    assert not list((tmp_path / "hub").rglob(f"blobs/{states}"))


def test_a_small_file_of_the_hub_is_verified_by_the_checksum_of_git(server, shared):
    content = shared.read_bytes()
    server.states = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert fetched("hf://anna/sleep/nets/a.safetensors").read_bytes() == content


@pytest.mark.parametrize(
    "source",
    [
        "hf://anna/a.safetensors",
        "hf://a.safetensors",
        "https://example.org/a.safetensors",
        "https://example.org/a.safetensors#sha256=12",
        "ftp://example.org/a",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_address_of_a_checkpoint_is_refused_with_the_choices(source):
    with pytest.raises(
        UserError, match=r"no address of a checkpoint. Pass hf://owner/name/file or https://"
    ) as refused:
        fetched(source)
    assert str(refused.value).startswith(source)


def test_what_is_not_there_is_refused_in_a_line(server):
    for source in (
        "hf://anna/sleep/nets/b.safetensors",
        f"http://127.0.0.1:{server.server_port}/files/b#sha256={'0' * 64}",
        f"http://127.0.0.1:1/a#sha256={'0' * 64}",
    ):
        with pytest.raises(UserError, match="could not be fetched") as refused:
            fetched(source)
        assert "\n" not in str(refused.value)
        assert str(refused.value).startswith(source)


def test_without_huggingface_hub_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="Run: pip install huggingface_hub"):
        fetched("hf://anna/sleep/nets/a.safetensors")


def test_a_path_is_left_as_it_is():
    assert fetched("saved/Exp1") == fetched(Path("saved/Exp1")) == Path("saved/Exp1")
    assert fetching.source_of("hf://a/b/c") == "hf://a/b/c"


def test_the_scripts_take_addresses(server, shared, tmp_path):
    endpoint = f"http://127.0.0.1:{server.server_port}"
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
    source = "hf://anna/sleep/nets/a.safetensors"
    code, out, err = run([sys.executable, "-m", "scoring.share", "--show", source], ROOT, **environment)
    assert code == 0, err
    assert "# Exp1" in out
    command = [sys.executable, ROOT / "predict.py", "--checkpoint", source, "--export", "a.onnx"]
    code, out, err = run(command, tmp_path, **environment)
    assert code == 0, err
    assert f"{source}: kept from before" in err
