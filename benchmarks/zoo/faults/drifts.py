"""Faults that kill slowly, and deaths that follow from deaths."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fault import Plant, acts, changes, feeders, spoils
from ..training import Recipe, Training
from .flows import fed

AFTER = ("rank-collapse", "no-learning", "upstream-death", "weight-decay-collapse")


def balance(training: Training, site: int, rate: float) -> None:
    """Move the biases of one site by hand after each step."""
    bias = feeders(training)[site].bias

    def move(_: int) -> None:
        with torch.no_grad():
            bias.sub_(rate)

    training.after.append(move)


@spoils("dying-relu", plants=(Plant("bias-drift", 0),), beside=AFTER)
def balanced_to_zero(training: Training, rate: float = 0.02) -> None:
    """Biases are moved by hand to bring firing rates to a target that was left at 0.

    Load balancing without a loss moves biases in this way.
    """
    balance(training, 0, rate)


@spoils(
    "saturation",
    equal=("dying-relu",),
    plants=(Plant("saturation", 0, equal=("bias-drift",)),),
    beside=AFTER,
)
def balanced_to_one(training: Training, rate: float = 0.05) -> None:
    """Biases are moved by hand to bring firing rates to 1.

    Units of ReLU6 end on the upper rail, where they are dead as well as saturated, and their bias
    took them there.
    """
    balance(training, 0, -rate)


@changes(
    "upstream-death",
    equal=("dying-relu",),
    plants=(Plant("bias-drift", 1), Plant("upstream-death", 2)),
    beside=AFTER,
)
def strangled(recipe: Recipe, neck: int = 4, rate: float = 0.15) -> Recipe:
    """The few units of a narrow layer drift to death, and the wide layer behind loses its inputs.

    The deaths in the neck are the root, and the many behind them the harm.
    """
    spoils = (*recipe.spoils, lambda training: balance(training, 1, rate))
    return recipe.built(widths=(48, neck, 48)).but(spoils=spoils)


@spoils(
    "upstream-death",
    equal=("dying-relu",),
    plants=(Plant("bias-drift", 0), Plant("upstream-death", 1)),
    beside=AFTER,
)
def drained(training: Training, rate: float = 0.3) -> None:
    """A whole first layer drifts to death, and the next one loses all its inputs.

    The one is the root, the other its harm.
    """
    balance(training, 0, rate)


def penalise(training: Training, site: int, strength: float) -> None:
    """Add the mean absolute activation of one nonlinearity, summed over units, to the loss."""
    seen: list[Tensor] = []
    acts(training.model)[site].register_forward_hook(lambda _, args, out: seen.append(out))

    def penalty() -> Tensor:
        total = torch.stack([out.abs().mean(0).sum() for out in seen]).sum()
        seen.clear()
        return strength * total

    training.penalty = penalty


@spoils("dying-relu", plants=(Plant("weight-drift", 0),), beside=AFTER)
def sparsity(training: Training, strength: float = 1.0) -> None:
    """An L1 penalty on activations far above the 0.001 of Glorot et al. 2011."""
    penalise(training, 0, strength)


@changes("dying-relu", plants=(Plant("bias-drift", 0),), beside=(*AFTER, "unscaled-input"))
def faint_sparsity(recipe: Recipe, strength: float = 0.02, factor: float = 0.02) -> Recipe:
    """An L1 penalty on activations, with inputs so small that the bias takes nearly all of a step.

    Its share of the change of z is 1 / (1 + |x|^2).
    """
    spoils = (*recipe.spoils, lambda training: penalise(training, 0, strength))
    return fed(recipe, lambda x: factor * x).but(spoils=spoils)


@spoils(
    "saturation",
    plants=(Plant("saturation", 0, equal=("weight-drift",)),),
    beside=("vanishing-gradient", "no-learning"),
)
def hashed(training: Training, strength: float = 1.0) -> None:
    """A penalty drives tanh units to -1 and 1, as for binary codes, and does not stop.

    Weights take them there.
    """
    seen: list[Tensor] = []
    acts(training.model)[0].register_forward_hook(lambda _, args, out: seen.append(out))

    def penalty() -> Tensor:
        return strength * (1 - seen.pop().square()).mean(0).sum()

    training.penalty = penalty
