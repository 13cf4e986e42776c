"""Loss and learning rate, taken from the running program at next to no cost."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

#: Steps whose losses stay on the device before they are brought over together.
FLUSH = 64

Row = tuple[int, float | None, float | None]


class Taps:
    """Collects one loss and one learning rate per step."""

    def __init__(self) -> None:
        self._loss: Tensor | None = None
        self._scaled: tuple[weakref.ref[Tensor], Tensor] | None = None
        self._rows: list[tuple[int, Tensor | None, Any]] = []

    def scaled(self, result: Any, loss: Any) -> None:
        """``GradScaler.scale`` made ``result`` of ``loss``: the loss itself is what counts."""
        if isinstance(result, Tensor) and isinstance(loss, Tensor):
            self._scaled = (weakref.ref(result), loss.detach())

    def backward(self, tensors: Any) -> None:
        """``backward()`` was called on ``tensors``; losses of one step add up."""
        tensors = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
        if len(tensors) != 1 or tensors[0].numel() != 1:
            return
        loss = tensors[0]
        if self._scaled is not None and self._scaled[0]() is loss:
            loss, self._scaled = self._scaled[1], None
        loss = loss.detach()
        self._loss = loss.clone() if self._loss is None else self._loss + loss

    def step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """A step ended."""
        self._rows.append((step, self._loss, optimizer.param_groups[0].get("lr")))
        self._loss = None

    @property
    def waiting(self) -> bool:
        """Whether ``backward()`` was called since the last step."""
        return self._loss is not None

    @property
    def full(self) -> bool:
        """Whether the rows should be brought over."""
        return len(self._rows) >= FLUSH

    def flush(self) -> list[Row]:
        """Rows ``(step, loss, learning rate)`` since the last call."""
        rows, self._rows = self._rows, []
        losses = [loss.reshape(()).float() for _, loss, _ in rows if loss is not None]
        values = iter(torch.stack(losses).tolist() if losses else [])
        return [
            (step, None if loss is None else next(values), None if lr is None else float(lr))
            for step, loss, lr in rows
        ]
