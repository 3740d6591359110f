"""Download Sleep-EDF (sleep-cassette) from PhysioNet, or from a mirror of it, and verify every file.

python download_sleep_edf.py --output_dir sleep-cassette --subjects 0-19
"""

import argparse
import hashlib
import re
import shutil
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the script runs from any folder

from prepare_datasets.outcomes import tell  # noqa: E402
from prepare_datasets.preparation import exit_code  # noqa: E402
from prepare_datasets.sleep_edf_files import Record, find_table, missing_nights, read_records  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.files import replacing  # noqa: E402

PHYSIONET = "https://physionet.org/files/sleep-edfx/1.0.0/sleep-cassette/"

TRIES = 3
"""For a file that breaks off or comes with other bytes."""

TIMEOUT_S = 60

AT_ONCE = 8
"""Files whose sizes are asked for at once."""

SPEEDS_MB = (1, 10)
"""Per second: those that the time is told for."""


def main() -> int:
    """Download what is missing; return the exit code."""
    arguments = parse_arguments()
    return download(read_records(find_table()), arguments.subjects, arguments.output_dir, arguments.base_url)


def parse_arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description="Download Sleep-EDF recordings and verify them.")
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, metavar="DIR", help="of the files; those that are there are kept")
    add("--subjects", type=_subjects, metavar="LIST", help="such as 0-19 or 0,3,5-7 (all: 0-82)")
    add("--base_url", default=PHYSIONET, metavar="URL", help="folder of the files on a mirror (%(default)s)")
    return parser.parse_args()


def download(records: Sequence[Record], subjects: Collection[int] | None, output_dir: Path, base_url: str) -> int:
    """Download the files of some subjects that are not there yet.

    Parameters
    ----------
    records : sequence of Record
        All files of the data set.
    subjects : collection of int or None
        None: all.
    output_dir : Path
        Files in it with the published checksum are kept, others of the same name got again.
    base_url : str
        Folder of the files on the server.

    Returns
    -------
    int
        Exit code: 0, or 1 if a file could not be got.

    Raises
    ------
    UserError
        There are no such subjects, the server cannot be reached, or there is no room for the files.
    """
    known = {record.subject for record in records}
    asked = known if subjects is None else set(subjects)
    wanted = [record for record in records if record.subject in asked]
    for note in missing_nights(records, asked):
        tell(note)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output_dir}: {error.strerror}. Pass another --output_dir.") from error
    to_get = [record for record in wanted if not is_whole(output_dir / record.name, record.sha1)]
    for record in to_get:
        if (output_dir / record.name).exists():
            tell(f"{record.name} is here, but not with the published checksum: it is replaced by one that has it.")
    tell(
        f"{len(wanted)} files of {len(asked & known)} subjects, {len(wanted) - len(to_get)} of them here and verified."
    )
    problems: list[str] = []
    if to_get:
        base_url = base_url.rstrip("/") + "/"
        sizes = find_sizes(base_url, [record.name for record in to_get])
        tell_sizes(sizes, base_url, output_dir)
        problems = get_all(to_get, sizes, base_url, output_dir)
    if problems:
        print(f"\nNot downloaded ({len(problems)}):", *(f"  {text}" for text in problems), sep="\n", file=sys.stderr)
        print("The same command tries these again; the others are kept.", file=sys.stderr)
        return 1
    tell(f"All {len(wanted)} files are in {output_dir}: prepare_physionet.py --data_dir {output_dir}")
    return 0


def is_whole(path: Path, sha1: str) -> bool:
    """Tell whether a file is there and has the published checksum."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest() == sha1


def find_sizes(base_url: str, names: Sequence[str]) -> dict[str, int | None]:
    """Ask the server for the sizes of files.

    Returns
    -------
    dict of str to int or None
        Bytes by name, None where the server does not say.

    Raises
    ------
    UserError
        The server cannot be reached.
    """
    import requests  # here, so that --help need not wait for it

    def size(name: str) -> int | None:
        response = requests.head(base_url + name, timeout=TIMEOUT_S, allow_redirects=True)
        said = response.headers.get("content-length", "")
        return int(said) if response.ok and said.isdecimal() else None

    try:
        first = size(names[0])  # alone: if it cannot be had, neither can the others
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(names, [first, *pool.map(size, names[1:])], strict=True))
    except requests.RequestException as error:
        raise UserError(f"{base_url}: cannot be reached ({_reason(error)}). Try again, or pass --base_url.") from error


def tell_sizes(sizes: Mapping[str, int | None], base_url: str, output_dir: Path) -> None:
    """Say how much is going to be downloaded and how long it takes; refuse what the disk has no room for."""
    known = [size for size in sizes.values() if size is not None]
    total, unknown = sum(known), len(sizes) - len(known)
    times = ", ".join(f"{_duration(total / 1e6 / speed)} at {speed} MB/s" for speed in SPEEDS_MB)
    more = f", and {unknown} files whose sizes it does not say" if unknown else ""
    tell(f"To get from {base_url}: {len(known)} files of {_megabytes(total)} together{more}. That takes {times}.")
    free = shutil.disk_usage(output_dir).free
    if free < total:
        raise UserError(f"{output_dir}: {_megabytes(free)} free, but {_megabytes(total)} are needed. Make room.")


def get_all(records: Sequence[Record], sizes: Mapping[str, int | None], base_url: str, output_dir: Path) -> list[str]:
    """Download files one after the other, a line each; return what went wrong, a line each."""
    problems, begin, done = [], time.perf_counter(), 0
    total = sum(size or 0 for size in sizes.values())
    for number, record in enumerate(records, start=1):
        problem = get(base_url + record.name, output_dir / record.name, record.sha1)
        done += sizes[record.name] or 0
        if problem:
            problems.append(f"{record.name}: {problem}")
        seconds = time.perf_counter() - begin
        left = f", {_duration(seconds * (total - done) / done)} left" if done and number < len(records) else ""
        tell(f"{record.name}  {problem or 'verified'}  ({number} of {len(records)}{left})")
    return problems


def get(url: str, path: Path, sha1: str) -> str:
    """Download one file and put it in place if it has the published checksum; return what went wrong, if anything."""
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=TIMEOUT_S)
    problem = ""
    for number in range(TRIES):
        time.sleep(number)
        try:
            with replacing(path) as temporary:
                downloader(url, str(temporary), None)
                if not is_whole(temporary, sha1):
                    raise UserError("the server's file has another checksum than the published one, and was not kept")
            return ""
        except UserError as error:
            problem = str(error)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            problem = f"the server answers {status}"
            if status < 500:
                break  # what is not there, or not allowed, will not be a moment later
        except requests.RequestException as error:
            problem = f"broke off ({_reason(error)})"
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}. Mend that and run the same command again.") from error
    return problem


def _subjects(text: str) -> set[int]:
    """Parse subjects such as `0-19` or `0,3,5-7`."""
    subjects: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise argparse.ArgumentTypeError(f"{text!r} is no list of subjects such as 0-19 or 0,3,5-7")
        subjects |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    return subjects


def _reason(error: Exception) -> str:
    """Return what went wrong with a connection, in short."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())


def _megabytes(n_bytes: int) -> str:
    """Say a size in MB or GB."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    """Say a time in hours and minutes, or in seconds."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(exit_code(main))
