"""The devices that folds are trained on, and what goes wrong with them."""

import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from utils import ranks
from utils.errors import UserError
from utils.lock import locked
from utils.logs import LOG

CPU = torch.device("cpu")

Team = list[torch.device]
"""The devices that train a fold together."""


def choose_devices(wanted: str, n_gpu: int) -> list[Team]:
    """Turn the user's choice into devices that are there, and log what is not as wanted. A rank gets its own device.

    Parameters
    ----------
    wanted : str
        Numbers of GPUs (`0` or `0,1,2,3`), `cpu` or `mps`. One number is the first of `n_gpu` GPUs. GPUs that are not
        there mean the CPU if none is.
    n_gpu : int
        GPUs that train a fold together; 0 means the CPU.

    Returns
    -------
    list of list of torch.device
        At least one team; each has `n_gpu` GPUs, the last one perhaps fewer, or is the CPU or mps alone.
    """
    if ranks.are_started():
        return [[device_of_rank(wanted, n_gpu)]]
    return _teams(wanted, n_gpu)


def _teams(wanted: str, n_gpu: int) -> list[Team]:
    """Turn the user's choice into teams of devices."""
    if wanted == "cpu" or n_gpu == 0:
        return [[CPU]]
    if wanted == "mps":
        if torch.backends.mps.is_available():
            return [[torch.device("mps")]]
        LOG.warning("mps is not available here: using the CPU.")
        return [[CPU]]
    available = _n_gpus()
    listed = list(dict.fromkeys(int(number) for number in wanted.split(",")))
    present = [number for number in listed if number < available]
    if len(present) == len(listed) == 1:
        present = [*present, *(number for number in range(available) if number not in present)][:n_gpu]
    used = f"GPU {', '.join(map(str, present))}" if present else "the CPU"
    if missing := [str(number) for number in listed if number not in present]:
        verb = "is" if len(missing) == 1 else "are"
        LOG.warning(f"GPU {', '.join(missing)} {verb} not among the {available} GPUs here: using {used}.")
    elif n_gpu > len(present):
        LOG.warning(f"n_gpu is {n_gpu}, but only {used} can be used.")
    gpus = [torch.device("cuda", number) for number in present]
    return [gpus[begin : begin + n_gpu] for begin in range(0, len(gpus), n_gpu)] or [[CPU]]


def _n_gpus() -> int:
    """Count the GPUs that torch can use; refuse if there are some that it cannot."""
    with warnings.catch_warnings(record=True) as reasons:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return torch.cuda.device_count()
    if torch.cuda.device_count() > 0:
        reason = " ".join(str(reasons[0].message).split()) if reasons else "it does not say why."
        raise UserError(
            f"There is a GPU, but torch {torch.__version__} cannot use it: {reason} Install the driver or the torch "
            "that fits, or pass --device cpu."
        )
    return 0


def device_of_rank(wanted: str, n_gpu: int) -> torch.device:
    """Choose the device of this rank among those that torchrun started on this machine.

    Raises
    ------
    UserError
        There are GPUs, but fewer than ranks.
    """
    number, n_ranks = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    team = _teams(wanted, min(n_gpu, 1) * n_ranks)[0]
    if team[0].type == "cpu":
        return CPU
    if len(team) < n_ranks:
        raise UserError(
            f"torchrun started {n_ranks} processes here, but there are {len(team)} devices for them. "
            f"Pass --nproc_per_node {len(team)} to torchrun, or --device cpu."
        )
    return team[number]


def divide(teams: list[Team], jobs: int, n_folds: int) -> list[Team]:
    """List the teams that train a fold at the same time; a team that trains several at once comes several times.

    Parameters
    ----------
    teams : list of list of torch.device
    jobs : int
        Folds at once that the user asks for; there are at least as many as teams.
    n_folds : int
        Folds to train.
    """
    return [teams[k % len(teams)] for k in range(min(max(jobs, len(teams)), n_folds))]


def make_current(device: torch.device, n_at_once: int = 1) -> None:
    """Train on a device from now on, one of `n_at_once` processes.

    The threads of the CPU are divided among them, however many are at work now, because their number decides the last
    bits of the weights. cuDNN takes only algorithms that give the same bits each time.
    """
    torch.set_num_threads(max(1, torch.get_num_threads() // n_at_once))
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True


def computed_with(device: torch.device) -> dict[str, Any]:
    """Say in plain values what decides the last bits of a computation."""
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return {"torch": str(torch.__version__), "device": device.type, "threads": threads}


def allow_tf32(allowed: bool) -> None:
    """Let a GPU round what convolutions and matrix products multiply to TF32, 10 bits of fraction, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def alone_on(device: torch.device) -> Iterator[None]:
    """Let one process of this user at a time look for free memory on a GPU and take it."""
    if device.type != "cuda":
        yield
        return
    name = f"attnsleep-{os.getuid()}-{torch.cuda.get_device_properties(device).uuid}.lock"
    with locked(Path(tempfile.gettempdir()) / name):
        yield


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn what torch says of a device in the block into a message with what to do.

    Raises
    ------
    UserError
        Memory is short, or the GPU failed.
    """
    try:
        yield
    except RuntimeError as error:
        if text := _explained(error):
            raise UserError(text) from error
        raise


def _explained(error: RuntimeError) -> str:
    """Say what torch reports of a device, and what to do; empty if it is something else."""
    text = str(error).strip().partition("\n")[0].rstrip(".")
    if isinstance(error, torch.OutOfMemoryError) or re.search(_SHORT_OF_MEMORY, text):
        of_gpu = "" if "CPU" in text else "set data_loader.args.resident or trainer.cuda_graph to false, "
        return (
            f"Memory is short: {text}. Train fewer folds at once, {of_gpu}or take a smaller "
            "data_loader.args.batch_size under another name."
        )
    if re.search("device-side assert|illegal memory access", text):
        return f"On the GPU: {text}. An index is out of range, in the network or the loss; --device cpu says where."
    if "no kernel image" in text:
        return f"On the GPU: {text}. Install the torch that fits the card, or pass --device cpu."
    if isinstance(error, torch.AcceleratorError) or re.search(
        "CUDA (driver )?error|CUDNN_|CUBLAS_|NVIDIA driver", text
    ):
        return (
            f"The GPU failed: {text}. The same command goes on after the last finished training epoch, and with "
            "--device cpu without the GPU."
        )
    return ""


_SHORT_OF_MEMORY = "out of memory|can't allocate|ALLOC_FAILED|Invalid buffer size"
