"""The devices that folds are trained on."""

import torch

from utils import ranks
from utils.errors import UserError

CPU = torch.device("cpu")


def choose_devices(wanted: str, n_gpu: int) -> tuple[list[list[torch.device]], list[str]]:
    """Turn the user's choice into devices that are there, in teams that train a fold each.

    Parameters
    ----------
    wanted : str
        Numbers of GPUs (`0` or `0,1,2,3`), `cpu` or `mps`. One number is the first of `n_gpu` GPUs. GPUs that are not
        there mean the CPU if none is.
    n_gpu : int
        GPUs that the configuration asks for in a team; 0 means the CPU.

    Returns
    -------
    teams : list of list of torch.device
        At least one; each has `n_gpu` GPUs, the last one perhaps fewer, or is the CPU or mps alone.
    remarks : list of str
        What was not as wanted, for the log.
    """
    if wanted == "cpu" or n_gpu == 0:
        return [[CPU]], []
    if wanted == "mps":
        if torch.backends.mps.is_available():
            return [[torch.device("mps")]], []
        return [[CPU]], ["mps is not available here: using the CPU."]
    available = torch.cuda.device_count()
    listed = list(dict.fromkeys(int(number) for number in wanted.split(",")))
    there = [number for number in listed if number < available]
    if len(there) == len(listed) == 1:
        there = [*there, *(number for number in range(available) if number not in there)][:n_gpu]
    remarks = []
    if n_gpu > max(len(there), 1):
        where = "listed" if 1 < len(listed) < available else "here"
        count = len(listed) if where == "listed" else available
        remarks.append(f"n_gpu is {n_gpu}, but {count} GPUs are {where}: using {len(there) or 'the CPU'}.")
    if missing := [str(number) for number in listed if number not in there]:
        remarks.append(
            f"GPU {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not among the {available} GPUs here: "
            f"using {'GPU ' + ', '.join(map(str, there)) if there else 'the CPU'}."
        )
    gpus = [torch.device("cuda", number) for number in there]
    return [gpus[begin : begin + n_gpu] for begin in range(0, len(gpus), n_gpu)] or [[CPU]], remarks


def device_of_rank(wanted: str, n_gpu: int) -> tuple[torch.device, list[str]]:
    """Choose the device of this rank, among those that torchrun started on this machine.

    Parameters
    ----------
    wanted, n_gpu
        As for `choose_devices`; above 0 `n_gpu` counts for nothing, because torchrun was told how many.

    Raises
    ------
    UserError
        There are GPUs, but fewer than ranks.
    """
    number, n_ranks = ranks.on_this_machine()
    (team, *_), remarks = choose_devices(wanted, min(n_gpu, 1) * n_ranks)
    if team[0].type == "cpu":
        return team[0], [f"The GPUs asked for are not here: {n_ranks} processes use the CPU."] if remarks else []
    if len(team) < n_ranks:
        raise UserError(
            f"torchrun started {n_ranks} processes here, but there are {len(team)} devices for them. "
            f"Pass --nproc_per_node {len(team)} to torchrun, or --device cpu."
        )
    return team[number], remarks


def divide(teams: list[list[torch.device]], jobs: int, n_folds: int) -> list[list[torch.device]]:
    """Say which teams train folds at the same time; a team comes more than once if it trains several at once.

    Parameters
    ----------
    teams : list of list of torch.device
    jobs : int
        Folds at once that the user asks for; there are at least as many as teams.
    n_folds : int
        Folds to train.
    """
    return [teams[k % len(teams)] for k in range(min(max(jobs, len(teams)), n_folds))]
