"""What only a machine with a GPU shows; elsewhere these tests are skipped."""

import os
import re
import signal

import pytest
import torch
from scripts import ROOT, TRAIN, run, settings, start, wait_until, write_nights

from data_loader.data_loaders import Batches, SleepEpochs, find_recordings
from data_loader.folds import Fold
from model.model import AttnSleep
from model.night_context import NightGRU
from train_Kfold_CV import make_trainer
from trainer.configuration import read_config
from trainer.recorded_step import RecordedStep
from utils.checkpoint import load_checkpoint
from utils.device import allow_tf32, make_current

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
GPU = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0")}


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("nights"))


def train(nights, name, *arguments, **changes):
    words = [*TRAIN, "--device", "0", "--fold_id", "0", "--np_data_dir", nights]
    return [*words, *settings(name=name, trainer__epochs=4, data_loader__args__batch_size=4, **changes), *arguments]


def weights(tmp_path, name):
    return load_checkpoint(tmp_path / f"saved/{name}/fold_0/checkpoint-last.pth")["model"]


def stop_after_the_first_training_epoch(command, tmp_path, name, **environment):
    log = tmp_path / f"saved/{name}/fold_0/info.log"
    process = start(command, tmp_path, **environment)
    wait_until(process, lambda: log.exists() and "train epoch 1/" in log.read_text())
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return log


def assert_same(one, other):
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("fs", [100, 125])
def test_the_logits_are_those_of_the_cpu(fs):
    make_current(torch.device("cuda", 0))
    allow_tf32(False)
    torch.manual_seed(0)
    network, signal = AttnSleep(fs).eval(), 20 * torch.randn(8, 1, 30 * fs)
    with torch.inference_mode():
        torch.testing.assert_close(network.cuda()(signal.cuda()).cpu(), network.cpu()(signal), rtol=0, atol=2e-5)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_recorded_run_is_the_run_as_it_is_also_after_a_stop(nights, tmp_path, precision):
    words = {"trainer__precision": precision, "lr_scheduler__args__milestones": "[2]"}  # recorded twice
    assert run(train(nights, "recorded", **words), tmp_path, **GPU)[0] == 0
    assert run(train(nights, "plain", trainer__cuda_graph="false", **words), tmp_path, **GPU)[0] == 0
    assert_same(weights(tmp_path, "recorded"), weights(tmp_path, "plain"))
    log = stop_after_the_first_training_epoch(train(nights, "stopped", **words), tmp_path, "stopped", **GPU)
    assert run(train(nights, "stopped", **words), tmp_path, **GPU)[0] == 0
    assert_same(weights(tmp_path, "recorded"), weights(tmp_path, "stopped"))
    assert "on cuda:0." in log.read_text()


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_all_folds_are_recorded_one_after_the_other(nights, tmp_path, optimizer):
    arguments = '{"lr": 0.001, "momentum": 0.9}' if optimizer == "SGD" else '{"fused": true}'
    words = train(
        nights, "all", "--fold_id", "all", "--set", f'optimizer={{"type": "{optimizer}", "args": {arguments}}}'
    )
    code, _, err = run(words, tmp_path, **GPU)
    assert code == 0, err
    assert "not recorded" not in err
    assert (tmp_path / "saved/all/fold_2/report.json").exists()


def test_a_batch_that_does_not_fit_ends_the_fold_with_what_to_do(nights, tmp_path):
    arguments = train(nights, "large", data_loader__args__context="[20,20]", arch__args__n_heads=1)
    script = (
        "import os, sys, torch, runpy; sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0])); "
        "torch.cuda.set_per_process_memory_fraction(1e-3, 0); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    code, _, err = run([arguments[0], "-c", script, *arguments[1:]], tmp_path, **GPU)
    assert code == 1
    assert "Traceback" not in err
    assert re.search("Memory is short: CUDA out of memory.* take a smaller data_loader.args.batch_size", err)


@pytest.mark.parametrize(("first", "then"), [({}, GPU), (GPU, {})], ids=["from_the_cpu", "to_the_cpu"])
def test_a_stopped_run_goes_on_on_another_device(nights, tmp_path, first, then):
    words = train(nights, "onward")
    stop_after_the_first_training_epoch(words, tmp_path, "onward", **first)
    code, _, err = run(words, tmp_path, **then)
    assert code == 0, err
    assert "train epoch 4/4" in err


def test_the_night_context_reads_packed_windows(nights, tmp_path):
    words = train(
        nights, "night", "--set", 'context={"epochs": 2, "model": {"type": "NightGRU", "args": {"n_layers": 2}}}'
    )
    code, _, err = run(words, tmp_path, **GPU)
    assert code == 0, err
    assert "Night context: best pass" in err


def test_the_dropout_between_the_layers_of_the_night_follows_the_seed():
    torch.manual_seed(0)
    network = NightGRU(n_layers=2, n_inputs=6).cuda().train()
    windows = torch.nn.utils.rnn.pack_sequence([torch.randn(5, 6, device="cuda")])
    outputs = []
    for _ in range(2):
        torch.manual_seed(1)
        outputs.append(network(windows))
    assert torch.equal(*outputs)


def test_all_signals_are_on_the_gpu_and_its_step_is_recorded(nights):
    data = SleepEpochs(find_recordings(nights), torch.device("cuda", 0))
    assert data.index_device.type == "cuda"
    signal, stages = next(iter(Batches(data, data.indices(list(data.outlines)), 4, shuffle=True)))
    assert signal.device == stages.device == torch.device("cuda", 0)
    names = tuple(data.outlines)
    trainer = make_trainer(read_config(ROOT / "config.json", []), Fold(0, names[1:], (), names[:1]), data, nights)
    assert isinstance(trainer.recorded, RecordedStep)
