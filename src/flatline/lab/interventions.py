"""What is done to trainings on purpose: units killed, a spike, flatline's own treatments."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from itertools import pairwise

import torch
from torch import Tensor, nn

import flatline

#: A bias that no input of a scale used here can lift a unit over.
_SUNK = -1e3


def kill(model: nn.Sequential, share: float) -> None:
    """Kill a share of the ReLU units of each hidden layer; no gradient moves them any more.

    Weights are drawn independently of each other, so the first units are as good as any.
    """
    with torch.no_grad():
        for layer, after in pairwise(model):
            if isinstance(layer, nn.Linear) and isinstance(after, nn.ReLU):
                layer.bias[: round(share * layer.out_features)] = _SUNK


def treat(model: nn.Module, optimizer: torch.optim.Optimizer, treatment: str, x: Tensor) -> None:
    """Treat a training with flatline, at once; what it says of it goes nowhere."""
    with redirect_stderr(io.StringIO()):
        flatline.treat(model, optimizer, treatment, batches=[x])


def spiked(
    batches: Iterator[tuple[Tensor, Tensor]], at: int, factor: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, with the inputs of one of them multiplied by ``factor``."""
    for step, (x, y) in enumerate(batches):
        yield (x * factor if step == at else x), y
