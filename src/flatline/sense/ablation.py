"""What a model loses when live units are silenced.

A network that rests on few units, or has learnt examples by heart, loses more by the same share of
them than one that has learnt what they have in common (Morcos et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flatline.anatomy.atlas import Place
from flatline.anatomy.spread import Spread

#: Shares of the live units of a site that are silenced, and what the loss is then called.
SHARES = {"ablated_quarter": 0.25, "ablated_half": 0.5}


@dataclass
class _Call:
    """One call of a nonlinearity."""

    place: Place
    spread: Spread


class Silencer:
    """Hears from the tracer, and sets outputs of some units of one site to 0.

    Args:
        place: The site.
        units: Which units.
    """

    def __init__(self, place: Place, units: npt.NDArray[np.intp]) -> None:
        self._place = place
        self._keep = torch.ones(place.units)
        self._keep[torch.from_numpy(units)] = 0

    def before(self, place: Place, z: Tensor, spread: Spread, inputs: Any) -> _Call:
        """A nonlinearity is about to be applied."""
        return _Call(place, spread)

    def after(self, token: _Call, h: Tensor) -> None:
        """Silence units in its output."""
        if token.place is not self._place:
            return
        h = h.detach()
        element = torch.arange(h.numel(), device=h.device)
        unit = element // token.spread.inner % token.spread.count
        h.mul_(self._keep.to(h.device, h.dtype)[unit].view(h.shape))

    def gated(self, token: _Call, place: Place, product: Tensor) -> None:
        """Silence units in the product that takes the output's place."""
        token.place = place
        self.after(token, product)

    def forget(self, token: _Call) -> None:
        """It was a part of a formula, which is silenced as a whole."""

    def read(self, token: _Call, columns: Tensor | None) -> None:
        """Who reads it does not matter."""

    def leak(self, token: _Call) -> None:
        """Nor does any other use."""


def ablate(
    live: Mapping[Place, npt.NDArray[np.intp]], loss: Callable[[Silencer | None], float]
) -> dict[Place, dict[str, float]]:
    """How much the loss grows when shares of each site's live units are silenced, at random.

    The larger shares hold the units of the smaller ones. The choice is fixed, so that models can be
    compared.

    Args:
        live: Units of each site that are not silent.
        loss: The model's mean loss while a silencer listens.

    Returns:
        Per site, the loss less that of the whole model, by the names of :data:`SHARES`.
    """
    whole = loss(None)
    found = {}
    for place, units in live.items():
        order = np.random.default_rng(0).permutation(units)
        found[place] = {
            name: loss(Silencer(place, order[: round(share * len(order))])) - whole
            for name, share in SHARES.items()
        }
    return found
