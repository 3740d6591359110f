"""Tensors that come one by one, stacked along their first axis."""

import torch
from torch import Tensor


class Rows:
    """Rows of tensors, in one block of memory that doubles when it is full.

    A list of many small tensors, scattered between the large ones of the training steps, would fragment the memory, and
    a process would grow with every step.
    """

    def __init__(self) -> None:
        self._block = torch.empty(0)
        self._n_rows = 0

    def add(self, rows: Tensor) -> None:
        """Add rows (n, ...); the first ones decide on shape, type and device."""
        end = self._n_rows + len(rows)
        if end > len(self._block) or self._n_rows == 0:
            block = rows.new_empty(2 * end, *rows.shape[1:])
            if self._n_rows:
                block[: self._n_rows] = self._block[: self._n_rows]
            self._block = block
        self._block[self._n_rows : end] = rows
        self._n_rows = end

    def all(self) -> Tensor:
        """Return a copy of all rows."""
        return self._block[: self._n_rows].clone()
