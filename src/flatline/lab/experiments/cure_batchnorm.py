"""Normalising the inputs of each layer prevents death."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.interventions import spiked, treat
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, bars

Norm = Callable[[int], nn.Module] | None
EPOCHS, SPIKE_AT, SPIKE = 6, 40, 200
#: What happens to a training, by the rate of SGD and the scale of its pixels.
ACCIDENTS = {"pixels to 16": (0.1, 16.0), "rate 2": (2.0, 1.0), "one spike": (0.1, 1.0)}


def network(norm: Norm, seed: int) -> nn.Sequential:
    """Two hidden layers with He's initialisation, normalised before each ReLU."""
    torch.manual_seed(seed)
    layers = list(training.mlp((64, 64, 64, 10)))
    found: list[nn.Module] = [layers[0]]
    for layer, after in pairwise(layers):
        if norm is not None and isinstance(layer, nn.Linear):
            found.append(norm(layer.out_features))
        found.append(after)
    return nn.Sequential(*found)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Dead shares with and without a normalisation; in the null it is left out everywhere."""
    data = digits()
    batch, layer = (None, None) if null else (nn.BatchNorm1d, nn.LayerNorm)

    def dead(accident: str, norm: Norm, treatment: str = "") -> float:
        rate, scale = ACCIDENTS[accident]
        model = network(norm, seed)
        optimizer = torch.optim.SGD(model.parameters(), rate)
        if treatment:
            treat(model, optimizer, treatment, data.train_x[:64] * scale)
        batches = training.batches(data.train_x * scale, data.train_y, 64, EPOCHS)
        training.train(
            model,
            optimizer,
            spiked(batches, SPIKE_AT, SPIKE) if accident == "one spike" else batches,
        )
        return training.dead_share(model, data.train_x * scale)

    plain = {name: dead(name, None) for name in ACCIDENTS}
    normed = {name: dead(name, batch) for name in ACCIDENTS}
    pushed = network(batch, seed)
    optimizer = torch.optim.Adam(pushed.parameters(), 0.3, fused=True)
    training.train(pushed, optimizer, training.batches(data.train_x, data.train_y, 64, EPOCHS))
    treated = dead("pixels to 16", None, "" if null else "norm=batch")
    return {
        **{f"plain {name}": share for name, share in plain.items()},
        **{f"normed {name}": share for name, share in normed.items()},
        "least": min(plain.values()),
        "most": max(normed.values()),
        "pushed": training.dead_share(pushed, data.train_x),
        "layer": dead("rate 2", layer),
        "treated": treated,
        "gained": plain["pixels to 16"] - treated,
    }


def plot(measurements: Measurements) -> Plot:
    """Dead shares of each accident without and with batch normalisation."""
    names = tuple(ACCIDENTS)
    return Plot(
        "Share of dead units after three accidents, without and with batch normalisation",
        "",
        "share of dead units",
        (
            bars("plain", measurements, [f"plain {name}" for name in names], SHARE),
            bars("batch normalisation", measurements, [f"normed {name}" for name in names], SHARE),
        ),
        ticks=names,
    )


EXPERIMENT = Experiment(
    id="cure-batchnorm",
    claim="Normalising the inputs of each layer prevents death.",
    protocol=(
        "MLP 64-64-64-10 with ReLU and He initialisation on scikit-learn's digits, by SGD with "
        f"batches of 64 for {EPOCHS} epochs, through three accidents: pixels from 0 to 16 instead "
        f"of 1, a rate of 2 instead of 0.1, and one batch {SPIKE} times too large at step "
        f"{SPIKE_AT}. Without normalisation and with nn.BatchNorm1d before each ReLU; at a rate of "
        "2 also with nn.LayerNorm, and with batch normalisation also by Adam at a rate of 0.3. "
        "Dead is what flatline.examine calls so on all 1,297 training examples."
    ),
    measure=measure,
    criterion=(
        Check("without it, each accident kills at least 0.15 of the units", "least", low=0.15),
        Check("with batch normalisation, each leaves at most 0.05 dead", "most", high=0.05),
        Check(
            "by Adam at a rate of 0.3 too, it leaves at most 0.05 dead",
            "pushed",
            high=0.05,
            role="scope",
            otherwise=(
                "Not at any rate: Adam at 0.3 pushes its own scale and shift until units are dead."
            ),
        ),
        Check(
            "layer normalisation does as well: at a rate of 2 it leaves at most 0.1 dead",
            "layer",
            high=0.1,
            role="scope",
            otherwise=(
                "Over the batch, not over the layer: layer normalisation looks at no unit by "
                "itself, and at a rate of 2 units die with it."
            ),
        ),
        Check(
            "flatline's norm=batch too leaves at most 0.005 dead",
            "treated",
            high=0.005,
            role="scope",
            otherwise=(
                "From the start: put in so that the function stays as it is, as norm=batch does, "
                "it prevents accidents, but what was dead at birth stays dead."
            ),
        ),
        Check(
            "flatline's norm=batch saves at least 0.15 of the units from pixels to 16",
            "gained",
            low=0.15,
            role="tool",
        ),
    ),
    plot=plot,
    null="no network has a normalisation, whatever is listed",
    command="flatline run --apply norm=batch train.py",
    advice="treats it; without it, flatline run reports dying-relu and its cause",
    needs=("sklearn",),
)
