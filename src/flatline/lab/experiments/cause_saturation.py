"""Pinned sigmoid and tanh units stop learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import flatline
from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import Measurements, Numbers, Plot, curve

PHIS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
WIDTH, PINNED = 32, 16
OFFSETS = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)


def moved(phi: type[nn.Module], offset: float, epochs: int) -> tuple[nn.Sequential, Tensor]:
    """Train with half of the hidden units pinned by their biases.

    Args:
        phi: The nonlinearity.
        offset: What is added to these biases.
        epochs: How long to train.

    Returns:
        The net as it was at first, and how far the weights of each unit moved.
    """
    data = digits()
    model = training.mlp((64, WIDTH, 10), phi, training.xavier)
    layer = training.first(model)
    with torch.no_grad():
        layer.bias[:PINNED] += offset
    start = training.mlp((64, WIDTH, 10), phi)
    start.load_state_dict(model.state_dict())
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    training.train(model, optimizer, training.batches(data.train_x, data.train_y, 64, epochs))
    return start, (layer.weight.detach() - before).norm(dim=1)


def relative(distances: Tensor) -> float:
    """How far pinned units moved, in the mean distance of the free ones."""
    return float(distances[:PINNED].mean() / distances[PINNED:].mean())


def output_gradient(loss: str, z: float) -> float:
    """The gradient of a sigmoid output unit that is pinned at the wrong rail."""
    out = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    target = torch.zeros((), dtype=torch.float64)
    if loss == "cross-entropy":
        value = functional.binary_cross_entropy_with_logits(out, target)
    else:
        value = (torch.sigmoid(out) - target).square()
    (found,) = torch.autograd.grad(value, out)
    return float(found)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """How far pinned units move; in the null nothing is added to their biases."""
    numbers: Numbers = {}
    wrong = 0
    offsets = OFFSETS[::5] if fast else OFFSETS
    for name, phi in PHIS.items():
        course = []
        for offset in offsets:
            start, distances = moved(phi, 0.0 if null else offset, 2 if fast else 5)
            course.append(relative(distances))
        numbers[name] = course
        wrong += _missed(start)
    last = [course[-1] for course in numbers.values() if isinstance(course, list)]
    return numbers | {
        "offsets": list(offsets),
        "pinned": max(last),
        "squared": output_gradient("squared", 0.0 if null else 10.0),
        "cross_entropy": output_gradient("cross-entropy", 0.0 if null else 10.0),
        "missed": float(wrong),
    }


def _missed(model: nn.Sequential) -> int:
    """How many units flatline.examine calls pinned and are not, or the reverse.

    One whose output does not vary in single precision at all is dead to it, not saturated.
    """
    report = flatline.examine(model, [digits().train_x])
    told = {unit.unit for unit in report.units if unit.state in ("saturated", "dead")}
    return len(told ^ set(range(PINNED)))


def plot(measurements: Measurements) -> Plot:
    """Movement against the offset."""
    offsets = measurements[0]["offsets"]
    assert isinstance(offsets, list)
    return Plot(
        "How far pinned units move, in the distance of free units of the same layer",
        "added to the bias",
        "movement / movement of free units",
        tuple(curve(name, offsets, measurements, name, (0.0, 1e9)) for name in PHIS),
        log_y=True,
    )


EXPERIMENT = Experiment(
    id="cause-saturation",
    claim="Sigmoid and tanh units that are pinned at a rail stop learning.",
    protocol=(
        f"MLP 64-{WIDTH}-10 with sigmoid or tanh, Xavier, on scikit-learn's digits. 0 to 10 is "
        f"added to the biases of {PINNED} hidden units, then the net is trained by SGD at 0.1 for "
        "5 epochs. Measured is how far the weights of these units move, in the mean distance of "
        "the others of their layer. Beside it, the gradient of a sigmoid output unit at z = 10 "
        "whose target is 0."
    ),
    measure=measure,
    criterion=(
        Check("at +10 a pinned unit moves by at most 1 % of a free one", "pinned", high=0.01),
        Check(
            "a pinned output unit gets less than 0.001 from a squared error",
            "squared",
            high=1e-3,
            each=True,
        ),
        Check(
            "it gets less than 0.001 from a cross-entropy as well",
            "cross_entropy",
            high=1e-3,
            role="scope",
            each=True,
            otherwise=(
                "An output unit under its own cross-entropy is no prisoner of its rail: the loss "
                "cancels the slope, and the gradient σ(z) − y is greatest where it is most wrong."
            ),
        ),
        Check(
            "flatline.examine calls exactly the pinned units saturated, or dead",
            "missed",
            high=0.0,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    history=(
        "flatline was first expected to say saturated of all; a trial showed that tanh at +10 is "
        "1 in single precision on every example, so that by its definition the unit is dead.",
    ),
    null="nothing is added to the biases",
    command="flatline run train.py",
    advice="reports saturation with the units; --apply standardize=input or norm=batch treats it",
    needs=("sklearn",),
)
