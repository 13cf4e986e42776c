"""Which parameters read a unit, and how strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flatline.anatomy.labels import TAINT, Label, Weights

if TYPE_CHECKING:
    from flatline.anatomy.tracer import Tracer


def read(tracer: Tracer, label: Label, weights: Weights, columns: Tensor | None) -> None:
    """``weights`` read the units of ``label``; ``columns`` has one number per unit."""
    if label.over:
        tracer.overlaid(label)
    for token in label.tokens:
        for one in weights.shown:
            token.place.reads.setdefault(one.name)
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
    """
    label = tracer.label(x)
    if not isinstance(label, Label):
        return
    if label.role == TAINT:
        tracer.stuck(label)
    elif label.tokens:
        read(tracer, label, weights, _columns(label, x, weight, axis, x_axis, groups))


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
