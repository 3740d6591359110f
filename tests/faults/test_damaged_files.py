"""More than 200 damaged files, made by rule: read, or refused by name, fast and in little memory."""

import multiprocessing
import random
import re
import resource
import time
import warnings
from pathlib import Path

import pytest
from readers import READERS

from utils.errors import UserError

N_BYTES = {
    "edf": 60, "bdf": 20, "annotations": 40, "profusion": 20, "nsrr": 20, "csv": 20, "tsv": 20, "npz": 50, "config": 30,
    "checkpoint": 30, "network": 20,
}  # fmt: skip
"""How many files of each kind get random damage."""

LONGEST_S, LARGEST_BYTES = 10, 2 * 2**30


def random_damage(content, number):
    """Cut, flip, overwrite, double or insert bytes of a file."""
    rng = random.Random(number)
    content, at = bytearray(content), rng.randrange(len(content))
    match number % 6:
        case 0:
            return content[:at]
        case 1:
            content[at] ^= 1 << rng.randrange(8)
        case 2:
            content[at : at + 8] = rng.randbytes(8)
        case 3:
            return content + content[at:]
        case 4:
            content[at:at] = rng.choice([b"\0", b"9" * 8, b"-1", b"<", b'"', b"\xff\xfe", b"1e308", b"{" * 3000])
        case 5:
            del content[at : at + rng.randrange(1, 300)]
    return content


EDF_FIELDS = {
    "start": (168, 16),
    "header bytes": (184, 8),
    "reserved": (192, 44),
    "n records": (236, 8),
    "record seconds": (244, 8),
    "n signals": (252, 4),
    "label": (256, 16),
    "dimension": (256 + 3 * 96, 8),
    "physical minimum": (256 + 3 * 104, 8),
    "digital minimum": (256 + 3 * 120, 8),
    "samples per record": (256 + 3 * 216, 8),
}
EDF_VALUES = ("", "0", "-1", "99999999", "1e300", "nan", "inf", "\0" * 8, "EDF+D", "\xb5", "0x10")


def field_damage(content):
    """Put odd values into every field of a header of three signals."""
    for begin, width in EDF_FIELDS.values():
        for value in EDF_VALUES:
            damaged = bytearray(content)
            damaged[begin : begin + width] = value.encode("latin-1").ljust(width)[:width]
            yield damaged


def write_damaged(name, folder):
    """Write all damaged files of one kind and return their paths."""
    _, write_seeds, suffix = READERS[name]
    seeds = folder / "seeds"
    seeds.mkdir()
    write_seeds(seeds)
    sound = [path.read_bytes() for path in sorted(seeds.iterdir())]
    damaged = [random_damage(sound[number % len(sound)], number) for number in range(N_BYTES[name])]
    damaged += [b"", b"\0" * 1000, b"PK\x03\x04" + b"\0" * 100, b"\xff" * 300]
    damaged += field_damage(sound[0]) if name == "edf" else []
    paths = [folder / f"damaged {number}{suffix}" for number in range(len(damaged))]
    for path, content in zip(paths, damaged, strict=True):
        path.write_bytes(content)
    return paths


def read_all(name, paths, answers):
    """Read files in a process of little memory; send what was wrong with each answer, the slowest, and the memory."""
    warnings.simplefilter("ignore")  # of MNE, on dates
    wrong, times = [], []
    for path in paths:
        begin = time.process_time()
        try:
            READERS[name][0](path)
        except UserError as error:
            wrong += [f"does not name {path.name}: {error}"] if path.name not in str(error) else []
        except BaseException as error:
            wrong.append(f"{path.name}: {error!r}")
        times.append((time.process_time() - begin, path.name))
    answers.put((wrong, max(times), most_memory()))


def most_memory():
    """Most memory that this process ever had, in bytes; not what its parent had when it was made."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])


def test_there_are_more_than_200_of_them(tmp_path):
    assert sum(N_BYTES[name] for name in ("edf", "annotations", "profusion", "nsrr", "npz", "config")) > 200


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_by_name(name, tmp_path):
    paths = write_damaged(name, tmp_path)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=read_all, args=(name, paths, answers))
    process.start()
    wrong, (slowest_s, slowest), n_bytes = answers.get(timeout=120)
    process.join()
    print(f"{name}: {len(paths)} files, slowest {slowest_s:.2f} s ({slowest}), {n_bytes / 2**20:.0f} MB at most")
    assert wrong == []
    assert slowest_s < LONGEST_S
    assert n_bytes < LARGEST_BYTES
