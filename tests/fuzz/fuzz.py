"""Coverage-guided fuzzing of one reader; needs the package atheris (pip install atheris).

python tests/fuzz/fuzz.py edf 600     # ten minutes; what is found goes to tests/fuzz/findings/edf
"""

import io
import random
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/recordings"), str(HERE)]

OWN = ["recordings", "utils", "parse_config", "trainer", "scoring", "model.original", "torch._weights_only_unpickler"]
OTHERS = ["zipfile", "csv", "xml.etree", "defusedxml"]

with atheris.instrument_imports(include=OWN + OTHERS):
    from readers import READERS

    from utils.errors import UserError


def mutate_part(content, max_size, seed):
    """Change one part of a zip file and its checksum with it, or, now and then, the bytes of the file."""
    rng = random.Random(seed)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
    except Exception:  # no zip file any more
        parts = {}
    if not parts or rng.random() < 0.1:
        return atheris.Mutate(content, max_size)
    chosen = rng.choice(sorted(parts))
    parts[chosen] = atheris.Mutate(parts[chosen], len(parts[chosen]) + 64)
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for part, inner in parts.items():
            archive.writestr(part, inner)
    return changed.getvalue()[:max_size]


def main():
    name, seconds = sys.argv[1], int(sys.argv[2])
    read, write_seeds, suffix = READERS[name]
    warnings.simplefilter("ignore")
    findings, seen, slowest = HERE / "findings" / name, set(), [0.0, 0]
    work = Path(tempfile.mkdtemp(dir="/dev/shm"))
    (work / "corpus").mkdir()
    write_seeds(work / "corpus")
    path = work / f"night{suffix}"
    for seed in (work / "corpus").iterdir():
        # What reading imports is watched as well, and takes its time once.
        with atheris.instrument_imports(include=OWN + OTHERS), suppress(UserError):
            read(seed)

    def once(content):
        path.write_bytes(content)
        begin = time.perf_counter()
        try:
            read(path)
        except (UserError, OSError) as error:
            if path.name not in str(error):
                keep(content, ("no name", str(error)[:40]), str(error))
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            keep(content, (type(error).__name__, frame.filename, frame.lineno), traceback.format_exc())
        took = time.perf_counter() - begin
        if took > slowest[0]:
            slowest[:] = took, len(content)
            print(f"slowest so far: {took:.3f} s for {len(content)} bytes", file=sys.stderr)

    def keep(content, kind, text):
        if kind not in seen:
            seen.add(kind)
            findings.mkdir(parents=True, exist_ok=True)
            (findings / f"{len(list(findings.iterdir()))}{suffix}").write_bytes(content)
            print(f"finding {kind}:\n{text}", file=sys.stderr)

    limits = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=8192",
        "-print_final_stats=1",
    ]
    arguments = [sys.argv[0], *limits, f"-artifact_prefix={work}/", str(work / "corpus")]
    if name in ("npz", "checkpoint", "network"):
        atheris.Setup(arguments, once, custom_mutator=mutate_part)
    else:
        atheris.Setup(arguments, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
