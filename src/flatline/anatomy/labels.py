"""What the tracer knows about a tensor: which units it holds, or which parameter it shows."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flatline.anatomy.atlas import Feed
from flatline.anatomy.inputs import Inputs
from flatline.anatomy.spread import Spread

#: An unbent pre-activation, a nonlinearity's output, part of a formula, or dropout's mask.
LINEAR, OUTPUT, TAINT, NOISE = "linear", "output", "taint", "noise"
_SAMPLE = 512


@dataclass(eq=False)
class Origin:
    """One call that made pre-activations: its module's name and the parameters in it.

    ``mixed``: something that these parameters did not make was added (a residual connection).
    ``inputs``: what the linear map was given, where it is known.
    """

    name: str
    feeds: tuple[Feed, ...]
    units: int
    mixed: bool = False
    inputs: Inputs | None = None


class Base:
    """The pre-activation that a formula started from, as far as it may be kept."""

    def __init__(self, tensor: Tensor) -> None:
        self.ref: Callable[[], Tensor | None] = weakref.ref(tensor)
        self.shape = tensor.shape
        self.version = tensor._version
        self.sample = sample(tensor)

    def tensor(self) -> Tensor | None:
        """The tensor itself, unless it is gone or was overwritten."""
        tensor = self.ref()
        return tensor if tensor is not None and tensor._version == self.version else None


def sample(tensor: Tensor) -> Tensor:
    """The first few hundred numbers of a tensor, copied."""
    return tensor.reshape(-1)[:_SAMPLE].to(torch.float32, copy=True)


@dataclass(frozen=True, slots=True)
class Label:
    """What one tensor holds.

    Attributes:
        role: ``LINEAR``, ``OUTPUT``, ``TAINT`` or ``NOISE``.
        origin: The call that made the units.
        spread: Where the units lie; ``None`` when that was lost.
        form: What happened to a pre-activation on the way (``"-"``: negated).
        path: The operators of the formula so far.
        base: Where the formula began.
        hold: Keeps the base's tensor alive while the formula is unfinished.
        tokens: The observer's handles of the nonlinearities behind this tensor.
    """

    role: str
    origin: Origin | None = None
    spread: Spread | None = None
    form: str = ""
    path: str = ""
    base: Base | None = None
    hold: Tensor | None = None
    tokens: tuple[Any, ...] = ()

    @property
    def inputs(self) -> Inputs | None:
        """What the linear map behind an unbent pre-activation was given."""
        return None if self.origin is None or self.form else self.origin.inputs

    def at(self, spread: Spread | None) -> Label | None:
        """The same units elsewhere; a formula does not survive a move of its elements."""
        if spread is None and not self.tokens:
            return None
        role = OUTPUT if self.tokens else self.role
        return replace(self, spread=spread, base=None, hold=None, role=role, path="")


@dataclass(frozen=True, slots=True)
class Weights:
    """A tensor that shows parameters.

    Attributes:
        feeds: Name and tensor of each parameter.
        axes: For each dimension of the tensor, the parameter's dimension; ``None`` when lost.
    """

    feeds: tuple[tuple[str, Tensor], ...]
    axes: tuple[int, ...] | None

    def feed(self, axis: int, *, shift: bool = False) -> tuple[Feed, ...]:
        """These parameters as feeds of units along dimension ``axis`` of the tensor."""
        place = self.axes[axis] if self.axes is not None else None
        return tuple(Feed(name, tensor, place, shift) for name, tensor in self.feeds)


class Labels:
    """Labels of live tensors, by identity; a tensor that dies takes its label along."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], Label | Weights]] = {}

    def get(self, tensor: object) -> Label | Weights | None:
        """The label of ``tensor``, if it has one."""
        known = self._known.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    def put(self, tensor: Tensor, label: Label | Weights | None) -> None:
        """Set or take away the label of ``tensor``."""
        key = id(tensor)
        if label is None:
            self._known.pop(key, None)
            return
        known = self._known

        def forget(ref: weakref.ref[Tensor]) -> None:
            if key in known and known[key][0] is ref:
                del known[key]

        known[key] = (weakref.ref(tensor, forget), label)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
