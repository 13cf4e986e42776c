"""Another draw of the zoo: the same recipes and faults, with other seeds, sizes and strengths.

A rule that was fitted to a run has seen that run's numbers. In each further draw weights and
batches have other seeds, the learning rate and the widths of the recipe and the numbers of its
faults differ by up to a quarter or so, all of it decided by the name of the run alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import Any

from .training import Recipe

#: Seeds between two draws: more than any run has.
SEEDS = 1000
#: Largest logarithm of what a number is multiplied by.
_SPREAD = math.log(1.25)
#: Options that a factor would turn into something else.
_KEPT = ("momentum",)


def _near(value: float, random: Random) -> float:
    """A number close by, to three digits."""
    return float(f"{value * math.exp(random.uniform(-_SPREAD, _SPREAD)):.3g}")


def varied(options: Mapping[str, Any], random: Random) -> dict[str, Any]:
    """The same options with other numbers; whole ones, words and types are kept."""
    return {
        name: _near(value, random) if isinstance(value, float) and name not in _KEPT else value
        for name, value in options.items()
    }


def resized(recipe: Recipe, random: Random) -> Recipe:
    """The recipe with another learning rate and, where it states widths, with others."""
    given = getattr(recipe.net, "keywords", {})
    widths = {
        name: tuple(4 * max(1, round(_near(width, random) / 4)) for width in given[name])
        for name in ("widths", "channels")
        if name in given
    }
    rate = getattr(recipe.optimizer, "keywords", {})["lr"]
    return recipe.built(**widths).stepped(lr=_near(rate, random))
