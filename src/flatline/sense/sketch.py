"""A copy of some of the numbers in a tensor, small enough to keep until an exam is over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Rows and entries of each row that are copied at most, spread evenly over all of them.
ROWS, ENTRIES = 1024, 512


@dataclass(frozen=True)
class Sketch:
    """Some rows of a tensor.

    Attributes:
        shape: Shape of the whole.
        whole: Its type holds whole numbers.
        rows: Copied rows, one per example, flat.
    """

    shape: tuple[int, ...]
    whole: bool
    rows: Tensor

    def numbers(self) -> Numbers:
        """The copied numbers, on the host."""
        rows = self.rows.cpu()
        half = rows.dtype in (torch.float16, torch.bfloat16)
        return Numbers(self.shape, self.whole, (rows.float() if half else rows).numpy())


@dataclass(frozen=True)
class Numbers:
    """Numbers of a tensor on the host, as :class:`Sketch` has them."""

    shape: tuple[int, ...]
    whole: bool
    rows: npt.NDArray[np.generic]

    @property
    def low(self) -> float:
        """The smallest."""
        return float(self.rows.min())

    @property
    def high(self) -> float:
        """The largest."""
        return float(self.rows.max())

    @property
    def spread(self) -> float:
        """Largest standard deviation of an entry over the rows; NaN for a single row."""
        if len(self.rows) < 2:
            return np.nan
        return float(self.rows.astype(np.float64).std(axis=0).max())

    @property
    def integer(self) -> bool:
        """Whether all are whole numbers, whatever their type."""
        if self.whole:
            return True
        rows = self.rows.astype(np.float64)
        return bool(np.isfinite(rows).all() and (rows == np.round(rows)).all())

    @property
    def distinct(self) -> int:
        """How many different ones there are."""
        return len(np.unique(self.rows))


def sketch(tensor: Tensor) -> Sketch | None:
    """A copy of some rows of ``tensor``; ``None`` where it has no plain numbers.

    Example:
        >>> sketch(torch.tensor([1.0, 2.0])).rows.tolist()
        [[1.0], [2.0]]
    """
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout is torch.strided
    if not plain or tensor.is_complex() or tensor.is_quantized or not tensor.numel():
        return None
    x = tensor.detach()
    x = x[:: -(-len(x) // ROWS)] if x.ndim else x.reshape(1)
    rows = x.reshape(len(x), -1)
    rows = rows[:, :: -(-rows.shape[1] // ENTRIES)]
    whole = not tensor.is_floating_point()
    return Sketch(tuple(tensor.shape), whole, rows.clone())
