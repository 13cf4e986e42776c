"""How a run of the zoo is set up and trained: an ordinary loop, with nothing of flatline in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .data import Pair, Task, batches

Loss = Callable[[Tensor, Tensor], Tensor]
SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


@dataclass(frozen=True)
class Recipe:
    """What a person decides before a training.

    Attributes:
        task: Makes the task.
        net: Makes the model for a task.
        optimizer: Makes the optimizer of parameters.
        steps: Optimizer steps.
        batch: Examples of a batch.
        schedule: Factor of the learning rate at each step.
        clip: Largest norm of a gradient.
        accumulate: Batches for each update.
        loss: The loss, where it is not the usual one of the task.
        skill: How well the trained model does, where it is not the usual measure.
        enough: Skill that shows that it learned.
        spoils: What is done to the training once it is built.
    """

    task: Callable[[], Task]
    net: Callable[[Task], nn.Module]
    optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]
    steps: int = 300
    batch: int = 64
    schedule: Callable[[int], float] | None = None
    clip: float | None = None
    accumulate: int = 1
    loss: Loss | None = None
    skill: Callable[[nn.Module, Task], float] | None = None
    enough: float = 0.6
    spoils: tuple[Callable[[Training], None], ...] = ()

    def but(self, **changes: Any) -> Recipe:
        """The same with other decisions."""
        return replace(self, **changes)

    def built(self, **options: Any) -> Recipe:
        """The same with other options of the net."""
        return replace(self, net=partial(self.net, **options))

    def stepped(self, **options: Any) -> Recipe:
        """The same with other options of the optimizer."""
        return replace(self, optimizer=partial(self.optimizer, **options))


class Training:
    """A training in progress.

    Attributes:
        task: What is to be learned.
        model: The model.
        optimizer: Its optimizer.
        batches: Where the next batch comes from.
        loss: Loss of outputs and targets.
        penalty: What is added to the loss of each batch.
        zeroes: Whether gradients are reset after an update.
        after: Called with the number of steps done, after each.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        torch.manual_seed(seed)
        self.recipe = recipe
        self.task = recipe.task()
        self.model = recipe.net(self.task)
        self.optimizer = recipe.optimizer(self.model.parameters())
        self.batches: Iterator[Pair] = batches(self.task.train, recipe.batch, seed)
        self.loss: Loss = recipe.loss or self.task.loss
        self.penalty: Callable[[], Tensor | float] = lambda: 0.0
        self.zeroes = True
        self.after: list[Callable[[int], object]] = []
        self.done = 0
        self._base = [group["lr"] for group in self.optimizer.param_groups]
        self._set_rate()
        for spoil in recipe.spoils:
            spoil(self)

    def _set_rate(self) -> None:
        if self.recipe.schedule is not None:
            factor = self.recipe.schedule(self.done)
            for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
                group["lr"] = base * factor

    def step(self) -> float:
        """One step of the training; returns the loss of its last batch."""
        for _ in range(self.recipe.accumulate):
            inputs, targets = next(self.batches)
            loss = self.loss(self.model(inputs), targets) + self.penalty()
            (loss / self.recipe.accumulate).backward()
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        if self.zeroes:
            self.optimizer.zero_grad()
        self.done += 1
        self._set_rate()
        for call in self.after:
            call(self.done)
        return loss.item()

    def skill(self) -> float:
        """How much better than the baseline the model is on held-out data."""
        self.model.eval()
        with torch.no_grad():
            if self.recipe.skill is not None:
                found = self.recipe.skill(self.model, self.task)
            else:
                found = self.task.skill(self.model(self.task.test[0]))
        self.model.train()
        return found
