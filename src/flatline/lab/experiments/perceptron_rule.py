"""The perceptron's rule converges on separable data, within Novikoff's bound."""

from __future__ import annotations

import torch
from torch import Tensor

from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import Measurements, Numbers, Plot, curve, points

#: Dimensions, examples, and the least margin of each set that is drawn.
DRAWN = ((2, 100, 0.1), (20, 500, 0.02))
NAMES = ("2 features", "20 features", "digits 0 and 1")
EPOCHS = 2000


def learn(x: Tensor, y: Tensor, rate: float, epochs: int) -> tuple[int, bool]:
    """Apply w ← w + η(y − ŷ)x, example by example, until an epoch passes without a mistake.

    Args:
        x: Examples as rows, the last feature a constant 1 for the bias.
        y: Classes, 0 and 1.
        rate: η.
        epochs: How many epochs to try.

    Returns:
        The number of mistakes, and whether it ended without one.
    """
    w, mistakes = torch.zeros_like(x[0]), 0
    for _ in range(epochs):
        before = mistakes
        for row, target in zip(x, y.tolist(), strict=True):
            guess = float(w @ row > 0)
            if guess != target:
                w += rate * (target - guess) * row
                mistakes += 1
        if mistakes == before:
            return mistakes, True
    return mistakes, False


def drawn(dimensions: int, examples: int, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian examples on both sides of a random hyperplane, none nearer than the margin."""
    normal = torch.randn(dimensions, dtype=torch.float64)
    normal /= normal.norm()
    x = torch.randn(8 * examples, dimensions, dtype=torch.float64)
    x = x[(x @ normal).abs() >= margin][:examples]
    return _with_bias(x), (x @ normal > 0).double(), torch.cat([normal, normal.new_zeros(1)])


def zeros_and_ones() -> tuple[Tensor, Tensor, Tensor]:
    """The digits 0 and 1, with the hyperplane of the largest margin."""
    from sklearn.svm import SVC

    data = digits()
    two = data.train_y < 2
    x, y = data.train_x[two].double(), data.train_y[two].double()
    order = torch.randperm(len(y))
    x, y = x[order], y[order]
    found = SVC(kernel="linear", C=1e6).fit(x.numpy(), y.numpy())
    normal = torch.tensor([*found.coef_[0], *found.intercept_])
    return _with_bias(x), y, normal


def _with_bias(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def bound(x: Tensor, y: Tensor, normal: Tensor) -> float:
    """Novikoff's (R / γ)², with the margin that a separating hyperplane leaves."""
    margin = ((2 * y - 1) * (x @ normal)).min() / normal.norm()
    return float((x.norm(dim=1).max() / margin) ** 2)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Mistakes beside the bound; in the null, classes are shuffled, so that nothing separates."""
    sets = [drawn(*DRAWN[0])] if fast else [*(drawn(*one) for one in DRAWN), zeros_and_ones()]
    mistakes, bounds, converged, scaled = [], [], [], 0
    for x, y, normal in sets:
        bounds.append(bound(x, y, normal))
        if null:
            y = y[torch.randperm(len(y))]
        epochs = 50 if null else EPOCHS
        found, ended = learn(x, y, 1.0, epochs)
        mistakes.append(float(found))
        converged.append(ended)
        scaled = max(scaled, abs(found - learn(x, y, 0.25, epochs)[0]))
    return {
        "mistakes": mistakes,
        "bounds": bounds,
        "converged": sum(converged) / len(converged),
        "of_bound": max(m / b for m, b in zip(mistakes, bounds, strict=True)),
        "scaled": float(scaled),
    }


def plot(measurements: Measurements) -> Plot:
    """Mistakes beside the bound, for each set."""
    names = NAMES[: len(points(measurements[0]["mistakes"]))]
    return Plot(
        "Mistakes until no more were made, beside Novikoff's bound",
        "",
        "mistakes",
        (
            curve("mistakes made", range(len(names)), measurements, "mistakes"),
            curve("bound (R / γ)²", range(len(names)), measurements, "bounds"),
        ),
        ticks=names,
        log_y=True,
    )


EXPERIMENT = Experiment(
    id="perceptron-rule",
    claim=(
        "The rule w ← w + η(y − ŷ)x converges on separable data, within Novikoff's bound of "
        "(R / γ)² mistakes."
    ),
    protocol=(
        "From w = 0, example by example, until an epoch passes without a mistake. Data: Gaussian "
        "examples beside a random hyperplane, 100 with 2 features and a margin of 0.1, 500 with 20 "
        "features and a margin of 0.02, and scikit-learn's digits 0 and 1, whose margin is that of "
        "a support vector machine. The bias is the weight of a constant input."
    ),
    measure=measure,
    criterion=(
        Check("mistakes are at most (R / γ)², on each set", "of_bound", high=1.0, each=True),
        Check("each run ends without a mistake", "converged", low=1.0, each=True),
        Check(
            "from w = 0 the rate η changes nothing: 0.25 makes as many mistakes as 1",
            "scaled",
            high=0.0,
            each=True,
        ),
    ),
    plot=plot,
    null="classes are shuffled, so that no hyperplane separates them",
    command="flatline lab run perceptron-limit",
    advice="shows what one unit cannot learn by any rule; flatline watches networks of units",
    needs=("sklearn",),
)
