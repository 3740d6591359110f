import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale import exponent, link

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_the_exponent_of_a_power_of_the_number_of_nights_is_that_power(power):
    assert exponent({n: 3 * n**power for n in (10, 40, 160, 640)}) == pytest.approx(power)


def test_each_recording_is_linked_with_the_hypnogram_of_its_night(tmp_path):
    for name in ("SC4001", "SC4011"):
        for end in ("E0-PSG.edf", "EC-Hypnogram.edf"):
            (tmp_path / f"{name}{end}").write_text(f"{name} {end}")
    folder = link(sorted(tmp_path.glob("*-PSG.edf")), tmp_path / "linked", 3)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        f"n{number:06d}-{kind}.edf": f"{name} {end}"
        for number, name in enumerate(("SC4001", "SC4011", "SC4001"))
        for kind, end in (("PSG", "E0-PSG.edf"), ("Hypnogram", "EC-Hypnogram.edf"))
    }


@pytest.mark.slow
def test_everything_is_measured_for_each_number_of_nights_and_nothing_is_left(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("torch")))  # which torch makes and leaves
    options = ["--nights", "4", "2", "--hours", "2", "--rounds", "1", "--json", str(tmp_path / "figures.json")]
    command = [sys.executable, "-m", "benchmarks.scale", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["figures"].keys() == written["exponents"].keys()
    for name, figures in written["figures"].items():
        assert name in done.stdout
        assert figures.keys() == {"2", "4"}
        assert min(figures.values()) > 0
    memory = written["figures"]["memory with all files mapped, MB"]
    assert all(memory[n] > own for n, own in written["figures"]["own memory, MB"].items())
