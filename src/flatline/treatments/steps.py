"""Treatments of what an optimizer's groups say: learning rate, warm-up, weight decay."""

from __future__ import annotations

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


class _Scaled(Part):
    """Multiplies the learning rate for the time of each step.

    Outside the step it is what the program set, so that schedulers, which may compute each rate
    from the last one, see only their own work.
    """

    def __init__(self) -> None:
        self._rates: weakref.WeakKeyDictionary[torch.optim.Optimizer, list[Any]] = (
            weakref.WeakKeyDictionary()
        )

    def factor(self, optimizer: torch.optim.Optimizer) -> float:
        """What the learning rate of the coming step is multiplied by."""
        raise NotImplementedError

    def at_birth(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimizer without a learning rate."""
        _groups(optimizer, "lr", "learning rate")

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of this step."""
        groups = _groups(optimizer, "lr", "learning rate")
        factor = self.factor(optimizer)
        self._rates[optimizer] = [(group, group["lr"]) for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * factor

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the program's learning rate back."""
        for group, rate in self._rates.pop(optimizer, ()):
            group["lr"] = rate


class Rate(_Scaled):
    """``lr=xFACTOR``."""

    def __init__(self, treatment: Treatment) -> None:
        super().__init__()
        self._factor: float = treatment.value
        self.changes = f"multiplies the learning rate of each step by {self._factor:g}"

    def factor(self, optimizer: torch.optim.Optimizer) -> float:
        """The same for each step."""
        return self._factor


class WarmUp(_Scaled):
    """``warmup=STEPS``: step t of the first n has t/n of the learning rate."""

    def __init__(self, treatment: Treatment) -> None:
        super().__init__()
        self._steps: int = treatment.value
        self._done: weakref.WeakKeyDictionary[torch.optim.Optimizer, int] = (
            weakref.WeakKeyDictionary()
        )
        self.changes = f"raises the learning rate linearly over the first {self._steps} steps"

    def factor(self, optimizer: torch.optim.Optimizer) -> float:
        """Share of the learning rate in the coming step."""
        step = self._done[optimizer] = self._done.get(optimizer, 0) + 1
        return min(1.0, step / self._steps)


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


BUILD = {"lr": Rate, "warmup": WarmUp, "weight_decay": Decay}
