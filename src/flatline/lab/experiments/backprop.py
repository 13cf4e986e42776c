"""Forward pass, loss, chain rule backwards, update, repeated until convergence."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

RATE, BATCH = 0.5, 64
WIDTHS = (64, 32, 32, 10)


def backward(parameters: list[Tensor], x: Tensor, y: Tensor, null: bool) -> list[Tensor]:
    """Gradients of the mean cross-entropy by the chain rule, layer by layer.

    Args:
        parameters: Weight and bias of each layer, with tanh between layers.
        x: Inputs as rows.
        y: Classes.
        null: Leave the slope of tanh out of the chain.
    """
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    inputs = [x]
    for w, b in layers[:-1]:
        inputs.append(torch.tanh(inputs[-1] @ w.T + b))
    w, b = layers[-1]
    logits = inputs[-1] @ w.T + b
    delta = (logits.softmax(1) - functional.one_hot(y, logits.shape[1])) / len(y)
    gradients: list[Tensor] = []
    for (w, _), h in zip(reversed(layers), reversed(inputs), strict=True):
        gradients = [delta.T @ h, delta.sum(0), *gradients]
        slope = torch.ones_like(h) if null else 1 - h**2
        delta = delta @ w * slope
    return gradients


def differences(model: nn.Sequential, x: Tensor, y: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """Central differences of the loss along entries of the first weight, and which they are."""
    weight = training.first(model).weight
    entries = torch.randperm(weight.numel())[:at]
    found = []
    with torch.no_grad():
        flat = weight.view(-1)
        for entry in entries.tolist():
            kept, ends = flat[entry].item(), []
            for step in (1e-5, -1e-5):
                flat[entry] = kept + step
                ends.append(training.loss_of(model, x, y))
            flat[entry] = kept
            found.append((ends[0] - ends[1]) / 2e-5)
    return torch.tensor(found, dtype=x.dtype), entries


def apart(one: Tensor, other: Tensor) -> float:
    """The distance of two gradients, relative to their length."""
    return float((one - other).norm() / other.norm())


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Gradients by hand beside autograd and differences, and training with them alone."""
    data = digits()
    x, y = data.train_x.double(), data.train_y
    model = training.mlp(WIDTHS, nn.Tanh, training.xavier).double()
    parameters = [p.detach() for p in model.parameters()]
    losses = [functional.cross_entropy(model(x), y)]
    auto = torch.autograd.grad(losses[0], list(model.parameters()))
    hand = backward(parameters, x, y, null)
    finite, entries = differences(model, x, y, 10 if fast else 50)
    course = []
    for _ in range(12 if fast else 30):  # epochs; parameters and model share their memory
        for rows in torch.randperm(len(y)).split(BATCH):
            gradients = backward(parameters, x[rows], y[rows], null)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= RATE * gradient
        course.append(training.accuracy(model, x, y))
    return {
        "autograd": max(apart(h, a) for h, a in zip(hand, auto, strict=True)),
        "finite": apart(hand[0].reshape(-1)[entries], finite),
        "course": course,
        "learnt": course[-1],
    }


def plot(measurements: Measurements) -> Plot:
    """Accuracy over epochs."""
    return Plot(
        "Training accuracy of a net trained with gradients by hand",
        "epoch",
        "training accuracy",
        (curve("gradients by hand", range(1, 31), measurements, "course", SHARE),),
    )


EXPERIMENT = Experiment(
    id="backprop",
    claim=(
        "Forward pass, loss, chain rule backwards and update, repeated until convergence, train a "
        "network."
    ),
    protocol=(
        "MLP 64-32-32-10 with tanh in double precision on scikit-learn's digits. The backward pass "
        "is written out by hand; its gradients are compared with autograd's and with central "
        "differences of the loss, then they alone train the net: batches of 64, 30 epochs, a rate "
        f"of {RATE:g}."
    ),
    measure=measure,
    criterion=(
        Check("by hand and autograd agree up to rounding", "autograd", high=1e-10, each=True),
        Check("by hand and finite differences agree to 1e-5", "finite", high=1e-5, each=True),
        Check("the net ends with a training accuracy of at least 0.95", "learnt", low=0.95),
    ),
    plot=plot,
    null="the slope of tanh is left out of the chain",
    command="flatline run train.py",
    advice="reads these gradients at every step: one that is exactly 0 is a unit without life",
    needs=("sklearn",),
)
