"""What a linear map was given: sums over the rows it was applied to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Sums over all rows, per feature of the data.

    Attributes:
        count: Number of values of each feature.
        total: Sum of each feature, shape ``(features,)``.
        squares: Sum of its squares.
        low: Its smallest value.
        high: Its largest.
    """

    count: int
    total: Tensor
    squares: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Inputs:
    """The inputs of one call of a linear map.

    Attributes:
        total: Sum of the inputs over all rows, in the layout of one unit's weights: shape
            ``(inputs,)``, or ``(groups, inputs)`` where each group of units has inputs of its own.
        rows: Number of rows: each example counts once for each position.
        features: What the data themselves are like, where the input is data and no activation.
    """

    total: Tensor
    rows: int
    features: Features | None = None


def joined(a: Inputs | None, b: Inputs | None) -> Inputs | None:
    """The inputs of two calls of the same map together; ``None`` where one is not known."""
    if a is None or b is None or a.total.shape != b.total.shape:
        return None
    features = None
    if a.features is not None and b.features is not None:
        features = Features(
            a.features.count + b.features.count,
            a.features.total + b.features.total,
            a.features.squares + b.features.squares,
            torch.minimum(a.features.low, b.features.low),
            torch.maximum(a.features.high, b.features.high),
        )
    return Inputs(a.total + b.total, a.rows + b.rows, features)


def of_rows(x: Tensor, *, data: bool = False) -> Inputs | None:
    """Inputs of a map that takes the last dimension of ``x``; ``None`` where it is complex.

    Args:
        x: Input, ``(…, inputs)``.
        data: Whether it is what the model was given, no activation.

    Example:
        >>> of_rows(torch.ones(6, 4)).total
        tensor([6., 6., 6., 6.])
    """
    if x.is_complex():
        return None
    x = x.detach()
    rows = x.reshape(-1, x.shape[-1])
    return Inputs(_sum(rows, 0), len(rows), _features(x, -1) if data else None)


def of_patches(
    x: Tensor, weight: Tensor, out: Tensor, geometry: Sequence[Any], *, data: bool = False
) -> Inputs | None:
    """Inputs of a convolution: the sum of all patches that its kernel is laid over.

    That sum is what the gradient of the weight would be, were the gradient of every output 1.

    Args:
        x: Input, ``(examples, channels, …)``.
        weight: The kernel.
        out: Output.
        geometry: Stride, padding, dilation, transposed, output padding and groups, as the operator
            ``convolution`` takes them.
        data: Whether ``x`` is what the model was given, no activation.
    """
    transposed, groups = bool(geometry[3]), int(geometry[5])
    if (transposed and groups > 1) or x.is_complex():
        return None
    x = x.detach()
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    shape = (weight.shape[0], 1) if transposed else (groups, weight.shape[1])
    kernel = x.new_zeros(*shape, *weight.shape[2:])
    ones = x.new_ones(out.shape[0], groups, *out.shape[2:])
    total = torch.ops.aten.convolution_backward(
        ones, x, kernel, None, *geometry, (False, True, False)
    )[1]
    total = total.flatten() if groups == 1 else total.flatten(1)
    return Inputs(total, ones.numel() // groups, _features(x, 1) if data else None)


def _sum(tensor: Tensor, dim: int | list[int]) -> Tensor:
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.sum(dim=dim, dtype=wide)


def _features(x: Tensor, axis: int) -> Features | None:
    """Statistics per feature of data along ``axis``."""
    if not x.is_floating_point() or not x.numel():
        return None
    others = [dim for dim in range(x.ndim) if dim != axis % x.ndim]
    squares = torch.linalg.vector_norm(x, 2, dim=others, dtype=_sum(x[:0], 0).dtype).square()
    count = x.numel() // max(x.shape[axis], 1)
    return Features(count, _sum(x, others), squares, x.amin(dim=others), x.amax(dim=others))
