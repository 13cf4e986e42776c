"""Finds sites by following units through the operators of one step.

Each operator's inputs and output are looked at as they pass: producers (a linear map, a
normalisation) start a label, most operators hand it on, a nonlinearity on a labelled input is a
site, and the next operator with a parameter is its reader. What cannot be followed is said, never
guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from flatline import activations
from flatline.activations import Activation
from flatline.anatomy import elementwise, formulas, operators
from flatline.anatomy.atlas import Atlas, Feed, Place
from flatline.anatomy.inputs import Inputs
from flatline.anatomy.labels import (
    LINEAR,
    NOISE,
    OUTPUT,
    TAINT,
    Base,
    Label,
    Labels,
    Origin,
    Weights,
)
from flatline.anatomy.moves import MOVES
from flatline.anatomy.operators import Args, Kwargs, tensors_of
from flatline.anatomy.producers import PRODUCERS
from flatline.anatomy.roots import Names
from flatline.anatomy.spread import Spread, of_axis


class Observer(Protocol):
    """Who is told about nonlinearities as they happen."""

    def before(self, place: Place, z: Tensor, spread: Spread, inputs: Inputs | None) -> Any:
        """A nonlinearity is about to be applied to ``z``; returns a handle for the calls below.

        ``inputs`` is what the linear map that made ``z`` was given, where there is one.
        """

    def after(self, token: Any, h: Tensor) -> None:
        """Its output."""

    def gated(self, token: Any, place: Place, product: Tensor) -> None:
        """The output was multiplied by a linear map's: the product is the unit's output."""

    def forget(self, token: Any) -> None:
        """It was a part of a larger formula."""

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
        self.matched: dict[tuple[str, str, str], Activation] = {}

    # -- entry points -----------------------------------------------------------------------

    def before(self, op: str, args: Args, kwargs: Kwargs) -> Callable[[Any], None]:
        """Look at a call that is about to happen; the result is told its outcome.

        A nonlinearity in place destroys its input, so the input is read here.
        """
        base = operators.base_name(op)
        if (why := _unreadable(args)) is not None:
            if base in operators.NONLINEAR:
                self.lost(op, why)
            return _nothing
        if base in operators.NONLINEAR and args and isinstance(args[0], Tensor):
            handle = self._nonlinear(base, args, kwargs)
            if handle is not None:
                return handle
        seen = [(x, self.label(x)) for x in tensors_of(args, kwargs)]
        labelled = [(x, label) for x, label in seen if label is not None]
        if not labelled and base != "bernoulli":
            return _nothing
        return lambda out: self._follow(base, args, kwargs, labelled, out)

    def label(self, tensor: Tensor) -> Label | Weights | None:
        """The label of ``tensor``; a parameter is labelled on sight."""
        found = self.labels.get(tensor)
        if found is not None:
            return found
        parameter = self.names.find(tensor)
        if parameter is None:
            adoptable = isinstance(tensor, nn.Parameter) and any(
                self.names.adopt(tensor, module) for module in reversed(self.stack[-2:])
            )
            if not adoptable:
                return None
            parameter = tensor
        name = self.names.parameter(parameter)
        if name is None:
            return None
        axes = tuple(range(tensor.ndim)) if tensor.shape == parameter.shape else None
        weights = Weights(((name, parameter),), axes)
        self.labels.put(tensor, weights)
        return weights

    def recurrent(self, module: nn.Module, args: Args, out: Any) -> None:
        """Place the output of a recurrent module, whose inside was not traced."""
        name = self.names.module(module)
        if name is None:
            return
        for label in (self.labels.get(x) for x in tensors_of(args, {})):
            if isinstance(label, Label):
                for token in label.tokens:
                    token.place.reads.setdefault(f"{name}.weight_ih_l0".lstrip("."))
                    self.observer.leak(token)
        kind = getattr(module, "mode", type(module).__name__.removesuffix("Cell")).lower()
        if kind == "rnn":
            kind = f"rnn_{module.nonlinearity}"
        layers = getattr(module, "num_layers", 1)
        for layer in range(layers - 1):
            self.atlas.miss(
                f"{name}.l{layer}".lstrip("."),
                f"a layer inside {type(module).__name__} shows no output of its own",
            )
        h = out[0] if isinstance(out, tuple) else out
        h = h.data if isinstance(h, nn.utils.rnn.PackedSequence) else h
        cell = isinstance(module, nn.RNNCellBase)
        last = "" if cell else f"_l{layers - 1}"
        feeds = tuple(
            Feed(f"{name}.{key}".lstrip("."), parameter, None, key.startswith("bias"))
            for key, parameter in module.named_parameters(recurse=False)
            if cell or key.removesuffix("_reverse").endswith(last)
        )
        spread = of_axis(h.shape, -1)
        place = self.atlas.place(name or kind, activations.get(kind), feeds, "", spread.count)
        token = self.observer.before(place, h, spread, None)
        self.observer.after(token, h)
        origin = Origin(place.name, feeds, spread.count)
        self.labels.put(h, Label(OUTPUT, origin, spread, tokens=(token,)))

    # -- nonlinearities ---------------------------------------------------------------------

    def _nonlinear(self, op: str, args: Args, kwargs: Kwargs) -> Callable[[Any], None] | None:
        z = args[0]
        label = self.label(z)
        activation = operators.NONLINEAR[op](args, kwargs)
        if activation is None or isinstance(label, Weights):
            return None
        if label is None:
            self._unlabelled(op, z)
            return None
        if label.role != LINEAR or label.spread is None or label.origin is None:
            if label.role == LINEAR or (label.role == OUTPUT and label.spread is None):
                self.lost(op)
            return None  # a part of a formula: `_unary` decides
        place = self.place(label, activation)
        base = self.base(z)
        token = self.observer.before(place, z, label.spread, label.inputs)
        spread = replace(label.spread, start=0, step=1)  # readers count the site's own units

        def after(out: Any) -> None:
            self.observer.after(token, out)
            done = replace(label, role=OUTPUT, spread=spread, base=base, hold=None, tokens=(token,))
            self.labels.put(out, done)

        return after

    def base(self, z: Tensor) -> Base:
        """The beginning of the formula that ``z`` is in, or ``z`` itself as one."""
        label = self.labels.get(z)
        if isinstance(label, Label) and label.base is not None:
            return label.base
        base = Base(z)
        if isinstance(label, Label):
            self.labels.put(z, replace(label, base=base))
        return base

    def place(self, label: Label, activation: Activation, extra: tuple[Feed, ...] = ()) -> Place:
        """The place of a nonlinearity applied to a tensor with this label."""
        origin, spread = label.origin, label.spread
        assert origin is not None
        assert spread is not None
        place = self.atlas.place(
            origin.name,
            activation,
            origin.feeds + extra,
            label.form,
            spread.count,
            spread.start,
            spread.step,
        )
        place.mixed = origin.mixed
        return place

    def here_leaf(self) -> str | None:
        """Name of the running module, if it has no parts."""
        if not self.stack or self.stack[-1]._modules:
            return None
        return self.names.module(self.stack[-1])

    def _here(self) -> str | None:
        return next((name for m in reversed(self.stack) if (name := self.names.module(m))), None)

    def _unlabelled(self, op: str, z: Tensor) -> None:
        """A nonlinearity inside the model whose input no layer made."""
        where = self._here()
        if where is not None and z.requires_grad and z.ndim > 1:
            self.atlas.miss(f"{where} ({op})", "its input is not the output of one known layer")

    def lost(
        self, op: str, because: str = "its input joins several layers or moves its units"
    ) -> None:
        """Note a nonlinearity on something that was followed only so far."""
        where = self._here()
        if because and where is not None:
            self.atlas.miss(f"{where} ({op})", because)

    # -- following --------------------------------------------------------------------------

    def _follow(
        self,
        op: str,
        args: Args,
        kwargs: Kwargs,
        labelled: list[tuple[Tensor, Label | Weights]],
        out: Any,
    ) -> None:
        """Label what an operator gave."""
        if op == "bernoulli":
            self.labels.put(out, Label(NOISE))
            return
        producer = PRODUCERS.get(op)
        if producer is not None and producer(self, args, kwargs, out):
            return
        results = tensors_of(out if isinstance(out, tuple | list) else (out,), {})
        if all(isinstance(label, Weights) for _, label in labelled):
            self._weights(op, args, labelled, results)
            return
        units = [(x, label) for x, label in labelled if isinstance(label, Label)]
        if op in operators.ALIKE:
            return
        if op in operators.ADDING or op in operators.SCALING:
            elementwise.binary(self, op, args, results[0])
        elif op in operators.ENDING or not results:
            self.end(units, results)
        elif len(units) == 1 and (rule := MOVES.get(op)):
            rule(self, units[0][1], args, kwargs, results)
        elif op == "cat":
            self._cat(args, units, results[0])
        else:
            formulas.follow(self, op, units, args, kwargs, results)

    def end(self, units: list[tuple[Tensor, Label]], results: list[Tensor]) -> None:
        """Label nothing that came out, and say that the units went this way."""
        for _, label in units:
            self.leak(label)
        for result in results:
            self.labels.put(result, None)

    def leak(self, *labels: Label | Weights | None) -> None:
        """Say that the units are used otherwise than through a parameter."""
        for label in labels:
            if isinstance(label, Label):
                for token in label.tokens:
                    self.observer.leak(token)

    def _weights(
        self,
        op: str,
        args: Args,
        labelled: list[tuple[Tensor, Label | Weights]],
        results: list[Tensor],
    ) -> None:
        """Parameters on their way to being used: cast, transposed, normalised, composed."""
        shown = [label for _, label in labelled if isinstance(label, Weights)]
        feeds = tuple(dict.fromkeys(feed for label in shown for feed in label.feeds))
        first = labelled[0][0]
        for result in results:
            axes = shown[0].axes
            if axes is not None:
                if op == "t" and first.ndim == 2:
                    axes = (axes[1], axes[0])
                elif op == "transpose":
                    order = list(axes)
                    i, j = args[1], args[2]
                    order[i], order[j] = order[j], order[i]
                    axes = tuple(order)
                elif op == "permute":
                    axes = tuple(axes[place] for place in args[1])
                elif result.shape != first.shape or op in ("flip", "sort"):
                    axes = None
            self.labels.put(result, Weights(feeds, axes))

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
        name = name or self._owner(feeds[-1])
        if label is not None and label.role == LINEAR and label.origin is not None:
            if name in (label.origin.name, feeds[-1].name):
                name = label.origin.name  # a bias of the same layer
            feeds = label.origin.feeds + feeds
        if spread is None:
            self.labels.put(out, None)
            return
        origin = Origin(name, feeds, spread.count, inputs=inputs)
        self.labels.put(out, Label(LINEAR, origin, spread))

    def _owner(self, feed: Feed) -> str:
        """Name of the module that a parameter makes the output of."""
        for module in reversed(self.stack):
            name = self.names.module(module)
            if name is None:
                continue
            prefix = f"{name}." if name else ""
            if not feed.name.startswith(prefix):
                continue
            rest = feed.name.removeprefix(prefix)
            matrices = sum(p.ndim > 1 for p in module._parameters.values() if p is not None)
            single = "." not in rest and not module._modules and matrices <= 1
            if name and (single or rest in ("weight", "bias") or "parametrizations" in rest):
                return name
            break
        return feed.name.removesuffix(".weight").removesuffix(".bias")

    def stuck(self, label: Label) -> None:
        """Note a formula that never became an activation of the table."""
        name = label.origin.name if label.origin is not None else "?"
        self.atlas.miss(name, "its nonlinearity is a formula that is not in the table")

    def _cat(self, args: Args, units: list[tuple[Tensor, Label]], out: Tensor) -> None:
        """Tensors side by side: along the batch units stay, else only their readers are known."""
        labels = [label for _, label in units]
        first = labels[0]
        axis = None if first.spread is None else first.spread.axis(units[0][0].shape)
        dim = (args[1] if len(args) > 1 else 0) % out.ndim
        alike = all(x.origin is first.origin and x.spread == first.spread for x in labels)
        if alike and axis is not None and dim < axis and len(units) == len(args[0]):
            self.labels.put(out, first)
            return
        self.leak(*labels)
        tokens = tuple(dict.fromkeys(token for x in labels for token in x.tokens))
        self.labels.put(out, Label(OUTPUT, tokens=tokens) if tokens else None)

    # -- reading ----------------------------------------------------------------------------

    def read(self, label: Label, weights: Weights, columns: Tensor | None) -> None:
        """``weights`` read the units of ``label``; ``columns`` has one number per unit."""
        for token in label.tokens:
            for name, _ in weights.feeds:
                token.place.reads.setdefault(name)
            if columns is None or len(columns) != token.place.units:
                self.observer.leak(token)
            else:
                self.observer.read(token, columns)

    def consume(
        self, x: Tensor, weights: Weights, weight: Tensor, axis: int, x_axis: int, groups: int = 1
    ) -> Label | None:
        """A parameter operator takes ``x``; returns its label.

        Args:
            x: The input.
            weights: The parameters behind ``weight``.
            weight: The weight as the operator sees it.
            axis: The dimension of ``weight`` that runs over inputs.
            x_axis: The dimension of ``x`` that it pairs with.
            groups: Groups of a convolution.
        """
        label = self.label(x)
        if not isinstance(label, Label):
            return None
        if label.role == TAINT:
            self.stuck(label)
            return None
        if label.tokens:
            self.read(label, weights, _columns(label, x, weight, axis, x_axis, groups))
        return label


def _columns(
    label: Label, x: Tensor, weight: Tensor, axis: int, x_axis: int, groups: int
) -> Tensor | None:
    """The largest absolute weight that reads each unit."""
    spread = label.spread
    if spread is None or (spread.start, spread.step) != (0, 1) or weight.ndim < 2:
        return None
    if groups > 1:
        weight = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        reach = weight.abs().amax(dim=(1, *range(3, weight.ndim))).reshape(-1)
    else:
        others = [dim for dim in range(weight.ndim) if dim != axis % weight.ndim]
        weight = weight.detach()
        reach = torch.maximum(weight.amax(dim=others), -weight.amin(dim=others))
    x_axis %= x.ndim
    inner = 1 if spread.axis(x.shape) == x_axis else spread.inner
    if reach.numel() % (spread.count * inner) or reach.numel() != x.shape[x_axis]:
        return None
    return reach.reshape(-1, spread.count, inner).amax(dim=(0, 2))


def _unreadable(args: Args) -> str | None:
    """Why numbers in the first argument cannot be read, if they cannot; empty without numbers."""
    x = args[0] if args else None
    if not isinstance(x, Tensor):
        return None
    if x.is_complex():
        return "its input is complex"
    if x.is_nested:
        return "its input is a nested tensor"
    return "" if x.numel() == 0 else None


def _nothing(out: Any) -> None:
    """Nothing to follow."""
