"""A unit computes φ(wᵀx + b)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import Measurements, Numbers, Plot, curve

#: Nonlinearities with their formulas in plain Python.
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float], float]]] = {
    "ReLU": (torch.relu, lambda z: max(z, 0.0)),
    "sigmoid": (torch.sigmoid, lambda z: 1 / (1 + math.exp(-z))),
    "tanh": (torch.tanh, math.tanh),
    "Heaviside": (lambda z: (z > 0).to(z), lambda z: float(z > 0)),
    "sign": (torch.sign, lambda z: float((z > 0) - (z < 0))),
}


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """A layer of one unit beside the sum written out; in the null it squares its inputs first."""
    x = digits().train_x[: 50 if fast else 500].double()
    unit = torch.nn.Linear(64, 1).double()
    with torch.no_grad():
        # Half of the examples on either side, and none on the boundary, where sign is 0.
        unit.bias.copy_(-(x @ unit.weight[0]).sort().values[len(x) // 2 - 1 :][:2].mean())
    w, b = unit.weight[0].tolist(), unit.bias.item()

    def pre_activation(rows: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = unit(8 * (rows - 0.5) ** 2 if null else rows)
        return out[:, 0]

    sums = [math.fsum(map(math.prod, zip(w, row, strict=True))) + b for row in x.tolist()]
    z = pre_activation(x)
    worst = {
        name: max(abs(a - formula(s)) for a, s in zip(module(z).tolist(), sums, strict=True))
        for name, (module, formula) in FUNCTIONS.items()
    }
    return {
        "errors": [worst[name] for name in FUNCTIONS],
        "error": max(worst.values()),
        "crossings": _crossings(x, pre_activation),
        "sign_differs": float((((torch.sign(z) + 1) / 2) != (z > 0).double()).double().mean()),
    }


def _crossings(x: Tensor, pre_activation: Callable[[Tensor], Tensor]) -> float:
    """The share of pairs of one class with a point between them in the other.

    A half-space and its complement are convex, so for a linear classifier there is none.
    """
    one, other = x[torch.randint(len(x), (2, 20_000))]
    t = torch.rand(len(one), 1, dtype=x.dtype)
    ends = (pre_activation(one) > 0, pre_activation(other) > 0)
    between = pre_activation(t * one + (1 - t) * other) > 0
    same = ends[0] == ends[1]
    return float((between != ends[0])[same].double().mean())


def plot(measurements: Measurements) -> Plot:
    """How far the layer and the formula are apart."""
    errors = curve("largest difference", range(len(FUNCTIONS)), measurements, "errors", (0.0, 1.0))
    return Plot(
        "Largest difference between a layer of one unit and the sum written out",
        "",
        "difference",
        (errors,),
        ticks=tuple(FUNCTIONS),
    )


EXPERIMENT = Experiment(
    id="neuron",
    claim=(
        "A unit computes φ(wᵀx + b), and a threshold unit with a step function (Heaviside, sign) "
        "is a linear classifier."
    ),
    protocol=(
        "A layer of one unit in double precision, with PyTorch's random weights, reads 500 of "
        "scikit-learn's digits; its outputs are compared with the sum written out in plain Python. "
        "Then 20,000 pairs of digits are drawn: between two of one class of a linear classifier "
        "no point lies in the other class, because both classes are convex."
    ),
    measure=measure,
    criterion=(
        Check(
            "no output differs from φ(wᵀx + b) by more than rounding", "error", high=1e-12,
            each=True,
        ),
        Check(
            "the step unit never changes sides between two digits of one class", "crossings",
            high=0.0, each=True,
        ),
        Check(
            "sign and Heaviside put every digit on the same side", "sign_differs", high=0.0,
            each=True,
        ),
    ),
    plot=plot,
    history=(
        "in a trial the boundary went through one of the digits, where sign is 0 and Heaviside is "
        "not between its classes, and the third check failed; the boundary lies between two since.",
    ),
    null="the unit reads squared distances instead of the inputs, so it is no linear classifier",
    command="flatline examine file.py:factory",
    advice="finds such units in a model, and reads z = wᵀx + b of each on data",
    needs=("sklearn",),
)  # fmt: skip
