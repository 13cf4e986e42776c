"""One layer cannot learn XOR; a hidden layer can."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flatline.lab.experiment import Check, Experiment
from flatline.lab.experiments.perceptron_rule import learn
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = torch.tensor([0.0, 1.0, 1.0, 0.0])
WIDTHS = (2, 4, 8)
STEPS, STARTS = 300, 40
Phi = Callable[[Tensor], Tensor]


def learnt(phi: Phi, width: int, starts: int) -> tuple[Tensor, Tensor]:
    """Train nets with one hidden layer from many starts at once, by Adam on the whole of XOR.

    Args:
        phi: The nonlinearity.
        width: Units of the hidden layer.
        starts: How many nets.

    Returns:
        Which nets learnt all four points, and which ended with a silent unit.
    """
    shape = torch.zeros(starts, 2, width)
    w1 = shape.uniform_(-1, 1).div(2**0.5).requires_grad_()
    b1 = torch.zeros(starts, 1, width).uniform_(-1, 1).div(2**0.5).requires_grad_()
    w2 = torch.zeros(starts, width, 1).uniform_(-1, 1).div(width**0.5).requires_grad_()
    b2 = torch.zeros(starts, 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([w1, b1, w2, b2], 0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        hidden = phi(X @ w1 + b1)
        error = ((hidden @ w2 + b2)[..., 0] - Y).square()
        error.mean(1).sum().backward()
        optimizer.step()
    right = ((hidden @ w2 + b2)[..., 0] > 0.5) == (Y > 0.5)
    return right.all(1), (hidden == 0).all(1).any(1)


def best_of_half_planes(draws: int) -> float:
    """The most points that a random half-plane puts right."""
    w = torch.randn(draws, 2)
    guesses = torch.randn(draws) < X @ w.T
    return float((guesses == (Y > 0.5)[:, None]).float().mean(0).max())


def by_rule() -> float:
    """What the perceptron's rule ends with after 1,000 epochs."""
    _, done = learn(torch.cat([X, torch.ones(4, 1)], 1), Y, 1.0, 1000)
    return 1.0 if done else 0.75


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Success of one layer, and of a hidden layer by width; in the null its φ is the identity."""
    widths, starts = ((2, 8), 20) if fast else (WIDTHS, STARTS)
    relu: Phi = torch.clone if null else torch.relu
    tanh: Phi = torch.clone if null else torch.tanh
    found = {width: learnt(relu, width, starts) for width in widths}
    smooth = [float(learnt(tanh, width, starts)[0].float().mean()) for width in widths]
    failed = ~found[2][0]
    return {
        "one_layer": max(best_of_half_planes(2_000 if fast else 50_000), by_rule()),
        "relu": [float(right.float().mean()) for right, _ in found.values()],
        "tanh": smooth,
        "eight": float(found[8][0].float().mean()),
        "eight_tanh": smooth[widths.index(8)],
        "two": float(found[2][0].float().mean()),
        "exact": float((torch.relu(X.sum(1)) - 2 * torch.relu(X.sum(1) - 1) - Y).abs().max()),
        "silent_where_failed": float(found[2][1][failed].float().mean()),
    }


def plot(measurements: Measurements) -> Plot:
    """Success against the width."""
    fast = len(measurements[0]["relu"]) == 2  # type: ignore[arg-type]
    widths = (2, 8) if fast else WIDTHS
    return Plot(
        "Share of random starts from which a hidden layer learns XOR",
        "units of the hidden layer",
        "share that learnt XOR",
        (
            curve("ReLU", widths, measurements, "relu", SHARE),
            curve("tanh", widths, measurements, "tanh", SHARE),
        ),
        log_x=True,
    )


EXPERIMENT = Experiment(
    id="perceptron-limit",
    claim="One layer cannot learn XOR; a hidden layer can.",
    protocol=(
        "One layer: the best of 50,000 random half-planes, and the perceptron's rule for 1,000 "
        "epochs. A hidden layer: two ReLU units with weights by hand; and nets trained on XOR by "
        f"Adam at 0.05 for {STEPS} steps, {STARTS} random starts for each width."
    ),
    measure=measure,
    criterion=(
        Check("one layer gets at most 3 of 4 points right", "one_layer", high=0.75, each=True),
        Check("two ReLU units can compute XOR exactly", "exact", high=0.0, each=True),
        Check("8 ReLU units learn it from at least 70 % of starts", "eight", low=0.7),
        Check("8 tanh units learn it from at least 90 % of starts", "eight_tanh", low=0.9),
        Check(
            "the 2 ReLU units that suffice learn it from at least 90 % of starts",
            "two",
            low=0.9,
            role="scope",
            otherwise=(
                "Two ReLU units suffice to compute XOR, yet from most starts they do not learn it: "
                "most failures end with a silent unit. A hidden layer needs units to spare."
            ),
        ),
    ),
    plot=plot,
    null="the hidden units are linear: φ is the identity",
    command="flatline run train.py",
    advice="reports missing-nonlinearity where two linear layers follow each other",
)
