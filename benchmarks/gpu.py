"""Check training on a GPU and time it beside a textbook implementation on the same card: one table, one JSON.

python -m benchmarks.gpu [--budget SECONDS] [--json FILE]
python -m benchmarks.gpu --device cpu --quick     # tries the benchmark itself, on a machine without a GPU

Each section is a process of its own, with the machine to itself and a time limit; what it found by then counts.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.speed import write_nights
from benchmarks.worker import ROOT

SECTIONS = {
    "machine": 60,
    "agreement": 60,
    "speed": 120,
    "exactness": 90,
    "training_epoch": 90,
    "resume": 120,
    "together": 90,
    "ranks": 60,
    "scoring": 60,
    "compiled": 150,
    "tests": 200,
    "fold": 300,
}
"""What is measured, see `benchmarks.gpu_sections`, in this order, and the seconds that it may take at most."""

RESERVE_S = 5
"""Kept for the table."""

Figures = dict[str, Any]


def measure(names: list[str], arguments: argparse.Namespace, folder: Path) -> Figures:
    """Run sections, one after the other, until the budget is spent; return what they found, by section."""
    end = time.monotonic() + arguments.budget - RESERVE_S
    found: Figures = {}
    for name in names:
        left = end - time.monotonic()
        if left < 1:
            found[name] = {"error": "no time left"}
            continue
        file = folder / f"{name}.json"
        command = [sys.executable, "-m", "benchmarks.gpu_sections", name, str(folder), arguments.device, str(left)]
        process = subprocess.Popen(
            command + (["--quick"] if arguments.quick else []),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"{name}.log").open("w"),
            start_new_session=True,
        )
        begin = time.monotonic()
        try:
            code = process.wait(min(left, SECTIONS[name]))
            ending = "" if code == 0 else f"ended with exit code {code}"
        except subprocess.TimeoutExpired:
            ending = "took too long"
        except BaseException:
            _kill(process)
            raise
        _kill(process)
        found[name] = json.loads(file.read_text()) if file.exists() else {}
        found[name]["seconds"] = time.monotonic() - begin
        if ending:
            log = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            found[name]["error"] = f"{ending}: {log[-1] if log else 'it said nothing'}"
    return found


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a section and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def print_table(found: Figures) -> None:
    """Print all figures, a section after the other."""
    for section, items in found.items():
        print(f"\n{section}")
        for item, figures in items.items():
            values = figures if isinstance(figures, dict) else {"": figures}
            text = ", ".join(f"{key} {_text(value)}".strip() for key, value in values.items())
            print(f"  {item:<32}{text}")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="sizes that try the benchmark and measure nothing")
    parser.add_argument("--budget", type=float, default=440, metavar="SECONDS", help="in all (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        begin = time.monotonic()
        write_nights(folder / "nights", 3 if arguments.quick else 39, 40 if arguments.quick else 1085)
        arguments.budget -= time.monotonic() - begin
        found = measure(arguments.only, arguments, folder)
    print_table(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
