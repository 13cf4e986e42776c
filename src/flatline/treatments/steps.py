"""Treatments of what an optimizer's groups say: learning rate, warm-up, weight decay."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any

import torch

from flatline.errors import UnsupportedError
from flatline.treatments.plan import Part

if TYPE_CHECKING:
    from flatline.treatments.registry import Treatment


def _groups(optimizer: torch.optim.Optimizer, key: str, what: str) -> list[dict[str, Any]]:
    """The groups that have a setting.

    Raises:
        UnsupportedError: None has.
    """
    found = [group for group in optimizer.param_groups if key in group]
    if not found:
        raise UnsupportedError(
            f"expected an optimizer with a {what}, found {type(optimizer).__name__} without; "
            "leave this treatment out"
        )
    return found


class _Rated(Part):
    """Sets the learning rate for the time of each step.

    Outside the step it is what the program set, so that schedulers, which may compute each rate
    from the last one, see only their own work.
    """

    def __init__(self) -> None:
        self._rates: weakref.WeakKeyDictionary[torch.optim.Optimizer, list[Any]] = (
            weakref.WeakKeyDictionary()
        )

    def rates(self, optimizer: torch.optim.Optimizer, given: list[Any]) -> list[Any]:
        """The learning rates of the coming step, from those that the program set."""
        raise NotImplementedError

    def at_birth(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimizer without a learning rate."""
        _groups(optimizer, "lr", "learning rate")

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of this step."""
        groups = _groups(optimizer, "lr", "learning rate")
        given = [group["lr"] for group in groups]
        self._rates[optimizer] = list(zip(groups, given, strict=True))
        for group, rate in zip(groups, self.rates(optimizer, given), strict=True):
            group["lr"] = rate

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the program's learning rate back."""
        for group, rate in self._rates.pop(optimizer, ()):
            group["lr"] = rate


class Constant(_Rated):
    """``schedule=constant``: each group keeps the first learning rate that is not 0."""

    changes = "holds the learning rate at that of the first step, whatever the schedule says"

    def __init__(self, treatment: Treatment) -> None:
        """It has no settings."""
        super().__init__()
        self._held: weakref.WeakKeyDictionary[torch.optim.Optimizer, list[Any]] = (
            weakref.WeakKeyDictionary()
        )

    def rates(self, optimizer: torch.optim.Optimizer, given: list[Any]) -> list[Any]:
        """Those of the first step; of groups added later, those of theirs."""
        held = self._held.setdefault(optimizer, [])
        held += [0.0] * (len(given) - len(held))
        for place, rate in enumerate(given):
            if not held[place]:
                held[place] = rate.clone() if isinstance(rate, torch.Tensor) else rate
        return list(held)


class Rate(_Rated):
    """``lr=xFACTOR``."""

    def __init__(self, treatment: Treatment) -> None:
        super().__init__()
        self._factor: float = treatment.value
        self.changes = f"multiplies the learning rate of each step by {self._factor:g}"

    def at_birth(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a rate that is infinite in the numbers that parameters are made of."""
        super().at_birth(optimizer)
        for group in _groups(optimizer, "lr", "learning rate"):
            kinds = {one.dtype for one in group["params"] if one.is_floating_point()}
            largest = min((torch.finfo(kind).max for kind in kinds), default=math.inf)
            rate = float(group["lr"])
            if self._factor * rate > largest:
                raise UnsupportedError(
                    f"expected a learning rate of at most {largest:.3g}, which parameters can "
                    f"hold, found {rate:g} times {self._factor:g}; give a factor above 0 and at "
                    f"most {0.99 * largest / rate:.3g}"
                )

    def rates(self, optimizer: torch.optim.Optimizer, given: list[Any]) -> list[Any]:
        """Each multiplied by the same."""
        return [self._factor * rate for rate in given]


class WarmUp(_Rated):
    """``warmup=STEPS``: step t of the first n has t/n of the learning rate."""

    def __init__(self, treatment: Treatment) -> None:
        super().__init__()
        self._steps: int = treatment.value
        self._done: weakref.WeakKeyDictionary[torch.optim.Optimizer, int] = (
            weakref.WeakKeyDictionary()
        )
        self.changes = f"raises the learning rate linearly over the first {self._steps} steps"

    def rates(self, optimizer: torch.optim.Optimizer, given: list[Any]) -> list[Any]:
        """A share of each."""
        step = self._done[optimizer] = self._done.get(optimizer, 0) + 1
        share = min(1.0, step / self._steps)
        return [rate * share for rate in given]


class Decay(Part):
    """``weight_decay=VALUE``: groups that the program keeps free of decay beside others stay so."""

    def __init__(self, treatment: Treatment) -> None:
        self._decay: float = treatment.value
        self.changes = f"sets the weight decay to {self._decay:g} where there is one"

    def at_birth(self, optimizer: torch.optim.Optimizer) -> None:
        """Set it."""
        groups = _groups(optimizer, "weight_decay", "weight decay")
        for group in [one for one in groups if one["weight_decay"] != 0] or groups:
            group["weight_decay"] = self._decay


BUILD = {"schedule": Constant, "lr": Rate, "warmup": WarmUp, "weight_decay": Decay}
