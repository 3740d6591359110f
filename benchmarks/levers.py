"""Measure what each trick that speeds up a training step is worth: the step without it over the step with all of them.

python -m benchmarks.levers [--rounds N] [--threads N]
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.speed import write_nights
from benchmarks.tasks import Task, train
from benchmarks.worker import N_BATCHES, compare, seconds_of, worker
from model.dropout import Dropout
from model.model import MRCNN, LayerNorm, TCELayer
from model.short_convolution import ShortConvolution
from utils.arguments import positive


def usual_dropout(self: Dropout, x: Tensor) -> Tensor:
    """Drop elements as torch does."""
    return F.dropout(x, self.p, self.training)


def usual_layer_norm(self: LayerNorm, x: Tensor) -> Tensor:
    """Normalise by mean and standard deviation, one after the other."""
    return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.bias


def channels_first(self: MRCNN, signal: Tensor) -> Tensor:
    """Go through both branches in torch's default memory layout."""
    image = signal.unsqueeze(2)  # (B, 1, T) -> (B, 1, 1, T)
    return self.dropout(torch.cat([self.small(image), self.wide(image)], dim=3).squeeze(2))


def three_causal_convolutions(self: TCELayer, x: Tensor) -> Tensor:
    """Compute queries, keys and values by a convolution each, padded on both sides, the right side cut off."""
    weight, bias = self.queries_keys_values.parameters()
    parts = zip(weight.chunk(3), bias.chunk(3), strict=True)
    queries, keys, values = (F.conv1d(x, weight, bias, padding=6)[:, :, :-6] for weight, bias in parts)
    h = queries + self.attention_output(self._attend(queries, keys, values))
    return h + self.feed_forward(h)


WITHOUT: dict[str, tuple[type[nn.Module], Callable[..., Tensor]]] = {
    "own dropout masks": (Dropout, usual_dropout),
    "channels last in memory": (MRCNN, channels_first),
    "short convolutions": (ShortConvolution, nn.Conv2d.forward),
    "torch's layer norm": (LayerNorm, usual_layer_norm),
    "merged causal convolutions": (TCELayer, three_causal_convolutions),
}
"""The tricks, and what the network computes without each: a class and another forward of it."""


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Do without some tricks during the block."""
    with ExitStack() as stack:
        for network, forward in (WITHOUT[name] for name in names):
            stack.enter_context(mock.patch.object(network, "forward", forward))
        yield


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Time a training step, in ms: with all tricks, without each, without any, and in bf16."""
    fp32, bf16 = train(folder, "ours"), train(folder, "ours", "bf16")

    def seconds_without(names: list[str], task: Task = fp32) -> float:
        with without(*names):
            begin = time.perf_counter()
            task()
            return time.perf_counter() - begin

    # What an allocator does holds for a whole process.
    with worker("train", folder, "ours", "fp32", 128, False, threads=torch.get_num_threads()) as default_heap:
        measures: dict[str, Callable[[], float]] = {
            "all levers": partial(seconds_without, []),
            "freed memory kept": partial(seconds_of, default_heap),
            **{name: partial(seconds_without, [name]) for name in WITHOUT},
            "none of these": partial(seconds_without, [*WITHOUT]),
            "all levers, bf16": partial(seconds_without, [], bf16),
        }
        return {name: 1000 * seconds / N_BATCHES for name, seconds in compare(measures, rounds).items()}


def main() -> None:
    """Measure every trick and print what it is worth."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=__doc__)
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="medians of so many (%(default)s)")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), metavar="N", help="(%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        steps = measure(write_nights(Path(temporary) / "nights", 1), arguments.rounds)
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    for name, milliseconds in steps.items():
        print(f"{name:<28}{milliseconds:>8.0f} ms  x {milliseconds / steps['all levers']:.2f}")


if __name__ == "__main__":
    main()
