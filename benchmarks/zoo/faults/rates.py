"""Faults of the optimizer and its learning rate."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from ..fault import AT, Plant, changes, feeders, spoils
from ..training import SGD, AdamW, Recipe, Training

HARM = ("exploding-gradient", "no-learning", "rank-collapse", "upstream-death")


@changes("learning-rate-too-high", beside=HARM, plants=(Plant("step-too-large"),))
def rate(recipe: Recipe, lr: float) -> Recipe:
    """A learning rate that kills units or diverges from the first step (seeded by DeepFD, 2022)."""
    return recipe.stepped(lr=lr)


@changes("learning-rate-too-high", beside=HARM, plants=(Plant("step-too-large", first=AT + 1),))
def raised(recipe: Recipe, factor: float = 30.0) -> Recipe:
    """A step schedule multiplies by gamma > 1 where it should divide."""
    return recipe.but(schedule=lambda step: 1.0 if step < AT else factor)


@changes("learning-rate-too-low", beside=("no-learning",))
def creeping(recipe: Recipe, lr: float = 1e-6) -> Recipe:
    """A learning rate that would need years (DeepFD, 2022, seeds 1e-10 to 1e-15)."""
    return recipe.stepped(lr=lr)


@changes("learning-rate-too-low", beside=("no-learning",))
def fading(recipe: Recipe, gamma: float = 0.7) -> Recipe:
    """A decay meant for each epoch is applied at each step: soon nothing moves."""
    return recipe.but(schedule=lambda step: gamma**step)


def grouped(parameters: Any, build: Any, decay: float) -> Any:
    """The usual two groups: weights with decay; biases and other vectors without."""
    parameters = list(parameters)
    return build(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
    )


def _below(training: Training) -> None:
    """Biases a little below 0, where units end when their weights vanish."""
    for feeder in feeders(training):
        nn.init.constant_(feeder.bias, -0.02)


DECAY = (Plant("weight-decay", equal=("upstream-death",)),)
WITHERED = ("no-learning", "vanishing-gradient", "rank-collapse", "upstream-death")


@changes("weight-decay-collapse", plants=DECAY, beside=WITHERED)
def decayed(recipe: Recipe, pull: float = 0.3, lr: float = 1e-3) -> Recipe:
    """AdamW's decay takes a share of each weight at each step, biases spared.

    What lies behind a layer that vanished has lost its inputs as well as its weights.
    """
    optimizer = partial(grouped, build=partial(AdamW, lr=lr), decay=pull / lr)
    return recipe.but(optimizer=optimizer, spoils=(*recipe.spoils, _below))


@changes("weight-decay-collapse", plants=DECAY, beside=WITHERED)
def shrunk(recipe: Recipe, pull: float = 0.05, lr: float = 0.01) -> Recipe:
    """An L2 penalty far above the loss, as SGD's weight decay, biases spared.

    What lies behind a layer that vanished has lost its inputs as well as its weights.
    """
    optimizer = partial(grouped, build=partial(SGD, lr=lr), decay=pull / lr)
    return recipe.but(optimizer=optimizer, spoils=(*recipe.spoils, _below))


@spoils("stale-gradients", beside=(*HARM, "learning-rate-too-high"))
def unreset(training: Training) -> None:
    """``zero_grad`` is never called: gradients pile up."""
    training.zeroes = False


@spoils("frozen-parameters", beside=("no-learning",))
def forgotten(training: Training, part: str) -> None:
    """Random layers get gradients, but the optimizer lacks them (a case of DLCheck)."""
    kept = {id(p) for p in training.model.get_submodule(part).parameters()}
    for group in training.optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in kept]


@spoils("frozen-parameters", beside=("no-learning",))
def detached(training: Training, part: str) -> None:
    """``detach()`` behind layers that the optimizer has: no gradient ever reaches them."""
    training.model.get_submodule(part).register_forward_hook(lambda _, args, out: out.detach())


@spoils("frozen-parameters", beside=("no-learning",))
def rebuilt(training: Training, part: str) -> None:
    """Layers were replaced after the optimizer was made (TrainCheck, 2025)."""
    module = training.model.get_submodule(part)
    for child in module.modules():
        for name, parameter in list(child.named_parameters(recurse=False)):
            fresh = nn.Parameter(torch.empty_like(parameter).copy_(parameter.detach()))
            setattr(child, name, fresh)
