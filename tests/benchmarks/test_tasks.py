import numpy as np
import pytest
import torch

from benchmarks import levers, tasks
from benchmarks.speed import write_edf, write_nights
from benchmarks.worker import compare, run, seconds_of, worker
from model.model import AttnSleep


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("benchmark") / "nights", 1)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(tasks, "BATCH_SIZE", 4)


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        ("train", ("ours", "fp32", 4)),
        ("train", ("textbook",)),
        ("evaluate", ("ours", "bf16")),
        ("evaluate", ("textbook",)),
        ("load", ("ours",)),
        ("load", ("textbook",)),
    ],
)
def test_every_task_can_be_run_again_and_again(nights, task, arguments):
    one = getattr(tasks, task)(nights, *arguments)
    one()
    one()


def test_a_task_is_timed_in_a_process_of_its_own(nights):
    with worker("train", nights, "ours", "fp32", 4, threads=1) as process:
        assert process.submit(run).result().seconds > 0
        assert seconds_of(process) > 0


def test_measures_take_turns_and_the_first_round_does_not_count():
    order = []

    def measure(name):
        order.append(name)
        return len(order)

    assert compare({name: lambda name=name: measure(name) for name in "ab"}, rounds=3) == {"a": 5, "b": 6}
    assert order == [*"abababab"]


def test_both_implementations_prepare_the_same_night(tmp_path):
    folder = write_edf(tmp_path / "edf", hours=2)
    for implementation in ("ours", "textbook"):
        tasks.prepare(folder, implementation)()
    with np.load(folder / "ours.npz") as ours, np.load(folder / "textbook.npz") as theirs:
        assert np.array_equal(ours["y"], theirs["y"])
        np.testing.assert_allclose(ours["x"], theirs["x"], rtol=0, atol=1e-4)


def test_a_network_without_the_levers_computes_the_same():
    torch.manual_seed(0)
    network, signal = AttnSleep().eval(), 20 * torch.randn(4, 1, 3000)
    with torch.inference_mode():
        logits = network(signal)
        for name in levers.WITHOUT:
            with levers.without(name):
                torch.testing.assert_close(network(signal), logits, atol=2e-5, rtol=0)
