"""The steps of a training epoch so far, so that one that is stopped in its midst goes on after the last of them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from utils.ranks import rank
from utils.rows import Rows
from utils.seed import random_states, restore_random_states


class Steps:
    """What each step of a training epoch gave.

    Parameters
    ----------
    before : mapping or None
        What `state` gave in an earlier run that was stopped in this training epoch.

    Attributes
    ----------
    n_before : int
        Steps of that run.
    seconds_before : float
        How long it took for them.
    """

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        self.n_before: int = before["n_steps"] if before else 0
        self.seconds_before: float = before["seconds"] if before else 0.0
        self._before = before
        self._n = 0
        self._given: tuple[Rows, ...] = ()

    def __len__(self) -> int:
        return self.n_before + self._n

    def add(self, *given: Tensor) -> None:
        """Note what a step gave, in tensors of one dimension; they may stay on a GPU, which does not wait for it."""
        self._n += 1
        self._given = self._given or tuple(Rows() for _ in given)
        for rows, values in zip(self._given, given, strict=True):
            rows.add(values)

    def given(self) -> tuple[Tensor, ...]:
        """Lay what all steps gave one after the other, on the CPU."""
        parts = [self._before["given"]] if self._before else []
        if self._given:
            parts.append(tuple(rows.all().cpu() for rows in self._given))
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))

    def state(self, seconds: float) -> dict[str, Any]:
        """Collect, in tensors and plain values, what a later run needs to go on; it all took `seconds` so far."""
        return {"n_steps": len(self), "seconds": seconds, "given": self.given(), "random_states": random_states()}

    def draw_on(self) -> None:
        """Draw random numbers from where the earlier run stopped, if there was one; ranks but the first draw others."""
        if self._before and rank() == 0:
            restore_random_states(self._before["random_states"])
