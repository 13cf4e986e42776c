"""Finds sites by following units through the operators of one step.

Each operator's inputs and output are looked at as they pass: producers (a linear map, a
normalisation) start a label, most operators hand it on, a nonlinearity on a labelled input is a
site, and the next operator with a parameter is its reader. What cannot be followed is said, never
guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from flatline.activations import Activation
from flatline.anatomy import (
    elementwise,
    experts,
    formulas,
    nonlinear,
    operators,
    readers,
    recurrent,
    weights,
    writes,
)
from flatline.anatomy.atlas import Atlas, Feed, Place
from flatline.anatomy.inputs import Inputs
from flatline.anatomy.labels import (
    LINEAR,
    MOVED,
    SUMMED,
    TAINT,
    Known,
    Label,
    Labels,
    Origin,
    Rows,
    Weights,
)
from flatline.anatomy.moves import MOVES
from flatline.anatomy.operators import Args, Call, Kwargs, tensors_of
from flatline.anatomy.producers import PRODUCERS
from flatline.anatomy.roots import Names
from flatline.anatomy.spread import Spread

_ACROSS = "it is a function of all units at once"
_OVER = "it acts on the output of another nonlinearity"
_FUSED = "its layer runs as one fused operator"
_FOREIGN = "it is an operator of another library, which cannot be followed"
_NESTED = "its input is a nested tensor, whose examples have different shapes"


class Observer(Protocol):
    """Who is told about nonlinearities as they happen."""

    def before(self, place: Place, z: Tensor, spread: Spread, inputs: Inputs | None) -> Any:
        """A nonlinearity is about to be applied to ``z``; returns a handle for the calls below.

        ``inputs`` is what the linear map that made ``z`` was given, where there is one.

        The handle's ``place`` is the place, or the one that :meth:`gated` put there.
        """

    def after(self, token: Any, h: Tensor) -> None:
        """Its output."""

    def gated(self, token: Any, place: Place, product: Tensor) -> None:
        """The output was multiplied by a gate or a linear map: the product is the unit's output."""

    def forget(self, token: Any) -> None:
        """It was a part of a larger formula, unless some parameter reads it, before or after."""

    def read(self, token: Any, columns: Tensor | None) -> None:
        """A parameter reads the units; ``columns`` is its largest weight per unit, if known."""

    def leak(self, token: Any) -> None:
        """The units are used otherwise than through a parameter."""


class Tracer:
    """Follows the units of one step.

    Args:
        names: Names of the watched modules and parameters.
        atlas: Where places are collected.
        observer: Who is told.
    """

    def __init__(self, names: Names, atlas: Atlas, observer: Observer) -> None:
        self.names = names
        self.atlas = atlas
        self.observer = observer
        self.labels = Labels()
        self.stack: list[nn.Module] = []
        self._called: set[str] = set()
        self.shown: set[str] = set()
        self.matched: dict[tuple[str, str, tuple[str, ...]], Activation] = {}

    # -- entry points -----------------------------------------------------------------------

    def enter(self, args: Args, kwargs: Kwargs) -> None:
        """The model is called: its arguments are data, wherever they come from."""
        for tensor in tensors_of(args, kwargs):
            if isinstance(self.labels.get(tensor), Weights):
                self.labels.put(tensor, None)

    def visit(self, module: nn.Module) -> None:
        """A module is called, from inside those that are on the stack."""
        self.stack.append(module)
        name = self.names.module(module)
        if name is not None:
            self._called.add(name)

    def conclude(self) -> None:
        """The step ended: forget its tensors, and note who did not run in any step so far."""
        self.labels.clear()
        self.stack.clear()
        self.atlas.idle = self.names.idle(self._called, self.shown)

    def before(self, func: Any, args: Args, kwargs: Kwargs) -> Callable[[Any], None]:
        """Look at a call that is about to happen; the result is told its outcome.

        A nonlinearity in place destroys its input, so the input is read here.

        Args:
            func: The operator.
            args: Its arguments.
            kwargs: Its arguments by name.
        """
        op = operators.base_name(func)
        if op == "as_strided" and operators.keeps_layout(args):
            op = "alias"
        tensors = tensors_of(args, kwargs)
        if any(x.is_nested for x in tensors):
            if op in operators.NONLINEAR and self.stack:
                self.miss(None, op, _NESTED)
            return _nothing
        if op not in PRODUCERS and any(isinstance(self.labels.get(x), Rows) for x in tensors):
            return experts.each(self, func, args, kwargs, tensors)
        if op in operators.NONLINEAR and args and isinstance(args[0], Tensor):
            handle = nonlinear.read(self, op, args, kwargs)
            if handle is not None:
                return self._aware(func, args, handle)
        labelled = [(x, label) for x in tensors if (label := self.label(x)) is not None]
        if not labelled and tensors and op not in operators.FRESH:
            return _nothing
        return self._aware(
            func, args, lambda out: self._follow(func, op, args, kwargs, labelled, out)
        )

    def _aware(self, func: Any, args: Args, after: Callable[[Any], None]) -> Callable[[Any], None]:
        """``after``, told whether the operator writes its first argument or gives a view of it."""
        if not args or not isinstance(args[0], Tensor):
            return after  # a list of tensors, as fused and distributed operators take
        if operators.is_inplace(func):
            context = self.labels.writing
        elif operators.is_view(func):
            context = self.labels.viewing
        else:
            return after

        def aware(out: Any) -> None:
            with context(args[0]):
                after(out)

        return aware

    def label(self, tensor: Tensor) -> Known | None:
        """The label of ``tensor``; a parameter is labelled on sight."""
        found = self.labels.get(tensor)
        if found is None:
            found = weights.of_parameter(self, tensor)
            if found is not None:
                self.labels.put(tensor, found)
                self.shown.update(one.name for one in found.shown)
        return found

    def recurrent(self, module: nn.Module, args: Args, out: Any) -> None:
        """Place the output of a recurrent module, whose inside was not traced."""
        recurrent.place(self, module, args, out)

    # -- following --------------------------------------------------------------------------

    def _follow(
        self,
        func: Any,
        op: str,
        args: Args,
        kwargs: Kwargs,
        labelled: list[tuple[Tensor, Known]],
        out: Any,
    ) -> None:
        """Label what an operator gave."""
        results = tensors_of(out if isinstance(out, tuple | list) else (out,), {})
        if not results:
            return
        pointwise, known = operators.is_pointwise(func), operators.is_torchs_own(func)
        call = Call(op, args, kwargs, results, pointwise, known)
        producer = PRODUCERS.get(op)
        if producer is not None and labelled and producer(self, args, kwargs, out):
            return
        units = [(x, label) for x, label in labelled if isinstance(label, Label)]
        if op in operators.FRESH:
            weights.fresh(self, call, operators.is_drawn(func))
        elif not units and not operators.is_fused(op):
            weights.compose(self, call, operators.is_drawn(func))
        else:
            self._follow_units(call, units, [w for _, w in labelled if isinstance(w, Weights)])

    def _follow_units(
        self, call: Call, units: list[tuple[Tensor, Label]], shown: list[Weights]
    ) -> None:
        """Label the results of an operator on tensors with units."""
        op = call.op
        if op in operators.ADDING or op in operators.SCALING:
            elementwise.binary(self, call)
        elif op in operators.WRITING:
            writes.write(self, call, units)
        elif op in ("cat", "concat", "stack"):
            writes.join(self, call, units)
        elif len(units) == 1 and (rule := MOVES.get(op)):
            rule(self, units[0][1], call)
        elif any(one.shown for one in shown) and not call.pointwise:
            self._read_at_once(call, units, shown)
        else:
            first = units[0][1]
            if op in operators.ACROSS and first.origin is not None and not first.origin.mixed:
                self.miss(first, op.strip("_"), _ACROSS)
            if first.role == LINEAR and not call.known:
                self.miss(first, op, _FOREIGN)
            formulas.follow(self, units, call)

    def _read_at_once(
        self, call: Call, units: list[tuple[Tensor, Label]], shown: list[Weights]
    ) -> None:
        """An operator that is not known takes units and parameters: these read those."""
        if operators.is_fused(call.op):
            self.miss(None, operators.is_fused(call.op), _FUSED)
        for _, label in units:
            for one in shown:
                self.read(label, one, None)
        self.end(units, call.results)

    def end(self, units: list[tuple[Tensor, Label]], results: list[Tensor]) -> None:
        """Label nothing that came out, and say that the units went this way."""
        for x, label in units:
            self.leak(label)
            if self.stack and any(result.numel() == 1 < x.numel() for result in results):
                self.doubt(label, SUMMED)
            if label.role == TAINT:
                self.stuck(label)
            if label.over:
                self.overlaid(label)
        for result in results:
            self.labels.put(result, None)

    def leak(self, *labels: Known | None) -> None:
        """Say that the units are used otherwise than through a parameter."""
        for label in labels:
            if isinstance(label, Label):
                for token in label.tokens:
                    self.observer.leak(token)

    def begin(
        self,
        label: Label | None,
        feeds: tuple[Feed, ...],
        spread: Spread | None,
        out: Tensor,
        name: str | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        """``out`` is a pre-activation that ``feeds`` make, on top of ``label`` if it is linear."""
        name = name or weights.owner(self, feeds)
        tokens = () if label is None else label.tokens
        mixed = False
        if label is not None and label.role == LINEAR and label.origin is not None:
            if name in (label.origin.name, feeds[-1].name):
                name = label.origin.name  # a bias of the same layer
            feeds = label.origin.feeds + feeds
            mixed = label.origin.mixed
        units = 0 if spread is None else spread.count
        lost = MOVED if spread is None else ""
        origin = Origin(name, feeds, units, mixed, inputs)
        self.labels.put(out, Label(LINEAR, origin, spread, tokens=tokens, lost=lost))

    def read(self, label: Label, shown: Weights, columns: Tensor | None) -> None:
        """``shown`` read the units of ``label``; ``columns`` has one number per unit."""
        readers.read(self, label, shown, columns)

    # -- what is not watched ----------------------------------------------------------------

    def here_leaf(self) -> str | None:
        """Name of the running module, if it has no parts."""
        if not self.stack or self.stack[-1]._modules:
            return None
        return self.names.module(self.stack[-1])

    def _here(self) -> str:
        """Name of the running module; its class where it is the model itself."""
        for module in reversed(self.stack):
            name = self.names.module(module)
            if name is not None:
                return name or type(module).__name__
        return "?"

    def miss(self, label: Label | None, what: str, because: str) -> None:
        """Note a nonlinearity that has no place, by the layer that made its input, or by where."""
        origin = None if label is None else label.origin
        name = origin.name if origin is not None else self._here()
        self.atlas.miss(f"{name} ({what})", because)

    def stuck(self, label: Label) -> None:
        """Note a formula that never became an activation of the table."""
        if label.origin is None or not (label.base is None or label.base.inside):
            return
        what = " ".join(dict.fromkeys(label.path)) or "formula"
        self.miss(label, what, formulas.unfinished(self, label))

    def overlaid(self, label: Label) -> None:
        """Note a nonlinearity on top of another one."""
        self.miss(label, label.over, _OVER)

    def doubt(self, label: Label, because: str) -> None:
        """The nonlinearities behind ``label`` are no sites unless some parameter reads them."""
        for token in label.tokens:
            token.place.doubts.setdefault(because)


def _nothing(out: Any) -> None:
    """Nothing to follow."""
