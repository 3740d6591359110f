"""Download Sleep-EDF (sleep-cassette) from PhysioNet, or from a mirror of it, and verify every file.

python download_sleep_edf.py --output_dir sleep-cassette --subjects 0-19
"""

import argparse
import csv
import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from prepare_datasets.outcomes import tell  # noqa: E402
from prepare_datasets.preparation import exit_code, make_folder  # noqa: E402
from utils.errors import UserError  # noqa: E402

PHYSIONET = "https://physionet.org/files/sleep-edfx/1.0.0/sleep-cassette/"
TABLE = "datasets/sleep_physionet/age_records.csv"
"""Table of the published files in MNE's package."""

TRIES = 3
"""Tries for each file."""

TIMEOUT_S = 60
SIZES_AT_ONCE = 8


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
    """Return the published SHA-1 by subject and file name."""
    package = importlib.util.find_spec("mne")  # found, not imported, which takes a second
    if package is None or package.origin is None:
        raise UserError("mne is not installed. Install requirements.txt.")
    files: dict[int, dict[str, str]] = defaultdict(dict)
    with (Path(package.origin).parent / TABLE).open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            files[int(row["subject"])][row["fname"]] = row["sha"]
    return files


def download(
    files: Mapping[int, Mapping[str, str]], subjects: Collection[int] | None, output_dir: Path, base_url: str
) -> int:
    """Download the files of some subjects that are not there yet.

    Parameters
    ----------
    files : mapping of int to mapping of str to str
        SHA-1 by subject and file name.
    subjects : collection of int or None
        None: all.
    output_dir : Path
        Files in it that have the published SHA-1 are kept. Others of the same name are replaced.
    base_url : str
        Folder of the files on the server.

    Returns
    -------
    int
        Exit code: 0, or 1 if a file could not be downloaded.

    Raises
    ------
    UserError
        The data set has none of the subjects, the server cannot be reached, or a file cannot be written.
    """
    import pooch  # here, so that --help need not wait for it
    import requests

    subjects = files.keys() if subjects is None else subjects
    here, absent = sorted(files.keys() & set(subjects)), sorted(set(subjects) - files.keys())
    if not here:
        raise UserError(
            f"--subjects: the data set has none of these; it has {min(files)} to {max(files)}. Pass others."
        )
    if absent:
        tell(f"The data set has no subject {', '.join(map(str, absent))}.")
    make_folder(output_dir)
    wanted = {name: sha1 for subject in here for name, sha1 in files[subject].items()}
    missing = [name for name, sha1 in wanted.items() if not _is_whole(output_dir / name, sha1)]
    tell(f"{len(wanted)} files of {len(here)} subjects; {len(wanted) - len(missing)} are here and verified.")
    base_url = base_url.rstrip("/") + "/"
    if missing:
        tell(f"{total_size(base_url, missing)} to download from {base_url}")
    pooch.get_logger().setLevel("ERROR")
    server = pooch.create(
        output_dir, base_url, registry={n: f"sha1:{sha1}" for n, sha1 in wanted.items()}, retry_if_failed=TRIES - 1
    )
    get = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_S, chunk_size=1 << 16)
    problems = []
    for number, name in enumerate(missing, start=1):
        try:
            server.fetch(name, downloader=get)
            result = "verified"
        except requests.RequestException as error:
            result = f"not downloaded ({_reason(error)})"
        except ValueError:  # from the comparison of the SHA-1
            result = "the server's file does not have the published checksum, and was not kept"
        except OSError as error:
            raise UserError(
                f"{output_dir / name}: {error.strerror}. Mend that and run the same command again."
            ) from error
        if result != "verified":
            problems.append(f"  {name}: {result}")
        tell(f"{name}  {result}  ({number} of {len(missing)})")
    if problems:
        print(f"\nNot downloaded ({len(problems)}):", *problems, sep="\n", file=sys.stderr)
        print("The same command tries these again; the others are kept.", file=sys.stderr)
        return 1
    tell(f"All {len(wanted)} files are in {output_dir}: prepare_physionet.py --data_dir {output_dir}")
    return 0


def total_size(base_url: str, names: Sequence[str]) -> str:
    """Ask the server how large files are, and return what they are together.

    Raises
    ------
    UserError
        The server cannot be reached.
    """
    import requests

    def size(name: str) -> int:
        response = requests.head(base_url + name, timeout=TIMEOUT_S, allow_redirects=True)
        return int(response.headers.get("content-length", 0)) if response.ok else 0

    try:
        with ThreadPoolExecutor(SIZES_AT_ONCE) as pool:
            sizes = list(pool.map(size, names))
    except requests.RequestException as error:
        raise UserError(f"{base_url}: cannot be reached ({_reason(error)}). Try again, or pass --base_url.") from error
    unknown = f" and {sizes.count(0)} of unknown size" if 0 in sizes else ""
    return f"{len(names) - sizes.count(0)} files of {sum(sizes) / 1e6:.1f} MB{unknown}"


def _is_whole(path: Path, sha1: str) -> bool:
    """Tell whether a file is there and has this SHA-1."""
    import pooch

    return path.is_file() and pooch.file_hash(path, alg="sha1") == sha1


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
