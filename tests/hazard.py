"""What trainings that are hard to watch are registered with, and built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workloads import Training, clusters, mlp


@dataclass(frozen=True)
class Hazard:
    """A training and how many steps of it are enough."""

    name: str
    build: Callable[[], Training]
    steps: int


HAZARDS: dict[str, Hazard] = {}


def hazard(build: Callable[[], Training]) -> Callable[[], Training]:
    """Register a builder."""
    HAZARDS[build.__name__] = Hazard(build.__name__, build, 5)
    return build


def plain(model: nn.Module | None = None, lr: float = 0.1) -> tuple[nn.Module, Any, Any]:
    """A model, its optimizer and its batches."""
    torch.manual_seed(1)
    model = model or mlp()
    return model, torch.optim.SGD(model.parameters(), lr, momentum=0.9), clusters(16)


def loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Any,
    gradients: Callable[[Tensor, Tensor], object],
    **others: Any,
) -> Training:
    """Each step zeroes the gradients, lets ``gradients(x, y)`` make new ones and updates."""

    def step() -> None:
        inputs, targets = next(batches)
        optimizer.zero_grad()
        gradients(inputs, targets)
        optimizer.step()

    return Training(model, optimizer, step, others)
