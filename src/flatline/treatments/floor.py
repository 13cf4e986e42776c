"""Keeps logarithms and roots of 0 finite, and their slopes."""

from __future__ import annotations

import uuid
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
#: What stands there for others, with what each owner had of its own (``None``: it inherits).
_STANDINS: list[tuple[Callable[..., Tensor], Callable[..., Tensor] | None]] = []
#: Models with a floor, by a name that no other process gives: a pickle of one keeps its hook, which
#: does nothing elsewhere.
_TREATED: set[str] = set()
#: The floor of each from a forward pass to the step that follows.
_FLOORS: dict[str, float] = {}


class Floor(Part):
    """``floor=``: the formula is one that a program wrote out, mostly behind its model.

    So there is no module to hook on to: others stand for ``torch.log`` and ``torch.sqrt``. They
    stand there from the start, because Python looks up the ``torch.log`` of
    ``torch.log(model(x))`` before it calls the model, and act like the plain ones except from each
    forward pass of a model in training to the next step of its optimizer.
    """

    def __init__(self, treatment: Treatment) -> None:
        self._least: float = treatment.value
        self._hooks: list[RemovableHandle] = []
        self._names: weakref.WeakKeyDictionary[Optimizer, list[str]] = weakref.WeakKeyDictionary()
        self.changes = f"takes log() and sqrt() of numbers from 0 to {self._least:g} as of that"

    def at_birth(self, optimizer: Optimizer) -> None:
        """Put the others in place."""
        if not _STANDINS:
            for owner, name in _PLACES:
                standin = _floored(getattr(owner, name), owner, name)
                _STANDINS.append((standin, vars(owner).get(name)))
                setattr(owner, name, standin)

    def at_data(self, patient: Patient) -> None:
        """Begin with the forward pass under way."""
        name = uuid.uuid4().hex
        _TREATED.add(name)
        for optimizer in patient.optimizers:
            self._names.setdefault(optimizer, []).append(name)
        hook = patient.model.register_forward_pre_hook(partial(_begin, name, self._least))
        self._hooks.append(hook)

    def before_step(self, optimizer: Optimizer) -> None:
        """End before the optimizer computes."""
        self._end(optimizer)

    def after_step(self, optimizer: Optimizer) -> None:
        """End what a closure began inside the step."""
        self._end(optimizer)

    def after_skip(self, optimizer: Optimizer) -> None:
        """End without a step."""
        self._end(optimizer)

    def at_end(self) -> None:
        """End for good."""
        for hook in self._hooks:
            hook.remove()
        for optimizer, names in self._names.items():
            self._end(optimizer)
            _TREATED.difference_update(names)
        if not _TREATED:
            _give_back()

    def _end(self, optimizer: Optimizer) -> None:
        for name in self._names.get(optimizer, ()):
            _FLOORS.pop(name, None)


def _begin(name: str, least: float, model: nn.Module, args: Any) -> None:
    """The hook before the model's forward pass."""
    if name in _TREATED and model.training and torch.is_grad_enabled():
        _FLOORS[name] = least


def _floored(plain: Callable[..., Tensor], owner: Any, name: str) -> Callable[..., Tensor]:
    @wraps(plain)
    def floored(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if _FLOORS and torch.is_grad_enabled() and _is_real(input) and input.requires_grad:
            kind = torch.finfo(input.dtype)
            # Half precision takes 1e-12 for 0: no less than the least that such a number can be.
            least = max(*_FLOORS.values(), kind.tiny * kind.eps)
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


def _give_back() -> None:
    """Put the plain functions back where nobody has put others since."""
    for (owner, name), (standin, own) in zip(_PLACES, _STANDINS, strict=False):
        if vars(owner).get(name) is not standin:
            continue
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
    _STANDINS.clear()


BUILD = {"floor": Floor}
