"""Checkpoints that lie on a server: fetched once, verified, and kept on this machine."""

import hashlib
import re
import sys
from pathlib import Path

from utils.errors import UserError

_HUB = re.compile(r"hf://([^/@]+/[^/@]+)/([^@]+?)(?:@([^@]+))?")
_WEB = re.compile(r"(https?://[^#]+)#sha256=([0-9a-fA-F]{64})")
_TIMEOUT_S = 60


def source_of(text: str) -> Path | str:
    """Turn what a user names into a path, or leave it if it is an address."""
    return text if "://" in text else Path(text)


def fetched(source: Path | str) -> Path:
    """Return the path of a checkpoint, which is fetched first if it is an address and not kept here yet.

    Parameters
    ----------
    source : Path or str
        A path, `hf://owner/name/file[@revision]` of the Hugging Face Hub, or `https://...#sha256=<64 digits>`.

    Raises
    ------
    UserError
        The address is none of these, there is no such file, or the file does not have its checksum.
    """
    source = source_of(source) if isinstance(source, str) else source
    if isinstance(source, Path):
        return source
    if match := _HUB.fullmatch(source):
        return _from_hub(source, match[1], match[2], match[3])
    if match := _WEB.fullmatch(source):
        return _from_web(source, match[1], match[2].lower())
    raise UserError(
        f"{source}: no address of a checkpoint. Pass hf://owner/name/file or https://...#sha256=..., with the SHA-256 "
        "that whoever shares the file tells."
    )


def _from_hub(source: str, repository: str, name: str, revision: str | None) -> Path:
    """Fetch a file of the Hugging Face Hub into the cache of huggingface_hub."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(f"{source}: hf:// needs huggingface_hub. Run: pip install huggingface_hub") from error
    try:
        planned = hf_hub_download(repository, name, revision=revision, dry_run=True)
        path = Path(hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # huggingface_hub, and the library below it, raise many kinds
        raise _not_fetched(source, error) from error
    if not path.is_symlink():  # the checksum is the name of the file that the link leads to
        raise UserError(f"{source}: {path} has no link, so it cannot be verified. Set HF_HOME to a disk with links.")
    blob = path.resolve()  # its name is the checksum that the hub states: SHA-256, or git's SHA-1 of small files
    if blob.name not in (sha256_of(blob), _git_sha1(blob)):
        path.unlink()  # or it would be taken from the cache next time
        blob.unlink(missing_ok=True)
        raise UserError(f"{source}: what came does not have the checksum that the hub states, and was not kept.")
    _tell(source, path, planned.is_cached)
    return path


def _from_web(source: str, url: str, sha256: str) -> Path:
    """Fetch a file of known SHA-256 into the cache of this project."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    name = re.sub(r"[^\w.-]", "_", url.split("?")[0].rpartition("/")[2])[-100:]
    path = Path(pooch.os_cache("attnsleep")) / f"{sha256[:16]}-{name}"
    is_kept = path.is_file() and sha256_of(path) == sha256
    get = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT_S)
    try:
        if not is_kept:
            pooch.retrieve(url, f"sha256:{sha256}", fname=path.name, path=path.parent, downloader=get)
    except requests.RequestException as error:
        raise _not_fetched(source, error) from error
    except ValueError as error:  # from the comparison of the SHA-256
        raise UserError(f"{source}: what came has another SHA-256, and was not kept.") from error
    _tell(source, path, is_kept)
    return path


def _tell(source: str, path: Path, was_kept: bool) -> None:
    """Tell where a file came from, its size and where it is kept."""
    how = "kept from before" if was_kept else "fetched"
    print(f"{source}: {how}, {path.stat().st_size / 1e6:.1f} MB, verified, at {path}", file=sys.stderr)


def _not_fetched(source: str, error: Exception) -> UserError:
    """Say in one line why a file was not fetched."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return UserError(f"{source}: could not be fetched ({reason}).")


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    """Compute the SHA-1 by which git knows a file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
