import numpy as np
import pytest
import torch

from benchmarks import levers, textbook
from benchmarks.speed import Worker, write_edf, write_nights


def test_the_textbook_network_gives_the_golden_logits(shared):
    with np.load(shared / "reference" / "golden" / "attnsleep_100hz.npz") as npz:
        golden = {name: torch.from_numpy(npz[name]) for name in npz.files}
    network = textbook.AttnSleep().eval()
    weights = {name.removeprefix("weights/"): value for name, value in golden.items() if name.startswith("weights/")}
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    with torch.inference_mode():
        logits = network(golden["x"])
    torch.testing.assert_close(logits.double(), golden["logits"], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    return write_nights(tmp_path_factory.mktemp("benchmark") / "nights", 1)


@pytest.mark.parametrize("implementation", ["ours", "textbook"])
@pytest.mark.parametrize("task", ["train", "evaluate", "load"])
def test_every_task_is_timed(nights, task, implementation):
    worker = Worker(task, implementation, nights, threads=1, batch_size=4)
    timed = worker.run()
    worker.close()
    assert timed.seconds > 0
    assert timed.peak_bytes >= 0


def test_both_implementations_prepare_the_same_night(tmp_path):
    folder = write_edf(tmp_path / "edf", hours=2)
    for implementation in ("ours", "textbook"):
        worker = Worker("prepare", implementation, folder)
        worker.run()
        worker.close()
    with np.load(folder / "ours.npz") as ours, np.load(folder / "textbook.npz") as theirs:
        assert np.array_equal(ours["y"], theirs["y"])
        np.testing.assert_allclose(ours["x"], theirs["x"], rtol=0, atol=1e-4)


def test_a_network_without_the_levers_computes_the_same(nights):
    from model.model import AttnSleep

    torch.manual_seed(0)
    network, signal = AttnSleep().eval(), 20 * torch.randn(4, 1, 3000)
    with torch.inference_mode():
        logits = network(signal)
        for name in levers.WITHOUT:
            with levers.without(name):
                torch.testing.assert_close(
                    network(signal), logits, atol=2e-5, rtol=0, msg=lambda text, n=name: n + text
                )
