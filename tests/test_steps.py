"""What counts as a step, where several optimizers step in odd orders or call one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from flatline.sense.attach import Attachment
from flatline.sense.watcher import Watcher
from watching import Memory, watched

#: More steps than any stride takes, or than rows of the pulse may wait.
MANY = 150
Truth = list[float]


class Sub(torch.optim.SGD):
    """Calls the step of its base class, whose hooks torch may have put in place or not."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Wrapper(torch.optim.Optimizer):
    """Lets another optimizer do the work, as Lookahead and others do."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base = base
        super().__init__(base.param_groups, {})

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), 0.01)


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = model(torch.randn(16, 4)).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def subclass_beside_its_base() -> Iterator[float]:
    """The base class has an object that never steps."""
    model, _idle = network(), sgd(network())
    optimizer = Sub(model.parameters(), 0.01)
    for _ in range(MANY):
        yield update(model, optimizer)


def base_built_in_between() -> Iterator[float]:
    model = network()
    optimizer, other = Sub(model.parameters(), 0.01), None
    for i in range(MANY):
        if i == 40:
            other = sgd(network())
        yield update(model, optimizer)
    assert other is not None


def subclass_that_fails() -> Iterator[float]:
    """A step of the base class raises; what comes after is no part of it."""
    model, _idle = network(), sgd(network())
    optimizer = Sub(model.parameters(), 0.01)
    yield update(model, optimizer)
    with pytest.raises(TypeError):
        optimizer.step("no closure")
    for _ in range(MANY):
        yield update(model, optimizer)


def wrapper() -> Iterator[float]:
    model = network()
    optimizer = Wrapper(sgd(model))
    for _ in range(MANY):
        yield update(model, optimizer)


def optimizer_replaced() -> Iterator[float]:
    """The second optimizer takes over while the first is kept."""
    model = network()
    first, second = sgd(model), sgd(model)
    for i in range(MANY):
        yield update(model, first if i < 40 else second)


def several_for_one() -> Iterator[float]:
    """Five steps of a critic, then one of a generator, which no tick waits for."""
    models = network(), network()
    optimizers = [sgd(model) for model in models]
    for _ in range(MANY // 5):
        for i in (0, 0, 0, 0, 0, 1):
            loss = update(models[i], optimizers[i])
            if i == 0:
                yield loss


@pytest.mark.parametrize(
    ("loop", "exact"),
    [
        (subclass_beside_its_base, True),
        (base_built_in_between, True),
        (subclass_that_fails, True),
        (wrapper, True),
        (optimizer_replaced, True),
        (several_for_one, False),
    ],
)
def test_each_update_is_one_step_with_its_own_loss(
    loop: Callable[[], Iterator[float]], exact: bool
):
    torch.manual_seed(0)
    with watched(lambda step, event: step in (0, 4, 70)) as (memory, watcher):
        losses = list(loop())
    assert memory.losses == []
    assert memory.seen
    steps = [row[0] for row in memory.rows]
    assert steps == list(range(len(steps)))
    # One that waits for an optimizer which no longer comes is one more.
    assert watcher.step == len(steps) == len(losses) + (not exact)
    if exact:
        assert [row[1] for row in memory.rows] == pytest.approx(losses)


def step_before_training() -> Iterator[float]:
    """As some programs do to keep a schedule from warning."""
    model = network()
    optimizer = sgd(model)
    optimizer.step()
    for _ in range(10):
        yield update(model, optimizer)


@pytest.mark.parametrize("loop", [several_for_one, optimizer_replaced, step_before_training])
def test_the_one_exam_without_a_budget_comes_when_there_is_something_to_see(
    loop: Callable[[], Iterator[float]],
):
    memory = Memory()
    watcher = Watcher(memory, budget=0.0)
    attachment = Attachment(watcher)
    try:
        list(loop())
    finally:
        attachment.remove()
        watcher.close()
    assert [len(exam.vitals) for exam in memory.exams] == [1]
    assert memory.losses == []
