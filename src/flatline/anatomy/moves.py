"""Operators that move, cut or pool a tensor: what becomes of the units in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flatline import activations
from flatline.anatomy import elementwise, operators
from flatline.anatomy.labels import LINEAR, OUTPUT, Label
from flatline.anatomy.operators import Args, Kwargs
from flatline.anatomy.spread import Spread, moved, sliced

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

#: Labels the results of an operator whose input has the given label.
Move = Callable[["Tracer", Label, Args, Kwargs, list[Tensor]], None]


def _argument(args: Args, kwargs: Kwargs, place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _hand_on(tracer: Tracer, label: Label, spread: Spread | None, out: Tensor) -> None:
    if spread is None:
        tracer.leak(label)
    tracer.labels.put(out, label.at(spread))


def _reshape(
    tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]
) -> None:
    # The logical order stays, so even an unfinished formula survives.
    tracer.labels.put(results[0], label if results[0].numel() == args[0].numel() else None)


def _transpose(
    tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]
) -> None:
    x, out = args[0], results[0]
    first, second = (args[1], args[2]) if len(args) > 2 else (0, 1)
    order = list(range(x.ndim))
    if x.ndim > 1:
        order[first], order[second] = order[second], order[first]
    _reorder(tracer, label, x, out, order)


def _permute(
    tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]
) -> None:
    x = args[0]
    _reorder(tracer, label, x, results[0], [dim % x.ndim for dim in args[1]])


def _reorder(tracer: Tracer, label: Label, x: Tensor, out: Tensor, order: list[int]) -> None:
    spread = label.spread and moved(label.spread, x.shape, out.shape, order)
    _hand_on(tracer, label, spread, out)


def _pool(tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]) -> None:
    x, out = args[0], results[0]
    if out.ndim < x.ndim or label.spread is None:
        _hand_on(tracer, label, None, out)
        return
    more = out.ndim - x.ndim  # expand and repeat may add dimensions in front
    order = [-1] * more + list(range(x.ndim))
    _hand_on(tracer, label, moved(label.spread, x.shape, out.shape, order), out)


def _reduce(
    tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]
) -> None:
    x, out = args[0], results[0]
    dims = _argument(args, kwargs, 1, "dim", None)
    if dims is None or isinstance(dims, Tensor) or label.spread is None or dims == []:
        _hand_on(tracer, label, None, out)
        return
    gone = {dim % x.ndim for dim in (dims if isinstance(dims, list | tuple) else [dims])}
    order = list(range(x.ndim))
    if out.ndim < x.ndim:
        order = [dim for dim in order if dim not in gone]
    else:
        order = [-1 if dim in gone else dim for dim in order]
    _hand_on(tracer, label, moved(label.spread, x.shape, out.shape, order), out)


def _slice(tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]) -> None:
    x, out = args[0], results[0]
    dim = _argument(args, kwargs, 1, "dim", 0) % x.ndim
    start = _argument(args, kwargs, 2, "start", None) or 0
    step = _argument(args, kwargs, 4, "step", 1)
    start = min(start + x.shape[dim] if start < 0 else start, x.shape[dim])
    spread = label.spread and sliced(label.spread, x.shape, dim, start, out.shape[dim], step)
    _hand_on(tracer, label, spread, out)


def _split(tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]) -> None:
    x = args[0]
    dim = _argument(args, kwargs, 2, "dim", 0) % x.ndim
    sizes = [out.shape[dim] for out in results]
    for out, start in zip(results, accumulate(sizes, initial=0), strict=False):
        spread = label.spread and sliced(label.spread, x.shape, dim, start, out.shape[dim])
        _hand_on(tracer, label, spread, out)


def _select(
    tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]
) -> None:
    x = args[0]
    dim = _argument(args, kwargs, 1, "dim", 0) % x.ndim
    order = [place for place in range(x.ndim) if place != dim]
    for out in results:
        _reorder(tracer, label, x, out, order)


def _gather(
    tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]
) -> None:
    """Rows picked by index; units stay where they fill the last dimension, untouched."""
    x, out = args[0], results[0]
    axis = None if label.spread is None else label.spread.axis(x.shape)
    kept = axis == x.ndim - 1 and out.ndim > 0 and out.shape[-1] == x.shape[-1]
    _hand_on(tracer, label, label.spread if kept else None, out)


def _dropout(
    tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]
) -> None:
    elementwise.dropped(tracer, label, results[0])


def _glu(tracer: Tracer, label: Label, args: Args, kwargs: Kwargs, results: list[Tensor]) -> None:
    """``F.glu``: the first half times the sigmoid of the second."""
    x, out = args[0], results[0]
    dim = _argument(args, kwargs, 1, "dim", -1) % x.ndim
    half = x.shape[dim] // 2
    gate = label.spread and sliced(label.spread, x.shape, dim, half, half)
    if label.role != LINEAR or label.origin is None or not gate:
        tracer.lost("glu")
        return
    label = replace(label, spread=gate)
    place = tracer.place(label, activations.get("sigmoid"))
    place.gated = True
    token = tracer.observer.before(place, x.narrow(dim, half, half), gate, label.inputs)
    tracer.observer.after(token, out)
    spread = replace(gate, start=0)
    tracer.labels.put(out, Label(OUTPUT, label.origin, spread, tokens=(token,)))


MOVES: dict[str, Move] = {
    **dict.fromkeys(operators.RESHAPING, _reshape),
    **dict.fromkeys(operators.POOLING, _pool),
    **dict.fromkeys(operators.REDUCING, _reduce),
    "t": _transpose,
    "transpose": _transpose,
    "permute": _permute,
    "slice": _slice,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _split,
    "select": _select,
    "unbind": _select,
    "index": _gather,
    "index_select": _gather,
    "gather": _gather,
    "native_dropout": _dropout,
    "glu": _glu,
}
