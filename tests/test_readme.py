"""README.md and docs/: their code and their commands do what they say."""

import argparse
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCKS = [
    block
    for text in (README, *(page.read_text(encoding="utf-8") for page in PAGES))
    for block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
]
CHANGE = README.partition("## Change the experiment")[2].partition("\n## ")[0]
COMMANDS = [
    line.partition(" #")[0].strip()
    for kind, block in BLOCKS
    if kind == "bash"
    for line in block.splitlines()
    if re.match(r"(python |torchrun|\./batch_train\.sh)", line)
]
FURTHER = {"report": "report/__main__.py", "train_Kfold_CV.py": "train_Kfold_CV.py", "predict.py": "predict.py"}


class ParsedError(Exception):
    """The command line was understood."""


def script_and_arguments(command):
    """Find the Python script of a command of the README, and what it is given."""
    words = shlex.split(command.replace("saved/*", "saved/A"))
    if words[0] == "./batch_train.sh":
        return "train_Kfold_CV.py", ["--fold_id", "all", "--device", words[1], "--np_data_dir", *words[2:]]
    if words[:2] == ["python", "-m"]:
        return f"{words[2].replace('.', '/')}{'' if '.' in words[2] else '/__main__'}.py", words[3:]
    name = next(word for word in words if word.endswith(".py"))
    return name, words[words.index(name) + 1 :]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if "my_nights.py" not in command])
def test_every_command_is_understood_by_its_script(command, monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *arguments):
        parse(parser, *arguments)
        raise ParsedError

    script, arguments = script_and_arguments(command)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.syspath_prepend(str(ROOT))
    with pytest.raises(ParsedError):
        runpy.run_path(str(ROOT / script), run_name="__main__")


def test_a_network_a_loss_a_metric_and_a_data_set_go_through_training_report_scoring_and_export(tmp_path):
    """The code of the section goes into a copy of the project as it tells, and its commands are run there."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        if not name.startswith("tests/") and (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    for code in re.findall(r"```python\n(# (\S+)\n.*?)```", CHANGE, re.DOTALL):
        with (tmp_path / code[1]).open("a") as file:
            file.write(f"\n\n{code[0]}")
    commands = re.search(r"```bash\n(.*?)```", CHANGE, re.DOTALL)[1]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads((tmp_path / "saved/tiny/fold_3/report.json").read_text())
    figures = report["protocols"]["released"]
    assert figures["accuracy"] > 0.8
    assert figures["intervals"]["n1_f1"][0] <= figures["n1_f1"] <= figures["intervals"]["n1_f1"][1]
    assert (tmp_path / "scored/subject0.csv").read_text().count("\n") == 61
    assert (tmp_path / "tiny.onnx").is_file()
