"""Operators that move, cut or pool a tensor: what becomes of the units in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flatline import activations
from flatline.anatomy import elementwise, operators
from flatline.anatomy.labels import LINEAR, MOVED, OUTPUT, SUMMED, Label
from flatline.anatomy.operators import Call
from flatline.anatomy.spread import Spread, moved, selected, sliced

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

#: Labels the results of an operator, of whose arguments ``args[0]`` has the given label.
Move = Callable[["Tracer", Label, Call], None]


def hand_on(tracer: Tracer, label: Label, spread: Spread | None, out: Tensor) -> None:
    """``out`` holds the units of ``label``, at ``spread`` if that is known."""
    if spread is None:
        tracer.leak(label)
        tracer.labels.put(out, label.strayed(label.lost or MOVED))
    else:
        tracer.labels.put(out, label.at(spread))


def _reshape(tracer: Tracer, label: Label, call: Call) -> None:
    # The logical order stays, so even an unfinished formula survives.
    x, out = call.args[0], call.out
    same = out.numel() == x.numel() and out.is_floating_point()
    tracer.labels.put(out, label if same else None)


def _dropout(tracer: Tracer, label: Label, call: Call) -> None:
    # Also for fake quantisation: beyond the range of its integers the gradient is cut.
    elementwise.dropped(tracer, label, call.out)


def _reorder(tracer: Tracer, label: Label, call: Call, order: list[int]) -> None:
    """New dimension ``j`` shows the old dimension ``order[j]``, -1 for a new one."""
    x, out = call.args[0], call.out
    hand_on(tracer, label, label.spread and moved(label.spread, x.shape, out.shape, order), out)


def _transpose(tracer: Tracer, label: Label, call: Call) -> None:
    ndim = call.args[0].ndim
    first, second = call.args[1:3] if len(call.args) > 2 else (0, 1)
    order = list(range(ndim))
    if ndim > 1:
        order[first], order[second] = order[second], order[first]
    _reorder(tracer, label, call, order)


def _permute(tracer: Tracer, label: Label, call: Call) -> None:
    _reorder(tracer, label, call, [dim % call.args[0].ndim for dim in call.args[1]])


def _pool(tracer: Tracer, label: Label, call: Call) -> None:
    ndim = call.args[0].ndim
    more = call.out.ndim - ndim  # expand and repeat may add dimensions in front
    if more < 0:
        hand_on(tracer, label, None, call.out)
    else:
        _reorder(tracer, label, call, [-1] * more + list(range(ndim)))


def _windows(tracer: Tracer, label: Label, call: Call) -> None:
    """``Tensor.unfold``: windows over one dimension, with their content on a new last one."""
    _reorder(tracer, label, call, [*range(call.args[0].ndim), -1])


def _patches(tracer: Tracer, label: Label, call: Call) -> None:
    """``F.unfold``: each channel becomes as many rows as a window has places."""
    x, out, spread = call.args[0], call.out, label.spread
    if spread is not None and x.ndim == 4 and spread.axis(x.shape) == 1:
        spread = replace(spread, inner=out.shape[1] // x.shape[1] * out.shape[2])
        hand_on(tracer, label, spread, out)
    else:
        hand_on(tracer, label, None, out)


def _reduce(tracer: Tracer, label: Label, call: Call) -> None:
    x = call.args[0]
    place = 2 if call.op in ("norm", "linalg_vector_norm") else 1
    gone = _dimensions(call.get(place, "dim", None), x.ndim)
    kept = [dim for dim in range(x.ndim) if dim not in gone]
    for out in call.results:
        if not out.is_floating_point():
            continue  # where the largest number was
        spread = None
        if label.spread is not None and kept:
            order = kept if out.ndim < x.ndim else [d if d in kept else -1 for d in range(x.ndim)]
            spread = moved(label.spread, x.shape, out.shape, order)
        if spread is None:
            _reduced(tracer, label, call, out)
        else:
            hand_on(tracer, label, spread, out)


def _dimensions(dims: Any, ndim: int) -> set[int]:
    """The dimensions that a reduction removes; all when none are given."""
    if dims is None or dims == []:
        return set(range(ndim))
    return {dim % ndim for dim in (dims if isinstance(dims, list | tuple) else [dims])}


def _reduced(tracer: Tracer, label: Label, call: Call, out: Tensor) -> None:
    """One number out of several units: no unit any more, but whoever was bent is behind it."""
    tracer.leak(label)
    if call.op in operators.PICKING and label.role == LINEAR:
        tracer.miss(label, call.op, "it picks one of several units")
    if call.op in operators.SUMMING and out.numel() == 1 < call.args[0].numel() and tracer.stack:
        tracer.doubt(label, SUMMED)
    tracer.labels.put(out, Label(OUTPUT, tokens=label.tokens) if label.tokens else None)


def _slice(tracer: Tracer, label: Label, call: Call) -> None:
    x, out = call.args[0], call.out
    dim = call.get(1, "dim", 0) % x.ndim
    start, step = call.get(2, "start", 0), call.get(4, "step", 1)
    start = min(start + x.shape[dim] if start < 0 else start, x.shape[dim])
    spread = label.spread and sliced(label.spread, x.shape, dim, start, out.shape[dim], step)
    hand_on(tracer, label, spread, out)


def _split(tracer: Tracer, label: Label, call: Call) -> None:
    x = call.args[0]
    dim = call.get(2, "dim", 0) % x.ndim
    starts = accumulate((out.shape[dim] for out in call.results), initial=0)
    for out, start in zip(call.results, starts, strict=False):
        spread = label.spread and sliced(label.spread, x.shape, dim, start, out.shape[dim])
        hand_on(tracer, label, spread, out)


def _select(tracer: Tracer, label: Label, call: Call) -> None:
    x = call.args[0]
    dim = call.get(1, "dim", 0) % x.ndim
    first = 0 if call.op == "unbind" else int(call.get(2, "index", 0))
    for index, out in enumerate(call.results, first):
        spread = label.spread and selected(label.spread, x.shape, dim, index)
        hand_on(tracer, label, spread, out)


def _index(tracer: Tracer, label: Label, call: Call) -> None:
    """``x[i, j]`` with tensors: adjacent dimensions are replaced by those of the indices."""
    ndim, (first, last) = call.args[0].ndim, _indexed(call.args[1])
    more = call.out.ndim - (ndim - (last - first))
    if first < 0:
        hand_on(tracer, label, None, call.out)
    else:
        _reorder(tracer, label, call, [*range(first), *[-1] * more, *range(last, ndim)])


def _indexed(indices: Sequence[Tensor | None]) -> tuple[int, int]:
    """The range of dimensions that indices stand for; ``(-1, -1)`` when they are not adjacent."""
    dim, spans = 0, []
    for index in indices:
        mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        size = index.ndim if mask and index is not None else 1
        if index is not None:
            spans.append((dim, dim + size))
        dim += size
    if any(before[1] != after[0] for before, after in pairwise(spans)):
        return -1, -1
    return spans[0][0], spans[-1][1]


def _shift(tracer: Tracer, label: Label, call: Call) -> None:
    """Entries of one or more dimensions moved, picked or summed: harmless but for the units'."""
    ndim = call.args[0].ndim
    place = 2 if call.op == "roll" else 1
    gone = _dimensions(call.get(place, "dim", None), ndim)
    _reorder(tracer, label, call, [-1 if dim in gone else dim for dim in range(ndim)])


def _stray(tracer: Tracer, label: Label, call: Call) -> None:
    hand_on(tracer, label, None, call.out)


def _last_stays(tracer: Tracer, label: Label, call: Call) -> None:
    """Packing and unpacking of sequences: features stay on the last dimension."""
    x = call.args[0]
    axis = None if label.spread is None else label.spread.axis(x.shape)
    hand_on(tracer, label, label.spread if axis == x.ndim - 1 else None, call.out)


def _mix_rows(tracer: Tracer, label: Label, call: Call) -> None:
    """``A @ h`` with a constant A, such as a graph's adjacency: rows are mixed, units are not."""
    left, h = call.args[-2:]  # a sparse product is added to zeros
    axis = None if label.spread is None else label.spread.axis(h.shape)
    if tracer.labels.get(h) is label and axis == h.ndim - 1 and not left.requires_grad:
        hand_on(tracer, label, label.spread, call.out)
    else:
        tracer.end([(h, label)], call.results)


def _glu(tracer: Tracer, label: Label, call: Call) -> None:
    """``F.glu``: the first half times the sigmoid of the second."""
    x, out = call.args[0], call.out
    dim = call.get(1, "dim", -1) % x.ndim
    half = x.shape[dim] // 2
    gate = label.spread and sliced(label.spread, x.shape, dim, half, half)
    if label.role != LINEAR or gate is None or gate.count != half:
        tracer.miss(label, "glu", label.lost or MOVED)
        tracer.end([(x, label)], call.results)
        return
    activation = activations.gated(activations.get("sigmoid"))
    z = x.narrow(dim, half, half)
    token = tracer.enter_site(z, replace(label, spread=gate), activation)
    tracer.observer.after(token, out)
    spread = replace(gate, start=0, step=1)
    tracer.labels.put(out, Label(OUTPUT, label.origin, spread, tokens=(token,)))


MOVES: dict[str, Move] = {
    **dict.fromkeys(operators.RESHAPING, _reshape),
    **dict.fromkeys(operators.ROUNDING | {"native_dropout"}, _dropout),
    **dict.fromkeys(operators.POOLING, _pool),
    **dict.fromkeys(operators.REDUCING, _reduce),
    **dict.fromkeys(operators.SPLITTING, _split),
    **dict.fromkeys(("select", "unbind"), _select),
    **dict.fromkeys(("index", "_unsafe_index"), _index),
    **dict.fromkeys(operators.SCATTERING, _stray),
    **dict.fromkeys(("roll", "flip", "index_select", "gather", "cumsum"), _shift),
    **dict.fromkeys(("_pack_padded_sequence", "_pad_packed_sequence"), _last_stays),
    **dict.fromkeys(("mm", "bmm", "_sparse_mm", "_sparse_addmm"), _mix_rows),
    "t": _transpose,
    "transpose": _transpose,
    "permute": _permute,
    "slice": _slice,
    "unfold": _windows,
    "im2col": _patches,
    "glu": _glu,
}
