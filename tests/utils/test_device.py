import pytest
import torch

from utils.device import choose_devices, device_of_rank, divide
from utils.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are so many GPUs."""
    return lambda n: monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


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
def test_each_rank_has_its_own_gpu_or_all_the_cpu(gpus, rank, monkeypatch, available, wanted, n_gpu, devices):
    gpus(available)
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    for number in (0, 1):
        rank(number, 2)
        device = device_of_rank(wanted, n_gpu)
        assert names([[device]]) == [devices[number]]
        assert device.type == "cpu" or current[-1] == device


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
