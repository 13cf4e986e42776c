"""Sums and products: biases, residual connections, dropout, gates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from flatline import activations
from flatline.anatomy import formulas, nonlinear
from flatline.anatomy.atlas import Place
from flatline.anatomy.labels import (
    JOINED,
    LINEAR,
    MOVED,
    OUTPUT,
    TAINT,
    Known,
    Label,
    Weights,
    joined,
)
from flatline.anatomy.operators import ADDING, SCALING, Call
from flatline.anatomy.spread import moved

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

#: Activations that are used to let other values through, or not.
_GATES = ("sigmoid", "hardsigmoid")
_FOREIGN = "it is multiplied by something that no layer made"
_PRODUCT = "its input is a product of several layers' outputs"
_SCALES = "it only scales other values, as a gate does, and no layer reads it"


def binary(tracer: Tracer, call: Call) -> None:
    """Label a sum, difference, product or quotient of at least one tensor with units."""
    pair = [*call.args[:2], None][:2]
    labels = [tracer.label(x) if isinstance(x, Tensor) else None for x in pair]
    units = [label for label in labels if isinstance(label, Label)]
    if len(units) == 2:
        _two(tracer, call, units[0], units[1])
        return
    place = labels.index(units[0])
    other, weights = pair[1 - place], labels[1 - place]
    if isinstance(weights, Weights) and weights.shown:
        _with_parameter(tracer, call, units[0], weights, other)
    elif isinstance(other, Tensor) and other.numel() > 1:
        _with_tensor(tracer, call, units[0], pair[place], other, weights)
    else:
        _with_number(tracer, call, units[0], place, pair[place])


def dropped(tracer: Tracer, label: Label, out: Tensor) -> None:
    """Dropout: the units stay, but a gradient of zero may now be chance."""
    for token in label.tokens:
        token.place.noisy = True
    tracer.labels.put(out, _mixed_up(label).at(label.spread))


def _mixed_up(label: Label) -> Label:
    """The same units, with feeding gradients that no longer speak of one unit alone."""
    if label.origin is None or label.role != LINEAR:
        return label
    feeds = tuple(replace(feed, mixes=True) for feed in label.origin.feeds)
    return replace(label, origin=replace(label.origin, feeds=feeds))


def _blended(label: Label) -> Label:
    """The same units, with something in them that their feeding parameters did not make."""
    if label.origin is None or label.role != LINEAR:
        return label
    return replace(label, origin=replace(label.origin, mixed=True))


def _spread_out(label: Label, tensor: Tensor, out: Tensor) -> Label:
    """The same units after broadcasting to the shape of ``out``."""
    if tensor.shape == out.shape or label.spread is None:
        return label
    order = [-1] * (out.ndim - tensor.ndim) + list(range(tensor.ndim))
    spread = moved(label.spread, tensor.shape, out.shape, order)
    return replace(label, spread=spread, base=None, lost="" if spread else MOVED)


# One tensor with units


def _with_parameter(
    tracer: Tracer, call: Call, label: Label, weights: Weights, parameter: Tensor
) -> None:
    """A parameter added or multiplied: a bias, a scale."""
    out, spread = call.out, label.spread
    axis = None if spread is None else spread.axis(out.shape)
    if label.role == TAINT or spread is None or axis is None:
        tracer.end([(out, label)], call.results)
        return
    adds = call.op in ADDING
    # Broadcasting aligns the parameter's dimensions with the output's from the right.
    own = axis - (out.ndim - parameter.ndim)
    aligned = (
        own >= 0
        and parameter.shape[own] == spread.count == parameter.numel()
        and (spread.start, spread.step) == (0, 1)
    )
    if label.tokens and not adds:
        tracer.read(label, weights, parameter.detach().abs().reshape(-1) if aligned else None)
        label = replace(label, tokens=())
    feeds = weights.feed(own if aligned else None, shift=adds)
    # A bias moves nothing of what the map was given; a scale makes it another map.
    tracer.begin(label, feeds, spread, out, inputs=label.inputs if adds else None)


def _with_number(tracer: Tracer, call: Call, label: Label, place: int, tensor: Tensor) -> None:
    """A number added, multiplied or divided by."""
    out = call.out
    if call.op == "div" and place == 1:
        formulas.follow(tracer, [(tensor, label)], call)
        return
    if out.shape != tensor.shape:
        tracer.end([(tensor, label)], call.results)
        return
    base = label.base
    if label.role == LINEAR and label.spread is not None and base is None and tensor is not out:
        base = nonlinear.base(tracer, tensor)
    negated = "-" if call.op == "rsub" or (call.op == "sub" and place == 1) else ""
    label = replace(label, form=label.form + negated, base=base)
    if label.role != TAINT:
        tracer.labels.put(out, label)
        return
    label = replace(label, path=(*label.path, call.op))
    if not formulas.recognise(tracer, label, out):
        formulas.taint(tracer, label, out)


def _with_tensor(
    tracer: Tracer,
    call: Call,
    label: Label,
    tensor: Tensor,
    other: Tensor,
    constant: Known | None,
) -> None:
    """A tensor that no layer is known to have made: a mask, noise, a statistic, another branch."""
    out, scales = call.out, call.op in SCALING
    narrow = out.shape != tensor.shape
    full = other.numel() >= tensor.numel()
    foreign = constant is None and other.requires_grad
    drawn = isinstance(constant, Weights) and constant.drawn
    gates = _is_gate(label) and not drawn
    if label.role == TAINT or (scales and narrow):
        tracer.end([(tensor, label)], call.results)
        if gates:
            tracer.doubt(label, _SCALES)
    elif scales and full and (foreign or gates):
        if gates:
            tracer.doubt(label, _SCALES)
        tracer.leak(label)
        tracer.labels.put(out, None if gates else label.strayed(label.lost or _FOREIGN))
    elif scales and drawn:
        dropped(tracer, label, out)
    else:
        if not full and constant is None:
            label = _mixed_up(label)  # a statistic of the units themselves, for all one can see
        if scales and label.role == OUTPUT and full:
            for token in label.tokens:
                token.place.noisy = True  # a mask hides life where it is 0
        label = _spread_out(_blended(label), tensor, out)
        tracer.labels.put(out, replace(label, base=None, path=()))


# Two tensors with units


def _two(tracer: Tracer, call: Call, a: Label, b: Label) -> None:
    if formulas.same(a, b):
        formulas.join(tracer, call.op, a, b, call.out)
    elif TAINT in (a.role, b.role):
        tracer.end([(call.out, a), (call.out, b)], call.results)
    elif call.op in ADDING:
        first, second = call.args[:2]
        _sum(tracer, _spread_out(a, first, call.out), _spread_out(b, second, call.out), call.out)
    else:
        _product(tracer, a, b, call)


def _sum(tracer: Tracer, a: Label, b: Label, out: Tensor) -> None:
    """A residual connection: the sum is a pre-activation if one of the two is."""
    linear = [x for x in (a, b) if x.role == LINEAR]
    if not linear:
        tracer.labels.put(out, _both(a, b))
        return
    main = next((x for x in linear if x.spread is not None), linear[0])
    lost = next((x.lost for x in linear if x.spread is None), "")
    if any(x.spread != main.spread for x in linear):
        lost = lost or JOINED
    for label in (a, b):
        if label.spread != main.spread or lost:
            tracer.leak(label)
    assert main.origin is not None
    feeds = tuple(dict.fromkeys(f for x in linear if x.origin is not None for f in x.origin.feeds))
    origin = replace(main.origin, feeds=feeds, mixed=True)
    spread = None if lost else main.spread
    whole = Label(LINEAR, origin, spread, main.form, tokens=joined(a, b), lost=lost)
    tracer.labels.put(out, whole)


def _both(a: Label, b: Label) -> Label:
    """Units of two sites in one tensor, still apart by their place if they lie alike."""
    spread = a.spread if a.spread == b.spread else None
    return Label(OUTPUT, a.origin, spread, tokens=joined(a, b), over=a.over or b.over)


def _product(tracer: Tracer, a: Label, b: Label, call: Call) -> None:
    """A gated linear unit, a gate over channels, or a scaling by the units' own statistics."""
    out, (first, second) = call.out, (x.shape for x in call.args[:2])
    if first != second:
        full, part = (a, b) if first == out.shape else (b, a)
        _suspect_gate(tracer, part)
        tracer.leak(part)
        tracer.labels.put(out, _mixed_up(full) if out.shape in (first, second) else None)
        return
    for whole, part in ((a, b), (b, a)):
        if part.spread is None and part.role == OUTPUT and {*part.tokens} <= {*whole.tokens}:
            tracer.labels.put(out, _mixed_up(whole))  # h / |h|
            return
    if call.op == "mul" and (_gated(tracer, a, b, out) or _gated(tracer, b, a, out)):
        return
    tracer.leak(a, b)
    if a.role == b.role == OUTPUT:
        tracer.labels.put(out, _both(a, b))
    else:
        tracer.labels.put(out, (a if a.role == LINEAR else b).strayed(_PRODUCT))


def _is_gate(label: Label) -> bool:
    """Whether this may well be a gate: numbers between 0 and 1, one for each unit."""
    names = [token.place.activation.name for token in label.tokens]
    return label.role == OUTPUT and len(names) == 1 and names[0] in _GATES


def _suspect_gate(tracer: Tracer, label: Label) -> None:
    if _is_gate(label):
        tracer.doubt(label, _SCALES)


def _gated(tracer: Tracer, gate: Label, value: Label, out: Tensor) -> bool:
    """``out`` is ``value`` scaled by ``gate``, if that is how the two must be read.

    In a gated linear unit a nonlinearity meets a linear map, and the product is the unit's output.
    Where both are nonlinear and only one can be a gate, the other is the unit.
    """
    if gate.role != OUTPUT or len(gate.tokens) != 1 or None in (gate.spread, value.spread):
        return False
    closes = _is_gate(gate)
    if closes and (value.role == OUTPUT or (value.origin is not None and value.origin.mixed)):
        if _is_gate(value):
            return False
        _suspect_gate(tracer, gate)
        tracer.leak(gate)
        _scaled(tracer, value, gate, out)
        return True
    if value.role != LINEAR or value.origin is None:
        return False
    place = _unit(tracer, gate, value, out)
    if closes:  # else the reset gate of a hand-written GRU is one
        place.doubts.setdefault(_SCALES)
    return True


def _scaled(tracer: Tracer, value: Label, gate: Label, out: Tensor) -> None:
    """A gate acts on something that has units of its own: a residual stream, a cell's state."""
    single = value.role == OUTPUT and len(value.tokens) == 1
    if single and not value.tokens[0].place.gated:
        _unit(tracer, value, gate, out)
    else:
        tracer.labels.put(out, replace(_blended(_mixed_up(value)), base=None, path=()))


def _unit(tracer: Tracer, unit: Label, other: Label, out: Tensor) -> Place:
    """The product is the output of the unit, and both maps feed it."""
    (token,) = unit.tokens
    assert unit.origin is not None
    old, others = token.place, () if other.origin is None else other.origin.feeds
    known = {(feed.name, feed.part) for feed in old.feeds}
    extra = tuple(replace(f, mixes=True) for f in others if (f.name, f.part) not in known)
    place = tracer.atlas.place(
        unit.origin.name,
        activations.gated(old.activation),
        old.feeds + extra,
        unit.form,
        old.units,
        old.start,
        old.step,
    )
    place.gated = True
    tracer.observer.gated(token, place, out)
    tracer.labels.put(out, unit.at(unit.spread))
    return place
