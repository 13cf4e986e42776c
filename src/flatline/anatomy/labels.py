"""What the tracer knows about a tensor: which units it holds, or which parameter it shows."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flatline.anatomy.atlas import Feed
from flatline.anatomy.inputs import Inputs
from flatline.anatomy.spread import Spread

#: An unbent pre-activation, a nonlinearity's output, or a part of a formula.
LINEAR, OUTPUT, TAINT = "linear", "output", "taint"
#: How a label loses the place of its units.
MOVED = "its units are moved in a way that cannot be followed"
JOINED = "its input joins several layers"
#: Why a nonlinearity may be a part of a loss.
SUMMED = "it is summed up to one number, as a part of a loss is, and no layer reads it"
_SAMPLE = 512


@dataclass(eq=False)
class Origin:
    """One call that made pre-activations: its module's name and the parameters in it.

    ``mixed``: something that these parameters did not make was added or multiplied (a residual
    connection, a mask). ``inputs``: what the linear map was given, where it is known.
    """

    name: str
    feeds: tuple[Feed, ...]
    units: int
    mixed: bool = False
    inputs: Inputs | None = None


def version(tensor: Tensor) -> int:
    """A number that changes whenever the tensor's memory is written, by whatever name."""
    return -1 if tensor.is_inference() else tensor._version


class Base:
    """The pre-activation that a formula started from, as far as it may be kept.

    Args:
        tensor: The pre-activation.
        spread: Where its units lie.
        inside: The formula began inside the model.
    """

    def __init__(self, tensor: Tensor, spread: Spread, inside: bool) -> None:
        self.ref: Callable[[], Tensor | None] = weakref.ref(tensor)
        self.shape = tensor.shape
        self.version = version(tensor)
        self.sample = sample(tensor)
        self.spread = spread
        self.inside = inside

    def tensor(self) -> Tensor | None:
        """The tensor itself, unless it is gone or was overwritten."""
        tensor = self.ref()
        return tensor if tensor is not None and version(tensor) == self.version else None


def sample(tensor: Tensor) -> Tensor:
    """A few hundred numbers from all over a tensor, copied."""
    flat = tensor.detach().reshape(-1)
    return flat[:: len(flat) // _SAMPLE | 1].to(torch.float32, copy=True)


@dataclass(frozen=True, slots=True)
class Label:
    """What one tensor holds.

    Attributes:
        role: ``LINEAR``, ``OUTPUT`` or ``TAINT``.
        origin: The call that made the units.
        spread: Where the units lie; ``None`` when that was lost.
        form: What happened to a pre-activation on the way (``"-"``: negated).
        path: The operators of the formula so far.
        base: Where the formula began.
        hold: Keeps the base's tensor alive while the formula is unfinished.
        tokens: The observer's handles of the nonlinearities behind this tensor.
        lost: Why a pre-activation's units have no place any more.
        over: A nonlinearity that was applied on top of another one's output.
    """

    role: str
    origin: Origin | None = None
    spread: Spread | None = None
    form: str = ""
    path: tuple[str, ...] = ()
    base: Base | None = None
    hold: Tensor | None = None
    tokens: tuple[Any, ...] = ()
    lost: str = ""
    over: str = ""

    @property
    def inputs(self) -> Inputs | None:
        """What the linear map behind an unbent pre-activation was given."""
        return None if self.origin is None or self.form else self.origin.inputs

    def at(self, spread: Spread | None) -> Label:
        """The same units elsewhere; a formula does not survive a move of its elements."""
        role = OUTPUT if self.tokens and self.role == TAINT else self.role
        lost = MOVED if spread is None else ""
        return replace(self, spread=spread, base=None, hold=None, role=role, path=(), lost=lost)

    def strayed(self, why: str) -> Label | None:
        """What is left when the units lost their place: where they came from, and who bent them."""
        if not self.tokens and (self.role != LINEAR or self.origin is None):
            return None
        return replace(self.at(None), lost=why)


def joined(*labels: Label) -> tuple[Any, ...]:
    """The handles behind several labels, one for each site: calls of one site are merged anyway."""
    return tuple({token.place: token for label in labels for token in label.tokens}.values())


@dataclass(frozen=True, slots=True)
class Shown:
    """A parameter that a tensor shows.

    Attributes:
        name: Its qualified name.
        parameter: The parameter.
        axes: For each dimension of the tensor, the parameter's dimension whose entries are each
            made of the same entry alone; ``None`` for a dimension without one, or altogether.
    """

    name: str
    parameter: Tensor
    axes: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Weights:
    """A tensor made of parameters and constants, or of constants alone (no ``shown``).

    Attributes:
        shown: The parameters.
        part: Which slice of a stack of weights (an expert's) it is; ``None`` for all.
        fresh: Something in it was made in this step, such as a recurrent network's first state.
        drawn: Random numbers are in it.
        product: It is a product of several matrices.
    """

    shown: tuple[Shown, ...] = ()
    part: int | None = None
    fresh: bool = False
    drawn: bool = False
    product: bool = False

    def feed(self, axis: int | None, *, shift: bool = False) -> tuple[Feed, ...]:
        """These parameters as feeds of units along dimension ``axis`` of the tensor."""
        found = []
        for one in self.shown:
            known = one.axes is not None and axis is not None and self.part is None
            place = one.axes[axis] if known and one.axes is not None and axis is not None else None
            found.append(Feed(one.name, one.parameter, place, shift, part=self.part))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Rows:
    """Several layers side by side: rows up to ``ends[e]`` hold what ``parts[e]`` says."""

    parts: tuple[Label | None, ...]
    ends: tuple[int, ...]


Known = Label | Weights | Rows


class Labels:
    """Labels of live tensors, by identity; a tensor that dies takes its label along.

    A tensor that was written since, by another name for the same memory, has lost its label.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], int, Known]] = {}
        self._expected: Callable[[Tensor], int] = version

    @contextmanager
    def writing(self, tensor: Tensor) -> Iterator[None]:
        """Labels are put while ``tensor`` is written in place: it counts up only afterwards."""
        whole, ahead = tensor._base, int(not tensor.is_inference())
        with self._expecting(lambda x: version(x) + ahead * (x is tensor or x is whole)):
            yield

    @contextmanager
    def viewing(self, tensor: Tensor) -> Iterator[None]:
        """Labels are put on new views of ``tensor``: they share its count only afterwards."""
        count = version(tensor)
        with self._expecting(lambda x: version(x) if x is tensor else count):
            yield

    @contextmanager
    def _expecting(self, count: Callable[[Tensor], int]) -> Iterator[None]:
        self._expected = count
        try:
            yield
        finally:
            self._expected = version

    def get(self, tensor: object) -> Known | None:
        """The label of ``tensor``, if it has one."""
        known = self._known.get(id(tensor))
        if known is None or known[0]() is not tensor:
            return None
        assert isinstance(tensor, Tensor)
        return known[2] if known[1] == version(tensor) else None

    def put(self, tensor: Tensor, label: Known | None) -> None:
        """Set or take away the label of ``tensor``."""
        key = id(tensor)
        if label is None:
            self._known.pop(key, None)
            return
        known = self._known

        def forget(ref: weakref.ref[Tensor]) -> None:
            if key in known and known[key][0] is ref:
                del known[key]

        known[key] = (weakref.ref(tensor, forget), self._expected(tensor), label)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
