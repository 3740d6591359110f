"""The processes that train one fold together: ranks 0, 1, ... of torch.distributed, which torchrun started.

A process that is alone is rank 0 of 1, and everything here leaves it as it is.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError
from utils.logs import LOG

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""So long ranks wait for what rank 0 does alone; that a rank died shows at once, by its connection and to torchrun."""

_alone = ContextVar("alone", default=False)
"""Whether rank 0 is doing something that the others wait for."""

_waiting: list[dist.ProcessGroup] = []
"""The group, if there is one, in which the ranks wait for rank 0."""


def are_started() -> bool:
    """Tell whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def on_this_machine() -> tuple[int, int]:
    """Give the number of this rank among those of its machine, and how many they are; torchrun sets both."""
    return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])


def world_size() -> int:
    """Count the ranks that work together now."""
    return dist.get_world_size() if dist.is_initialized() and not _alone.get() else 1


def rank() -> int:
    """Give the number of this process among them."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Join the other ranks for the time of the block. Rank 0 alone tells how it goes; the others tell errors.

    Parameters
    ----------
    device : torch.device
        Of this rank: over NCCL if it is a GPU, over gloo otherwise.

    Raises
    ------
    UserError
        Another rank ended.
    """
    if not are_started():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    _waiting[:] = [dist.new_group(backend="gloo", timeout=_PATIENCE)]
    if rank() > 0:
        LOG.setLevel(logging.ERROR)
        for handler in LOG.handlers:
            handler.setFormatter(logging.Formatter(f"[rank {rank()}] %(message)s"))
    try:
        with a_loss_told():
            yield
    except KeyboardInterrupt as error:
        if rank() > 0:
            raise SystemExit(130) from error
        raise
    dist.destroy_process_group()


@contextmanager
def a_loss_told() -> Iterator[None]:
    """Let rank 0 say that another rank ended, instead of how the connection to it broke.

    Raises
    ------
    UserError
    SystemExit
        On the other ranks.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        if rank() > 0:
            raise SystemExit(1) from error
        raise UserError(
            f"Another of the {world_size()} processes that train together ended, so this one ends as well. "
            "The same command goes on after the last finished training epoch."
        ) from error


def agreed(value: T) -> T:
    """Give all ranks what rank 0 has."""
    if world_size() == 1:
        return value
    values = [value if rank() == 0 else None]
    dist.broadcast_object_list(values, src=0, group=_waiting[0])
    return values[0]  # type: ignore[return-value]


def on_first(function: Callable[[], T]) -> T:
    """Let rank 0 do something as if it were alone, and give all ranks its result; what it raises ends them all."""
    if world_size() == 1:
        return function()
    result = None
    if rank() == 0:
        token = _alone.set(True)
        try:
            result = function()
        finally:
            _alone.reset(token)
    return agreed(result)  # type: ignore[return-value]


def share(batch: Tensor) -> Tensor:
    """Take this rank's share of the sleep epochs of a batch, (B,); where there are too few, the first for all others.

    A rank without any would keep the others waiting. `gather` leaves the stand-in out.
    """
    own = batch.tensor_split(world_size())[rank()]
    return own if len(own) else batch[:1]


def gather(own: Tensor, n: int) -> Tensor:
    """Lay the outputs for all shares of a batch together, on each rank.

    From them each rank computes the same loss of the whole batch. Of its gradient a rank needs what goes through its
    own share; the sum of these over the ranks is the whole, but DistributedDataParallel takes their mean.

    Parameters
    ----------
    own : Tensor of shape (B of the share, C)
    n : int
        Size B of the batch.

    Returns
    -------
    Tensor of shape (B, C)
        In the order of the batch.
    """
    n_ranks = world_size()
    if n_ranks == 1:
        return own
    sizes = [len(part) for part in torch.empty(n).tensor_split(n_ranks)]
    own = own[: sizes[rank()]]
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * n_ranks)
    padded = F.pad(own.detach(), (0, 0, 0, sizes[0] - len(own)))
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    parts[rank()] = own
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def synchronised(network: nn.Module) -> nn.Module:
    """Let batch norm take its statistics over the shares of all ranks, which torch can do on GPUs alone."""
    if world_size() == 1 or next(network.parameters()).device.type != "cuda":
        return network
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def parallel(network: nn.Module) -> nn.Module:
    """Wrap a network so that its gradients are the mean over the ranks."""
    if world_size() == 1:
        return network
    # Convolutions whose channels are last give gradients laid out so, which are copied: half a million numbers.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(network)


def share_buffers(network: nn.Module) -> None:
    """Give all ranks the buffers of rank 0: without `synchronised`, batch norm's statistics are those of a share."""
    if world_size() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)
