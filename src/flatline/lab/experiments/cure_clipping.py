"""Limiting gradients prevents death by spikes."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.interventions import spiked, treat
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, bars

EPOCHS, SPIKE_AT, SPIKE = 6, 40, 200
NAMES = ("no spike", "spike", "spike, clipped", "Adam", "Adam, clipped")


def ratio(model: nn.Sequential) -> float:
    """The gradient of the first layer's weights over that of the last's, in powers of ten."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None and p.dim() == 2]
    return math.log10(float(gradients[0].norm() / gradients[-1].norm()))


def vanishing(limit: float, seed: int) -> tuple[float, float]:
    """What clipping changes of a deep sigmoid stack: the ratio of gradients, and its accuracy."""
    data = digits()
    torch.manual_seed(seed)
    model = training.mlp((64, *(64,) * 8, 10), nn.Sigmoid, training.xavier)
    functional.cross_entropy(model(data.train_x), data.train_y).backward()
    before = ratio(model)
    whole = torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf)
    torch.nn.utils.clip_grad_norm_(model.parameters(), float(whole) / 2)
    changed = abs(ratio(model) - before)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    treat(model, optimizer, f"clip=norm:{limit:g}", data.train_x[:64])
    training.train(model, optimizer, training.batches(data.train_x, data.train_y, 64, EPOCHS))
    return changed, training.accuracy(model, data.test_x, data.test_y)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Dead shares with and without clipping; in the null the limit is out of reach."""
    data, limit = digits(), 1e9 if null else 1.0

    def dead(name: str) -> float:
        torch.manual_seed(seed)
        model = training.mlp((64, 64, 64, 10))
        adam = name.startswith("Adam")
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.1)
        if adam:
            optimizer = torch.optim.Adam(model.parameters(), 0.1)
        if name.endswith("clipped"):
            treat(model, optimizer, f"clip=norm:{limit:g}", data.train_x[:64])
        batches = training.batches(data.train_x, data.train_y, 64, EPOCHS)
        training.train(
            model,
            optimizer,
            spiked(batches, SPIKE_AT, SPIKE) if name.startswith("spike") else batches,
        )
        return training.dead_share(model, data.train_x)

    shares = {name: dead(name) for name in NAMES}
    changed, accuracy = vanishing(limit, seed)
    return {
        **shares,
        "killed": shares["spike"] - shares["no spike"],
        "left": shares["spike, clipped"] - shares["no spike"],
        "adam": shares["Adam"] - shares["Adam, clipped"],
        "changed": changed,
        "sigmoid": accuracy,
    }


def plot(measurements: Measurements) -> Plot:
    """Dead shares with and without clipping."""
    return Plot(
        "Share of dead units after a spike and at a rate too high for Adam",
        "",
        "share of dead units",
        (bars("", measurements, NAMES, SHARE),),
        ticks=NAMES,
    )


EXPERIMENT = Experiment(
    id="cure-clipping",
    claim="Limiting gradients prevents death.",
    protocol=(
        "MLP 64-64-64-10 with ReLU and He initialisation on scikit-learn's digits with batches of "
        f"64 for {EPOCHS} epochs: by SGD at a rate of 0.1, undisturbed or with one batch {SPIKE} "
        f"times too large at step {SPIKE_AT}, and by Adam at a rate of 0.1. Clipped is what "
        "flatline treats with clip=norm:1.0. Beside it, 8 hidden layers of sigmoid units, whose "
        "gradients vanish towards the input, by SGD at a rate of 0.1, clipped."
    ),
    measure=measure,
    criterion=(
        Check(
            "the spike kills at least 0.15 more of the units than die without it",
            "killed",
            low=0.15,
        ),
        Check("clipped, at most 0.06 more die than without a spike", "left", high=0.06),
        Check(
            "it saves at least 0.2 of the units from a rate too high for Adam",
            "adam",
            low=0.2,
            role="scope",
            otherwise=(
                "Against spikes, not against the rate of Adam, whose steps hardly depend on the "
                "size of gradients."
            ),
        ),
        Check(
            "it changes the ratio of the first layer's gradient to the last's by a tenth of a "
            "power of ten",
            "changed",
            low=0.1,
            role="scope",
            otherwise=(
                "Nothing for vanishing gradients: one factor scales all layers, and their ratio "
                "stays as it is."
            ),
        ),
        Check(
            "clipped, the deep sigmoid network reaches a test accuracy of 0.5",
            "sigmoid",
            low=0.5,
            role="scope",
            otherwise="A deep sigmoid network learns no more with clipping than by chance.",
        ),
    ),
    plot=plot,
    null="the limit is so high that no gradient reaches it",
    command="flatline run --apply clip=norm:1.0 train.py",
    advice="treats it; without it, flatline run reports exploding-gradient and dying-relu",
    needs=("sklearn",),
)
