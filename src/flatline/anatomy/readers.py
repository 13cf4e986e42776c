"""Which parameters read a unit, and how strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flatline.anatomy.labels import TAINT, Label, Rows, Weights

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer


def read(
    tracer: Tracer,
    label: Label,
    weights: Weights,
    columns: Tensor | None,
    each: tuple[int, int] = (0, 0),
) -> None:
    """``weights`` read the units of ``label``.

    Args:
        tracer: The tracer.
        label: What is read.
        weights: What reads it.
        columns: The largest absolute weight that reads each unit.
        each: How many weights read one unit, and on how many rows.
    """
    if label.over:
        tracer.overlaid(label)
    for token in label.tokens:
        reads = token.place.reads
        for one in weights.shown:
            known = reads.get(one.name, (0, 0))
            reads[one.name] = each if any(each) else known
            each = (0, 0)  # a weight that is made of several parameters is applied once
        known = columns is not None and len(columns) == token.place.units
        tracer.observer.read(token, columns if known else None)


def consume(
    tracer: Tracer,
    x: Tensor,
    weights: Weights,
    weight: Tensor,
    axis: int,
    x_axis: int,
    groups: int = 1,
    rows: int = 0,
) -> None:
    """A parameter operator takes ``x``.

    Args:
        tracer: The tracer.
        x: The input.
        weights: The parameters behind ``weight``.
        weight: The weight as the operator sees it.
        axis: The dimension of ``weight`` that runs over inputs.
        x_axis: The dimension of ``x`` that it pairs with.
        groups: Groups of a convolution.
        rows: Number of rows (positions of all examples) of its result.
    """
    label = tracer.label(x)
    if isinstance(label, Rows):
        for part in label.parts:
            if part is not None:
                read(tracer, part, weights, None)
    if not isinstance(label, Label):
        return
    if label.role == TAINT:
        tracer.stuck(label)
    elif label.tokens:
        columns = _columns(label, x, weight, axis, x_axis, groups)
        read(tracer, label, weights, columns, (_per_unit(label, x, weight, x_axis), rows))


def _per_unit(label: Label, x: Tensor, weight: Tensor, x_axis: int) -> int:
    """How many entries of ``weight`` one unit meets."""
    inputs = x.shape[x_axis]
    if label.spread is None or not inputs or weight.ndim < 2:
        return 0
    inner = 1 if label.spread.axis(x.shape) == x_axis % x.ndim else label.spread.inner
    return weight.numel() // inputs * inner


def _columns(
    label: Label, x: Tensor, weight: Tensor, axis: int, x_axis: int, groups: int
) -> Tensor | None:
    """The largest absolute weight that reads each unit."""
    spread = label.spread
    if spread is None or (spread.start, spread.step) != (0, 1) or weight.ndim < 2:
        return None
    weight = weight.detach()
    if groups > 1:
        weight = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        reach = weight.abs().amax(dim=(1, *range(3, weight.ndim))).reshape(-1)
    else:
        others = [dim for dim in range(weight.ndim) if dim != axis % weight.ndim]
        reach = _largest(weight, others)
    x_axis %= x.ndim
    inner = 1 if spread.axis(x.shape) == x_axis else spread.inner
    if reach.numel() % (spread.count * inner) or reach.numel() != x.shape[x_axis]:
        return None
    return reach.reshape(-1, spread.count, inner).amax(dim=(0, 2))


def _largest(weight: Tensor, dims: list[int]) -> Tensor:
    """Largest absolute value along dimensions; a norm would take ten times as long."""
    if weight.is_complex():
        weight = weight.abs()
    return torch.maximum(weight.amax(dim=dims), -weight.amin(dim=dims))
