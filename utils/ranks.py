"""The processes that train one fold together: ranks 0, 1, ... of torch.distributed, started by torchrun.

A process that trains alone is rank 0 of 1, and everything here leaves it as it is.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError
from utils.logs import LOG

_PATIENCE = timedelta(days=1)
"""How long ranks wait for each other: rank 0 may train the night context meanwhile. torchrun ends them if one dies."""

_rank_0_alone = False


def are_started() -> bool:
    """Tell whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def world_size() -> int:
    """Count the ranks that work together now."""
    return dist.get_world_size() if dist.is_initialized() and not _rank_0_alone else 1


def rank() -> int:
    """Return the rank of this process among those that work together."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def together() -> Iterator[None]:
    """Join the other ranks during the block: tensors travel over NCCL between GPUs, over gloo elsewhere. Rank 0 logs.

    Raises
    ------
    UserError
        Another rank ended.
    """
    if not are_started():
        yield
        return
    # Loaded before there is a group: its functions would hold the group as a default, and at exit abort the process.
    import torch.distributed.nn

    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    if rank() > 0:
        LOG.disabled = True
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError(
            f"Rank {rank()}: another of the {dist.get_world_size()} processes that train together ended, so this one "
            "ends as well. The same command goes on after the last finished training epoch."
        ) from error
    wait_for_all()  # a rank that leaves early would break the connections of the others
    dist.destroy_process_group()


@contextmanager
def rank_0_alone() -> Iterator[None]:
    """Let rank 0 work as a process of its own during the block."""
    global _rank_0_alone
    _rank_0_alone = True
    try:
        yield
    finally:
        _rank_0_alone = False


def wait_for_all() -> None:
    """Wait until every rank is here."""
    if world_size() > 1:
        dist.all_reduce(torch.zeros(1))


def parallel(network: nn.Module) -> nn.Module:
    """Wrap a network: a step uses the mean of the ranks' gradients; on GPUs batch norm sees the shares of all ranks."""
    if world_size() == 1:
        return network
    if next(network.parameters()).device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    # Convolutions with the channels last give gradients laid out so, which are copied: half a million numbers.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(network)


def from_first(tensor: Tensor) -> Tensor:
    """Overwrite a tensor with the values that rank 0 has, and return it."""
    if world_size() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


def share_buffers(network: nn.Module) -> None:
    """Give all ranks the buffers of rank 0, such as the statistics of batch norm."""
    if world_size() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def gather(rows: Tensor) -> Tensor:
    """Concatenate the rows (n, ...) of all ranks, which may have different n, on every rank."""
    if world_size() == 1:
        return rows
    n_rows = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(n_rows, torch.tensor([len(rows)], device=rows.device))
    padded = rows.new_zeros(max(int(n) for n in n_rows), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in n_rows]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(n)] for part, n in zip(parts, n_rows, strict=True)])
