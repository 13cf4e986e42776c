"""Range, slope, dead zone and rails of each activation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flatline import activations
from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

Function = Callable[[Tensor], Tensor]
FUNCTIONS: dict[str, Function] = {
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}
#: Least and greatest output, slope at 0 from the right, greatest slope, from the textbook.
TEXTBOOK = {
    "relu": (0.0, math.inf, 1.0),
    "leaky_relu": (-math.inf, math.inf, 1.0),
    "sigmoid": (0.0, 1.0, 0.25),
    "tanh": (-1.0, 1.0, 1.0),
    "elu": (-1.0, math.inf, 1.0),
    "gelu": (-0.17, math.inf, 1.1289),
    "silu": (-0.2785, math.inf, 1.0998),
}
Z = torch.linspace(-40, 40, 80_001, dtype=torch.float64)


def slope(function: Function) -> Tensor:
    """φ' along ``Z`` by autograd."""
    z = Z.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(z).sum(), z)
    return found


def off_textbook(name: str, function: Function) -> float:
    """How far the outputs' ends and the greatest slope are from the textbook's."""
    low, high, steepest = TEXTBOOK[name]
    h = function(Z)
    ends = ((float(h.min()), low), (float(h.max()), high), (float(slope(function).max()), steepest))
    return max(abs(found - told) for found, told in ends if math.isfinite(told))


def off_table(name: str, function: Function) -> float:
    """The share of z where flatline's table and autograd disagree on whether a unit fires."""
    found = slope(function).abs()
    table = activations.get(name)
    floor = 0.0 if table.piecewise_linear else 0.01 * float(found.max())
    fires = np.zeros(len(Z), bool)
    for low, high in table.fires:
        fires |= (Z.numpy() > low) & (Z.numpy() < high)
    return float(np.mean(fires != (found > floor).numpy()))


def seconds(functions: list[Function], rounds: int) -> list[float]:
    """The least time of each, in turns."""
    z = torch.randn(1 << 17)
    least = [math.inf] * len(functions)
    for _ in range(rounds):
        for i, function in enumerate(functions):
            began = time.perf_counter()
            function(z)
            least[i] = min(least[i], time.perf_counter() - began)
    return least


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Each function against its textbook; in the null, all of them are the identity."""
    used = dict.fromkeys(FUNCTIONS, torch.clone) if null else FUNCTIONS
    x = digits().train_x
    hidden = training.mlp((64, 256, 1))[0](x - x.mean(0)).detach()
    taken = seconds(list(used.values()), 5 if fast else 40)
    at = dict(zip(used, taken, strict=True))
    rivals = [taken_by for name, taken_by in at.items() if name not in ("relu", "leaky_relu")]
    sigmoid, tanh = used["sigmoid"], used["tanh"]
    mean = float(tanh(hidden).mean())
    return {
        "textbook": max(off_textbook(name, function) for name, function in used.items()),
        "identity": float((tanh(Z) - (2 * sigmoid(2 * Z) - 1)).abs().max()),
        "centre": abs(mean),
        "off_centre": abs(float(sigmoid(hidden).mean())),
        "zeros": [float((function(hidden) == 0).float().mean()) for function in used.values()],
        "sparse": float((used["relu"](hidden) == 0).float().mean()),
        "cost": [found / at["relu"] for found in taken],
        "cheapest": min(rivals) / at["relu"],
        "table": max(off_table(name, function) for name, function in FUNCTIONS.items()),
    }


def plot(measurements: Measurements) -> Plot:
    """Cost and sparsity."""
    ticks = range(len(FUNCTIONS))
    return Plot(
        "Cost of each activation in costs of ReLU, and share of outputs that are exactly 0",
        "",
        "ratio, share",
        (
            curve("time / time of ReLU", ticks, measurements, "cost"),
            curve("share of zeros", ticks, measurements, "zeros", SHARE),
        ),
        ticks=tuple(FUNCTIONS),
    )


EXPERIMENT = Experiment(
    id="activation-zoo",
    claim=(
        "Each activation has its range, slope, dead zone and rails; tanh(z) = 2σ(2z) − 1, tanh is "
        "centred at 0, and ReLU is sparse and the cheapest."
    ),
    protocol=(
        "Ranges and greatest slopes of seven functions on 80,001 points from −40 to 40 in double "
        "precision, by autograd. Means and zeros on 256 units by He initialisation that read "
        "scikit-learn's digits, centred. Cost: the least of 40 forward passes over "
        "131,072 numbers, the functions in turns, against the cheapest function that is not made "
        "of straight pieces."
    ),
    measure=measure,
    criterion=(
        Check(
            "ranges and greatest slopes are the textbook's, to its 4 digits", "textbook",
            high=1e-3, each=True,
        ),
        Check("tanh(z) = 2σ(2z) − 1 up to rounding", "identity", high=1e-14, each=True),
        Check("the mean output of tanh is within 0.05 of 0", "centre", high=0.05),
        Check("that of sigmoid is at least 0.4", "off_centre", low=0.4),
        Check("ReLU gives exactly 0 for 40 to 60 % of inputs", "sparse", low=0.4, high=0.6),
        Check(
            "no smooth function takes less time than ReLU", "cheapest", low=1.0, role="scope",
            otherwise="On this machine a smooth function takes no longer than ReLU.",
        ),
        Check(
            "flatline's table and autograd agree where units fire, but for 2 points", "table",
            high=3e-5, role="tool", each=True,
        ),
    ),
    plot=plot,
    history=(
        "cost was first that of a forward and a backward pass; in a trial the 95 % interval of the "
        "ratio held 1, so the verdict was a toss of the machine. It is that of the forward pass.",
    ),
    null="every function is replaced by the identity",
    command="flatline examine file.py:factory",
    advice="names the activation of each site, and judges units by its dead zone and rails",
    needs=("sklearn",),
)  # fmt: skip
