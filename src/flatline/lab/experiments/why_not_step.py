"""Gradient descent cannot train units whose slope is 0."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

NAMES = ("step", "sigmoid", "tanh", "ReLU")


class Step(nn.Module):
    """1 above 0, else 0; its slope is 0, or that of the identity where ``through`` is set."""

    def __init__(self, through: bool) -> None:
        super().__init__()
        self.through = through

    def forward(self, z: Tensor) -> Tensor:
        """Apply it."""
        h = (torch.sign(z) + 1) / 2
        return z + (h - z).detach() if self.through else h


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """How far hidden weights move, and what is learnt; in the null a step passes gradients on."""
    data = digits()
    makers: tuple[Callable[[], nn.Module], ...] = (
        lambda: Step(null), nn.Sigmoid, nn.Tanh, nn.ReLU,
    )  # fmt: skip
    accuracies, moves = [], []
    finding = 0.0
    for make in makers:
        torch.manual_seed(seed)
        model = training.mlp((64, 32, 10), make, training.xavier)
        before = training.first(model).weight.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        if make is makers[0]:
            some = training.batches(data.train_x, data.train_y, 64, 2)
            report = training.watched(model, optimizer, some)
            finding = training.finds(report, "frozen-parameters")
        batches = training.batches(data.train_x, data.train_y, 64, 10 if fast else 15)
        training.train(model, optimizer, batches)
        moves.append(float((training.first(model).weight.detach() - before).norm() / before.norm()))
        accuracies.append(training.accuracy(model, data.test_x, data.test_y))
    return {
        "accuracy": accuracies,
        "moved": moves,
        "step_moved": moves[0],
        "others_moved": min(moves[1:]),
        "others": min(accuracies[1:]),
        "step": accuracies[0],
        "finding": finding,
    }


def plot(measurements: Measurements) -> Plot:
    """Movement and accuracy for each function."""
    return Plot(
        "Movement of the hidden weights and test accuracy after training",
        "",
        "share",
        (
            curve("movement / length of the weights", range(4), measurements, "moved"),
            curve("test accuracy", range(4), measurements, "accuracy", SHARE),
        ),
        ticks=NAMES,
    )


EXPERIMENT = Experiment(
    id="why-not-step",
    claim=(
        "A step function has zero derivative: gradient descent cannot train it, and it can train "
        "sigmoid, tanh and ReLU."
    ),
    protocol=(
        "MLP 64-32-10 on scikit-learn's digits with a step, sigmoid, tanh or ReLU, from the same "
        "weights by Xavier, by SGD at 0.5 with batches of 64 for 15 epochs."
    ),
    measure=measure,
    criterion=(
        Check("weights behind a step do not move at all", "step_moved", high=0.0, each=True),
        Check("weights behind the others move by at least 5 %", "others_moved", low=0.05),
        Check("the others reach a test accuracy of at least 0.85", "others", low=0.85),
        Check(
            "a net with step units learns nothing: its accuracy is at most 0.2",
            "step",
            high=0.2,
            role="scope",
            otherwise=(
                "Only what lies behind a step is out of reach: the layer above it learns to read "
                "the random features that the step units are, which is enough for most digits."
            ),
        ),
        Check(
            "flatline.Monitor reports frozen-parameters where a step keeps gradients back",
            "finding",
            low=1.0,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    null="the step hands gradients on as if it were the identity (straight through)",
    command="flatline run train.py",
    advice="reports frozen-parameters: trained parameters that get no gradient",
    needs=("sklearn",),
)
