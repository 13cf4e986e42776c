"""Reads one nonlinearity on the device: a few reductions per call, no copy to the host.

``z`` and ``h`` are brought into the shape ``(examples, positions, units, inner)``; everything kept
has one number per unit, or one bit per example and unit until the forward pass is complete.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flatline.activations import Interval
from flatline.anatomy.atlas import Place
from flatline.anatomy.spread import Spread
from flatline.sense.vitals import Vitals

#: Probes whose projections of z tell duplicates apart.
_PROBES = 4
#: Largest number of elements looked at in one elementwise pass.
_CHUNK = 1 << 20
#: Examples from which the effective rank is taken.
RANK_ROWS = 128
_ROWS = 10 + _PROBES


class Batch(NamedTuple):
    """How the examples lie in the tensors of a forward pass.

    Attributes:
        examples: Number of examples.
        axis: Dimension of the inputs that runs over them (1 for time-first sequences).
        positions: Positions of one example in the input, where rows stand for tokens.
        draw: Number of the draw of examples within the step: calls on the same draw are positions
            of its examples, other draws are further examples.
    """

    examples: int
    axis: int = 0
    positions: int = 1
    draw: int = 0


def arrange(tensor: Tensor, spread: Spread, batch: Batch) -> Tensor:
    """``tensor`` as ``(examples, positions, units, inner)``, in at least single precision.

    Rows that do not divide among the batch's examples (tokens routed to an expert) count as few
    examples as they can.

    Example:
        >>> arrange(torch.zeros(6, 5, 4), Spread(4, 1), Batch(6)).shape
        torch.Size([6, 5, 4, 1])
    """
    tensor = tensor.detach()
    if batch.axis == 1 and tensor.ndim > 2 and tensor.shape[1] == batch.examples:
        tensor = tensor.transpose(0, 1)
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    rows = tensor.numel() // (spread.count * spread.inner)
    groups = batch.examples
    if groups <= 0 or rows % groups:
        groups = max(1, rows // max(batch.positions, 1))
        groups = groups if rows % groups == 0 else 1
    return tensor.reshape(groups, rows // groups, spread.count, spread.inner)


def _within(z: Tensor, low: Tensor, high: Tensor, intervals: Sequence[Interval]) -> Tensor:
    """Whether a position of each example lies in an open interval: ``(examples, units)``.

    Args:
        z: Arranged pre-activations.
        low: Smallest z per example and unit.
        high: Largest.
        intervals: The intervals.
    """
    found = torch.zeros_like(low, dtype=torch.bool)
    for start, end in intervals:
        if start == -math.inf and end == math.inf:
            found = torch.ones_like(found)
        elif end == math.inf:
            found |= high > start
        elif start == -math.inf:
            found |= low < end
        elif z.shape[1] * z.shape[3] == 1:
            found |= (low > start) & (low < end)
        else:
            per = max(1, _CHUNK // max(1, z[0].numel()))
            parts = [((part > start) & (part < end)).any(dim=3).any(dim=1) for part in z.split(per)]
            found |= torch.cat(parts)
    return found


def complement(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    """What the intervals leave of the line.

    Example:
        >>> complement(((0.0, 6.0),))
        ((-inf, 0.0), (6.0, inf))
    """
    ends = [-math.inf, *(end for interval in sorted(intervals) for end in interval), math.inf]
    gaps = [(a, b) for i, (a, b) in enumerate(pairwise(ends)) if i % 2 == 0 and a != b]
    return tuple(gaps)


def _probe(size: int, salt: float, like: Tensor) -> Tensor:
    """Fixed weights without a pattern that data could share; draws no random number."""
    index = torch.arange(1, size + 1, device=like.device, dtype=like.dtype)
    phases = torch.arange(_PROBES, device=like.device, dtype=like.dtype)
    return torch.cos(index[:, None] * (salt + 0.618033988749895 * phases) + phases)


def _project(z: Tensor) -> Tensor:
    """Projections of each unit's z, shape ``(units, probes)``; equal z gives equal projections."""
    examples, positions, units, inner = z.shape
    rows = z.reshape(examples * positions, units, inner)
    if inner > 1:
        over_inner = torch.matmul(rows, _probe(inner, 1.3247, z))
        return torch.einsum("ruk,rk->uk", over_inner, _probe(len(rows), 2.2360, z))
    return rows.squeeze(2).t() @ _probe(len(rows), 2.2360, z)


def _gone() -> Tensor | None:
    """What a dead weak reference gives."""
    return None


@dataclass(eq=False)
class Reading:
    """What one call (or several merged ones) of a nonlinearity showed; tensors on the device."""

    place: Place
    batch: Batch
    spread: Spread
    fired: Tensor
    railed: Tensor
    sums: list[Tensor]
    extrema: list[Tensor]
    probes: Tensor
    weight: int
    gram: Tensor | None = None
    calls: int = 1
    leaked: bool = False
    reach: Tensor | None = None
    dropped: bool = False
    h_sum: Tensor | None = None
    h_extrema: list[Tensor] = field(default_factory=list)
    cold: Tensor | None = None
    output: Callable[[], Tensor | None] = _gone
    hooked: bool = False

    @classmethod
    def of(cls, place: Place, z: Tensor, spread: Spread, batch: Batch) -> Reading:
        """Read the pre-activations."""
        activation = place.activation
        if z.numel() == 0:
            return cls._empty(place, batch, spread, z)
        z = arrange(z, spread, batch)
        low, high = z.amin(dim=(1, 3)), z.amax(dim=(1, 3))
        fired = _within(z, low, high, activation.fires)
        if not activation.rails:
            railed = torch.zeros_like(fired)
        elif complement(activation.fires) == activation.rails:
            railed = ~fired
        else:
            railed = ~_within(z, low, high, complement(activation.rails))
        weight = z.shape[1] * z.shape[3]
        sums = [z.sum(dim=(0, 1, 3)), torch.linalg.vector_norm(z, 2, dim=(0, 1, 3)).square()]
        extrema = [low.amin(dim=0), high.amax(dim=0)]
        return cls(place, batch, spread, fired, railed, sums, extrema, _project(z), weight)

    @classmethod
    def _empty(cls, place: Place, batch: Batch, spread: Spread, z: Tensor) -> Reading:
        """A call without any row, as of an expert to which nothing was routed."""
        none = z.new_zeros(0, place.units, dtype=torch.bool)
        zero = z.new_zeros(place.units, dtype=torch.float32)
        probes = zero.new_zeros(place.units, _PROBES)
        return cls(
            place, batch, spread, none, none, [zero, zero], [zero + math.inf, zero - math.inf],
            probes, 1, h_sum=zero, h_extrema=[zero + math.inf, zero - math.inf], cold=zero[:1],
        )  # fmt: skip

    def take(self, h: Tensor) -> None:
        """Read the outputs (again, when a gate multiplies them later)."""
        if h.numel() == 0:
            return
        if self.place.activation.can_die:
            self.output, self.hooked = weakref.ref(h), False
        h = arrange(h, self.spread, self.batch)
        self.h_sum = torch.linalg.vector_norm(h, 1, dim=(0, 1, 3))
        self.h_extrema = [h.amin(dim=(0, 1, 3)), h.amax(dim=(0, 1, 3))]
        rows = h[:RANK_ROWS].mean(dim=(1, 3))
        self.gram = rows @ rows.t()

    def listen(self) -> None:
        """Hear the gradient of the output as it passes, to learn which examples send none.

        A flat loss, masked targets or silent layers downstream make gradients vanish exactly, and
        a unit that fires only on such examples looks silent to the pulse. To be called when the
        output is part of the graph already and not gone yet: where it is used.
        """
        h = None if self.hooked else self.output()
        if h is not None and h.requires_grad:
            h.register_hook(self._feel)
            self.hooked = True

    def _feel(self, gradient: Tensor) -> None:
        try:
            g = arrange(gradient, self.spread, self.batch)
            cold = (torch.linalg.vector_norm(g, math.inf, dim=(1, 2, 3)) == 0).sum()
            self.cold = cold if self.cold is None else self.cold + cold
        except Exception:  # inside the backward pass of the training: never let it out
            self.cold = None

    def read(self, reach: Tensor) -> None:
        """Some parameter reads the units with these largest absolute weights."""
        self.reach = reach if self.reach is None else torch.maximum(self.reach, reach)

    def absorb(self, other: Reading) -> bool:
        """Merge another call on the same examples; ``False`` when their number differs.

        A unit fired on an example if it did in any call, and sat on a rail if it did in all.
        """
        if self.fired.shape != other.fired.shape:
            return False
        self.fired |= other.fired
        self.railed &= other.railed
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.extrema = _wider(self.extrema, other.extrema)
        self.probes = self.probes + other.probes * (self.calls + 0.5)
        self.weight += other.weight
        self.calls += other.calls
        self.leaked |= other.leaked
        if other.cold is not None:
            self.cold = other.cold if self.cold is None else torch.minimum(self.cold, other.cold)
        if other.reach is not None:
            self.read(other.reach)
        if self.h_sum is not None and other.h_sum is not None:
            self.h_sum = self.h_sum + other.h_sum
            self.h_extrema = _wider(self.h_extrema, other.h_extrema)
        return True

    def flat(self) -> Tensor:
        """Everything as one float tensor.

        The number of cold examples, ``_ROWS`` rows of units, then the Gram matrix.
        """
        zero = torch.zeros_like(self.extrema[0])
        ignored = zero if self.reach is None or self.leaked else (self.reach == 0).to(zero.dtype)
        h_sum = zero if self.h_sum is None else self.h_sum
        rows = [
            self.fired.sum(dim=0),
            self.railed.sum(dim=0),
            *self.extrema,
            *(self.h_extrema or (zero, zero)),
            h_sum,
            *self.sums,
            ignored,
            *self.probes.unbind(dim=1),
        ]
        unheard = math.nan if self.place.activation.can_die else 0.0
        cold = zero.new_full((1,), unheard) if self.cold is None else self.cold.reshape(1)
        gram = [] if self.gram is None else [self.gram.reshape(-1)]
        dtype = torch.float64 if zero.dtype == torch.float64 else torch.float32
        return torch.cat([row.to(dtype) for row in [cold, *rows, *gram]])

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.fired)


def _wider(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [torch.minimum(a[0], b[0]), torch.maximum(a[1], b[1])]


class Harvest(NamedTuple):
    """A reading brought to the host.

    Attributes:
        vitals: Vitals of its units.
        effective_rank: Effective rank of the outputs of some of its examples.
        cold: Examples from which no gradient reached the units; NaN where that was not heard.
    """

    vitals: Vitals
    effective_rank: float
    cold: float


def harvest(reading: Reading, numbers: npt.NDArray[np.floating]) -> Harvest:
    """Vitals of a reading.

    Args:
        reading: The reading.
        numbers: Its :meth:`Reading.flat`, on the host.
    """
    units = reading.place.units
    if reading.examples == 0:
        return Harvest(Vitals.empty(units), math.nan, 0.0)
    cold, numbers = float(numbers[0]), numbers[1:]
    rows = numbers[: _ROWS * units].reshape(_ROWS, units)
    fired, railed, z_min, z_max, h_min, h_max, h_sum, z_sum, z_sq, ignored = rows[:10]
    single = np.float32
    vitals = Vitals(
        examples=reading.examples,
        fired=fired.astype(np.int32),
        railed=railed.astype(np.int32),
        z_min=z_min.astype(single),
        z_max=z_max.astype(single),
        h_min=h_min.astype(single),
        h_max=h_max.astype(single),
        h_abs=h_sum.astype(np.float64) / reading.weight,
        z_sum=z_sum.astype(np.float64) / reading.weight,
        z_sq=z_sq.astype(np.float64) / reading.weight,
        twin=twins(rows[10:], z_min, z_max, z_sq, reading.examples * reading.weight),
        nonfinite=~np.isfinite(z_min + z_max + h_min + h_max),
        ignored=ignored > 0,
        gradient=np.full(units, np.nan, single),
        update=np.full(units, np.nan, single),
    )
    return Harvest(vitals, effective_rank(numbers[_ROWS * units :]), cold)


def twins(
    probes: npt.NDArray[np.floating],
    z_min: npt.NDArray[np.floating],
    z_max: npt.NDArray[np.floating],
    z_sq: npt.NDArray[np.floating],
    count: int,
) -> npt.NDArray[np.int32]:
    """Groups of units with the same pre-activations, each named by its smallest unit.

    Units that agree up to 1e-5 in every element agree in each projection up to 1e-5 times the
    length of z, and in both extrema; sorting by one projection makes them neighbours.

    Args:
        probes: Projections, shape ``(probes, units)``.
        z_min: Smallest z per unit.
        z_max: Largest z per unit.
        z_sq: Sum of squares of z per unit.
        count: Number of elements behind each projection.

    Example:
        >>> p = np.array([[1.0, 2.0, 1.0]] * 4)
        >>> e = np.array([0.5, 0.7, 0.5])
        >>> twins(p, e, e, e, 1).tolist()
        [0, 1, 0]
    """
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.sqrt(z_sq)
        # A probe weighs elements by about 0.7; rounding grows with the number of summands.
        slack = (4e-5 + 2e-7 * math.sqrt(max(count, 1))) * length
        wide = 1e-5 * np.maximum(np.abs(z_min), np.abs(z_max))
        order = np.lexsort((z_min, z_max, probes[0]))
        before, after = order[:-1], order[1:]
        alike = np.abs(probes[:, after] - probes[:, before]) <= slack[after]
        near = np.abs(z_min[after] - z_min[before]) <= wide[after]
        near &= np.abs(z_max[after] - z_max[before]) <= wide[after]
    chain = np.concatenate([[0], np.cumsum(~(alike.all(axis=0) & near))])
    smallest = np.full(len(order), len(order), np.int64)
    np.minimum.at(smallest, chain, order)
    group = np.empty(len(order), np.int32)
    group[order] = smallest[chain]
    return group


def effective_rank(gram: npt.NDArray[np.floating]) -> float:
    """``exp`` of the entropy of the normalised singular values (Roy & Vetterli 2007).

    Args:
        gram: Products of the rows with each other, flat.

    Example:
        >>> round(effective_rank(np.eye(3).ravel()), 6)
        3.0
    """
    side = math.isqrt(len(gram))
    if side == 0 or not np.isfinite(gram).all():
        return math.nan
    powers = np.linalg.eigvalsh(gram.reshape(side, side).astype(np.float64))
    # Single-precision products leave noise of about 1e-7 of the largest power.
    values = np.sqrt(np.where(powers > 1e-6 * powers.max(), powers, 0.0))
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
