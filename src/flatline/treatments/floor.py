"""Keeps logarithms and roots of 0 finite, and their slopes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flatline.treatments.plan import Part, Patient

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from flatline.treatments.registry import Treatment

_PLACES = tuple((owner, name) for owner in (torch, Tensor) for name in ("log", "sqrt"))
#: What stood there before; empty until something else stands there.
_PLAIN: list[Callable[..., Tensor]] = []
#: The floor from a model's forward pass to the step that follows; empty outside.
_FLOOR: list[float] = []


class Floor(Part):
    """``floor=``: the formula is one that a program wrote out, mostly behind its model.

    So there is no module to hook on to: others stand for ``torch.log`` and ``torch.sqrt``. They
    stand there from the start, because Python looks up the ``torch.log`` of
    ``torch.log(model(x))`` before it calls the model, and act like the plain ones except from each
    forward pass of the model in training to the step that follows.
    """

    def __init__(self, treatment: Treatment) -> None:
        self._least: float = treatment.value
        self.changes = f"takes log() and sqrt() of numbers from 0 to {self._least:g} as of that"

    def at_birth(self, optimizer: Optimizer) -> None:
        """Put the others in place."""
        if not _PLAIN:
            _PLAIN.extend(getattr(owner, name) for owner, name in _PLACES)
            for (owner, name), plain in zip(_PLACES, _PLAIN, strict=True):
                setattr(owner, name, _floored(plain, owner, name))

    def at_data(self, patient: Patient) -> None:
        """Begin with the forward pass under way."""
        patient.model.register_forward_pre_hook(partial(_begin, self._least))

    def before_step(self, optimizer: Optimizer) -> None:
        """End before the optimizer computes."""
        _FLOOR.clear()

    def after_step(self, optimizer: Optimizer) -> None:
        """End what a closure began within the step."""
        _FLOOR.clear()


def _begin(least: float, model: nn.Module, args: Any) -> None:
    """The hook before the model's forward pass."""
    if torch.is_grad_enabled():
        _FLOOR[:] = [least]


def _floored(plain: Callable[..., Tensor], owner: Any, name: str) -> Callable[..., Tensor]:
    @wraps(plain)
    def floored(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if _FLOOR and torch.is_grad_enabled() and _is_real(input) and input.requires_grad:
            kind = torch.finfo(input.dtype)
            least = max(_FLOOR[0], kind.tiny * kind.eps)  # the least that such a number can be
            # The slope of what is replaced is 0, where that of the function is infinite.
            input = input.where(~((input >= 0) & (input < least)), least)
        return plain(input, *args, **kwargs)

    # So a model that keeps the function can be pickled, and finds the plain one elsewhere.
    floored.__module__ = "torch"
    floored.__qualname__ = name if owner is torch else f"{owner.__name__}.{name}"
    return floored


def _is_real(input: object) -> bool:
    """Whether numbers can be compared with a floor; of others the plain function judges."""
    return isinstance(input, Tensor) and input.is_floating_point() and input.layout is torch.strided


BUILD = {"floor": Floor}
