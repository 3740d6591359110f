"""Download Sleep-EDF (sleep-cassette) from PhysioNet, or from a mirror of it, and verify every file.

python prepare_datasets/download_sleep_edf.py --output_dir sleep-cassette --subjects 0-19
"""

import argparse
import csv
import importlib.resources
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from utils.environment import require_packages  # noqa: E402

require_packages()

from prepare_datasets.outcomes import tell  # noqa: E402
from prepare_datasets.preparation import exit_code, make_folder  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.plural import number_of  # noqa: E402

PHYSIONET = "https://physionet.org/files/sleep-edfx/1.0.0/sleep-cassette/"
TABLE = "datasets/sleep_physionet/age_records.csv"
TRIES, TIMEOUT_S = 3, 60
MAX_BYTES = 2**28
"""Largest file that is downloaded, several times the largest one of the data set."""

PLAIN = {"Accept-Encoding": "identity"}
"""Header of the requests: a file comes with the bytes and the size that it has on the server."""


def main() -> int:
    """Download what is missing; return the exit code."""
    parser = argparse.ArgumentParser(description="Download Sleep-EDF recordings and verify them.")
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, metavar="DIR", help="for the files; those that are there are kept")
    add("--subjects", type=_subjects, metavar="LIST", help="such as 0-19 or 0,3,5-7 (default: all, 0-82)")
    add("--base_url", default=PHYSIONET, metavar="URL", help="folder of the files on a mirror (%(default)s)")
    arguments = parser.parse_args()
    return download(published_files(), arguments.subjects, arguments.output_dir, arguments.base_url)


def published_files() -> dict[int, dict[str, str]]:
    """Return the published SHA-1 by subject and file name, from the table in MNE's package."""
    files: dict[int, dict[str, str]] = defaultdict(dict)
    with (importlib.resources.files("mne") / TABLE).open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            files[int(row["subject"])][row["fname"]] = row["sha"]
    return files


def download(
    files: Mapping[int, Mapping[str, str]], subjects: Collection[int] | None, output_dir: Path, base_url: str
) -> int:
    """Download the files of some subjects, or of all, that are not there yet; return the exit code.

    Files that have the published SHA-1 (in `files` by subject and name) are kept. Others of the same name are replaced.
    """
    import pooch  # here, so that --help need not wait for it
    import requests

    subjects = files.keys() if subjects is None else subjects
    here, absent = sorted(files.keys() & set(subjects)), sorted(set(subjects) - files.keys())
    if not here:
        raise UserError(f"--subjects: the data set has {min(files)} to {max(files)}, none of these. Pass others.")
    if absent:
        tell(f"The data set has no subject {', '.join(map(str, absent))}.")
    make_folder(output_dir)
    wanted = {name: sha1 for subject in here for name, sha1 in files[subject].items()}
    there = [name for name in wanted if (output_dir / name).is_file()]
    verified = {name for name in there if pooch.file_hash(output_dir / name, alg="sha1") == wanted[name]}
    missing = [name for name in wanted if name not in verified]
    for name in there:
        if name not in verified:
            tell(f"{name} is here, but not with the published checksum: it is replaced by one that has it.")
    tell(
        f"{number_of(len(wanted), 'file')} of {number_of(len(here), 'subject')}; {len(verified)} are here and verified."
    )
    base_url = base_url.rstrip("/") + "/"
    sizes = _sizes(base_url, missing) if missing else {}
    if missing:
        unknown = list(sizes.values()).count(0)
        rest = f" and {unknown} of unknown size" if unknown else ""
        total = f"{len(missing) - unknown} files of {sum(sizes.values()) / 1e6:.1f} MB{rest}"
        tell(f"{total} to download from {base_url}")
    pooch.get_logger().setLevel("ERROR")
    registry = {name: f"sha1:{sha1}" for name, sha1 in wanted.items()}
    server = pooch.create(output_dir, base_url, registry=registry, retry_if_failed=TRIES - 1)
    get = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_S, chunk_size=1 << 16, headers=PLAIN)

    def get_no_more(url: str, path: str, _: object) -> None:
        """Download a file, but no more of it than the server announced."""
        announced = sizes[url.removeprefix(base_url)]
        with Path(path).open("wb") as file, _url_errors():
            get(url, _Limited(file, min(announced or MAX_BYTES, MAX_BYTES)), None)

    problems = []
    for number, name in enumerate(missing, start=1):
        try:
            server.fetch(name, downloader=get_no_more)
            (output_dir / name).chmod(0o644)  # pooch leaves it to be read by its owner alone
            result = "verified"
        except requests.RequestException as error:
            result = f"not downloaded ({_reason(error)})"
        except ValueError:  # from the comparison of the SHA-1
            result = "the server's file does not have the published checksum, and was not kept"
        except OSError as error:
            raise UserError(f"{output_dir / name}: {error.strerror}. Mend that and run this again.") from error
        if result != "verified":
            problems.append(f"  {name}: {result}")
        tell(f"{name}  {result}  ({number} of {len(missing)})")
    if problems:
        print(f"\nNot downloaded ({len(problems)}):", *problems, sep="\n", file=sys.stderr)
        print("The same command tries these again; the others are kept.", file=sys.stderr)
        return 1
    tell(f"All {len(wanted)} files are in {output_dir}: prepare_physionet.py --data_dir {output_dir}")
    return 0


class _Limited:
    """A file to write to that takes only so many bytes."""

    def __init__(self, file: BinaryIO, n_bytes: int) -> None:
        self._file, self._n_bytes, self._left = file, n_bytes, n_bytes

    def write(self, chunk: bytes) -> None:
        """Write some bytes."""
        from requests import RequestException

        self._left -= len(chunk)
        if self._left < 0:
            raise RequestException(f"the server sends more than the {self._n_bytes} bytes that were expected")
        self._file.write(chunk)

    def flush(self) -> None:
        """Write what waits in the buffer."""
        self._file.flush()


def _sizes(base_url: str, names: Sequence[str]) -> dict[str, int]:
    """Ask the server for the sizes of files in bytes; 0 where it does not say."""
    import requests

    def size(name: str) -> int:
        with _url_errors():
            response = requests.head(base_url + name, timeout=TIMEOUT_S, allow_redirects=True, headers=PLAIN)
        announced = response.headers.get("content-length", "")
        return int(announced) if response.ok and re.fullmatch("[0-9]{1,18}", announced) else 0

    try:
        with ThreadPoolExecutor(8) as pool:
            return dict(zip(names, pool.map(size, names), strict=True))
    except requests.RequestException as error:
        raise UserError(f"{base_url}: cannot be reached ({_reason(error)}). Try again, or pass --base_url.") from error


@contextmanager
def _url_errors() -> Iterator[None]:
    """Say of an address that cannot be followed, such as that of a redirect, that it is one."""
    import requests

    try:
        yield
    except requests.exceptions.InvalidSchema as error:
        url = str(error).rpartition(" found for ")[2]
        raise requests.RequestException(f"it leads to {url}, which is neither http nor https") from error
    except requests.RequestException:
        raise
    except ValueError as error:
        raise requests.RequestException(f"it leads to an address that is none: {error}") from error


def _reason(error: BaseException) -> str:
    """Return the innermost reason of a failed request, in one line."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return " ".join(str(getattr(error, "reason", error)).split())


def _subjects(text: str) -> set[int]:
    """Parse subjects such as `0-19` or `0,3,5-7`."""
    subjects: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise argparse.ArgumentTypeError(f"{text!r} is no list of subjects such as 0-19 or 0,3,5-7")
        subjects |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return subjects


if __name__ == "__main__":
    sys.exit(exit_code(main))
