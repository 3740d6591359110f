"""The benchmark of a GPU, tried on a CPU."""

import json
import subprocess
import sys
import time

import pytest
from scripts import ROOT

from benchmarks.gpu import SECTIONS
from benchmarks.gpu_sections import SECTIONS as CLASSES


def benchmark(tmp_path, *arguments):
    """Run the benchmark; return what it printed, its JSON and its seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--json", tmp_path / "gpu.json"]
    begin = time.monotonic()
    process = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begin
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout, json.loads((tmp_path / "gpu.json").read_text()), seconds


def errors(found):
    return {name: items for name, items in found.items() if "error" in items or "error" in str(items.values())}


def test_each_section_has_its_limit_and_its_class():
    assert list(SECTIONS) == list(CLASSES)


def test_sections_give_figures_in_a_table_and_as_json(tmp_path):
    table, found, _ = benchmark(tmp_path, "--only", "machine", "agreement", "ranks", "training_epoch")
    assert errors(found) == {}
    assert found["agreement"]["hz_100"]["fp32"] == found["ranks"]["one_rank"]["difference"] == 0
    assert found["agreement"]["hz_125"]["bf16"] > 1e-5
    assert found["training_epoch"]["bf16"]["20x100_min"] > 0
    assert all(section in table for section in ("machine", "agreement", "ranks", "training_epoch"))


def test_it_ends_within_its_budget_and_says_what_is_missing(tmp_path):
    _, found, seconds = benchmark(tmp_path, "--only", "machine", "compiled", "scoring", "--budget", "14")
    assert seconds < 14
    assert found["machine"]["memory"]["TB/s"] > 0
    assert found["compiled"]["error"].startswith("took too long")
    assert found["scoring"]["error"] == "no time left"


def test_an_item_that_fails_costs_no_other_section(tmp_path):
    # What is scored is trained by the section `resume`, which is left out.
    _, found, _ = benchmark(tmp_path, "--only", "scoring", "machine")
    assert "no such checkpoint" in found["scoring"]["night"]["error"]
    assert found["machine"]["memory"]["TB/s"] > 0


@pytest.mark.slow
def test_all_of_it_works(tmp_path):
    _, found, _ = benchmark(tmp_path)
    assert list(found) == list(SECTIONS)
    assert errors(found) == {}
    assert found["resume"] == found["resume"] | {"fp32": {"exit_code": 143, "difference": 0}}
    assert found["exactness"]["fp32"] == {"run_twice": 0, "recorded_or_not": 0}
    assert found["tests"]["of_training"]["exit_code"] == 0
