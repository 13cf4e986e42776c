"""Unscaled inputs kill first-layer units at birth."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_ndtr
from torch import Tensor

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve, line

SHIFTS = (0.0, 1.0, 2.0, 4.0, 8.0)
FEATURES, EXAMPLES, UNITS = 32, 1000, 2000


def predicted(shift: float, examples: int = EXAMPLES) -> float:
    """The probability that a unit with bias 0 is silent on examples from N(shift, I).

    z / |w| is Gaussian with deviation 1 around a common t, itself Gaussian with variance shift².
    """
    if shift == 0:
        return 0.5**examples
    nodes, weights = np.polynomial.hermite_e.hermegauss(201)
    return float((weights / weights.sum()) @ np.exp(examples * log_ndtr(-abs(shift) * nodes)))


def silent_at_birth(x: Tensor, units: int) -> tuple[float, float]:
    """The share of a fresh layer's units that are silent on ``x``: by flatline, and by a count."""
    model = training.mlp((x.shape[1], units, 1))
    told = training.dead_share(model, x)
    return told, training.silent_share(model, x)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Units silent at birth against the shift; in the null, inputs are centred first."""
    shares, units = [], 400 if fast else UNITS
    for shift in SHIFTS:
        x = torch.randn(EXAMPLES, FEATURES) + shift
        shares.append(silent_at_birth(x - x.mean(0) if null else x, units))
    pixels = digits().train_x
    mean, deviation = pixels.mean(), pixels.std()
    raw = 16 * (pixels - pixels.mean(0) if null else pixels)
    torch.manual_seed(seed)
    unscaled = silent_at_birth(raw, units)
    torch.manual_seed(seed)
    scaled = silent_at_birth(raw / 16, units)
    torch.manual_seed(seed)
    standard = silent_at_birth((pixels - mean) / deviation, units)
    told = [predicted(shift) for shift in SHIFTS]
    found = [*shares, unscaled, scaled, standard]
    off = max(abs(count - theory) for (_, count), theory in zip(shares, told, strict=True))
    return {
        "silent": [count for _, count in shares],
        "eight": shares[-1][1],
        "off": off,
        "digits": unscaled[1] - standard[1],
        "by_scale": unscaled[1] - scaled[1],
        "disagreement": max(abs(one - other) for one, other in found),
        "finding": _finding(raw),
    }


def _finding(x: Tensor) -> float:
    """Whether flatline.Monitor finds the inputs unscaled, with 8 added to each."""
    model = training.mlp((64, 64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    batches = training.batches(x + 8, digits().train_y, 64, 1)
    return training.finds(training.watched(model, optimizer, batches), "unscaled-input")


def plot(measurements: Measurements) -> Plot:
    """Silent share against the shift, with the theory."""
    return Plot(
        "Share of units that are silent at birth, against the shift of their inputs",
        "mean of each input, in its standard deviation",
        "silent units",
        (
            curve("measured", SHIFTS, measurements, "silent", SHARE),
            line("theory", SHIFTS, [predicted(shift) for shift in SHIFTS]),
        ),
    )


EXPERIMENT = Experiment(
    id="cause-input-shift",
    claim="Unscaled inputs kill first-layer units at birth.",
    protocol=(
        f"Layers of {UNITS:,} ReLU units by He initialisation read {EXAMPLES:,} examples of "
        f"{FEATURES} Gaussian features whose mean is 0 to 8 of their standard deviations, and "
        "scikit-learn's digits from 0 to 16, from 0 to 1, and standardised. Units that fire on no "
        "example are counted, and compared with the Gaussian integral that predicts their share."
    ),
    measure=measure,
    criterion=(
        Check("at a mean of 8, at least a quarter of the units are silent", "eight", low=0.25),
        Check("the share is that of theory, within 0.05, at each mean", "off", high=0.05),
        Check(
            "more units are silent on digits from 0 to 16 than on standardised ones, by 0.01",
            "digits",
            low=0.01,
        ),
        Check(
            "more units are silent on digits from 0 to 16 than on digits from 0 to 1",
            "by_scale",
            low=1e-9,
            role="scope",
            otherwise=(
                "It is the offset that kills, not the scale: with biases of 0, inputs 16 times as "
                "large leave exactly the same units silent."
            ),
        ),
        Check(
            "flatline.examine counts the silent units that a direct count finds",
            "disagreement",
            high=1e-9,
            role="tool",
            each=True,
        ),
        Check(
            "flatline.Monitor reports unscaled-input where 8 is added to the digits",
            "finding",
            low=1.0,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    null="inputs are centred first",
    command="flatline run train.py",
    advice="reports unscaled-input and born-dead; --apply standardize=input treats it",
    needs=("sklearn",),
)
