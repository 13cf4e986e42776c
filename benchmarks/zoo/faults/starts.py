"""Faults of initialisation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from ..fault import Plant, changes, feeders, layers, spoils
from ..nets import Experts
from ..training import Recipe, Training

STUCK = ("no-learning", "rank-collapse", "vanishing-gradient")
BORN = Plant("born-dead")


@spoils("zero-init", beside=STUCK)
def equal_weights(training: Training, value: float = 0.0) -> None:
    """All weights are one number: symmetry stays unbroken (Goodfellow et al. 2016)."""
    for layer in layers(training.model):
        nn.init.constant_(layer.weight, value)
        nn.init.zeros_(layer.bias)


@spoils("zero-init", beside=STUCK)
def equal_rows(training: Training) -> None:
    """Rows of hidden layers are equal, and so are the columns of their readers.

    Copies stay copies.
    """
    first, *others = layers(training.model)
    with torch.no_grad():
        first.weight.copy_(first.weight[:1].expand_as(first.weight).clone())
        for layer in others:
            layer.weight.fill_(layer.weight.std().item() / 4)
        rows = len(others[-1].weight)
        others[-1].weight.mul_(torch.linspace(-1, 1, rows)[:, None])
        for layer in (first, *others):
            layer.bias.zero_()


@changes("init-too-small", beside=(*STUCK, "learning-rate-too-low"))
def default_depth(recipe: Recipe, depth: int = 12) -> Recipe:
    """A deep ReLU net as torch draws it: moments fall to a sixth in each layer.

    He et al. 2015; it never trains.
    """
    return recipe.built(widths=(48,) * depth, init=None)


@spoils("init-too-small", beside=(*STUCK, "learning-rate-too-low"))
def drawn_small(training: Training, std: float = 0.01) -> None:
    """Weights of deviation 0.01 whatever the fan-in (He et al. 2015)."""
    for layer in layers(training.model):
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)


@spoils("init-too-large", beside=("exploding-gradient", "learning-rate-too-high", "no-learning"))
def drawn_large(training: Training, std: float = 1.0) -> None:
    """Weights of deviation 1 or more whatever the fan-in (cases of TheDeepChecker, 2022)."""
    for layer in layers(training.model):
        nn.init.normal_(layer.weight, std=std)


@spoils("born-dead", plants=(BORN,), beside=(*STUCK, "upstream-death"))
def negative_bias(training: Training, value: float = -3.0) -> None:
    """Biases start far below 0, so that few units ever fire."""
    for feeder in feeders(training):
        nn.init.constant_(feeder.bias, value)


@spoils("born-dead", plants=(BORN,))
def half_born_dead(training: Training, site: int = 0) -> None:
    """Biases of half a layer start at -1000, as after a mistaken load."""
    bias = feeders(training)[site].bias
    with torch.no_grad():
        bias[: len(bias) // 2] = -1e3


@spoils("born-dead", plants=(BORN,), beside=(*STUCK, "upstream-death"))
def negative_weights(training: Training) -> None:
    """Weights from [-a, 0] on inputs that are never negative (Brownlowe et al. 2024)."""
    for feeder in feeders(training)[1:]:
        with torch.no_grad():
            feeder.weight.abs_().neg_()
            feeder.bias.abs_().neg_()


@changes("born-dead", plants=(BORN,), beside=(*STUCK, "upstream-death", "frozen-parameters"))
def narrow(recipe: Recipe, width: int = 2, depth: int = 9) -> Recipe:
    """Deep and narrow: some layer is silent from the start (Lu et al. 2020)."""
    return recipe.built(widths=(width,) * depth)


@spoils("duplicate-units", beside=("rank-collapse",))
def widened(training: Training, parts: int = 2) -> None:
    """Units were doubled and outgoing weights halved, without noise (Net2Net, Chen et al. 2016)."""
    chain = layers(training.model)
    with torch.no_grad():
        for layer, reader in pairwise(chain):
            width = len(layer.weight) // parts
            layer.weight.copy_(layer.weight[:width].repeat(parts, *[1] * (layer.weight.dim() - 1)))
            layer.bias.copy_(layer.bias[:width].repeat(parts))
            columns = reader.weight[:, : reader.weight.shape[1] // parts]
            tiles = [1, parts, *[1] * (reader.weight.dim() - 2)]
            reader.weight.copy_(columns.repeat(tiles) / parts)


@spoils(
    "saturation",
    plants=(Plant("saturation"),),
    beside=("no-learning", "vanishing-gradient", "rank-collapse"),
)
def railed_bias(training: Training, value: float = 4.5) -> None:
    """Biases put tanh or sigmoid units at a flat end from the start (a case of NeuralDBG)."""
    for feeder in feeders(training):
        nn.init.constant_(feeder.bias, value)


@spoils("linear-units", benign=True, beside=("missing-nonlinearity",))
def positive_bias(training: Training, value: float = 6.0) -> None:
    """Biases so high that ReLU units fire on everything: always on, not dead.

    A reader takes the offset off again, and the rate is lower, as such inputs want it.
    """
    first, reader = layers(training.model)[:2]
    with torch.no_grad():
        first.bias.fill_(value)
        reader.bias.sub_(value * reader.weight.sum(1))
    for group in training.optimizer.param_groups:
        group["lr"] *= 0.1


@spoils("dormant-units", benign=True)
def whispering(training: Training, share: float = 0.4, factor: float = 0.003) -> None:
    """Some units start with tiny weights and give next to nothing (Sokar et al. 2023)."""
    feeder = feeders(training)[0]
    quiet = int(share * len(feeder.weight))

    def hush(_: int) -> None:
        with torch.no_grad():
            norm = feeder.weight[quiet:].norm() / (len(feeder.weight) - quiet) ** 0.5
            limit = factor * norm
            rows = feeder.weight[:quiet].flatten(1)
            rows.mul_((limit / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1))
            feeder.bias[:quiet] = 0.1 * limit

    hush(0)
    training.after.append(hush)


@spoils("unvisited-units", benign=True)
def closed(training: Training, number: int = 1) -> None:
    """Experts that the router never chooses."""
    assert isinstance(training.model, Experts)
    with torch.no_grad():
        training.model.prefer[-number:] = -1e4


@spoils("ignored-units", benign=True)
def pruned_readers(training: Training, share: float = 0.4) -> None:
    """Structured pruning: columns of a reader are held at 0 (Li et al. 2017)."""
    reader = layers(training.model)[1]
    cut = int(share * reader.weight.shape[1])

    def prune(_: int) -> None:
        with torch.no_grad():
            reader.weight[:, :cut] = 0

    prune(0)
    training.after.append(prune)
