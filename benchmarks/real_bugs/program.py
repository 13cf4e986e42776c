"""What the re-expressed programs share: how they are registered, watched, trained and judged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

#: Given a model and its optimizer, watches the training inside the ``with``.
Watch = Callable[[nn.Module, Optimizer], AbstractContextManager[object]]
Loss = Callable[[Tensor, Tensor], Tensor]
#: A whole script: given whether the repair is in, and a watch, trains and returns its metric.
Script = Callable[[bool, Watch], float]


def unwatched(model: nn.Module, optimizer: Optimizer) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Program:
    """A bug re-expressed, and its repair.

    Attributes:
        script: The program.
        metric: What it returns: ``accuracy``, or a ``loss``, of which less is better.
        bad: The buggy program does no better than this.
        good: The repaired one does at least as well as this.
    """

    script: Script
    metric: str
    bad: float
    good: float

    def buggy(self, watch: Watch = unwatched) -> float:
        return self.script(False, watch)

    def fixed(self, watch: Watch = unwatched) -> float:
        return self.script(True, watch)

    def is_bad(self, value: float) -> bool:
        """Whether the metric is as bad as in the post; not a number is."""
        return not (value > self.bad if self.metric == "accuracy" else value < self.bad)

    def is_good(self, value: float) -> bool:
        return value >= self.good if self.metric == "accuracy" else value <= self.good


PROGRAMS: dict[str, Program] = {}


def program(name: str, metric: str, bad: float, good: float) -> Callable[[Script], Script]:
    """Register a script under the number of its post or the name of its repository."""

    def register(script: Script) -> Script:
        PROGRAMS[name] = Program(script, metric, bad, good)
        return script

    return register


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Loss,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch: int,
) -> None:
    """The training loop that Keras' ``fit`` stands for."""
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            loss_fn(model(x[rows]), y[rows]).backward()
            optimizer.step()


@torch.no_grad()
def predict(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    return model(x)


def accuracy(model: nn.Module, x: Tensor, classes: Tensor) -> float:
    """Share of examples whose largest output is that of their class."""
    return float((predict(model, x).argmax(1) == classes).float().mean())


def binary_accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of outputs on the right side of one half."""
    return float(((predict(model, x) > 0.5) == (y > 0.5)).float().mean())


def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Mean squared error in units of the targets' variance: 1 is what a constant reaches."""
    return float((predict(model, x) - y).square().mean() / y.var(correction=0))
