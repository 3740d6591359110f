import itertools
import os
import subprocess
import sys
import warnings

import pytest
import torch
from scripts import ROOT

from utils.device import CPU, alone_on, choose_devices, device_errors, device_of_rank, divide, make_current
from utils.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are so many GPUs, and that torch can use them."""

    def pretend(n, usable=True):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0 and usable)

    return pretend


@pytest.fixture
def rank(monkeypatch):
    """Pretend that torchrun started this process as one of several on this machine."""

    def pretend(number, n_ranks):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(n_ranks))

    return pretend


def names(teams):
    return [",".join(str(device).removeprefix("cuda:") for device in team) for team in teams]


@pytest.mark.parametrize(
    ("available", "wanted", "n_gpu", "teams"),
    [
        (0, "cpu", 1, ["cpu"]),
        (0, "cpu", 0, ["cpu"]),
        (0, "0", 0, ["cpu"]),
        (0, "0,1", 0, ["cpu"]),
        (2, "cpu", 2, ["cpu"]),
        (2, "1", 0, ["cpu"]),
        (2, "0", 1, ["0"]),
        (2, "1", 1, ["1"]),
        (2, "1", 2, ["1,0"]),
        (8, "0", 4, ["0,1,2,3"]),
        (8, "5", 2, ["5,0"]),
        (4, "0,1,2,3", 1, ["0", "1", "2", "3"]),
        (4, "3,1", 1, ["3", "1"]),
        (4, "2,2,1", 1, ["2", "1"]),
        (4, "0,1,2,3", 2, ["0,1", "2,3"]),
        (4, "0,1,2", 2, ["0,1", "2"]),
    ],
)
def test_what_is_there_is_used_in_teams_of_n_gpu_without_a_word(gpus, log, available, wanted, n_gpu, teams):
    gpus(available)
    assert names(choose_devices(wanted, n_gpu)) == teams
    assert log.messages == []


@pytest.mark.parametrize(
    ("available", "wanted", "remark"),
    [
        (0, "0", "GPU 0 is not among the 0 GPUs here: using the CPU."),
        (0, "7", "GPU 7 is not among the 0 GPUs here: using the CPU."),
        (2, "2", "GPU 2 is not among the 2 GPUs here: using the CPU."),
        (0, "0,1,2,3", "GPU 0, 1, 2, 3 are not among the 0 GPUs here: using the CPU."),
        (2, "4,5", "GPU 4, 5 are not among the 2 GPUs here: using the CPU."),
    ],
)
def test_gpus_that_are_not_there_mean_the_cpu_once_and_that_is_said(gpus, log, available, wanted, remark):
    gpus(available)
    assert choose_devices(wanted, 1) == [[torch.device("cpu")]]
    assert log.messages == [remark]


@pytest.mark.parametrize(
    ("wanted", "teams", "missing"), [("0,1,2", ["0", "1"], "GPU 2 is"), ("3,1,2", ["1"], "GPU 3, 2 are")]
)
def test_where_some_of_the_listed_gpus_are_there_those_are_used_and_that_is_said(gpus, log, wanted, teams, missing):
    gpus(2)
    assert names(choose_devices(wanted, 1)) == teams
    assert log.messages == [f"{missing} not among the 2 GPUs here: using GPU {', '.join(teams)}."]


@pytest.mark.parametrize(
    ("available", "wanted", "n_gpu", "used"),
    [(1, "0", 2, "GPU 0"), (2, "0", 4, "GPU 0, 1"), (8, "0,1", 4, "GPU 0, 1")],
)
def test_more_gpus_than_are_there_are_reduced_and_that_is_said(gpus, log, available, wanted, n_gpu, used):
    gpus(available)
    choose_devices(wanted, n_gpu)
    assert log.messages == [f"n_gpu is {n_gpu}, but only {used} can be used."]


@pytest.mark.parametrize(("there", "device"), [(True, "mps"), (False, "cpu")])
def test_mps_is_used_where_it_is_available(gpus, monkeypatch, log, there, device):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    assert names(choose_devices("mps", 1)) == [device]
    assert log.messages == ([] if there else ["mps is not available here: using the CPU."])


@pytest.mark.parametrize(
    ("available", "wanted", "n_gpu", "devices"),
    [
        (2, "0", 1, ["0", "1"]),  # torchrun was told how many, whatever n_gpu says
        (4, "2,3", 1, ["2", "3"]),
        (4, "0,1,2,3", 4, ["0", "1"]),
        (4, "0", 0, ["cpu", "cpu"]),
        (4, "cpu", 2, ["cpu", "cpu"]),
    ],
)
def test_each_rank_has_its_own_gpu_or_all_the_cpu(gpus, rank, available, wanted, n_gpu, devices):
    gpus(available)
    for number in (0, 1):
        rank(number, 2)
        device = device_of_rank(wanted, n_gpu)
        assert names([[device]]) == [devices[number]]


def test_ranks_without_any_gpu_use_the_cpu(gpus, rank):
    gpus(0)
    rank(1, 2)
    assert device_of_rank("0", 1) == torch.device("cpu")


def test_more_ranks_than_gpus_are_refused(gpus, rank):
    gpus(2)
    rank(0, 3)
    with pytest.raises(UserError, match="3 processes here, but there are 2 devices .* --nproc_per_node 2"):
        device_of_rank("0", 1)


@pytest.mark.parametrize(
    ("teams", "jobs", "n_folds", "workers"),
    [
        (["0"], 1, 20, ["0"]),
        (["cpu"], 2, 20, ["cpu", "cpu"]),
        (["0", "1", "2", "3"], 1, 20, ["0", "1", "2", "3"]),
        (["0", "1", "2", "3"], 1, 2, ["0", "1"]),
        (["0", "1"], 4, 20, ["0", "1", "0", "1"]),
        (["0", "1"], 1, 0, []),
    ],
)
def test_every_team_trains_a_fold_and_more_jobs_share_them(teams, jobs, n_folds, workers):
    assert divide(teams, jobs, n_folds) == workers


def test_a_gpu_whose_driver_is_too_old_for_torch_is_refused(gpus, monkeypatch):
    def is_available():
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (found 12010).", stacklevel=1)
        return False

    gpus(1)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    with pytest.raises(UserError, match=r"There is a GPU, but torch .* driver .* too old .* or pass --device cpu\.$"):
        choose_devices("0", 1)
    assert choose_devices("cpu", 1) == [[CPU]]


def test_every_process_makes_its_gpu_the_current_one_and_asks_for_algorithms_that_repeat(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    make_current(CPU)
    assert (current, torch.backends.cudnn.deterministic) == ([], False)
    make_current(torch.device("cuda", 3))
    assert (current, torch.backends.cudnn.deterministic) == ([torch.device("cuda", 3)], True)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8 GiB"
            ),
            "^Memory is short: CUDA out of memory.* Train fewer folds at once, set data_loader.args.resident or tra",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "^Memory is short: MPS backend"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), "^Memory is "),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "^Memory is short",
        ),
        (
            torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be"),
            "^The GPU failed: CUDA error: unspecified launch failure. The same command goes on after .* --device cpu",
        ),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "^On the GPU: .*An index is out of range"),
        (torch.AcceleratorError("CUDA error: no kernel image is available"), "^On the GPU: .*Install the torch that"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "^The GPU failed: cuDNN error"),
    ],
)
def test_what_torch_says_of_a_device_becomes_one_line_with_what_to_do(error, message):
    with pytest.raises(UserError, match=message) as caught, device_errors():
        raise error
    assert "\n" not in str(caught.value)


def test_errors_in_the_code_of_a_network_stay_as_they_are():
    error = RuntimeError("Expected all tensors to be on the same device, but found at least two, cuda:0 and cpu!")
    with pytest.raises(RuntimeError, match="Expected all tensors") as caught, device_errors():
        raise error
    assert caught.value is error


def test_a_device_whose_memory_is_short_says_so_really():
    with pytest.raises(UserError, match=r"^Memory is short: .*allocate memory"), device_errors():
        torch.empty(2**50)


LOOK = """
import sys, time, torch, types
from utils.device import alone_on
torch.cuda.get_device_properties = lambda device: types.SimpleNamespace(uuid="of-a-test")
print("ready", flush=True)
sys.stdin.readline()
with alone_on(torch.device("cuda", 0)):
    begin = time.monotonic()
    time.sleep(0.2)
    print(begin, time.monotonic())
"""


def test_processes_that_start_at_once_look_for_memory_on_a_gpu_one_after_the_other(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    processes = [subprocess.Popen([sys.executable, "-c", LOOK], cwd=ROOT, env=environment, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    times = sorted(tuple(map(float, process.communicate("\n")[0].split())) for process in processes)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(times))
    assert len(times) == 3


def test_a_cpu_is_shared_without_a_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with alone_on(CPU):
        assert list(tmp_path.iterdir()) == []
