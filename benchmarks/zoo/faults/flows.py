"""Faults of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..data import Task
from ..fault import AT, Plant, changes, spoils
from ..training import Recipe, Training
from .loops import altered

FOLLOWS = (
    "learning-rate-too-high", "exploding-gradient", "no-learning", "rank-collapse",
    "upstream-death", "init-too-large",
)  # fmt: skip


def fed(recipe: Recipe, alter: Callable[[Tensor], Tensor]) -> Recipe:
    """The recipe with other inputs."""

    def task() -> Task:
        plain = recipe.task()
        (x, y), (a, b) = plain.train, plain.test
        return replace(plain, train=(alter(x), y), test=(alter(a), b))

    return recipe.but(task=task)


@changes("unscaled-input", plants=(Plant("born-dead"),), beside=FOLLOWS)
def raw(recipe: Recipe) -> Recipe:
    """Measures are fed as they are, far from 0 (StackOverflow 44066044, 39525358)."""

    def task() -> Task:
        plain = recipe.task()
        assert plain.raw is not None
        return replace(plain, train=(plain.raw, plain.train[1]))

    return recipe.but(task=task)


@changes("unscaled-input", plants=(Plant("born-dead"),), beside=FOLLOWS)
def offset(recipe: Recipe, by: float = 20.0) -> Recipe:
    """Inputs that were not centred (LeCun et al. 1998)."""
    return fed(recipe, lambda x: x + by)


@changes(
    "unscaled-input",
    equal=("learning-rate-too-high",),
    plants=(Plant("step-too-large"),),
    beside=FOLLOWS,
)
def bright(recipe: Recipe, factor: float = 255.0) -> Recipe:
    """Pixels from 0 to 255 at a learning rate for pixels from 0 to 1 (LeCun et al. 1998).

    A step grows with the square of the inputs; a lower rate would be a cure as well.
    """
    return fed(recipe, lambda x: (x - x.min()) * factor / (x.max() - x.min()))


@spoils(
    "unscaled-input",
    equal=("dying-relu",),
    plants=(Plant("input-shift", 0, AT, AT),),
    beside=FOLLOWS,
)
def shifted_later(training: Training, by: float = -4.0) -> None:
    """The pipeline loses the mean that it subtracts.

    An offset, and deaths by it; it comes late, so the deaths are as honest a name.
    """
    altered(training, lambda x, y: (x + by, y), AT)


@spoils(
    "saturation",
    equal=("unscaled-input",),
    plants=(Plant("saturation", 0, first=AT, equal=("input-shift",)),),
    beside=FOLLOWS,
)
def scaled_later(training: Training, factor: float = 60.0) -> None:
    """The pipeline loses the factor by which it scales: z leaves the range where tanh bends.

    The inputs' scale is the root as much as the rails are.
    """
    altered(training, lambda x, y: (factor * x, y), AT)


@changes("constant-input", benign=True)
def idle_sensors(recipe: Recipe, number: int = 8) -> Recipe:
    """Columns of sensors that were never connected."""
    return fed(recipe, lambda x: torch.cat([x, torch.ones(len(x), number)], 1))
