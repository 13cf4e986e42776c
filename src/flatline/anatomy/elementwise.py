"""Sums and products: biases, residual connections, dropout, gates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from flatline.anatomy import formulas
from flatline.anatomy.atlas import Feed
from flatline.anatomy.labels import LINEAR, NOISE, OUTPUT, TAINT, Label, Weights
from flatline.anatomy.operators import ADDING, SCALING, Args

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer


def binary(tracer: Tracer, op: str, args: Args, out: Tensor) -> None:
    """Label a sum, difference, product or quotient."""
    pair = [*args[:2], None][:2]
    labels = [tracer.label(x) if isinstance(x, Tensor) else None for x in pair]
    units = [label for label in labels if isinstance(label, Label)]
    if not units:
        return
    if any(isinstance(label, Weights) for label in labels):
        place = 0 if isinstance(labels[0], Label) else 1
        weights = labels[1 - place]
        assert isinstance(weights, Weights)
        _with_parameter(tracer, op, units[0], weights, pair[1 - place], out)
    elif len(units) == 1:
        place = labels.index(units[0])
        other = pair[1 - place]
        _with_other(
            tracer,
            op,
            units[0],
            place,
            pair[place],
            other if isinstance(other, Tensor) else None,
            out,
        )
    elif NOISE in (units[0].role, units[1].role):
        dropped(tracer, units[0] if units[1].role == NOISE else units[1], out)
    elif op in ADDING:
        _sum(tracer, units[0], units[1], out)
    else:
        _product(tracer, op, units[0], units[1], pair, out)


def dropped(tracer: Tracer, label: Label, out: Tensor) -> None:
    """Dropout: the units stay, but a gradient of zero may now be chance."""
    if label.role == NOISE:
        tracer.labels.put(out, label)
        return
    for token in label.tokens:
        token.place.noisy = True
    tracer.labels.put(out, _mixed_up(label).at(label.spread))


def _mixed_up(label: Label) -> Label:
    """The same units, with feeding gradients that no longer speak of one unit alone."""
    if label.origin is None or label.role != LINEAR:
        return label
    feeds = tuple(replace(feed, mixes=True) for feed in label.origin.feeds)
    return replace(label, origin=replace(label.origin, feeds=feeds))


def _with_parameter(
    tracer: Tracer, op: str, label: Label, weights: Weights, parameter: Tensor, out: Tensor
) -> None:
    """A parameter added or multiplied: a bias, a scale."""
    if label.role == NOISE:
        return
    spread = label.spread
    axis = None if spread is None else spread.axis(out.shape)
    if label.role == TAINT:
        tracer.stuck(label)
    if label.role == TAINT or spread is None or axis is None:
        tracer.leak(label)
        tracer.labels.put(out, None)
        return
    adds = op in ADDING
    # Broadcasting aligns the parameter's dimensions with the output's from the right.
    own = axis - (out.ndim - parameter.ndim)
    aligned = (
        own >= 0
        and parameter.shape[own] == spread.count == parameter.numel()
        and (spread.start, spread.step) == (0, 1)
    )
    if label.role == OUTPUT:
        reach = parameter.detach().abs().reshape(-1) if aligned and not adds else None
        tracer.read(label, weights, reach)
    if aligned:
        feeds = weights.feed(own, shift=adds)
    else:
        feeds = tuple(Feed(name, tensor, None, adds) for name, tensor in weights.feeds)
    # A bias moves nothing of what the map was given; a scale makes it another map.
    tracer.begin(label, feeds, spread, out, inputs=label.inputs if adds else None)


def _with_other(
    tracer: Tracer,
    op: str,
    label: Label,
    place: int,
    tensor: Tensor,
    other: Tensor | None,
    out: Tensor,
) -> None:
    """A labelled operand at ``place``, and a number or a tensor without a label."""
    if label.role == NOISE:
        tracer.labels.put(out, label if other is None else None)
        return
    many = other is not None and other.numel() > 1
    full = many and other is not None and other.numel() == tensor.numel()
    if out.shape != tensor.shape or (op in SCALING and full):
        tracer.leak(label)
        tracer.labels.put(out, None)
        return
    if op == "div" and place == 1:
        formulas.follow(tracer, op, [(tensor, label)], (tensor,), {}, [out])
        return
    if many and not full:
        label = _mixed_up(label)  # a statistic of the units themselves, for all one can see
    form, base, origin = label.form, label.base, label.origin
    if op == "rsub" or (op == "sub" and place == 1):
        form += "-"
    if label.role == LINEAR and base is None and tensor is not out:
        base = tracer.base(tensor)
    if full and origin is not None:
        origin = replace(origin, mixed=True)
    tracer.labels.put(out, replace(label, form=form, base=base, origin=origin))


def _sum(tracer: Tracer, a: Label, b: Label, out: Tensor) -> None:
    """A residual connection, or two terms of a formula."""
    if formulas.same(a, b):
        formulas.join(tracer, a, b, out)
        return
    tracer.leak(a, b)
    linear = [x for x in (a, b) if x.role == LINEAR and x.spread is not None]
    if TAINT in (a.role, b.role):
        tracer.labels.put(out, None)
    elif linear:
        origin = linear[0].origin
        assert origin is not None
        more = linear[-1].origin
        assert more is not None
        origin = replace(origin, feeds=tuple(dict.fromkeys(origin.feeds + more.feeds)), mixed=True)
        tracer.labels.put(out, Label(LINEAR, origin, linear[0].spread, linear[0].form))
    else:
        tracer.labels.put(out, _both(a, b))


def _both(a: Label, b: Label) -> Label:
    """Units of two sites in one tensor, still apart by their place if they lie alike."""
    tokens = tuple(dict.fromkeys(a.tokens + b.tokens))
    return Label(OUTPUT, a.origin, a.spread if a.spread == b.spread else None, tokens=tokens)


def _product(tracer: Tracer, op: str, a: Label, b: Label, pair: list[Tensor], out: Tensor) -> None:
    """A gated linear unit, a gate over channels, or two factors of a formula."""
    if formulas.same(a, b):
        formulas.join(tracer, a, b, out)
        return
    if pair[0].shape != pair[1].shape:
        full, part = (a, b) if pair[0].shape == out.shape else (b, a)
        tracer.leak(part)
        tracer.labels.put(out, _mixed_up(full) if full.role != TAINT else None)
        return
    for gate, other in ((a, b), (b, a)):
        opens = gate.role == OUTPUT and len(gate.tokens) == 1 and gate.spread is not None
        if op == "mul" and opens and other.role == LINEAR and other.spread is not None:
            _gate(tracer, gate, other, out)
            return
    tracer.leak(a, b)
    tracer.labels.put(out, _both(a, b) if a.role == b.role == OUTPUT else None)


def _gate(tracer: Tracer, gate: Label, other: Label, out: Tensor) -> None:
    """A gated linear unit: the product is the unit's output, and both maps feed it."""
    (token,) = gate.tokens
    assert other.origin is not None
    known = {feed.name for feed in token.place.feeds}
    extra = tuple(
        replace(feed, mixes=True) for feed in other.origin.feeds if feed.name not in known
    )
    place = tracer.place(gate, token.place.activation, extra) if extra else token.place
    place.gated = True
    tracer.observer.gated(token, place, out)
    assert gate.spread is not None
    # Later operators count the units of the product from 0.
    tracer.labels.put(out, gate.at(replace(gate.spread, start=0, step=1)))
