"""A few pre-activations of each site, copied in an exam: what its histograms are made of.

Which values are taken depends on shapes and on what the exam read of the units, never on chance,
and choosing them waits for no device.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatline.anatomy.atlas import Place
from flatline.sense.histogram import MOST, TOTAL, UNITS

#: Width up to which whole rows are copied first, ten times as fast as element by element.
_NARROW = 4 * UNITS
#: A step of this share of a circle spreads any number of points evenly over it.
_GOLDEN = (math.sqrt(5) - 1) / 2


#: Runs work that may fail without harm to others, and then gives ``None``.
Spare = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of some units of a site.

    Attributes:
        rows: The values, shape ``(rows, units)``, on the device.
        units: Index of each column, the most wanted first.
        of: How many rows there were to choose from.
    """

    rows: Tensor
    units: Tensor
    of: int

    def flat(self) -> tuple[Tensor, Tensor]:
        """Index of each column, exact for the first 2^24 units, and the values."""
        return self.units.to(self.rows), self.rows.reshape(-1)

    def first(self, units: int) -> Sample:
        """The most wanted units alone."""
        return replace(self, rows=self.rows[:, :units], units=self.units[:units])


class Sampler:
    """Draws the samples of one exam."""

    def __init__(self) -> None:
        self._units: dict[Place, Tensor] = {}
        self._calls: Counter[Place] = Counter()
        self._kept: Counter[Place] = Counter()

    def draw(self, place: Place, z: Tensor, fired: Tensor, railed: Tensor) -> Sample:
        """A sample of a call; later calls give fewer rows, as they share what is kept.

        Args:
            place: The site.
            z: Arranged pre-activations: ``(examples, positions, units, inner)``.
            fired: Whether each unit fired on each example.
            railed: Whether it sat on a rail.
        """
        if place not in self._units:
            self._units[place] = self._choose(fired, railed, bool(place.activation.rails))
        units = self._units[place]
        self._calls[place] += 1
        rows = -(-MOST // self._calls[place])
        return Sample(_copied(z, rows, units), units, z.shape[0] * z.shape[1] * z.shape[3])

    def _choose(self, fired: Tensor, railed: Tensor, pinned: bool) -> Tensor:
        """The units of a site to sample: silent and saturated ones, then some all over it."""
        units = fired.shape[1]
        most = min(units, UNITS, max(TOTAL // (len(self._units) + 1), 1))
        sick = fired.sum(dim=0) == 0
        if pinned:
            sick |= railed.sum(dim=0) == len(railed)
        # The multiples of the step lie evenly over the site, however many; which one is each unit?
        rank = torch.arange(units, device=fired.device) * pow(_step(units), -1, units) % units
        return (rank - units * sick).topk(most, largest=False).indices

    def keep(self) -> None:
        """The calls so far count."""
        self._kept = self._calls.copy()

    def forget(self) -> None:
        """The calls since the last :meth:`keep` do not count."""
        self._calls = self._kept.copy()


def _copied(z: Tensor, rows: int, units: Tensor) -> Tensor:
    """Some rows of arranged values, in single precision: ``(rows, units)``."""
    examples, positions, width, inner = z.shape
    example, place = lattice(examples, positions * inner, rows, z.device)
    if inner == 1 and width <= _NARROW:
        found = z.reshape(-1, width).index_select(0, example * positions + place)
        return found.index_select(1, units).float()
    return z[example[:, None], (place // inner)[:, None], units, (place % inner)[:, None]].float()


def lattice(
    examples: int, places: int, rows: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Pairs of an example and a place inside it, all different: all pairs where they are few.

    Examples follow each other evenly. Places step by the golden section: a fixed stride through
    rows of pixels would meet the same few columns of every picture.

    Args:
        examples: Number of examples.
        places: Places in each.
        rows: How many pairs at most.
        device: Where they are made; nothing has to be copied there.

    Example:
        >>> [part.tolist() for part in lattice(4, 3, 4)]
        [[0, 1, 2, 3], [0, 2, 1, 0]]
    """
    number = min(rows, examples * places)
    index = torch.arange(number, device=device)
    return index * examples // number, index * _step(places) % places


@lru_cache(maxsize=256)
def _step(size: int) -> int:
    """The step nearest to the golden section that meets all of ``size`` places."""
    middle = round(size * _GOLDEN)
    steps = (step for away in range(size) for step in (middle - away, middle + away))
    return next((step for step in steps if step > 0 and math.gcd(step, size) == 1), 1)


def shares(wanted: Sequence[int], total: int) -> list[int]:
    """``total`` shared out: who wants less than an equal share leaves the rest to the others.

    Example:
        >>> shares([10, 2, 10], 12)
        [5, 2, 5]
    """
    found = [0] * len(wanted)
    left = total
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    for done, place in enumerate(order):
        found[place] = min(wanted[place], left // (len(wanted) - done))
        left -= found[place]
    return found


def joined(samples: Mapping[Place, Sequence[Sample]]) -> dict[Place, Sample]:
    """One sample per site of all its calls, and no more units than an exam may keep."""
    whole = {place: _merged(parts) for place, parts in samples.items() if parts}
    number = shares([one.rows.shape[1] for one in whole.values()], TOTAL)
    cut = {place: one.first(n) for (place, one), n in zip(whole.items(), number, strict=True)}
    return {place: one for place, one in cut.items() if one.rows.shape[1]}


def _merged(parts: Sequence[Sample]) -> Sample:
    """Samples of several calls as one, in which each call has the share that it had of all rows."""
    parts = [one for one in parts if one.units is parts[0].units]
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([0, *(one.of for one in parts)])
    ends = ends * min(MOST, ends[-1]) // ends[-1]
    rows = [_thinned(one.rows, n) for one, n in zip(parts, np.diff(ends).tolist(), strict=True)]
    return Sample(torch.cat(rows), parts[0].units, sum(one.of for one in parts))


def _thinned(rows: Tensor, number: int) -> Tensor:
    """``number`` of the rows, evenly; all where there are no more."""
    if number >= len(rows):
        return rows
    index = torch.arange(number, device=rows.device) * len(rows) // max(number, 1)
    return rows.index_select(0, index)
