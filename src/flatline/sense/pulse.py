"""Who showed life in this step, from the gradients of feeding parameters alone."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flatline.anatomy.atlas import Feed, Place
from flatline.sense import bits
from flatline.sense.bits import Words
from flatline.sense.roll import Member, Roll

#: Rows that wait on the device until they are taken together: most and fewest.
MOST, FEWEST = 64, 2
#: Numbers that they hold at most, but for the fewest rows.
RING = 1 << 16
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
        like = feed.parameter
        zero = torch.zeros(1, dtype=like.dtype, device=like.device)
        self._nothing = zero.expand(place.units)

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

    A step costs one concatenation. The gradients wait as they are, and many steps' are looked at
    together: between two training steps, with the caches full of other things, each operator is
    ten times as dear as after another one.

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
        units = sum(place.units for place in places)
        rows = max(FEWEST, min(MOST, RING // max(units, 1)))
        like = self._parameters[0]
        self._ring = torch.zeros(rows, units, dtype=like.dtype, device=like.device)
        self._rows = list(self._ring.unbind())
        self._steps: list[int] = []
        #: Rows that wait for others to fill a word, which is short where there are many units.
        self._word: Words = np.zeros(units, np.uint64 if rows > 8 else np.uint8)
        self._packed: list[int] = []

    @property
    def parameter(self) -> Tensor:
        """One of the parameters, all of which belong to one optimizer."""
        return self._parameters[0]

    @property
    def room(self) -> int:
        """How many beats may follow before the rows must be taken."""
        return len(self._rows) - len(self._steps)

    def beat(self, step: int) -> None:
        """Read the gradients of this step."""
        row = self._rows[len(self._steps)]
        if not self._plain:
            self._parts(row)
        else:
            try:
                torch.cat([p.grad for p in self._parameters], out=row)  # type: ignore[misc]
            except (TypeError, RuntimeError):  # some have none in this step, or a graph behind it
                self._parts(row)
        self._steps.append(step)

    @torch.no_grad()
    def _parts(self, row: Tensor) -> None:
        torch.cat([source.read() for source in self._sources], out=row)

    def turn(self) -> tuple[bool, list[int], list[float]]:
        """Make room for the next beats.

        Returns:
            Whether some silence is suspicious; the steps, and the norm of the gradients of each.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return False, [], []
        ring = self._ring[: len(steps)]
        norms = torch.linalg.vector_norm(ring.float(), dim=1).tolist()
        found = self._observe((ring != 0).cpu().numpy(), steps)
        return found, steps, norms

    def _observe(self, alive: npt.NDArray[np.bool_], steps: list[int]) -> bool:
        """Bring rows to the roll, as full words; what is left waits."""
        suspicious, most = False, bits.width(self._word.dtype)
        while steps:
            start = len(self._packed)
            count = min(most - start, len(steps))
            word = bits.pack(alive[:count], self._word.dtype)
            self._word |= word << word.dtype.type(start)
            self._packed += steps[:count]
            alive, steps = alive[count:], steps[count:]
            if len(self._packed) == most:
                suspicious |= self._hand_over()
        return suspicious

    def take(self) -> tuple[bool, list[int], list[float]]:
        """:meth:`turn`, with all rows brought to the roll."""
        found, steps, norms = self.turn()
        if self._packed:
            found |= self._hand_over()
        return found, steps, norms

    def _hand_over(self) -> bool:
        steps, self._packed = self._packed, []
        word, self._word = self._word, np.zeros_like(self._word)
        return self.roll.observe(word, steps)

    @property
    def nbytes(self) -> int:
        """Memory held between exams."""
        return self._ring.nbytes + self._word.nbytes + self.roll.nbytes
