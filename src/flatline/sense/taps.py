"""Loss, learning rate and gradient norm, taken from the running program at next to no cost."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from flatline.sense.history import Row

#: Steps whose losses stay on the device, at most, before they are brought over together.
FLUSH = 1024

Value = Tensor | float | None
_Reading = tuple[int, Value, Any]


class Taps:
    """Collects loss, learning rate and gradient norm of each step."""

    def __init__(self) -> None:
        self._loss: Value = None
        self._scaled: tuple[weakref.ref[Tensor], Tensor] | None = None
        self._rows: list[_Reading] = []
        self._powers: dict[int, float] = {}

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
        # Reading a number on the host costs a tenth of copying it; on a device it would wait.
        value = loss.item() if loss.is_cpu else loss.detach().clone()
        self._loss = _sum(self._loss, value)

    def forget(self) -> None:
        """No step will use what ``backward()`` was called on."""
        self._loss = None

    def gradients(self, steps: list[int], norms: list[float]) -> None:
        """Some gradients of these steps have these norms."""
        for step, norm in zip(steps, norms, strict=True):
            self._powers[step] = self._powers.get(step, 0.0) + norm * norm

    def step(self, step: int, lr: Value) -> None:
        """An optimizer stepped with this rate; those that take turns make one step together."""
        loss, self._loss = self._loss, None
        rows = self._rows
        if rows and rows[-1][0] == step:
            _, before, lr = rows.pop()
            loss = _sum(before, loss)
        rows.append((step, loss, lr))

    @property
    def waiting(self) -> bool:
        """Whether ``backward()`` was called since the last step."""
        return self._loss is not None

    @property
    def full(self) -> bool:
        """Whether the rows should be brought over."""
        return len(self._rows) >= FLUSH

    def flush(self) -> list[Row]:
        """Readings of the steps since the last call, but for a step still under way.

        Gradients are expected before.
        """
        rows, self._rows = self._rows, []
        powers, self._powers = self._powers, {}
        losses = _brought([loss for _, loss, _ in rows])
        rates = _brought([lr for _, _, lr in rows])
        return [
            (step, loss, lr, _root(powers.get(step)))
            for (step, _, _), loss, lr in zip(rows, losses, rates, strict=True)
        ]


def rate_of(optimizer: torch.optim.Optimizer) -> Value:
    """The learning rate with which an optimizer is about to step; later it may be another one."""
    lr: Value = optimizer.param_groups[0].get("lr")
    return lr.detach().clone() if isinstance(lr, Tensor) else lr


def _root(power: float | None) -> float | None:
    return None if power is None else math.sqrt(power)


def _sum(a: Value, b: Value) -> Value:
    return a if b is None else b if a is None else a + b


def _brought(values: list[Value]) -> list[float | None]:
    """Values as numbers; those on a device come over together."""
    waiting = [value.reshape(()).float() for value in values if isinstance(value, Tensor)]
    numbers = iter(torch.stack(waiting).tolist() if waiting else [])
    return [
        next(numbers) if isinstance(value, Tensor) else None if value is None else float(value)
        for value in values
    ]
