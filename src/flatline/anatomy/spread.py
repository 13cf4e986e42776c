"""Where the units of a layer lie inside a tensor, and how that survives a change of shape.

Pure arithmetic on shapes; it never sees a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Spread:
    """Element ``i`` (row-major) belongs to unit ``start + step * (i // inner % count)``.

    Attributes:
        count: Number of units in the tensor.
        inner: Number of consecutive elements of one unit.
        start: First unit, when the tensor is a part of the layer.
        step: Distance between units.

    Example:
        >>> of_axis((8, 64, 7, 7), 1)
        Spread(count=64, inner=49, start=0, step=1)
    """

    count: int
    inner: int
    start: int = 0
    step: int = 1

    def axis(self, shape: Sequence[int]) -> int | None:
        """The dimension of ``shape`` that is the unit axis; ``None`` when merged with another."""
        behind = 1
        for dim in range(len(shape) - 1, -1, -1):
            if behind == self.inner and shape[dim] == self.count:
                return dim
            behind *= shape[dim]
            if behind > self.inner and self.count > 1:
                return None
        return None


def of_axis(shape: Sequence[int], axis: int) -> Spread:
    """The spread of a tensor whose units are all entries of dimension ``axis``."""
    axis %= len(shape)
    return Spread(shape[axis], math.prod(shape[axis + 1 :]))


def moved(
    spread: Spread, old: Sequence[int], new: Sequence[int], places: Sequence[int]
) -> Spread | None:
    """The spread after dimensions moved: new dimension ``j`` shows old dimension ``places[j]``.

    Sizes behind the unit axis may change on the way (pooling, padding, expansion); the unit axis
    itself must not.

    Example:
        >>> moved(Spread(64, 49), (8, 64, 7, 7), (8, 7, 7, 64), (0, 2, 3, 1))
        Spread(count=64, inner=1, start=0, step=1)
    """
    axis = spread.axis(old)
    if axis is None or axis not in places:
        return None
    place = list(places).index(axis)
    if new[place] != spread.count:
        return None
    return replace(spread, inner=math.prod(new[place + 1 :]))


def sliced(
    spread: Spread, old: Sequence[int], dim: int, start: int, length: int, step: int = 1
) -> Spread | None:
    """The spread after keeping ``length`` entries of dimension ``dim`` from ``start`` on.

    Example:
        >>> sliced(Spread(8, 1), (2, 3, 8), 2, 4, 4)
        Spread(count=4, inner=1, start=4, step=1)
    """
    axis = spread.axis(old)
    if axis is None:
        return None
    dim %= len(old)
    if dim == axis:
        return Spread(length, spread.inner, spread.start + spread.step * start, spread.step * step)
    inner = spread.inner // old[dim] * length if dim > axis else spread.inner
    return replace(spread, inner=inner)
