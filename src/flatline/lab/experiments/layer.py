"""A fully connected layer computes φ(XW + b) for a whole batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import Measurements, Numbers, Plot, curve

UNITS = 16
SIZES = (1, 4, 16, 64)


def one_by_one(x: Tensor, layer: nn.Linear) -> Tensor:
    """Each unit of each example as a sum of its own."""
    columns, biases = layer.weight.tolist(), layer.bias.tolist()
    rows = [
        [
            max(math.fsum(map(math.prod, zip(w, row, strict=True))) + b, 0.0)
            for w, b in zip(columns, biases, strict=True)
        ]
        for row in x.tolist()
    ]
    return torch.tensor(rows, dtype=x.dtype)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """One product for the batch beside sums for each unit and example.

    In the null, the batch's mean is taken off first, so that examples are no longer apart.
    """
    data = digits().train_x.double()
    layer = nn.Linear(64, UNITS).double()
    worst, moved = [], 0.0
    for size in SIZES[:3] if fast else SIZES:
        x = data[torch.randperm(len(data))[:size]]
        seen = x - x.mean(0) if null else x
        with torch.no_grad():
            product = torch.relu(seen @ layer.weight.T + layer.bias)
            module = torch.relu(layer(seen))
            alone = torch.relu(layer(seen[:1] if not null else x[:1]))
        worst.append(float((product - one_by_one(x, layer)).abs().max()))
        moved = max(moved, float((product - module).abs().max()))
        moved = max(moved, float((alone - product[:1]).abs().max()))
    return {"errors": worst, "error": max(worst), "moved": moved}


def plot(measurements: Measurements) -> Plot:
    """The difference against the size of the batch."""
    return Plot(
        "Largest difference between one product for the batch and sums one by one",
        "examples in the batch",
        "difference",
        (curve("φ(XW + b) against sums", SIZES, measurements, "errors", (0.0, math.inf)),),
        log_x=True,
    )


EXPERIMENT = Experiment(
    id="layer",
    claim="A fully connected layer computes φ(XW + b) for a whole batch.",
    protocol=(
        f"A layer of {UNITS} ReLU units in double precision reads batches of 1 to 64 of "
        "scikit-learn's digits, as one matrix product. Beside it stands the sum of each unit on "
        "each example, written out in plain Python, PyTorch's nn.Linear, and the first example "
        "alone."
    ),
    measure=measure,
    criterion=(
        Check("φ(XW + b) is each unit's own sum, up to rounding", "error", high=1e-12, each=True),
        Check(
            "nn.Linear gives the same, and an example alone gives what it gives in a batch",
            "moved",
            high=1e-12,
            each=True,
        ),
    ),
    plot=plot,
    null="the batch's mean is taken off each example, so that a batch is more than its examples",
    command="flatline examine file.py:factory",
    advice="counts each row of a batch as one example, and each column of W as one unit",
    needs=("sklearn",),
)
