"""Numbers that go bad, and sets in which something is missing."""

import csv
import re

import numpy as np
import pytest
import torch
from scripts import ROOT, settings, train, write_nights

from trainer.configuration import read_config
from utils.recording import Recording, write_recording


def arguments(nights, fold=0, **changes):
    return ["--fold_id", fold, "--device", "cpu", "--np_data_dir", nights, *settings(**changes)]


def write_night(folder, name, stages):
    stages = np.asarray(stages)
    signal = np.random.default_rng(len(name)).normal(0, 30, (len(stages), 3000)).astype(np.float32)
    write_recording(folder / f"{name}.npz", Recording(signal, stages, 100, "EEG Fpz-Cz", np.arange(len(stages))))


def test_a_loss_that_goes_bad_stops_with_the_recordings_and_the_last_good_checkpoint(tmp_path):
    nights = write_nights(tmp_path / "npz")
    growing = {"lr_scheduler": {"type": "ExponentialLR", "args": {"gamma": 1e30}}}
    code, _, err = train(*arguments(nights, **growing), cwd=tmp_path)
    assert code == 1
    assert re.search(r"training epoch 2.*(step \d+ of \d+: the loss is (nan|inf)|the loss of the test set is)", err), (
        err
    )
    if "step" in err and "The batch" in err:
        assert re.search(r"The batch is of (SC40\w+(, )?)+\.", err)
    assert re.search(r"The last good checkpoint is .*fold_0/checkpoint-last.pth", err)
    state = torch.load(tmp_path / "saved/Exp1/fold_0/checkpoint-last.pth", weights_only=True)
    assert state["train_epoch"] == 1
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sets_that_lack_stages_and_a_recording_of_one_sleep_epoch_train_and_are_said(tmp_path):
    nights = tmp_path / "npz"
    write_night(nights, "a", [0, 1, 2, 4] * 4 + [0])  # 17 and 1: batches of 8, 8 and 1
    write_night(nights, "b", [0])
    write_night(nights, "c", [3, 3, 3])
    changes = {"data_loader__args__num_folds": 3, "trainer__epochs": 1}
    code, _, err = train(*arguments(nights, "all", **changes), cwd=tmp_path)
    assert code == 0, err
    log = "".join((tmp_path / f"saved/Exp1/fold_{fold}/info.log").read_text() for fold in range(3))
    assert "No N3 in the recordings to train on." in log
    assert "No W, N1, N2, REM in the recordings to test on." in log
    assert "nan" not in log
    with (tmp_path / "saved/Exp1/fold_2/metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    assert all(np.isfinite(float(value)) for value in row.values())
    assert (tmp_path / "saved/Exp1/fold_2/report.html").is_file()


@pytest.mark.parametrize("changes", [[], ["arch.args.afr=false"], ["data_loader.args.context=[1, 1]"]])
def test_a_batch_of_one_sleep_epoch_trains(changes):
    config = read_config(ROOT / "config.json", changes)
    network = config.init_obj("arch", fs=100, n_sleep_epochs=config.n_sleep_epochs).train()
    loss = network(torch.randn(1, 1, 3000 * config.n_sleep_epochs)).square().sum()
    loss.backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
