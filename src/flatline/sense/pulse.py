"""Who showed life in this step, from the gradients of feeding parameters alone."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flatline.anatomy.atlas import Feed, Place
from flatline.sense.roll import ROWS, Member, Roll, pack

#: Packed rows that wait until they are taken together; a byte of each unit.
PACKED = 8
#: Columns of a weight's gradient that stand for a missing bias.
SENTINELS = 4


def kind(place: Place, shared: bool) -> str:
    """How well gradients tell who fired at ``place``: ``exact``, ``sampled`` or ``none``.

    Args:
        place: The site.
        shared: Whether other sites have the same feeding parameters, so that gradients add up.
    """
    if not place.activation.can_die or shared:
        return "none"
    if place.beacon is not None and place.beacon.parameter.requires_grad:
        return "exact"
    if place.matrix is not None and place.matrix.parameter.requires_grad:
        return "sampled"
    return "none"


def _strided(gradient: Tensor | None) -> TypeGuard[Tensor]:
    """Whether a gradient is an ordinary tensor (not sparse, not sharded)."""
    return gradient is not None and type(gradient) is Tensor and gradient.layout is torch.strided


class Source:
    """The gradient of one site, as one number (or a few) per unit."""

    def __init__(self, place: Place, pulse: str) -> None:
        feed: Feed | None = place.beacon if pulse == "exact" else place.matrix
        assert feed is not None
        self.parameter = feed.parameter
        self._axis = feed.axis
        self._units = place.units
        stop = place.start + place.step * place.units
        whole = pulse == "exact" and feed.parameter.numel() == place.units
        self._part = None if whole else slice(place.start, stop, place.step)
        self._columns = None if pulse == "exact" else self._busiest()
        #: Its gradient can be taken as it is.
        self.plain = whole and type(feed.parameter.data) is Tensor
        self._nothing = torch.zeros(place.units, device=feed.parameter.device)

    def _busiest(self) -> Tensor | None:
        """The columns whose gradient has the fewest zeros now."""
        gradient = self.parameter.grad
        assert self._axis is not None
        if not _strided(gradient):
            return None
        rows = gradient.movedim(self._axis, 0).flatten(1)
        count = min(SENTINELS, rows.shape[1])
        return (rows != 0).sum(dim=0).topk(count).indices

    def read(self) -> Tensor:
        """One number per unit, 0 where no life showed."""
        gradient = self.parameter.grad
        if not _strided(gradient):
            return self._nothing
        if self._part is None:
            return gradient
        if self._axis:
            gradient = gradient.movedim(self._axis, 0)
        gradient = gradient[self._part]
        if self._columns is not None:
            return gradient.flatten(1)[:, self._columns].any(dim=1).to(self._nothing.dtype)
        return self._nothing if gradient.ndim > 1 else gradient


class Pulse:
    """The pulse of the sites whose parameters one optimizer updates, on one device.

    A step costs one concatenation and one copy that turns numbers into bits.

    Args:
        places: The sites.
        kinds: The kind of pulse of each (not ``"none"``).
    """

    def __init__(self, places: list[Place], kinds: list[str]) -> None:
        self.places = places
        self.roll = Roll(
            [Member(p.units, k, not p.noisy) for p, k in zip(places, kinds, strict=True)]
        )
        self._sources = [Source(p, k) for p, k in zip(places, kinds, strict=True)]
        #: All gradients are ordinary tensors, wholly of the units: no view of them need be made.
        self._plain = all(source.plain for source in self._sources)
        self._parameters = [source.parameter for source in self._sources]
        device = self._parameters[0].device
        units = sum(place.units for place in places)
        self._ring = torch.zeros(ROWS, units, dtype=torch.bool, device=device)
        self._rows = list(self._ring.unbind())
        self._steps: list[int] = []
        self._packed: list[tuple[npt.NDArray[np.uint8], list[int]]] = []

    @property
    def parameter(self) -> Tensor:
        """One of the parameters, all of which belong to one optimizer."""
        return self._parameters[0]

    @property
    def full(self) -> bool:
        """Whether the rows must be taken before the next beat."""
        return len(self._steps) == ROWS

    def beat(self, step: int) -> Tensor:
        """Read the gradients of this step; returns the sum of their squares."""
        gradients = self._whole() if self._plain else self._parts()
        self._rows[len(self._steps)].copy_(gradients)
        self._steps.append(step)
        return torch.dot(gradients, gradients)

    def _whole(self) -> Tensor:
        try:
            return torch.cat([p.grad for p in self._parameters])  # type: ignore[misc]
        except TypeError:  # some parameter has no gradient in this step
            return self._parts()

    def _parts(self) -> Tensor:
        return torch.cat([source.read() for source in self._sources])

    def turn(self) -> bool:
        """Make room for the next beats; returns whether some silence is suspicious.

        Packed rows wait for others: taken together they find the roll's code warm.
        """
        count = len(self._steps)
        if count:
            rows = self._ring[:count].cpu().numpy()
            self._packed.append((pack(rows), self._steps))
            self._steps = []
        return len(self._packed) >= PACKED and self._hand_over()

    def take(self) -> bool:
        """Bring all rows to the roll; returns whether some silence is suspicious."""
        return self.turn() or self._hand_over()

    def _hand_over(self) -> bool:
        packed, self._packed = self._packed, []
        found = [self.roll.observe_word(word, steps) for word, steps in packed]
        return any(found)

    @property
    def nbytes(self) -> int:
        """Memory held between exams."""
        waiting = sum(word.nbytes for word, _ in self._packed)
        return self._ring.numel() + waiting + self.roll.nbytes
