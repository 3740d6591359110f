"""A training step that a GPU repeats by itself: recorded once as a CUDA graph, then replayed.

On a fast GPU the kernels of a small network take less time than Python needs to launch them. A replay launches all of
them at once.
"""

import gc
import random
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from utils.errors import UserError

Step = Callable[..., tuple[Tensor, ...]]
"""Maps the tensors of a batch to tensors, such as loss and predictions, and updates the weights."""

WARM_UP = 3
"""Steps that run as they are before one is recorded: they make the optimizer's state and cuDNN's choices."""


def obstacle(network: nn.Module, criterion: nn.Module, optimizer: Optimizer) -> str:
    """Say why a replay might not do what another step would do; empty if it does.

    The class of the network and that of the loss must say `recordable = True`; losses of torch need not. The optimizer
    must count its steps on the GPU, or not at all.
    """
    for part in (network, criterion):
        kind = type(part)
        if not vars(kind).get("recordable", kind.__module__.startswith("torch.nn")):
            return f"{kind.__name__} does not say recordable = True (see model/model.py)"
    if not (type(optimizer) is SGD or all(group.get("fused") for group in optimizer.param_groups)):
        return f"{type(optimizer).__name__} is not fused (optimizer.args.fused)"
    return ""


class Graph(Protocol):
    """What records a step."""

    def run(self, step: Step, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Run a step as it is."""

    def record(self, step: Step, inputs: list[Tensor], optimizer: Optimizer) -> tuple[Tensor, ...]:
        """Record a step on these tensors without running it; return the tensors that a replay fills."""

    def replay(self) -> None:
        """Run the step that was recorded."""


class RecordedStep:
    """Runs a step as it is at first, then records it, and replays it from there on.

    The last batch of a pass, which is smaller, runs as it is. When a scheduler has changed a number of the optimizer,
    which a recording holds, the step is recorded again.

    Parameters
    ----------
    optimizer : Optimizer
        That the step uses.
    graph : Graph
    """

    def __init__(self, optimizer: Optimizer, graph: Graph) -> None:
        self.optimizer, self.graph = optimizer, graph
        self._n_steps = 0
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()
        self._settings: list[dict[str, Any]] = []  # of the optimizer while the step was recorded

    def __call__(self, step: Step, *batch: Tensor) -> tuple[Tensor, ...]:
        """Do a step, always the same one. Copy what it returns before the next step, which overwrites it."""
        if not self._inputs:
            self._inputs = [torch.empty_like(part) for part in batch]
        if any(own.shape != part.shape for own, part in zip(self._inputs, batch, strict=True)):
            return self.graph.run(step, batch)
        self._n_steps += 1
        if self._n_steps <= WARM_UP:
            return self.graph.run(step, batch)
        for own, part in zip(self._inputs, batch, strict=True):
            own.copy_(part)
        settings = [{key: group[key] for key in group if key != "params"} for group in self.optimizer.param_groups]
        if settings != self._settings:
            self._outputs = ()
            self._outputs = self.graph.record(step, self._inputs, self.optimizer)
            self._settings = settings
        self.graph.replay()
        return self._outputs


class CudaGraph:
    """A CUDA graph. Steps that are not replayed run on the stream that records, as torch's documentation asks for."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, step: Step, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Run a step as it is, in its turn."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = step(*batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def record(self, step: Step, inputs: list[Tensor], optimizer: Optimizer) -> tuple[Tensor, ...]:
        """Record a step.

        Raises
        ------
        UserError
            The step cannot be recorded.
        """
        self._graph = None  # frees its memory
        gc.collect()  # whatever is freed while a graph is recorded breaks it
        gc.disable()
        graph, before = torch.cuda.CUDAGraph(), _cpu_generators()
        capturable = [(group, group["capturable"]) for group in optimizer.param_groups if "capturable" in group]
        for group, _ in capturable:
            group["capturable"] = True  # torch asks for it while it records; a checkpoint keeps what the config says
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = step(*inputs)
        except RuntimeError as error:
            # What ended the recording comes first; torch then says that the recording is broken.
            cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            reason = str(cause).strip().partition("\n")[0].rstrip(".")
            raise UserError(_REFUSED.format(reason)) from error
        finally:
            gc.enable()
            for group, value in capturable:
                group["capturable"] = value
        if _cpu_generators() != before:
            raise UserError(
                _REFUSED.format("it draws random numbers on the CPU, which would be the same in each replay")
            )
        self._graph = graph
        return outputs

    def replay(self) -> None:
        """Run the step that was recorded."""
        if self._graph is not None:
            self._graph.replay()


_REFUSED = "The training step cannot be recorded as a CUDA graph: {}. Pass --set trainer.cuda_graph=false."


def _cpu_generators() -> list[object]:
    """Take the states of all generators of random numbers on the CPU."""
    of_numpy = [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()]  # noqa: NPY002
    return [torch.get_rng_state().tolist(), random.getstate(), of_numpy]
