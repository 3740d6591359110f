"""What each thing that makes a training step fast is worth: the step without it over the step with all of them.

python -m benchmarks.levers [--rounds N] [--threads N]
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.speed import BATCH_SIZE, Worker, compare, write_nights
from benchmarks.tasks import N_BATCHES, train
from model.dropout import Dropout
from model.model import MRCNN, LayerNorm, TCELayer
from model.short_convolution import ShortConvolution

GFLOP_PER_STEP = 48
"""Multiplications and additions of a training step of the plain network, batch 128, in 10^9."""


def usual_dropout(self: Dropout, x: Tensor) -> Tensor:
    """Drop elements as torch does."""
    return F.dropout(x, self.p, self.training)


def usual_layer_norm(self: LayerNorm, x: Tensor) -> Tensor:
    """Normalise by mean and standard deviation, one after the other."""
    return self.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.bias


def channels_first(self: MRCNN, signal: Tensor) -> Tensor:
    """Go through both branches with the layout that torch takes by itself."""
    image = signal.unsqueeze(2)
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


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Undo some of the levers."""
    patches = [mock.patch.object(WITHOUT[name][0], "forward", WITHOUT[name][1]) for name in names]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def measures(folder: Path) -> dict[str, Callable[[], float]]:
    """Make what is timed: milliseconds of a step with everything, without each lever, and of other ways to compute."""
    fp32 = train(folder, "ours", "fp32", BATCH_SIZE)
    bf16 = train(folder, "ours", "bf16", BATCH_SIZE)

    def step(passes: Callable[[], Any], *names: str) -> float:
        with without(*names):
            begin = time.perf_counter()
            passes()
            return 1000 * (time.perf_counter() - begin) / N_BATCHES

    worker = Worker("train", "default_heap", folder, threads=torch.get_num_threads())
    made: dict[str, Callable[[], float]] = {
        "all levers": lambda: step(fp32),
        "freed memory kept": lambda: 1000 * worker.run().seconds / N_BATCHES,
    }
    made |= {name: lambda name=name: step(fp32, name) for name in WITHOUT}  # type: ignore[misc]
    return made | {"none of these": lambda: step(fp32, *WITHOUT), "all levers, bf16": lambda: step(bf16)}


def matmul_peak() -> float:
    """Measure the GFLOP/s of a large product of matrices in float32."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - begin)
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def main() -> None:
    """Measure every lever and print what it is worth."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="medians of so many (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="(%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        median = compare(measures(write_nights(Path(temporary) / "nights", 1)), arguments.rounds)
    peak = matmul_peak()
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    for name, milliseconds in median.items():
        print(f"{name:<28}{milliseconds:>8.0f} ms  x {milliseconds / median['all levers']:.2f}")
    speed = GFLOP_PER_STEP / median["all levers"] * 1000
    print(f"matmul {peak:.0f} GFLOP/s; a step of the plain network's {GFLOP_PER_STEP} GFLOP: {speed / peak:.0%} of it")


if __name__ == "__main__":
    main()
