"""Mixtures of experts in one operator: several layers side by side in the rows of one tensor.

Each range of rows is followed as a tensor of its own, so an expert is a layer like any other; one
that was given no row is a site without examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flatline.anatomy import operators
from flatline.anatomy.labels import LINEAR, Label, Origin, Rows, Weights
from flatline.anatomy.operators import Args, Kwargs, tensors_of
from flatline.anatomy.readers import read
from flatline.anatomy.spread import of_axis
from flatline.anatomy.weights import owner

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer

_ALONG_ROWS = operators.SPLITTING | {"slice", "select", "unbind"}


def multiply(tracer: Tracer, x: Tensor, weight: Tensor, out: Tensor, ends: tuple[int, ...]) -> None:
    """Rows up to ``ends[e]`` are multiplied by ``weight[e]``, of shape ``(inputs, units)``."""
    weights = tracer.label(weight)
    assert isinstance(weights, Weights)
    given = tracer.label(x)
    if isinstance(given, Label):
        read(tracer, given, weights, None)
    aligned = isinstance(given, Rows) and given.ends == ends
    inputs = _parts(given if aligned else None, len(ends))
    parts = []
    for expert, (rows, read_part) in enumerate(zip(_cut(out, ends), inputs, strict=True)):
        own = replace(weights, part=expert)
        if read_part is not None:
            columns = weight[expert].detach().abs().amax(dim=-1)
            read(tracer, read_part, own, columns, (weight.shape[-1], len(rows)))
        feeds = own.feed(None)
        origin = Origin(owner(tracer, feeds), feeds, out.shape[-1])
        parts.append(Label(LINEAR, origin, of_axis(rows.shape, -1)))
    tracer.labels.put(out, Rows(tuple(parts), ends))


def each(
    tracer: Tracer, func: Any, args: Args, kwargs: Kwargs, tensors: list[Tensor]
) -> Callable[[Any], None]:
    """Look at a call on each range of rows by itself; the result is told its outcome."""
    known = [label for x in tensors if isinstance(label := tracer.labels.get(x), Rows)]
    ends = known[0].ends
    if any(label.ends != ends for label in known) or not _row_wise(func, args, tensors, ends):
        return lambda out: _end(tracer, known, out)
    cuts = {id(x): _cut(x, ends) for x in tensors if x.ndim and len(x) == ends[-1]}
    for x in tensors:
        label = tracer.labels.get(x)
        for rows, part in zip(cuts.get(id(x), ()), _parts(label, len(ends)), strict=True):
            tracer.labels.put(rows, part)
    handles = [
        tracer.before(func, _of(args, cuts, expert), dict(kwargs)) for expert in range(len(ends))
    ]

    def after(out: Any) -> None:
        results = tensors_of(out if isinstance(out, tuple | list) else (out,), {})
        given = {id(x): _cut(x, ends) for x in results}
        for expert, handle in enumerate(handles):
            handle(_of((out,), given, expert)[0])
        for x in results:
            parts = tuple(
                part if isinstance(part := tracer.labels.get(rows), Label) else None
                for rows in given[id(x)]
            )
            tracer.labels.put(x, Rows(parts, ends) if any(parts) else None)

    return after


def _row_wise(func: Any, args: Args, tensors: list[Tensor], ends: tuple[int, ...]) -> bool:
    """Whether no row of the result depends on another row."""
    if operators.is_pointwise(func):
        return all(x.numel() == 1 or len(x) == ends[-1] for x in tensors)
    op, x = operators.base_name(func), args[0]
    if op in _ALONG_ROWS and isinstance(x, Tensor):
        place = 2 if op in operators.SPLITTING else 1
        return bool(operators.argument(args, {}, place, "dim", 0) % x.ndim)
    return op in ("clone", "detach", "alias", "_to_copy", "native_dropout")


def _parts(label: object, count: int) -> tuple[Label | None, ...]:
    return label.parts if isinstance(label, Rows) else (None,) * count


def _cut(tensor: Tensor, ends: tuple[int, ...]) -> list[Tensor]:
    """Views of the rows of each expert."""
    return [tensor[start:end] for start, end in pairwise((0, *ends))]


def _of(values: Args, cuts: dict[int, list[Tensor]], expert: int) -> tuple[Any, ...]:
    """Arguments or results as one expert sees them."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, tuple | list):
            found.append(type(value)(_of(value, cuts, expert)))
        else:
            found.append(cuts[id(value)][expert] if id(value) in cuts else value)
    return tuple(found)


def _end(tracer: Tracer, known: list[Rows], out: Any) -> None:
    """What can no longer be told apart ends here."""
    for label in known:
        for part in label.parts:
            if part is not None:
                tracer.end([(out, part)], [])
