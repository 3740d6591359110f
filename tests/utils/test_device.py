import pytest
import torch

from utils.device import choose_device


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are so many GPUs."""
    return lambda n: monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


@pytest.mark.parametrize(
    ("available", "wanted", "n_gpu", "device"),
    [
        (0, "cpu", 1, "cpu"),
        (0, "cpu", 0, "cpu"),
        (0, "0", 0, "cpu"),
        (2, "0", 1, "cuda:0"),
        (2, "1", 1, "cuda:1"),
        (2, "1", 2, "cuda:1"),
        (2, "cpu", 1, "cpu"),
        (2, "1", 0, "cpu"),
    ],
)
def test_what_is_there_is_used_without_a_remark(gpus, available, wanted, n_gpu, device):
    gpus(available)
    assert choose_device(wanted, n_gpu) == (torch.device(device), [])


@pytest.mark.parametrize(("available", "wanted"), [(0, "0"), (0, "7"), (2, "2")])
def test_a_gpu_that_is_not_there_means_the_cpu_and_one_remark(gpus, available, wanted):
    gpus(available)
    device, remarks = choose_device(wanted, 1)
    assert device == torch.device("cpu")
    assert remarks == [f"GPU {wanted} is not among the {available} GPUs here: using the CPU."]


@pytest.mark.parametrize(("available", "n_gpu", "used"), [(0, 2, "the CPU"), (1, 2, "1"), (2, 4, "1")])
def test_more_gpus_than_are_there_are_reduced_with_a_remark(gpus, available, n_gpu, used):
    gpus(available)
    _, remarks = choose_device("cpu" if available == 0 else "0", n_gpu)
    assert remarks == [f"n_gpu is {n_gpu}, but {available} GPUs are here: using {used}."]


@pytest.mark.parametrize(("there", "device"), [(True, "mps"), (False, "cpu")])
def test_mps_is_used_where_it_is_available(gpus, monkeypatch, there, device):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    chosen, remarks = choose_device("mps", 1)
    assert chosen == torch.device(device)
    assert remarks == ([] if there else ["mps is not available here: using the CPU."])
