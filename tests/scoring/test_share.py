import json
import shutil
import sys

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint, write_night_context
from safetensors.torch import load_file, save, save_file
from scripts import ROOT, call, contents, run

import utils.shared_networks as shared_networks
from predict import score_recording
from scoring.networks import load_networks
from scoring.share import main
from utils.checkpoint import BEST, load_checkpoint, load_weights, save_checkpoint
from utils.errors import UserError
from utils.shared_networks import read_shared

DATA = {
    0: {"train": {"n1": "1a-2b"}, "valid": {"n2": "3c-4d"}, "test": {"n3": "5e-6f"}},
    1: {"train": {"n3": "5e-6f"}, "valid": {"n2": "3c-4d"}, "test": {"n1": "1a-2b"}},
}


@pytest.fixture
def experiment(tmp_path):
    """Two folds, of which the first one has a night context and a temperature."""
    for fold, data in DATA.items():
        write_checkpoint(tmp_path / f"Exp1/fold_{fold}" / BEST, seed=fold, data=data, temperature=1.5 - fold / 2)
    write_night_context(tmp_path / "Exp1/fold_0")
    return tmp_path / "Exp1"


@pytest.fixture
def signal():
    return (30 * np.random.default_rng(0).standard_normal(6 * 3000)).astype(np.float32)


@pytest.fixture
def shared(experiment, tmp_path):
    """The same in one file."""
    path = tmp_path / "elsewhere/a.safetensors"
    assert call(main, [experiment, "--output", path, "--note", "of three nights"], tmp_path)[0] == 0
    return path


def changed(path, change_card=lambda card: None, change_tensors=lambda tensors: None):
    """Change a file in a way that its SHA-256 does not give away."""
    tensors = load_file(path)
    with shared_networks.safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    change_card(card)
    change_tensors(tensors)
    text = json.dumps(card)
    save_file(tensors, path, {"card": text, "sha256": shared_networks._digest(text, tensors)})
    return path


def test_a_file_scores_as_its_experiment_does_wherever_it_lies(experiment, shared, signal):
    expected = load_networks([experiment]).score(signal, "a")
    shutil.rmtree(experiment)
    scoring = score_recording(signal, str(shared), fs=100)
    np.testing.assert_array_equal(scoring.probabilities, expected.probabilities)


def test_a_file_holds_what_the_checkpoints_of_each_fold_say(experiment, shared):
    folds, card = read_shared(shared)
    for number, fold in enumerate(folds):
        weights, about = load_weights(experiment / f"fold_{number}" / BEST)
        assert fold.about == about
        assert fold.about["temperature"] == 1.5 - number / 2
        assert fold.weights.keys() == weights.keys()
        assert all(torch.equal(fold.weights[name], value) for name, value in weights.items())
    weights, about = load_weights(experiment / "fold_0/context" / BEST)
    assert folds[0].night_context[1] == about | {"data": DATA[0]}
    assert all(torch.equal(folds[0].night_context[0][name], value) for name, value in weights.items())
    assert folds[1].night_context is None
    assert (card["note"], card["licence"], card["fs"]) == ("of three nights", "MIT", 100)


def test_of_a_file_the_fold_that_tested_a_night_scores_it(shared):
    networks = load_networks([shared])
    assert [member.checkpoint["fold"] for member in networks.for_night("n3").members] == [0]
    assert [member.checkpoint["fold"] for member in networks.for_night("renamed", "1a-9").members] == [1]
    assert len(networks.for_night("another").members) == 2


def test_of_averaged_weights_the_average_is_shared(experiment, tmp_path):
    state = load_checkpoint(experiment / "fold_0" / BEST)
    raw = {name: torch.zeros_like(value) for name, value in state["model"].items()}
    save_checkpoint(experiment / "fold_0" / BEST, state | {"averaging": {"raw_model": raw, "n_steps": 9}})
    assert call(main, [experiment, "--output", tmp_path / "averaged.safetensors"], tmp_path)[0] == 0
    own, shared = (load_networks([path]).members[0] for path in (experiment, tmp_path / "averaged.safetensors"))
    for name, value in own.network.state_dict().items():
        assert torch.equal(value, shared.network.state_dict()[name]), name


def test_folders_of_this_machine_are_not_shared(tmp_path):
    config = {"arch": {"type": "AttnSleep", "args": {}}, "trainer": {"save_dir": "/home/anna", "epochs": 3}}
    write_checkpoint(tmp_path / "Exp1/fold_0" / BEST, config=config)
    assert call(main, [tmp_path / "Exp1", "--output", tmp_path / "a.safetensors"], tmp_path)[0] == 0
    card = read_shared(tmp_path / "a.safetensors")[1]
    assert card["config"]["trainer"] == {"epochs": 3}
    assert b"anna" not in (tmp_path / "a.safetensors").read_bytes() + (tmp_path / "README.md").read_bytes()


def test_folds_that_were_configured_otherwise_keep_what_differs(tmp_path):
    for fold in range(2):
        config = {"arch": {"type": "AttnSleep", "args": {}}, "n_gpu": fold}
        write_checkpoint(tmp_path / f"Exp1/fold_{fold}" / BEST, seed=fold, config=config)
    call(main, [tmp_path / "Exp1", "--output", tmp_path / "a.safetensors"], tmp_path)
    assert [fold.about["config"]["n_gpu"] for fold in read_shared(tmp_path / "a.safetensors")[0]] == [0, 1]


def test_the_card_is_shown_and_stands_beside_the_file_with_the_figures_of_the_report(experiment, tmp_path):
    figures = {"label": "tested once", "n": 9, "accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6]}}
    figures["per_class"] = {stage: {"f1": 0.25} for stage in ("W", "N1", "N2", "N3", "REM")}
    report = {"folds": {"finished": [0, 1], "missing": []}, "metrics": ["accuracy"], "per_recording": [{}, {}]}
    report |= {"intervals": {"n_subjects": 2}, "protocols": {"holdout": figures}}
    (experiment / "fold_1/report.json").write_text(json.dumps(report))
    path = tmp_path / "elsewhere/a.safetensors"
    code, out, err = call(main, [experiment, "--output", path], tmp_path)
    assert (code, err) == (0, "")
    assert f"{path}: 2 folds," in out
    text = path.with_name("README.md").read_text()
    assert text.startswith("---\nlicense: mit\n")
    assert "| holdout: tested once | 0.500 [0.400, 0.600] | - | - | 0.250 |" in text
    assert "- Fold 0, training epoch 7, with night context: train n1; valid n2; test n3\n" in text
    assert call(main, ["--show", path], tmp_path) == (0, text, "")


@pytest.mark.parametrize("content", ["{", "[]", '{"metrics": []}'])
def test_a_report_that_cannot_be_read_is_refused_by_name(experiment, tmp_path, content):
    (experiment / "fold_1/report.json").write_text(content)
    code, _, err = call(main, [experiment, "--output", tmp_path / "a.safetensors"], tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert "fold_1/report.json: cannot be read. Write it again: python -m report" in err


def test_what_is_there_is_replaced_only_on_request_and_what_is_foreign_never(experiment, shared, tmp_path):
    before = contents(shared.parent)
    code, _, err = call(main, [experiment, "--output", shared], tmp_path)
    assert code == 1
    assert "a.safetensors" in err
    assert "there already. Pass --overwrite" in err
    assert contents(shared.parent) == before
    assert call(main, [experiment, "--output", shared, "--overwrite"], tmp_path)[0] == 0
    shared.with_name("README.md").write_text("mine")
    shared.unlink()
    code, _, err = call(main, [experiment, "--output", shared, "--overwrite"], tmp_path)
    assert code == 1
    assert "README.md: there already, and not the card of a.safetensors" in err
    assert shared.with_name("README.md").read_text() == "mine"
    assert not shared.exists()


@pytest.mark.parametrize("n_bytes", [0, 4, 100, 20_000])
def test_a_file_that_is_cut_off_is_refused_by_name(shared, n_bytes):
    shared.write_bytes(shared.read_bytes()[:n_bytes])
    with pytest.raises(UserError, match=r"^.*a\.safetensors: damaged[^\n]*$"):
        load_networks([shared])


@pytest.mark.parametrize("share", np.linspace(0.001, 0.999, 12))
def test_a_flipped_bit_anywhere_is_refused_by_name(shared, share):
    content = bytearray(shared.read_bytes())
    content[int(share * len(content))] ^= 4
    shared.write_bytes(content)
    with pytest.raises(UserError, match=r"^.*a\.safetensors: [^\n]*$"):
        load_networks([shared])


def rename(name):
    def change(tensors):
        tensors[name] = tensors.pop("fold_0/network/head.weight")

    return change


LIES = {
    "no card": (lambda card: card.clear(), None, "no card of this project"),
    "a later format": (lambda card: card.update(format=2), None, "its format is 2"),
    "no folds": (lambda card: card.update(folds=[]), None, "names no folds"),
    "a fold twice": (lambda card: card["folds"][1].update(fold=0), None, r"numbers the folds \[0, 0\]"),
    "a fold too many": (lambda card: card["folds"].append(card["folds"][1] | {"fold": 7}), None, "no weights"),
    "a fold too few": (lambda card: card["folds"].pop(), None, "its card does not name, such as fold_1"),
    "no night context": (lambda card: card["folds"][0].update(night_context=None), None, "does not name"),
    "units": (lambda card: card.update(units="V"), None, "its units are 'V'"),
    "stages": (lambda card: card.update(stage_names=["W"]), None, r"its stage_names are \['W'\]"),
    "fs": (lambda card: card.update(fs=-1), None, "its fs is -1 Hz"),
    "another fs": (lambda card: card.update(fs=400), None, "a.safetensors: fold 0: "),
    "a network of another checkout": (
        lambda card: card["config"]["arch"].update(type="TinySleepNet"),
        None,
        "its network 'TinySleepNet' is not in model/model.py, which has AttnSleep",
    ),
    "another network": (lambda card: card["config"]["arch"]["args"].update(d_ff=7), None, "size mismatch"),
    "temperature": (lambda card: card["folds"][1].update(temperature=0), None, "fold 1 the temperature 0"),
    "tested on what it learned": (
        lambda card: card["folds"][0]["data"]["test"].update(renamed="1a-9"),
        None,
        "fold 0 learned from renamed, which it selects or tests on",
    ),
    "tested on what its initial weights learned": (
        lambda card: card["folds"][0]["data"].update(initial={"renamed": "7-7"}, test={"other": "7-8"}),
        None,
        "fold 0 learned from other, which it selects or tests on",
    ),
    "shape": (None, lambda tensors: tensors.update({"fold_0/network/head.weight": torch.zeros(5, 3)}), "head.weight"),
    "type": (
        None,
        lambda tensors: tensors.update({"fold_0/network/head.bias": torch.zeros(5, dtype=torch.int32)}),
        "its head.bias holds torch.int32, not torch.float32",
    ),
    "NaN": (
        None,
        lambda tensors: tensors["fold_1/network/head.bias"].fill_(torch.nan),
        "fold_1/network: head.bias holds NaN",
    ),
    "NaN in the night context": (
        None,
        lambda tensors: tensors["fold_0/context/head.bias"].fill_(torch.nan),
        "fold_0/context: head.bias holds NaN",
    ),
    "another name": (None, rename("fold_0/network/foot.weight"), "foot.weight"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_card_or_weights_that_cannot_be_are_refused_by_name_in_a_line(shared, lie):
    change_card, change_tensors, message = LIES[lie]
    changed(shared, change_card or (lambda card: None), change_tensors or (lambda tensors: None))
    with pytest.raises(UserError, match=message) as refused:
        load_networks([shared])
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(shared))


def test_tensors_alone_are_no_networks(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(save({"a": torch.zeros(3)}))
    with pytest.raises(UserError, match="no card of this project"):
        load_networks([tmp_path / "a.safetensors"])


def test_a_strangers_card_that_cannot_be_shown_is_refused_in_a_line(shared, tmp_path):
    changed(shared, lambda card: card.update(versions=3, name="\x1b[2J"))
    code, out, err = call(main, ["--show", shared], tmp_path)
    assert (code, out) == (1, "")
    assert "its card cannot be shown" in err
    changed(shared, lambda card: card.update(versions={}))
    assert "\x1b" not in call(main, ["--show", shared], tmp_path)[1]


def test_the_script_shares_and_predict_scores_with_the_file_in_another_folder(experiment, tmp_path, make_recording):
    from utils.recording import write_recording

    command = [sys.executable, "-m", "scoring.share"]
    path = tmp_path / "elsewhere/a.safetensors"
    code, out, err = run([*command, experiment, "--output", path], ROOT)
    assert (code, err) == (0, "")
    write_recording(tmp_path / "elsewhere/n3.npz", make_recording())
    predict = [sys.executable, ROOT / "predict.py", "--checkpoint", "a.safetensors", "n3.npz"]
    code, out, err = run(predict, path.parent)
    assert (code, err) == (0, "")
    assert "scored by 1 of 2 networks" in out
    night = json.loads((tmp_path / "elsewhere/scored/n3.json").read_text())
    assert [checkpoint["fold"] for checkpoint in night["model"]["checkpoints"]] == [0]
    path.write_bytes(b"nothing")
    code, out, err = run([*command, "--show", path], ROOT)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "a.safetensors: damaged" in err
