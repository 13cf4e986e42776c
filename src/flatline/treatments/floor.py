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
#: What stood there before; empty while it stands there.
_PLAIN: list[Callable[..., Tensor]] = []


class Floor(Part):
    """``floor=``: the formula is one that a program wrote out, mostly behind its model.

    So there is no module to hook on to: ``torch.log`` and ``torch.sqrt`` themselves are others
    from each forward pass of the model in training to the step that follows.
    """

    def __init__(self, treatment: Treatment) -> None:
        self._least: float = treatment.value
        self.changes = f"takes log() and sqrt() of numbers from 0 to {self._least:g} as of that"

    def at_data(self, patient: Patient) -> None:
        """Begin with the forward pass under way."""
        patient.model.register_forward_pre_hook(partial(_replace, self._least))

    def before_step(self, optimizer: Optimizer) -> None:
        """Give the functions back."""
        for (owner, name), plain in zip(_PLACES, _PLAIN, strict=False):
            setattr(owner, name, plain)
        _PLAIN.clear()


def _replace(least: float, model: nn.Module, args: Any) -> None:
    """The hook before the model's forward pass."""
    if torch.is_grad_enabled() and not _PLAIN:
        _PLAIN.extend(getattr(owner, name) for owner, name in _PLACES)
        for (owner, name), plain in zip(_PLACES, _PLAIN, strict=True):
            setattr(owner, name, _floored(plain, least))


def _floored(plain: Callable[..., Tensor], least: float) -> Callable[..., Tensor]:
    @wraps(plain)
    def floored(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if input.requires_grad:
            # The slope of what is replaced is 0, where that of the function is infinite.
            input = input.where(~((input >= 0) & (input < least)), least)
        return plain(input, *args, **kwargs)

    return floored


BUILD = {"floor": Floor}
