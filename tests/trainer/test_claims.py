import json
import re

import pytest
import torch

from trainer.claims import check_checkpoint, claim
from utils.checkpoint import BEST, LAST, load_checkpoint, numbered, save_checkpoint
from utils.errors import UserError

CONFIG = {
    "name": "Exp1",
    "n_gpu": 1,
    "seed": 123,
    "arch": {"type": "AttnSleep", "args": {"n_heads": 5, "activation": "gelu"}},
    "loss": {"type": "ClassAwareLoss"},
    "lr_scheduler": None,
    "optimizer": {"type": "Adam", "args": {"lr": 0.001}},
    "data_loader": {"args": {"num_folds": 2, "subject_pattern": None}},
    "trainer": {"epochs": 5, "save_dir": "saved", "verbosity": 2},
}
DATA = {"train": {"a": "1-2", "b": "3-4"}, "valid": {}, "test": {"c": "5-6"}}


def changed(key, value):
    config = json.loads(json.dumps(CONFIG))
    *groups, last = key.split(".")
    group = config
    for name in groups:
        group = group[name]
    group[last] = value
    return config


# Whose folder it is


@pytest.fixture
def fold(tmp_path):
    """Folder of fold 0 of an experiment, claimed, with results in it."""
    directory = tmp_path / "Exp1" / "fold_0"
    claim(directory, CONFIG, DATA, overwrite=False)
    for name in ("metrics.csv", LAST, BEST, numbered(3), "predictions.npz", "info.log", "notes.txt"):
        (directory / name).write_text("earlier")
    return directory


def names(directory):
    return {path.name for path in directory.iterdir()}


def test_claiming_writes_what_the_fold_is_made_with(tmp_path):
    claim(tmp_path / "Exp1" / "fold_0", CONFIG, DATA, overwrite=False)
    assert json.loads((tmp_path / "Exp1" / "fold_0" / "config.json").read_text()) == CONFIG
    assert json.loads((tmp_path / "Exp1" / "fold_0" / "data.json").read_text()) == DATA


def test_the_same_configuration_and_data_may_go_on(fold):
    before = {path.name: path.read_bytes() for path in fold.iterdir()}
    claim(fold, CONFIG, DATA, overwrite=False)
    assert {path.name: path.read_bytes() for path in fold.iterdir()} == before


@pytest.mark.parametrize(("key", "value"), [("n_gpu", 0), ("trainer.save_dir", "/elsewhere"), ("trainer.verbosity", 0)])
def test_what_does_not_change_a_result_may_change(fold, key, value):
    claim(fold, changed(key, value), DATA, overwrite=False)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("seed", 1, "seed: 123 -> 1"),
        ("optimizer.args.lr", 0.01, "optimizer.args.lr: 0.001 -> 0.01"),
        ("trainer.epochs", 6, "trainer.epochs: 5 -> 6"),
        ("data_loader.args.subject_pattern", "(a)", 'data_loader.args.subject_pattern: null -> "(a)"'),
    ],
)
@pytest.mark.parametrize("other", ["fold_0", "fold_1"])
def test_a_name_that_was_used_with_another_configuration_is_refused_in_every_fold(fold, key, value, line, other):
    before = {path.name: path.read_bytes() for path in fold.iterdir()}
    with pytest.raises(UserError) as caught:
        claim(fold.with_name(other), changed(key, value), DATA, overwrite=False)
    first, *lines, last = str(caught.value).splitlines()
    assert first == f"{fold} holds a run with another configuration:"
    assert lines == [f"  {line}"]
    own = "--overwrite to replace that run" if other == "fold_0" else "replace all folds: --fold_id all --overwrite"
    assert last == f"Take another name (--set name=...), or {own}."
    assert {path.name: path.read_bytes() for path in fold.iterdir()} == before
    assert names(fold.parent) == {"fold_0"}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (DATA | {"test": {"c": "7-8"}}, 'test.c: "5-6" -> "7-8"'),
        (DATA | {"train": {"a": "1-2"}}, 'train.b: "3-4" -> null'),
        (DATA | {"train": {"a": "1-2", "b": "3-4", "d": "9-9"}}, 'train.d: null -> "9-9"'),
    ],
)
def test_a_name_that_was_used_with_other_data_is_refused(fold, data, line):
    with pytest.raises(UserError, match="holds a run with other data:") as caught:
        claim(fold, CONFIG, data, overwrite=False)
    assert f"  {line}" in str(caught.value).splitlines()


def test_a_checksum_of_an_earlier_version_that_goes_less_far_is_of_the_same_data(fold):
    longer = {"train": {"a": "1-2-9-ofcc", "b": "3-4-9"}, "valid": {}, "test": {"c": "5-6-9"}}
    claim(fold, CONFIG, longer, overwrite=False)
    with pytest.raises(UserError, match="train.a: .1-2. -> .1-7-9."):
        claim(fold, CONFIG, longer | {"train": {"a": "1-7-9", "b": "3-4-9"}}, overwrite=False)


def test_another_fold_may_have_the_same_recordings_in_other_sets(fold):
    other = {"train": {"a": "1-2", "c": "5-6"}, "valid": {}, "test": {"b": "3-4"}}
    claim(fold.with_name("fold_1"), CONFIG, other, overwrite=False)
    with pytest.raises(UserError, match='b: "3-4" -> "0-0"'):
        claim(fold.with_name("fold_2"), CONFIG, other | {"test": {"b": "0-0"}}, overwrite=False)


def test_many_differences_are_cut_short(fold):
    with pytest.raises(UserError) as caught:
        claim(fold, CONFIG, DATA | {"train": {f"n{number:02d}": "x" for number in range(30)}}, overwrite=False)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 10 + 1 + 1
    assert lines[-2] == "  and 22 more"


def test_overwriting_removes_the_results_of_the_fold_and_nothing_else(fold):
    other = fold.with_name("fold_1")
    claim(other, CONFIG, DATA, overwrite=False)
    (other / "predictions.npz").write_text("kept")
    claim(fold, changed("n_gpu", 3), DATA, overwrite=True)
    assert names(fold) == {"config.json", "data.json", "info.log", "notes.txt"}
    assert json.loads((fold / "config.json").read_text())["n_gpu"] == 3
    assert names(other) == {"config.json", "data.json", "predictions.npz"}


def test_overwriting_one_fold_cannot_mix_two_configurations(fold):
    claim(fold.with_name("fold_1"), CONFIG, DATA, overwrite=False)
    before = names(fold)
    with pytest.raises(UserError, match="seed: 123 -> 1"):
        claim(fold, changed("seed", 1), DATA, overwrite=True)
    assert names(fold) == before


@pytest.mark.parametrize("name", ["config.json", "data.json"])
@pytest.mark.parametrize("content", ["", '{"seed": ', "[1]"])
def test_a_damaged_note_of_an_earlier_run_is_refused_with_the_remedy(fold, name, content):
    (fold / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name}: cannot be read .* Pass --overwrite to start this fold afresh"):
        claim(fold, CONFIG, DATA, overwrite=False)
    claim(fold, CONFIG, DATA, overwrite=True)


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_results_that_nothing_tells_the_origin_of_are_refused(fold, name):
    (fold / name).unlink()
    with pytest.raises(UserError, match=f"holds results, but no {name} that tells how they were made"):
        claim(fold, CONFIG, DATA, overwrite=False)


# Checkpoints that do not fit


@pytest.fixture
def checkpoint(tmp_path):
    """Write a checkpoint of fold 3; what it says besides can be changed."""

    def write(**changes):
        about = {"fold": 3, "config": CONFIG, "data": DATA} | changes
        save_checkpoint(tmp_path / LAST, {"train_epoch": 1, "model": {"w": torch.zeros(1)}, "about": about})
        return tmp_path / LAST

    return write


def test_a_checkpoint_of_the_same_fold_on_the_same_recordings_will_do(checkpoint):
    check_checkpoint(checkpoint(), 3, CONFIG, DATA)
    check_checkpoint(
        checkpoint(), 3, changed("trainer.verbosity", 0) | {"name": "Other", "context": {"epochs": 8}}, DATA
    )


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("seed", 1, "seed: 123 -> 1"),
        ("arch.args.n_heads", 2, "arch.args.n_heads: 5 -> 2"),
        ("arch.args.activation", "relu", 'arch.args.activation: "gelu" -> "relu"'),
        ("loss", {"type": "FocalLoss"}, 'loss.type: "ClassAwareLoss" -> "FocalLoss"'),
        ("trainer.epochs", 9, "trainer.epochs: 5 -> 9"),
        ("optimizer.args.lr", 0.01, "optimizer.args.lr: 0.001 -> 0.01"),
        ("optimizer", {"type": "SGD", "args": {"lr": 0.001}}, 'optimizer.type: "Adam" -> "SGD"'),
        ("lr_scheduler", {"type": "StepLR", "args": {"step_size": 3}}, "lr_scheduler: null -> "),
        ("data_loader.args.num_folds", 10, "data_loader.args.num_folds: 2 -> 10"),
    ],
)
def test_a_checkpoint_that_was_trained_in_another_way_is_refused(checkpoint, key, value, line):
    with pytest.raises(UserError, match=f"{LAST} was trained in another way(.|\n)*{re.escape(line)}"):
        check_checkpoint(checkpoint(), 3, changed(key, value), DATA)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"train": {"a": "1-2", "c": "5-6"}}, DATA, "was trained on subjects that are in the test set .*: c\\."),
        ({"train": {"x": "5-6"}}, DATA, "was trained on subjects that are in the test set .*: c"),  # by its signal
        ({"valid": {"c": "5-6"}}, DATA, "was selected on subjects that are in the test set"),
        ({"train": {"c": "5-6"}}, DATA | {"valid": {"c": "5-6"}, "test": {}}, "was trained on .* in the valid set"),
        ({"train": {"SC4051E0": "8"}}, DATA | {"test": {"SC4052E0": "9"}}, "in the test set .*: SC4052E0"),
        ({"test": {"d": "7-8"}}, DATA, "test.c: null -> .5-6.(.|\n)*test.d: .7-8. -> null"),
        ({"test": {"c": "5-7"}}, DATA, "test.c: .5-7. -> .5-6."),
    ],
)
def test_a_checkpoint_of_other_recordings_is_refused_by_name(checkpoint, before, now, message):
    with pytest.raises(UserError, match=message):
        check_checkpoint(checkpoint(data=DATA | before), 3, CONFIG, now)


def test_a_checkpoint_of_another_fold_of_the_same_recordings_is_refused(checkpoint):
    with pytest.raises(UserError, match="fold: 3 -> 4"):
        check_checkpoint(checkpoint(), 4, CONFIG, DATA)


def test_a_checkpoint_without_its_recordings_is_believed_with_the_note_beside_it_alone(checkpoint):
    path = checkpoint()
    save_checkpoint(path, load_checkpoint(path) | {"about": {"fold": 3, "config": CONFIG}})
    with pytest.raises(UserError, match="does not say which recordings it was trained on, and no data.json beside it"):
        check_checkpoint(path, 3, CONFIG, DATA)
    path.with_name("data.json").write_text(json.dumps(DATA))
    check_checkpoint(path, 3, CONFIG, DATA)


@pytest.mark.parametrize("about", [{"data": []}, {"data": {"train": 3}}, {"config": 7}, {"config": {}, "data": {}}])
def test_a_checkpoint_that_says_nonsense_of_itself_is_refused(checkpoint, about):
    with pytest.raises(UserError, match="what it says of itself cannot be understood|was trained in another way"):
        check_checkpoint(checkpoint(**about), 3, CONFIG, DATA)
