"""Gradients and updates of feeding weights, per unit, around one optimizer step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flatline.anatomy.atlas import Feed, Place

#: Columns of a weight from which the relative update is taken.
COLUMNS = 64


def _norm(rows: Tensor) -> Tensor:
    """Length of each row; in at least single precision, as half precision would not hold it."""
    half = rows.dtype in (torch.float16, torch.bfloat16)
    dtype = torch.float32 if half else rows.dtype
    length = torch.linalg.vector_norm(rows, dim=1, dtype=dtype).float()
    peak = torch.linalg.vector_norm(rows, math.inf, dim=1).float()
    # Squares overflow where the numbers themselves do not; their largest is near enough then.
    return torch.where(length == math.inf, peak, length)


def rows_of(tensor: Tensor, feed: Feed, place: Place) -> Tensor | None:
    """The part of ``tensor`` that feeds the site, one row per unit: ``(units, inputs)``.

    ``None`` where it cannot be told, as in a sharded, sparse or complex tensor.
    """
    axis = feed.axis
    if axis is None or type(tensor) not in (Tensor, torch.nn.Parameter):
        return None
    if tensor.layout is not torch.strided or axis >= tensor.ndim or tensor.is_complex():
        return None
    if tensor.numel() and not tensor.untyped_storage().nbytes():
        return None  # gathered for a forward pass, and freed again
    rows = tensor.detach().movedim(axis, 0)
    stop = place.start + place.step * place.units
    if rows.shape[0] < stop - place.step + 1:
        return None
    return (
        rows[place.start : stop : place.step].flatten(1)
        if rows.ndim > 1
        else rows[place.start : stop : place.step].unsqueeze(1)
    )


class Movement:
    """One site's gradient before a step and its relative update across it.

    Args:
        place: The site.
        updated: There is no step to come whose update could be measured.
    """

    def __init__(self, place: Place, *, updated: bool = False) -> None:
        self._place = place
        self._feed = place.matrix or place.beacon
        self.parameter = None if self._feed is None else self._feed.parameter
        self._before: Tensor | None = None
        self.gradient: Tensor | None = None
        feed = self._feed
        if feed is None:
            return
        weight = None if updated else self._weight()
        if weight is not None:
            self._before = weight.clone()
        if feed.parameter.grad is not None:
            rows = rows_of(feed.parameter.grad, feed, place)
            if rows is not None:
                self.gradient = _norm(rows) / math.sqrt(rows.shape[1])

    def _weight(self) -> Tensor | None:
        assert self._feed is not None
        rows = rows_of(self._feed.parameter, self._feed, self._place)
        return None if rows is None else rows[:, :: max(1, rows.shape[1] // COLUMNS)][:, :COLUMNS]

    def numbers(self) -> Tensor:
        """Gradient and relative update after the step, shape ``(2, units)``; NaN where unknown."""
        place = self._place
        device = None if self._feed is None else self._feed.parameter.device
        unknown = torch.full((place.units,), math.nan, device=device)
        update = unknown
        if self._before is not None:
            after = self._weight()
            assert after is not None
            update = _norm(after - self._before) / _norm(self._before)
        gradient = unknown if self.gradient is None else self.gradient
        return torch.stack([gradient, update])
