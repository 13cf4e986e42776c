"""Gradients vanish in deep stacks of sigmoid and tanh."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import Measurements, Numbers, Plot, curve, line

WIDTH, DEPTH = 256, 20
Function = Callable[[np.ndarray], np.ndarray]
#: Nonlinearity, scale of the weights in 1 / √fan-in, and φ and φ' for the theory.
STACKS: dict[str, tuple[Callable[[], nn.Module], float, Function, Function]] = {
    "sigmoid": (
        nn.Sigmoid,
        1.0,
        lambda z: 1 / (1 + np.exp(-z)),
        lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    ),
    "tanh": (nn.Tanh, 1.0, np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "tanh, half as large": (nn.Tanh, 0.5, np.tanh, lambda z: 1 - np.tanh(z) ** 2),
}


def theory(scale: float, phi: Function, slope: Function) -> list[float]:
    """Root mean square gradients layer by layer from the first, those of the last being 1.

    In a wide net z is Gaussian with variance q; the next layer's is σ²E[φ(z)²], and going back
    the mean square gradient is multiplied by σ²E[φ'(z)²] (Schoenholz et al. 2017).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    weights = weights / weights.sum()
    q, factors = scale**2, []
    for _ in range(DEPTH):
        z = math.sqrt(q) * nodes
        factors.append(scale**2 * float(weights @ slope(z) ** 2))
        q = scale**2 * float(weights @ phi(z) ** 2)
    squares = np.cumprod(factors[:-1][::-1])[::-1]
    return [*np.sqrt(squares).tolist(), 1.0]


def measured(phi: Callable[[], nn.Module], scale: float) -> list[float]:
    """The same, of a random stack on random inputs."""

    def draw(layer: nn.Linear) -> None:
        nn.init.normal_(layer.weight, std=scale / math.sqrt(layer.in_features))
        nn.init.zeros_(layer.bias)

    model = training.mlp([WIDTH] * DEPTH + [WIDTH, WIDTH], phi, draw)
    z, kept = torch.randn(256, WIDTH), []
    for layer in model:
        z = layer(z)
        if isinstance(layer, nn.Linear):
            z.retain_grad()
            kept.append(z)
    (z * torch.randn_like(z)).sum().backward()
    rms = [one.grad.square().mean().sqrt().item() for one in kept[:-1] if one.grad is not None]
    return [value / rms[-1] for value in rms]


def per_layer(gradients: list[float]) -> float:
    """The mean logarithm of the ratio of neighbouring layers, towards the input."""
    return math.log(gradients[0]) / (len(gradients) - 1)


def trained(seed: int, phi: Callable[[], nn.Module], epochs: int) -> tuple[float, float]:
    """Accuracy of a net of 8 hidden layers, and whether flatline finds that gradients vanish."""
    data = digits()
    torch.manual_seed(seed)
    model = training.mlp((64, *[64] * 8, 10), phi, training.xavier)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    report = training.watched(
        model, optimizer, training.batches(data.train_x, data.train_y, 64, epochs)
    )
    found = training.finds(report, "vanishing-gradient")
    return training.accuracy(model, data.test_x, data.test_y), found


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Gradients beside theory, and what is learnt; in the null φ is the identity."""
    numbers: Numbers = {}
    off = {}
    for name, (phi, scale, function, slope) in STACKS.items():
        found = measured(nn.Identity if null else phi, scale)
        numbers[name] = found
        off[name] = abs(per_layer(found) - per_layer(theory(scale, function, slope)))
    sigmoid, tanh = numbers["sigmoid"], numbers["tanh"]
    assert isinstance(sigmoid, list)
    assert isinstance(tanh, list)
    accuracy, finding = trained(seed, nn.Identity if null else nn.Sigmoid, 4 if fast else 10)
    return numbers | {
        "sigmoid_left": sigmoid[0],
        "tanh_left": tanh[0],
        "off": max(off.values()),
        "accuracy": accuracy,
        "finding": finding,
    }


def plot(measurements: Measurements) -> Plot:
    """Gradients layer by layer, with the theory."""
    layers = range(1, DEPTH + 1)
    told = [
        line("theory" if name == "tanh" else "", layers, theory(scale, function, slope))
        for name, (_, scale, function, slope) in STACKS.items()
    ]
    return Plot(
        "Root mean square gradient at each layer, in that of the last",
        "layer",
        "gradient / gradient of the last layer",
        (*(curve(name, layers, measurements, name, (0.0, math.inf)) for name in STACKS), *told),
        log_y=True,
    )


EXPERIMENT = Experiment(
    id="cause-vanishing",
    claim="Gradients vanish in deep stacks of sigmoid and of tanh, so that early layers stop.",
    protocol=(
        f"Stacks of {DEPTH} layers of {WIDTH} units with weights of variance 1 / fan-in, or a "
        "quarter of that, on random inputs: the gradient of z at each layer, beside the mean-field "
        "theory of wide nets. Then a net of 8 hidden layers of 64 sigmoid units, Xavier, is "
        "trained on scikit-learn's digits by SGD at 0.1 for 10 epochs."
    ),
    measure=measure,
    criterion=(
        Check(
            "through 20 layers of sigmoid, less than a millionth of the gradient is left",
            "sigmoid_left",
            high=1e-6,
        ),
        Check("the ratio per layer is that of theory, to 10 %", "off", high=0.1),
        Check("the trained sigmoid stack stays at chance: at most 0.2", "accuracy", high=0.2),
        Check(
            "through 20 layers of tanh, less than a hundredth of the gradient is left",
            "tanh_left",
            high=0.01,
            role="scope",
            otherwise=(
                "Tanh does not vanish by itself: at the variance 1 / fan-in more than a hundredth "
                "of the gradient gets through 20 layers, and at a quarter of that hardly any. Of "
                "sigmoid, whose slope is at most 1/4, gradients vanish at either."
            ),
        ),
        Check(
            "flatline.Monitor reports vanishing-gradient in the sigmoid stack",
            "finding",
            low=1.0,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    null="φ is the identity",
    command="flatline run train.py",
    advice="reports vanishing-gradient; --apply norm=batch or another activation treats it",
    needs=("sklearn",),
)
