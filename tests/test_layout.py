"""How the project's files may lean on each other, read off their import statements."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.configuration import read_config
from utils.config_fields import FIELDS, OPTIONAL

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("utils", "model", "base", "data_loader", "recordings", "prepare_datasets", "trainer", "report", "scoring")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in (".", *ROOMS)
    for path in sorted((ROOT / room).glob("*.py"))
}
MAY_IMPORT = {
    "utils": {"utils"},
    "parse_config": {"utils"},
    "model": {"utils"},
    "base": {"utils"},
    "data_loader": {"utils"},
    "recordings": {"utils"},
    "prepare_datasets": {"utils", "recordings"},
    "trainer": {"utils", "parse_config", "model", "base", "data_loader"},
    "report": {"utils", "model"},
    "report.__main__": {"utils", "report", "scoring"},  # a script, and nobody's library: it may join two rooms
    "scoring": {"utils", "model", "data_loader", "recordings"},
}
SCRIPTS = {name for name, path in MODULES.items() if "if __name__ ==" in path.read_text(encoding="utf-8")}


def imported(name):
    """Every module that `name` imports anywhere in its text, by full name; names that it takes from one, too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by dots"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(names):
    return {name for name in names if name in MODULES}


def reached(name):
    """Everything that importing `name` can import, through the project's own modules."""
    done, left = set(), {name}
    while left:
        module = left.pop()
        done.add(module)
        if module in MODULES:
            left |= imported(module) - done
    return done


def test_the_rooms_are_found():
    assert {"utils.errors", "model.model", "trainer.fold", "parse_config", "train_Kfold_CV"} <= MODULES.keys()
    assert {"train_Kfold_CV", "prepare_datasets.prepare_physionet", "prepare_datasets.prepare_shhs"} <= SCRIPTS
    assert "utils.recording" in imported("data_loader.data_loaders")
    assert "torch.nn" in reached("trainer.fold")


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in MAY_IMPORT])
def test_imports_point_one_way(name):
    room = name.split(".")[0]
    rooms = {module.split(".")[0] for module in own(imported(name))}
    assert rooms <= MAY_IMPORT.get(name, MAY_IMPORT[room]) | ({room} if room != "parse_config" else set())


@pytest.mark.parametrize("name", MODULES)
def test_scripts_are_imported_by_nobody(name):
    allowed = {"report.report"}  # a library whose command line is python -m report.report
    assert own(imported(name)) & SCRIPTS <= allowed


@pytest.mark.parametrize("name", MODULES)
def test_nothing_leans_on_the_benchmarks_or_the_tests(name):
    assert not {module.split(".")[0] for module in imported(name)} & {"benchmarks", "tests"}


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in ("prepare_datasets", "recordings")])
def test_preparation_never_needs_torch(name):
    assert not {module for module in reached(name) if module.split(".")[0] == "torch"}


def test_the_configuration_is_read_without_torch():
    assert "torch" not in {module.split(".")[0] for module in reached("parse_config")}


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("mne", {"recordings.reader", "recordings.hypnogram_arrays"}),
        ("matplotlib", {"utils.drawing", "scoring.picture", "report.plots"}),
        ("pickle", set()),
        ("pooch", {"prepare_datasets.download_sleep_edf", "scoring.fetching"}),
        ("huggingface_hub", {"scoring.fetching"}),
        ("safetensors", {"utils.shared_networks"}),
    ],
)
def test_a_library_is_imported_behind_its_door_alone(library, doors):
    assert {name for name in MODULES if library in {module.split(".")[0] for module in imported(name)}} <= doors


@pytest.mark.parametrize("name", MODULES)
def test_users_meet_no_assert(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("name", MODULES)
def test_data_sets_are_not_told_by_their_path_and_code_is_not_run_from_data(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__"}


def leaves(values, prefix=""):
    for key, value in values.items():
        if f"{prefix}{key}" not in FIELDS and isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_config_json_has_every_known_key_but_the_optional_ones_and_no_other():
    optional = {key for key in FIELDS if key.split(".")[0] in OPTIONAL}
    assert set(leaves(json.loads((ROOT / "config.json").read_text()))) == FIELDS.keys() - optional
    of_blocks = (read_config(ROOT / f"configs/{name}.json", []).values for name in ("night_context", "fine_tune"))
    assert {key for values in of_blocks for key in leaves(values)} == FIELDS.keys()


def test_every_key_of_the_configuration_is_read_by_the_code():
    texts = [path.read_text(encoding="utf-8") for name, path in MODULES.items() if name != "utils.config_fields"]
    strings = {node.value for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    for key in FIELDS.keys() - {"name", "trainer.save_dir"}:  # which ConfigParser.experiment_dir reads
        assert {key, key.split(".")[-1]} & strings, key


def test_every_configuration_has_a_name_of_its_own():
    names = [read_config(path, [])["name"] for path in (ROOT / "configs").glob("*.json")]
    assert len(set(names)) == len(names)


HELP = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code
print("exit code", code, "torch" in sys.modules)
"""


@pytest.mark.parametrize(("script", "option"), [("train_Kfold_CV.py", "--fold_id"), ("predict.py", "--checkpoint")])
def test_help_does_not_wait_for_torch(tmp_path, script, option):
    shown = subprocess.run(
        [sys.executable, "-c", HELP, ROOT / script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines()[-1] == "exit code 0 False"
    assert option in shown.stdout
    assert list(tmp_path.iterdir()) == []
