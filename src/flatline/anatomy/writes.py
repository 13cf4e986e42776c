"""Operators that put several tensors into one: concatenation, and writing into a part."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from flatline.anatomy.labels import JOINED, LINEAR, OUTPUT, Label, Origin, joined
from flatline.anatomy.operators import Call
from flatline.anatomy.spread import Spread

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer


def join(tracer: Tracer, call: Call, units: list[tuple[Tensor, Label]]) -> None:
    """Tensors side by side: units of one layer stay when its calls are put one behind the other.

    Units of different sites have no common place, but whoever reads the whole reads them all.
    """
    out, labels = call.out, [label for _, label in units]
    x, first = units[0]
    axis = None if first.spread is None else first.spread.axis(x.shape)
    stacks = call.op == "stack"
    dim = call.get(1, "dim", 0) % out.ndim
    alike = (
        axis is not None
        and len(units) == len(call.args[0])
        and all(_same_units(label, first) for label in labels)
        and (dim <= axis if stacks else dim < axis)
    )
    if alike:
        assert first.spread is not None
        lead = replace(first, tokens=joined(*labels), base=None, path=())
        tracer.labels.put(out, lead)
        return
    tracer.leak(*labels)
    tracer.labels.put(out, _together(labels))


def _same_units(a: Label, b: Label) -> bool:
    """Whether two tensors hold the same units, of one call of a layer or of several."""
    if (a.role, a.spread, a.form) != (b.role, b.spread, b.form):
        return False
    if a.role == OUTPUT:
        return {token.place for token in a.tokens} == {token.place for token in b.tokens}
    return _layer(a.origin) == _layer(b.origin)


def _layer(origin: Origin | None) -> object:
    return origin and (origin.name, [(feed.name, feed.part) for feed in origin.feeds])


def _together(labels: list[Label]) -> Label | None:
    """What is left of several labels: who was bent, and the first layer's name."""
    tokens = joined(*labels)
    linear = next((label for label in labels if label.role == LINEAR), None)
    if linear is not None:
        return replace(linear.at(None), tokens=tokens, lost=JOINED)
    over = next((label.over for label in labels if label.over), "")
    return Label(OUTPUT, labels[0].origin, tokens=tokens, over=over) if tokens else None


def write(tracer: Tracer, call: Call, units: list[tuple[Tensor, Label]]) -> None:
    """A tensor is written into a part of another: whoever was bent is behind the whole.

    Units keep their place, in the whole and in what it is a view of, if they keep their axis.
    """
    out = call.out
    viewed = out._base if out._is_view() else None
    if call.op == "copy" and viewed is None:
        tracer.labels.put(out, next((label for x, label in units if x is call.args[1]), None))
        return
    tracer.leak(*(label for _, label in units))
    source, written = next((pair for pair in units if pair[1].tokens), units[-1])
    rest = _together([label for _, label in units])
    for target in (out, viewed):
        if target is None:
            continue
        spread = _kept(written.spread, source, target)
        if rest is not None and rest.role == OUTPUT:
            tracer.labels.put(target, replace(rest, spread=spread))
        else:
            tracer.labels.put(target, rest)


def _kept(spread: Spread | None, x: Tensor, target: Tensor) -> Spread | None:
    """The units' place in a tensor that has as many entries along their axis."""
    axis = None if spread is None or x.ndim != target.ndim else spread.axis(x.shape)
    if spread is None or axis is None or target.shape[axis] != x.shape[axis]:
        return None
    return replace(spread, inner=math.prod(target.shape[axis + 1 :]))
