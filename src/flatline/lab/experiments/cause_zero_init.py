"""Equal weights make identical units: copies rather than corpses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

PHIS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
WIDTH = 32
STARTS = ("all 0, ReLU", "all 0, tanh", "all 0, sigmoid", "copies", "copies, read apart", "random")


def copies(model: nn.Sequential, apart: bool) -> None:
    """Give all units of the hidden layer the weights of its first.

    Args:
        model: A net with one hidden layer.
        apart: Leave the weights that read them random, instead of equal.
    """
    hidden, out = training.first(model), model[2]
    assert isinstance(out, nn.Linear)
    with torch.no_grad():
        hidden.weight.copy_(hidden.weight[:1].expand_as(hidden.weight))
        if not apart:
            out.weight.copy_(out.weight[:, :1].expand_as(out.weight))


def zeros(model: nn.Sequential) -> None:
    """All weights and biases 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def kinds(model: nn.Sequential) -> float:
    """How many different rows the hidden layer's weights have, as a share of its units."""
    return len(training.first(model).weight.detach().unique(dim=0)) / WIDTH


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Different units after training from each start; in the null all starts are random."""
    data = digits()
    distinct, accuracies, codes = [], [], []
    for start in STARTS:
        phi = PHIS[start.rpartition(" ")[2]] if start.startswith("all") else nn.Tanh
        model = training.mlp((64, WIDTH, 10), phi)
        if start.startswith("all") and not null:
            zeros(model)
        elif start.startswith("copies") and not null:
            copies(model, start != "copies")
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        if start == "copies":
            some = training.batches(data.train_x, data.train_y, 64, 1)
            codes.append(training.finds(training.watched(model, optimizer, some), "zero-init"))
        batches = training.batches(data.train_x, data.train_y, 64, 3 if fast else 10)
        training.train(model, optimizer, batches)
        distinct.append(kinds(model))
        accuracies.append(training.accuracy(model, data.test_x, data.test_y))
    return {
        "distinct": distinct,
        "accuracy": accuracies,
        "all_zero": max(distinct[:3]) * WIDTH,
        "copies": distinct[3] * WIDTH,
        "lost": accuracies[5] - max(accuracies[:4]),
        "read_apart": distinct[4] * WIDTH,
        "finding": codes[0],
    }


def plot(measurements: Measurements) -> Plot:
    """Different units and accuracy for each start."""
    return Plot(
        "Share of hidden units with weights of their own, and test accuracy, after training",
        "",
        "share",
        (
            curve("different units", range(6), measurements, "distinct", SHARE),
            curve("test accuracy", range(6), measurements, "accuracy", SHARE),
        ),
        ticks=STARTS,
    )


EXPERIMENT = Experiment(
    id="cause-zero-init",
    claim="Equal initial weights make units identical, and they stay so.",
    protocol=(
        f"MLP 64-{WIDTH}-10 on scikit-learn's digits, by SGD at 0.1 with batches of 64 for 10 "
        "epochs. All weights start at 0 under ReLU, tanh and sigmoid; or all hidden units start as "
        "copies of one random tanh unit, read by equal weights, or by random ones. Counted are the "
        "different rows of the hidden weights at the end."
    ),
    measure=measure,
    criterion=(
        Check("from 0 there is one unit, of copies, to the end", "all_zero", high=1.0, each=True),
        Check("copies that are read alike stay one unit", "copies", high=1.0, each=True),
        Check("accuracy is at least 0.4 below that of random weights", "lost", low=0.4),
        Check(
            "copies stay one unit even where random weights read them",
            "read_apart",
            high=1.0,
            role="scope",
            otherwise=(
                "Equal incoming weights alone do not do it: where the weights that read the units "
                "differ, their gradients do, and they part at the first step."
            ),
        ),
        Check(
            "flatline.Monitor reports zero-init of copies",
            "finding",
            low=1.0,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    history=(
        "copies were first ReLU units; in one run of five the one unit that they are died within "
        "an epoch, and flatline told of dead units instead of zero-init. They are tanh since.",
    ),
    null="all weights start random",
    command="flatline run train.py",
    advice="reports zero-init at the first step; --apply init=he treats it",
    needs=("sklearn",),
)
