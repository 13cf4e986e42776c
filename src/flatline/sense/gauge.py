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

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle, unserializable_hook

from flatline.anatomy.atlas import Place
from flatline.anatomy.inputs import Inputs, joined
from flatline.anatomy.spread import Spread
from flatline.curves import Interval
from flatline.sense.sample import Sample
from flatline.sense.unseen import unseen

Draw = Callable[[Place, Tensor, Tensor, Tensor], Sample | None]
#: Probes whose projections of z tell duplicates apart.
_PROBES = 4
#: Largest number of elements looked at in one elementwise pass.
_CHUNK = 1 << 20
#: Examples from which the effective rank is taken.
RANK_ROWS = 128
#: Rows of :meth:`Reading.flat` that have one number per unit.
ROWS = 11 + _PROBES


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
    if rows == 0:  # an expert that no token was sent to
        return tensor.reshape(0, 1, spread.count, spread.inner)
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


def _squares(z: Tensor) -> Tensor:
    """Sum of squares per unit, a few examples at a time to keep the squares small.

    A norm along several dimensions takes up to ten times as long, but no memory for the squares.
    """
    per = 4 * _CHUNK // max(1, z[0].numel())
    if per == 0:
        norm: Tensor = torch.linalg.vector_norm(z, 2, dim=(0, 1, 3))
        return norm.square()
    total = z.new_zeros(z.shape[2])
    for part in z.split(per):
        total += (part * part).sum(dim=(0, 1, 3))
    return total


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
    used: bool = False
    h_sum: Tensor | None = None
    h_extrema: list[Tensor] = field(default_factory=list)
    cold: Tensor | None = None
    power: Tensor | None = None
    output: Callable[[], Tensor | None] = _gone
    inputs: Inputs | None = None
    fault: Exception | None = None
    hooked: bool = False
    samples: tuple[Sample, ...] = ()

    @classmethod
    def of(
        cls,
        place: Place,
        z: Tensor,
        spread: Spread,
        batch: Batch,
        draw: Draw | None = None,
    ) -> Reading:
        """Read the pre-activations, and have ``draw`` copy a few of them."""
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
        sums = [z.sum(dim=(0, 1, 3)), _squares(z)]
        extrema = [low.amin(dim=0), high.amax(dim=0)]
        drawn = draw(place, z, fired, railed) if draw is not None and activation.shows_z else None
        return cls(
            place, batch, spread, fired, railed, sums, extrema, _project(z), weight,
            samples=() if drawn is None else (drawn,),
        )  # fmt: skip

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
        self.output, self.hooked = weakref.ref(h), False
        h = arrange(h, self.spread, self.batch)
        self.h_sum = h.abs().sum(dim=(0, 1, 3))
        self.h_extrema = [h.amin(dim=(0, 1, 3)), h.amax(dim=(0, 1, 3))]
        rows = h[:RANK_ROWS].mean(dim=(1, 3))
        self.gram = rows @ rows.t()

    def listen(self) -> RemovableHandle | None:
        """Hear the gradient of the output as it passes, to learn which examples send none.

        A flat loss, masked targets or silent layers downstream make gradients vanish exactly, and
        a unit that fires only on such examples looks silent to the pulse. To be called when the
        output is part of the graph already and not gone yet: where it is used.
        """
        h = None if self.hooked else self.output()
        if h is None or not h.requires_grad:
            return None
        self.hooked = True

        def hear(gradient: Tensor) -> None:
            try:
                unseen(self.feel, gradient)
            except Exception as error:  # inside the backward pass: never let it out
                self.fault = error

        # Of any other hook torch warns when the tensor is saved.
        handle: RemovableHandle = h.register_hook(unserializable_hook(hear))
        return handle

    def feel(self, gradient: Tensor) -> None:
        """Count the examples whose gradient is exactly 0 for all units, and take its sizes."""
        g = arrange(gradient, self.spread, self.batch)
        cold = (torch.maximum(g.amax(dim=(1, 2, 3)), -g.amin(dim=(1, 2, 3))) == 0).sum()
        self.cold = cold if self.cold is None else self.cold + cold
        power = _squares(g) * (g.shape[2] / g.numel())
        self.power = power if self.power is None else torch.maximum(self.power, power)

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
        self.samples += other.samples
        self.inputs = joined(self.inputs, other.inputs)
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

        The number of cold examples, ``ROWS`` rows of units, then the Gram matrix.
        """
        zero = torch.zeros_like(self.extrema[0])
        unread = torch.full_like(zero, math.nan)
        reach = unread if self.reach is None or self.leaked else self.reach
        h_sum = zero if self.h_sum is None else self.h_sum
        rows = [
            self.fired.sum(dim=0),
            self.railed.sum(dim=0),
            *self.extrema,
            *(self.h_extrema or (zero, zero)),
            h_sum,
            *self.sums,
            reach,
            unread if self.power is None else self.power,
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
