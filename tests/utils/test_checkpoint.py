import os
import pickle
from pathlib import Path

import pytest
import torch

from utils.checkpoint import BEST, LAST, load_checkpoint, newest_first, numbered, save_checkpoint
from utils.errors import UserError

STATE = {
    "train_epoch": 3,
    "model": {"weight": torch.arange(500.0), "n": torch.tensor(2)},
    "about": {"fs": 100, "stage_names": ["W", "N1"], "config": {"lr": 1e-3, "none": None}},
    "history": [{"lr": 0.1}],
}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / LAST, STATE)
    return tmp_path / LAST


def test_a_checkpoint_comes_back_to_the_bit(path):
    state = load_checkpoint(path)
    assert torch.equal(state["model"].pop("weight"), STATE["model"]["weight"])
    assert state["model"] == {"n": torch.tensor(2)}
    assert {key: state[key] for key in ("train_epoch", "about", "history")} == {
        key: STATE[key] for key in ("train_epoch", "about", "history")
    }


def test_saving_replaces_in_one_move_and_leaves_nothing_else(path):
    save_checkpoint(path, STATE | {"train_epoch": 4})
    assert load_checkpoint(path)["train_epoch"] == 4
    assert [file.name for file in path.parent.iterdir()] == [LAST]


def test_what_cannot_be_saved_leaves_the_old_checkpoint(path):
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, STATE | {"function": lambda: None})
    assert load_checkpoint(path)["train_epoch"] == 3
    assert [file.name for file in path.parent.iterdir()] == [LAST]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_off_is_refused_by_name(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"{LAST}: no checkpoint that can be read"):
        load_checkpoint(path)


def test_a_flipped_bit_anywhere_is_refused_or_does_no_harm(path):
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 17):
        damaged = bytearray(content)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        try:
            state = load_checkpoint(path)
        except UserError as error:
            assert LAST in str(error)  # noqa: PT017 (most positions raise, some do not)
            refused += 1
        else:
            assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
            assert state["train_epoch"] == 3
    assert refused > len(content) / 17 / 2


def test_a_flipped_bit_in_the_weights_is_told_as_damage(path):
    content = bytearray(path.read_bytes())
    content[content.find(STATE["model"]["weight"].numpy().tobytes()) + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{LAST}: damaged \(its part .*data.* has another checksum"):
        load_checkpoint(path)


class Payload:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_a_pickle_with_a_payload_is_refused_and_not_run(path, tmp_path, kind):
    victim = tmp_path / "victim"
    if kind == "torch":
        torch.save(STATE | {"extra": Payload(victim)}, path)
    else:
        path.write_bytes(pickle.dumps(STATE | {"extra": Payload(victim)}))
    with pytest.raises(UserError, match=rf"{LAST}: no checkpoint that can be read"):
        load_checkpoint(path)
    assert not victim.exists()
    if kind == "torch":  # the payload itself works
        torch.load(path, weights_only=False)
        assert victim.exists()


@pytest.mark.parametrize(
    "state", [{"state_dict": {}}, [1, 2], {"model": {}, "about": {}}, {"model": {}, "train_epoch": 1}, torch.zeros(3)]
)
def test_what_another_program_saved_is_refused(path, state):
    torch.save(state, path)
    with pytest.raises(UserError, match=rf"{LAST}: no checkpoint of this project"):
        load_checkpoint(path)


def test_a_checkpoint_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="nothing.pth: no such checkpoint"):
        load_checkpoint(tmp_path / "nothing.pth")


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no checkpoint that can be read"):
        load_checkpoint(tmp_path)


def test_the_newest_checkpoint_comes_first_and_numbers_are_numbers(tmp_path):
    for name in (numbered(30), numbered(100), numbered(9), LAST, BEST, "checkpoint-epoch30 (copy).pth", "metrics.csv"):
        (tmp_path / name).touch()
    (tmp_path / f".writing-{numbered(101)}").touch()
    os.utime(tmp_path / numbered(9))
    assert [path.name for path in newest_first(tmp_path)] == [LAST, numbered(100), numbered(30), numbered(9)]


def test_without_a_last_one_the_numbered_ones_are_there(tmp_path):
    (tmp_path / numbered(2)).touch()
    assert [path.name for path in newest_first(tmp_path)] == ["checkpoint-epoch2.pth"]


def test_a_folder_that_is_not_there_has_no_checkpoints(tmp_path):
    assert list(newest_first(tmp_path / "nowhere")) == []
