"""The one place where the benchmarks touch flatline's API."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def watch(
    model: nn.Module, optimizer: torch.optim.Optimizer, exams: bool, budget: float = 0.01
) -> Callable[[], None]:
    """Attach flatline to a training; returns what detaches it.

    Args:
        model: The model in training.
        optimizer: Its optimizer.
        exams: Whether to examine steps; otherwise only the pulse is taken.
        budget: Share of the training's time that exams may cost.
    """
    import flatline

    monitor = flatline.Monitor(model, optimizer, budget=budget if exams else 0)
    return monitor.close
