"""The recorded training step, with a stub in place of the GPU's graph: it runs the step into the same tensors again."""

import contextlib
import gc
import random
import re
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from data_loader.data_loaders import Batches, SleepEpochs, find_recordings
from model import metric
from model.loss import ClassAwareLoss, FocalLoss
from model.model import AttnSleep
from trainer.recorded_step import WARM_UP, CudaGraph, RecordedStep, obstacle
from trainer.trainer import Trainer
from utils.checkpoint import load_checkpoint
from utils.device import CPU
from utils.errors import UserError


class StubGraph:
    """As a graph: recording runs nothing, and a replay reads the inputs and overwrites the outputs."""

    def __init__(self):
        self.calls = []

    def run(self, step, batch):
        self.calls.append("run")
        return step(*batch)

    def record(self, step, inputs, optimizer):
        self.calls.append("record")
        self.step, self.inputs = step, inputs
        self.outputs = (torch.zeros(1), torch.zeros(len(inputs[1]), dtype=torch.int64))
        return self.outputs

    def replay(self):
        self.calls.append("replay")
        for own, value in zip(self.outputs, self.step(*self.inputs), strict=True):
            own.copy_(value)


class Network(nn.Module):
    """Few numbers, all that a network has: weights, batch norm, dropout."""

    recordable = True

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3000, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 5)
        )

    def forward(self, signal):
        return self.layers(0.01 * signal)


@pytest.fixture
def make(prepared, tmp_path):
    """Make a trainer on thirty sleep epochs in batches of four, whose step is recorded with a stub or not."""
    data = SleepEpochs(find_recordings(prepared("a", "b", "c", "d")), CPU, resident=True)

    def make(name, graph=None, epochs=4, averaging=None):
        torch.manual_seed(0)
        model = Network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        trainer = Trainer(
            model,
            optimizer,
            torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], 0.1),
            criterion=nn.CrossEntropyLoss(),
            metrics={"accuracy": metric.accuracy},
            train_batches=Batches(data, data.indices(["a", "b", "c"]), 4, shuffle=True),
            evaluation_batches=Batches(data, data.indices(["d"]), 4, shuffle=False),
            precision="fp32",
            cuda_graph=True,
            evaluated_set="test",
            directory=tmp_path / name,
            epochs=epochs,
            save_period=2,
            monitor="max accuracy",
            early_stop=None,
            seed=1,
            about={},
            averaging=averaging,
        )
        if graph:
            trainer.recorded = RecordedStep(optimizer, graph)
        return trainer

    return make


def final(tmp_path, name):
    """Weights, optimizer and history of a run, without its times."""
    state = load_checkpoint(tmp_path / name / "checkpoint-last.pth")
    times = ("seconds", "sleep_epochs_per_s")
    history = [{key: value for key, value in row.items() if key not in times} for row in state["history"]]
    moments = [value for of_one in state["optimizer"]["state"].values() for value in of_one.values()]
    raw_weights = state.get("averaging", {}).get("raw_model", {})
    return [*state["model"].values(), *raw_weights.values(), *moments], state["optimizer"]["param_groups"], history


def assert_same(one, other):
    assert all(torch.equal(*both) for both in zip(one[0], other[0], strict=True))
    assert one[1:] == other[1:]


@pytest.mark.parametrize("averaging", [None, 0.99])
def test_a_recorded_run_is_to_the_bit_the_run_as_it_is(make, tmp_path, averaging):
    make("plain", averaging=averaging).train()
    make("recorded", graph := StubGraph(), averaging=averaging).train()
    assert_same(final(tmp_path, "plain"), final(tmp_path, "recorded"))
    # Thirty sleep epochs are seven batches of four and one of two; the scheduler changes the rate once.
    assert graph.calls.count("run") == WARM_UP + 4
    assert graph.calls.count("record") == 2
    assert graph.calls.count("replay") == 4 * 7 - WARM_UP


@pytest.mark.parametrize("averaging", [None, 0.99])
def test_a_recorded_run_that_was_stopped_goes_on_to_the_bit(make, tmp_path, averaging):
    make("plain", averaging=averaging).train()
    make("stopped", StubGraph(), epochs=3, averaging=averaging).train()
    trainer = make("stopped", graph := StubGraph(), averaging=averaging)
    trainer.resume()
    trainer.train()
    assert_same(final(tmp_path, "plain"), final(tmp_path, "stopped"))
    assert graph.calls == ["run"] * WARM_UP + ["record"] + ["replay"] * 4 + ["run"]


def test_on_a_cpu_nothing_is_recorded(make):
    assert make("plain").recorded is None


def test_a_trainer_is_gone_with_its_last_name_whether_its_step_is_recorded_or_not(make):
    # A graph that is freed later, while another one is recorded, breaks it.
    gc.collect()
    for graph in (None, StubGraph()):
        trainer = make("plain", graph)
        trainer.train_pass(1)
        network = weakref.ref(trainer.model)
        if graph:
            graph.step = None  # which a real graph does not keep
        del trainer
        assert network() is None


class Subclass(AttnSleep):
    """Says nothing of being recordable, whatever its base class says: its forward may be another."""


class OwnLoss(nn.CrossEntropyLoss):
    pass


FUSED = {"fused": True}


@pytest.mark.parametrize(
    ("network", "criterion", "optimizer", "arguments", "reason"),
    [
        (AttnSleep, nn.CrossEntropyLoss(), torch.optim.Adam, FUSED, "^$"),
        (AttnSleep, ClassAwareLoss([1] * 5), torch.optim.AdamW, FUSED, "^$"),
        (AttnSleep, FocalLoss(), torch.optim.SGD, {"lr": 0.1}, "^$"),
        (AttnSleep, nn.CrossEntropyLoss(), torch.optim.Adam, {}, "Adam is not fused"),  # it counts steps on the CPU
        (AttnSleep, nn.CrossEntropyLoss(), torch.optim.Adagrad, {}, "Adagrad is not fused"),
        (Subclass, nn.CrossEntropyLoss(), torch.optim.Adam, FUSED, "Subclass does not say recordable = True"),
        (AttnSleep, OwnLoss(), torch.optim.Adam, FUSED, "OwnLoss does not say"),
    ],
)
def test_what_does_not_say_that_it_does_the_same_each_time_is_not_recorded(
    network, criterion, optimizer, arguments, reason
):
    model = network()
    assert re.search(reason, obstacle(model, criterion, optimizer(model.parameters(), **arguments)))


@pytest.fixture
def stream(monkeypatch):
    """Put stubs in the place of torch's streams and graphs; the latter end as `ending` does."""
    endings = [contextlib.nullcontext()]
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: endings[0])
    return endings


class Broken:
    """As torch's recording after an error: it raises one of its own."""

    def __enter__(self):
        assert not gc.isenabled()

    def __exit__(self, *_):
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def optimizer_of_two():
    return torch.optim.Adam([nn.Parameter(torch.zeros(2))], fused=True)


def raising(error):
    def step(*_):
        raise error

    return step


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), random.random, np.random.rand])
def test_a_step_that_draws_on_the_cpu_is_not_recorded(stream, draw):
    with pytest.raises(UserError, match="it draws random numbers on the CPU.* Pass --set trainer.cuda_graph=false"):
        CudaGraph().record(lambda: draw(), [], optimizer_of_two())


def test_a_step_that_cannot_be_recorded_is_refused_with_the_first_reason_and_memory_is_told_as_such(stream):
    stream[0], optimizer = Broken(), optimizer_of_two()
    with pytest.raises(UserError, match="as a CUDA graph: not permitted when stream is capturing. Pass --set"):
        CudaGraph().record(raising(RuntimeError("not permitted when stream is capturing.")), [], optimizer)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        CudaGraph().record(raising(torch.OutOfMemoryError("Tried to allocate")), [], optimizer)
    assert gc.isenabled()
    assert optimizer.param_groups[0]["capturable"] is False


def test_the_optimizer_is_capturable_while_its_step_is_recorded_alone(stream):
    optimizer = optimizer_of_two()
    outputs = CudaGraph().record(lambda: (optimizer.param_groups[0]["capturable"],), [], optimizer)
    assert outputs == (True,)
    assert optimizer.param_groups[0]["capturable"] is False


class Synchronisations(TorchDispatchMode):
    """Counts the operations for whose values a GPU would be waited for."""

    n = 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal"}
        self.n += operation.overloadpacket.__name__ in waits
        return operation(*arguments, **(keywords or {}))


def synchronisations(trainer, monkeypatch):
    """Count what a training pass waits for; copies to the CPU count as well."""
    with Synchronisations() as mode, monkeypatch.context() as patch:
        for name in ("cpu", "numpy", "tolist"):
            method = getattr(torch.Tensor, name)

            def counted(tensor, *arguments, method=method):
                mode.n += 1
                return method(tensor, *arguments)

            patch.setattr(torch.Tensor, name, counted)
        trainer.train_pass(1)
    return mode.n


@pytest.mark.parametrize("graph", [None, StubGraph()], ids=["as it is", "recorded"])
def test_the_steps_of_a_training_pass_wait_for_no_value_of_the_device(make, monkeypatch, graph):
    trainer = make("plain", graph, averaging=0.99)
    monkeypatch.setattr(trainer.average, "fit_statistics", lambda batches: None)  # comes after the steps
    of_eight = synchronisations(trainer, monkeypatch)
    trainer.train_batches.indices = trainer.train_batches.indices.repeat(5)
    assert len(trainer.train_batches) == 38
    assert synchronisations(trainer, monkeypatch) == of_eight > 0  # of its end: loss, stages, predictions


def test_a_step_that_waits_for_a_value_is_counted(make, monkeypatch):
    class Waits(nn.CrossEntropyLoss):
        def forward(self, logits, stages):
            loss = super().forward(logits, stages)
            return loss * (1 if loss.item() > 0 else 2)

    trainer = make("plain")
    quiet = synchronisations(trainer, monkeypatch)
    trainer.criterion = Waits()
    assert synchronisations(trainer, monkeypatch) == quiet + 8
