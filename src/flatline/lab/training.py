"""Small networks and a plain training loop, shared by experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

import flatline

#: States of units that answer no input: ``dead`` alone for ReLU, and outputs that do not vary.
SILENT = ("dead", "constant")
Step = Callable[[], None]


def he(layer: nn.Linear) -> None:
    """He initialisation, with biases of 0."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def xavier(layer: nn.Linear) -> None:
    """Xavier initialisation, with biases of 0."""
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)


def mlp(
    widths: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    init: Callable[[nn.Linear], None] = he,
) -> nn.Sequential:
    """Linear layers of these widths with a nonlinearity between each two.

    Args:
        widths: Inputs, hidden layers, outputs.
        activation: Makes a nonlinearity.
        init: Draws the weights of a layer.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        linear = nn.Linear(fan_in, fan_out)
        init(linear)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


def first(model: nn.Sequential) -> nn.Linear:
    """The first layer."""
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    return layer


def batches(x: Tensor, y: Tensor, size: int, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches, epoch after epoch, by torch's own random numbers."""
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(size):
            yield x[rows], y[rows]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Iterator[tuple[Tensor, Tensor]],
    loss_fn: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    before_step: Step = lambda: None,
) -> list[float]:
    """Train on batches.

    Args:
        model: What is trained.
        optimizer: Its optimizer.
        data: The batches.
        loss_fn: The loss of outputs and targets.
        before_step: Called once gradients are there, for example to clip them.

    Returns:
        The loss of each step.
    """
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        before_step()
        optimizer.step()
        losses.append(loss.item())
    return losses


def watched(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Iterator[tuple[Tensor, Tensor]]
) -> flatline.Report:
    """Train under ``flatline.Monitor``, with as many exams as it wants, and ask for its report."""
    with flatline.Monitor(model, optimizer, budget=1.0) as monitor:
        train(model, optimizer, data)
        return monitor.report()


def finds(report: flatline.Report, *codes: str) -> float:
    """1 where a report has one of these findings, as itself or among the symptoms, else 0."""
    found = {code for one in report.findings for code in (one.code, *one.explains)}
    return float(not found.isdisjoint(codes))


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of examples that the model puts into their class."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The mean cross-entropy."""
    with torch.no_grad():
        return functional.cross_entropy(model(x), y).item()


def share(report: flatline.Report, *states: str) -> float:
    """The share of a report's hidden units in these states."""
    found = sum(site.states.get(state, 0) for site in report.sites for state in states)
    return found / sum(site.units for site in report.sites)


def dead_share(model: nn.Module, x: Tensor, *states: str) -> float:
    """What ``flatline.examine`` says of the model's units on all of ``x``.

    Args:
        model: The model.
        x: The examples.
        states: The states that count; ``dead`` where none is given.
    """
    return share(flatline.examine(model, [x]), *(states or ("dead",)))


def silent_share(model: nn.Sequential, x: Tensor) -> float:
    """The share of ReLU units whose output is 0 on all of ``x``, counted without flatline."""
    silent = units = 0
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                silent += int((x <= 0).all(0).sum())
                units += x.shape[1]
    return silent / units
