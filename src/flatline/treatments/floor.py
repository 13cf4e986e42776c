"""Keeps logarithms and roots of 0 finite, and their slopes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flatline.treatments.plan import Part, Patient

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.utils.hooks import RemovableHandle

    from flatline.treatments.registry import Treatment

_PLACES = tuple((owner, name) for owner in (torch, Tensor) for name in ("log", "sqrt"))
#: What each owner had of its own there, ``None`` where it inherits; empty while that stands.
_PLAIN: list[Callable[..., Tensor] | None] = []
#: Those that give the functions back. Pickles of a model keep its hook, which does nothing in a
#: process without one of these.
_AT_WORK: weakref.WeakSet[Floor] = weakref.WeakSet()


class Floor(Part):
    """``floor=``: the formula is one that a program wrote out, mostly behind its model.

    So there is no module to hook on to: ``torch.log`` and ``torch.sqrt`` themselves are others
    from each forward pass of the model in training to the step that follows.
    """

    def __init__(self, treatment: Treatment) -> None:
        self._least: float = treatment.value
        self._hooks: list[RemovableHandle] = []
        self.changes = f"takes log() and sqrt() of numbers from 0 to {self._least:g} as of that"

    def at_data(self, patient: Patient) -> None:
        """Begin with the forward pass under way."""
        hook = patient.model.register_forward_pre_hook(partial(_replace, self._least))
        self._hooks.append(hook)
        _AT_WORK.add(self)

    def before_step(self, optimizer: Optimizer) -> None:
        """Give the functions back."""
        _give_back()

    def after_step(self, optimizer: Optimizer) -> None:
        """Give them back where a closure has called the model inside the step."""
        _give_back()

    def after_skip(self, optimizer: Optimizer) -> None:
        """Give them back: no step follows."""
        _give_back()

    def at_end(self) -> None:
        """Give them back for good."""
        for hook in self._hooks:
            hook.remove()
        _AT_WORK.discard(self)
        _give_back()


def _give_back() -> None:
    for (owner, name), own in zip(_PLACES, _PLAIN, strict=False):
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
    _PLAIN.clear()


def _replace(least: float, model: nn.Module, args: Any) -> None:
    """The hook before the model's forward pass."""
    if model.training and torch.is_grad_enabled() and _AT_WORK and not _PLAIN:
        _PLAIN.extend(vars(owner).get(name) for owner, name in _PLACES)
        for owner, name in _PLACES:
            setattr(owner, name, _floored(getattr(owner, name), least))


def _floored(plain: Callable[..., Tensor], least: float) -> Callable[..., Tensor]:
    @wraps(plain)
    def floored(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if input.requires_grad and not input.is_complex():
            # Half precision takes 1e-12 for 0.
            low = max(least, torch.finfo(input.dtype).tiny)
            # The slope of what is replaced is 0, where that of the function is infinite.
            input = input.where(~((input >= 0) & (input < low)), low)
        return plain(input, *args, **kwargs)

    return floored


BUILD = {"floor": Floor}
