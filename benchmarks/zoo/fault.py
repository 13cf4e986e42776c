"""What a planted fault is, and what is known of it because it was planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from inspect import Parameter, signature
from random import Random
from typing import Any

import torch
from torch import nn

from .draws import varied
from .training import Recipe, Training
from .watch import ACTS

#: The step at which whatever happens later in a training happens.
AT = 120
NEVER = 10**9


@dataclass(frozen=True)
class Plant:
    """Deaths that a fault causes.

    Attributes:
        cause: Their cause.
        site: Index of the site in the order of the forward pass; ``None`` for any.
        first: The first step from which such a unit may be silent for good.
        last: The last such step.
        equal: Causes that are as honest a name.
    """

    cause: str
    site: int | None = None
    first: int = 0
    last: int = NEVER
    equal: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """A mistake in a training that works without it, or something that only looks like one.

    Attributes:
        name: Its name.
        code: The finding that names it; ``None`` for what is no fault.
        why: What the mistake is, and where it was described.
        change: Turns what was decided into what was decided by mistake.
        equal: Codes that are as honest a name for the root; ``why`` says why.
        beside: Codes of what follows from it, which a report may name as well.
        plants: Deaths that it causes.
        benign: It costs capacity at most: no reason to call the run sick.
        options: What the name does not say.
    """

    name: str
    code: str | None
    why: str
    change: Callable[..., Recipe]
    equal: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    plants: tuple[Plant, ...] = ()
    benign: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def set(self, **options: Any) -> Fault:
        """The same with other options."""
        return replace(self, options=self.options | options)

    def known(self, **fields: Any) -> Fault:
        """The same with other things known of it."""
        return replace(self, **fields)

    @property
    def title(self) -> str:
        """Name and options."""
        return ",".join([self.name, *(f"{key}={_short(v)}" for key, v in self.options.items())])

    def __call__(self, recipe: Recipe) -> Recipe:
        return self.change(recipe, **self.options)

    def near(self, random: Random) -> Fault:
        """The same with other numbers, those that are not stated included."""
        stated = {
            name: one.default
            for name, one in signature(self.change).parameters.items()
            if one.default is not Parameter.empty
        }
        return replace(self, options=varied(stated | self.options, random))


def _short(value: object) -> str:
    if isinstance(value, type):
        return value.__name__.lower()
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def changes(code: str | None, **known: Any) -> Callable[[Callable[..., Recipe]], Fault]:
    """Make a fault of a function of a recipe that decides otherwise."""

    def made(change: Callable[..., Recipe]) -> Fault:
        why = " ".join((change.__doc__ or "").split())
        return Fault(change.__name__.replace("_", "-"), code, why, change, **known)

    return made


def spoils(code: str | None, **known: Any) -> Callable[[Callable[..., None]], Fault]:
    """Make a fault of a function that does something to a training that was built."""

    def made(spoil: Callable[..., None]) -> Fault:
        @wraps(spoil)
        def change(recipe: Recipe, **options: Any) -> Recipe:
            return recipe.but(spoils=(*recipe.spoils, partial(spoil, **options)))

        return changes(code, **known)(change)

    return made


def layers(model: nn.Module) -> list[Any]:
    """Linear and convolutional layers in the order of the model."""
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def acts(model: nn.Module) -> list[nn.Module]:
    """Nonlinearities in the order of the model."""
    return [m for m in model.modules() if isinstance(m, ACTS)]


def feeders(training: Training) -> list[Any]:
    """The module with parameters that feeds each nonlinearity, in the order of the forward pass."""
    found: list[nn.Module] = []
    last: list[nn.Module] = []

    def ran(module: nn.Module, *_: object) -> None:
        if isinstance(module, ACTS):
            if last and last[-1] not in found:
                found.append(last[-1])
        elif any(True for _ in module.parameters(recurse=False)):
            last.append(module)

    handles = [m.register_forward_hook(ran) for m in training.model.modules()]
    training.model.eval()
    with torch.no_grad():
        training.model(training.task.train[0][:4])
    training.model.train()
    for handle in handles:
        handle.remove()
    return found
