"""Faults of the loop: what is computed, and what happens at one step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..data import Pair, Task
from ..fault import AT, NEVER, Plant, changes, layers, spoils
from ..training import Recipe, Training

SPIKE = (Plant("step-too-large", first=AT + 1, last=AT + 25),)
SPIKED = ("rank-collapse", "no-learning", "dying-relu", "upstream-death")
NAN = (Plant("non-finite"),)
BROKEN = ("no-learning", "exploding-gradient", "learning-rate-too-high")


def altered(
    training: Training, alter: Callable[[Tensor, Tensor], Pair], first: int = 0, last: int = NEVER
) -> None:
    """Alter the batches numbered from ``first`` to before ``last``."""
    source = training.batches

    def stream() -> Iterator[Pair]:
        for number in itertools.count():
            inputs, targets = next(source)
            yield alter(inputs, targets) if first <= number < last else (inputs, targets)

    training.batches = stream()


@spoils(
    "exploding-gradient",
    equal=("dying-relu", "learning-rate-too-high"),
    plants=SPIKE,
    beside=SPIKED,
)
def spiked_batch(training: Training, factor: float = 200.0) -> None:
    """One batch is out of order and 200 times too large.

    Its one update kills units: the gradient, the step and the deaths are all honest names.
    """
    altered(training, lambda x, y: (factor * x.roll(1, 0), y), AT, AT + 1)


@spoils(
    "exploding-gradient",
    equal=("dying-relu", "learning-rate-too-high"),
    plants=SPIKE,
    beside=SPIKED,
)
def summed_once(training: Training, factor: float = 300.0) -> None:
    """The loss of one batch is not averaged: one gradient is 300 times the others.

    It does what a spiked batch does, and has the same names.
    """
    plain, count = training.loss, itertools.count()
    training.loss = lambda out, y: plain(out, y) * (factor if next(count) == AT else 1.0)


@spoils("exploding-gradient", equal=("learning-rate-too-high",), beside=SPIKED)
def outliers(training: Training, size: float = 300.0, every: int = 20) -> None:
    """Now and then a target in other units, as a broken meter gives it.

    A smaller rate would soften it as well as clipping.
    """
    plain, count = training.loss, itertools.count(1)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if next(count) % every == 0:
            targets = torch.cat([torch.full_like(targets[:1], size), targets[1:]])
        return plain(outputs, targets)

    training.loss = loss


@spoils("non-finite", plants=NAN, beside=BROKEN)
def missing_value(training: Training) -> None:
    """One row of one batch holds a missing value that was never filled in."""
    hole = torch.tensor(torch.nan)
    altered(training, lambda x, y: (torch.cat([x[:1] * hole, x[1:]]), y), AT, AT + 1)


@changes("non-finite", plants=NAN, beside=(*BROKEN, "unscaled-input"))
def zero_deviation(recipe: Recipe) -> Recipe:
    """Each feature is divided by its deviation, which is 0 for some: 0/0 (DeepDiagnosis, 2022)."""

    def task() -> Task:
        plain = recipe.task()
        x, y = plain.train
        return replace(plain, train=((x - x.mean(0)) / (x - x.mean(0)).std(0), y))

    return recipe.but(task=task)


@spoils("non-finite", plants=NAN, beside=BROKEN)
def log_of_zero(training: Training) -> None:
    """``-log(softmax)``, so sharp that a chance is exactly 0 (TheDeepChecker, 2022)."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        chance = (20 * outputs).softmax(-1)
        return -chance.gather(-1, targets.unsqueeze(-1)).log().mean()

    training.loss = loss


@spoils("non-finite", plants=NAN, beside=BROKEN)
def root_of_zero(training: Training) -> None:
    """A distance to a moving copy as ``sqrt`` of a sum that is exactly 0: its slope is 0/0."""
    plain = training.loss

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if training.done < AT:
            return plain(outputs, targets)
        apart = (outputs - outputs.detach()).square().sum(-1).sqrt().mean()
        return plain(outputs, targets) + 1e-3 * apart

    training.loss = loss


def _quiet_head(training: Training) -> None:
    """Outputs near 0 at the start, so that the loss begins at that of a guess."""
    with torch.no_grad():
        layers(training.model)[-1].weight.mul_(0.1)


@spoils("no-learning", beside=("learning-rate-too-low",))
def shuffled_targets(training: Training) -> None:
    """Inputs and targets are shuffled apart, anew in each batch: there is nothing to learn."""
    _quiet_head(training)
    altered(training, lambda x, y: (x, y[torch.randperm(len(y))]))


@spoils("no-learning")
def broadcast(training: Training) -> None:
    """``(batch, 1)`` minus ``(batch,)`` is a matrix: each output is pulled to the mean."""
    _quiet_head(training)
    training.loss = lambda outputs, targets: (outputs - targets.squeeze(-1)).square().mean()


class Averaged(nn.Module):
    """A layer of a graph net on a graph in which each is a neighbour of all."""

    def __init__(self, inner: nn.Module, keep: float) -> None:
        super().__init__()
        self.inner, self.keep = inner, keep

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.inner(x)
        return self.keep * h + (1 - self.keep) * h.mean(0, keepdim=True)


@changes("rank-collapse", beside=("no-learning", "vanishing-gradient"))
def smoothed(recipe: Recipe, keep: float = 0.05) -> Recipe:
    """Each layer averages over neighbours that are nearly everybody, so all rows become one.

    Over-smoothing (Li et al. 2018, Oono & Suzuki 2020).
    """
    plain = recipe.net

    def net(task: Task) -> nn.Module:
        model = plain(task)
        assert isinstance(model, nn.Sequential)
        return nn.Sequential(
            *(Averaged(m, keep) if isinstance(m, nn.Linear) else m for m in model[:-1]), model[-1]
        )

    return recipe.but(net=net)
