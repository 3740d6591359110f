"""A training step that a GPU repeats by itself: recorded once as a CUDA graph, then replayed.

On a fast GPU the kernels of a small network take less time than Python needs to launch them. A replay launches all of
them at once and computes the same numbers.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from utils.errors import UserError

Step = Callable[..., tuple[Tensor, ...]]
"""Maps the tensors of a batch to tensors, such as loss and predictions, and updates the weights."""

WARM_UP = 3
"""Steps that run as they are before one is recorded: they make the optimizer's state and cuDNN's choices."""


def is_recordable(network: nn.Module, criterion: nn.Module, optimizer: Optimizer) -> bool:
    """Tell whether a replay does what another step would do.

    The class of the network and that of the loss must say so by `recordable = True`; losses of torch need not. The
    optimizer must keep the number of its steps on the GPU, or need none.
    """
    modules = all(
        vars(type(part)).get("recordable", type(part).__module__.startswith("torch.nn"))
        for part in (network, criterion)
    )
    return modules and (type(optimizer) is SGD or all(group.get("fused") for group in optimizer.param_groups))


class Graph(Protocol):
    """What records a step."""

    def warm_up(self, step: Step, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Run a step as it is."""

    def record(self, step: Step, inputs: list[Tensor], optimizer: Optimizer) -> tuple[Tensor, ...]:
        """Record a step on these tensors without running it; return the tensors that a replay fills."""

    def replay(self) -> None:
        """Run the step that was recorded."""


class RecordedStep:
    """A step that runs as it is at first, is then recorded, and replayed from there on.

    The last batch of a pass, which is smaller, runs as it is. When a scheduler has changed a number of the optimizer,
    which a recording holds, the step is recorded again.

    Parameters
    ----------
    step : callable
    optimizer : Optimizer
        That `step` uses.
    graph : Graph
    """

    def __init__(self, step: Step, optimizer: Optimizer, graph: Graph) -> None:
        self.step, self.optimizer, self.graph = step, optimizer, graph
        self._n_steps = 0
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()
        self._numbers: list[dict[str, Any]] = []

    def __call__(self, *batch: Tensor) -> tuple[Tensor, ...]:
        """Do a step. The next one overwrites what it returns."""
        if not self._inputs:
            self._inputs = [torch.empty_like(part) for part in batch]
        if any(own.shape != part.shape for own, part in zip(self._inputs, batch, strict=True)):
            return self.step(*batch)
        self._n_steps += 1
        if self._n_steps <= WARM_UP:
            return self.graph.warm_up(self.step, batch)
        for own, part in zip(self._inputs, batch, strict=True):
            own.copy_(part)
        numbers = [{key: group[key] for key in group if key != "params"} for group in self.optimizer.param_groups]
        if numbers != self._numbers:
            self._outputs = ()
            self._outputs = self.graph.record(self.step, self._inputs, self.optimizer)
            self._numbers = numbers
        self.graph.replay()
        return self._outputs


class CudaGraph:
    """A CUDA graph. It is warmed up on a stream of its own, as torch's documentation asks for."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None

    def warm_up(self, step: Step, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Run a step as it is, in its turn, on the stream that records."""
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
        graph = torch.cuda.CUDAGraph()
        capturable = [(group, group["capturable"]) for group in optimizer.param_groups if "capturable" in group]
        for group, _ in capturable:
            group["capturable"] = True  # torch asks for it while it records; a checkpoint keeps what the config says
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = step(*inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"The training step cannot be recorded as a CUDA graph: {reason} Pass --set trainer.cuda_graph=false."
            ) from error
        finally:
            for group, value in capturable:
                group["capturable"] = value
        self._graph = graph
        return outputs

    def replay(self) -> None:
        """Run the step that was recorded."""
        if self._graph is not None:
            self._graph.replay()
