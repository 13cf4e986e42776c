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

    def block(self, shape: Sequence[int]) -> list[int] | None:
        """The adjacent dimensions that together run over the units, those of size 1 left out.

        Example:
            >>> Spread(6, 7).block((2, 2, 3, 7)), Spread(6, 7).block((2, 6, 7))
            ([1, 2], [1])
            >>> Spread(6, 7).block((12, 7)) is None
            True
        """
        behind, units, found = 1, 1, []
        for dim in range(len(shape) - 1, -1, -1):
            if shape[dim] == 1:
                continue
            if behind < self.inner:
                behind *= shape[dim]
            elif units < self.count:
                units *= shape[dim]
                found.append(dim)
        return found[::-1] if (behind, units) == (self.inner, self.count) else None


def of_axis(shape: Sequence[int], axis: int) -> Spread:
    """The spread of a tensor whose units are all entries of dimension ``axis``."""
    axis %= len(shape)
    return Spread(shape[axis], math.prod(shape[axis + 1 :]))


def moved(
    spread: Spread, old: Sequence[int], new: Sequence[int], places: Sequence[int]
) -> Spread | None:
    """The spread after dimensions moved: new dimension ``j`` shows old dimension ``places[j]``.

    Sizes of other dimensions may change on the way (pooling, padding, expansion), and some may go;
    those that run over the units must stay whole, next to each other and in order.

    Args:
        spread: Where the units lie.
        old: The shape before.
        new: The shape after.
        places: For each new dimension the old one, or -1 for one that is new.

    Example:
        >>> moved(Spread(64, 49), (8, 64, 7, 7), (8, 7, 7, 64), (0, 2, 3, 1))
        Spread(count=64, inner=1, start=0, step=1)
    """
    if spread.count == 1:
        return replace(spread, inner=1)
    block = spread.block(old)
    if block is None:
        return None
    found = [place for place in range(len(new)) if places[place] in block]
    if [places[place] for place in found] != block:
        return None
    if any(new[place] != old[dim] for place, dim in zip(found, block, strict=True)):
        return None
    between = [new[place] for place in range(found[0], found[-1]) if place not in found]
    if math.prod(between) != 1:
        return None
    return replace(spread, inner=math.prod(new[found[-1] + 1 :]))


def sliced(
    spread: Spread, old: Sequence[int], dim: int, start: int, length: int, step: int = 1
) -> Spread | None:
    """The spread after keeping ``length`` entries of dimension ``dim`` from ``start`` on.

    Example:
        >>> sliced(Spread(8, 1), (2, 3, 8), 2, 4, 4)
        Spread(count=4, inner=1, start=4, step=1)
    """
    dim %= len(old)
    if dim == spread.axis(old):
        if length == 0:
            return None
        return Spread(length, spread.inner, spread.start + spread.step * start, spread.step * step)
    new = [*old[:dim], length, *old[dim + 1 :]]
    return moved(spread, old, new, range(len(old)))


def selected(spread: Spread, old: Sequence[int], dim: int, index: int) -> Spread | None:
    """The spread after taking entry ``index`` of dimension ``dim``, which goes away.

    Example:
        >>> selected(Spread(8, 1), (2, 3, 8), 2, 5), selected(Spread(8, 1), (2, 3, 8), 1, 2)
        (Spread(count=1, inner=1, start=5, step=1), Spread(count=8, inner=1, start=0, step=1))
    """
    if spread.count > 1 and dim == spread.axis(old):
        return Spread(1, 1, spread.start + spread.step * (index % old[dim]), spread.step)
    places = [place for place in range(len(old)) if place != dim]
    return moved(spread, old, [old[place] for place in places], places)
