"""A dead unit answers every input alike, gets no gradient, and cannot come back: or can it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

import flatline
from flatline.lab import training
from flatline.lab.data import Split, digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

PLANTED, BELOW = 8, 0.05
Groups = Callable[[nn.Linear], list[dict[str, object]]]


@dataclass
class Scene:
    """A trained net some of whose units were pushed below their threshold.

    Attributes:
        model: The net.
        layer: The layer with the units.
        units: The units.
        inputs: What the layer reads, on the whole training set.
    """

    model: nn.Sequential
    layer: nn.Linear
    units: list[int]
    inputs: Callable[[], Tensor]

    def outputs(self) -> Tensor:
        """Pre-activations of the units on the training set."""
        with torch.no_grad():
            out: Tensor = self.layer(self.inputs())
        return out[:, self.units]

    def revived(self) -> float:
        """The share of the units that fire on some example."""
        return float((self.outputs() > 0).any(0).float().mean())

    def weights(self) -> Tensor:
        """The units' weights and biases as they are now."""
        rows = torch.cat([self.layer.weight, self.layer.bias[:, None]], 1)
        return rows[self.units].detach().clone()


def scene(data: Split, depth: int, null: bool) -> Scene:
    """Train for two epochs, then lower biases until the largest z is just below 0.

    Args:
        data: What it is trained on.
        depth: The hidden layer whose units die: 0 or 1.
        null: Let what is below the threshold leak.
    """
    phi = (lambda: nn.LeakyReLU(0.1)) if null else nn.ReLU
    model = training.mlp((64, 32, 32, 10), phi)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    training.train(model, optimizer, _batches(data, 2))
    layer = model[2 * depth]
    assert isinstance(layer, nn.Linear)
    found = Scene(model, layer, [*range(PLANTED)], lambda: model[: 2 * depth](data.train_x))
    with torch.no_grad():
        layer.bias[: PLANTED // 2] += 0.5  # half of them end with a positive bias where they can
        layer.bias[found.units] -= found.outputs().amax(0) + BELOW
    return found


def _batches(data: Split, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    return training.batches(data.train_x, data.train_y, 64, epochs)


def continued(data: Split, at: Scene, optimizer: torch.optim.Optimizer, epochs: int) -> float:
    """Train on, and say which share of the units came back at some epoch."""
    back = 0.0
    for _ in range(epochs):
        training.train(at.model, optimizer, _batches(data, 1))
        back = max(back, at.revived())
    return back


def grouped(at: Scene, weights: float, biases: float) -> torch.optim.SGD:
    """SGD with a decay of weights and one of biases."""
    parameters = list(at.model.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim == 2], "weight_decay": weights},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": biases},
        ],
        lr=0.1,
    )


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """What dead units do in each situation; in the null they leak below their threshold."""
    data, epochs = digits(), 4 if fast else 10
    fresh = scene(data, 0, null)
    outputs = fresh.model[1](fresh.outputs())
    loss = functional.cross_entropy(fresh.model(data.train_x), data.train_y)
    gradient, slope = torch.autograd.grad(loss, [fresh.layer.weight, fresh.layer.bias])
    agrees = _agrees(fresh, data)
    before = fresh.weights()
    sgd = continued(data, fresh, torch.optim.SGD(fresh.model.parameters(), 0.1), epochs)
    moved = float((fresh.weights() - before).abs().max())
    both, bias = scene(data, 0, null), scene(data, 0, null)
    deep = scene(data, 1, null)
    carried, formula = _carried(data, null)
    back = [
        sgd,
        continued(data, both, grouped(both, 0.01, 0.01), epochs),
        continued(data, bias, grouped(bias, 0.0, 0.01), epochs),
        continued(data, deep, torch.optim.SGD(deep.model.parameters(), 0.1), epochs),
    ]
    return {
        "range": float((outputs.amax(0) - outputs.amin(0)).max()),
        "gradient": float(torch.cat([gradient, slope[:, None]], 1)[fresh.units].abs().max()),
        "moved": moved,
        "back": back,
        "sgd": back[0],
        "decay_of_both": back[1],
        "decay_of_biases": back[2],
        "upstream": back[3],
        "carried": carried,
        "formula": formula,
        "agrees": agrees,
    }


def _carried(data: Split, null: bool) -> tuple[float, float]:
    """How far momentum carries dead units, and how far off the formula −η·v·β/(1 − β) is."""
    at, rate, beta = scene(data, 0, null), 0.01, 0.9
    optimizer = torch.optim.SGD(at.model.parameters(), rate, momentum=beta)
    training.train(at.model, optimizer, _batches(data, 1))
    velocity = torch.full_like(at.layer.weight, 0.01)  # what the last steps before death left
    optimizer.state[at.layer.weight]["momentum_buffer"] = velocity.clone()
    optimizer.state[at.layer.bias]["momentum_buffer"].zero_()
    before = at.weights()
    training.train(at.model, optimizer, _batches(data, 6))
    moved = (at.weights() - before)[:, :-1]
    told = -rate * velocity[at.units] * beta / (1 - beta)
    return float(moved.abs().max()), float(((moved - told).abs() / told.abs()).max())


def _agrees(at: Scene, data: Split) -> float:
    """Whether flatline.examine calls exactly those units dead that a direct count finds."""
    report = flatline.examine(at.model, [data.train_x])
    name = report.sites[0].name
    told = {u.unit for u in report.units if u.site == name and u.state == "dead"}
    with torch.no_grad():
        silent = (at.model[:2](data.train_x) == 0).all(0)
    return float(told == set(silent.nonzero().flatten().tolist()))


def plot(measurements: Measurements) -> Plot:
    """Revived shares."""
    names = ("SGD", "decay of both", "decay of biases", "inputs move")
    return Plot(
        "Share of dead units that came back",
        "",
        "share that came back",
        (curve("came back", range(4), measurements, "back", SHARE),),
        ticks=names,
    )


EXPERIMENT = Experiment(
    id="dead-definition",
    claim=(
        "A dead unit gives the same output for every input and gets zero gradient, so it cannot "
        "come back."
    ),
    protocol=(
        "MLP 64-32-32-10 on scikit-learn's digits, He initialisation, two epochs of SGD at 0.1. "
        f"Then the biases of {PLANTED} units are lowered until their largest z on the training set "
        f"is −{BELOW:g}, and training goes on for 10 epochs: by SGD; with a decay of 0.01 on "
        "weights and biases, or on biases alone; with the units in the second layer, whose inputs "
        "move. With momentum, a velocity of 0.01 is left over from before."
    ),
    measure=measure,
    criterion=(
        Check("its output does not vary at all", "range", high=0.0, each=True),
        Check("its gradient is exactly 0", "gradient", high=0.0, each=True),
        Check(
            "in the first layer, under SGD, no bit of its weights changes", "moved", high=0.0,
            each=True,
        ),
        Check(
            "in the first layer, under SGD, none comes back", "sgd", high=0.0, each=True,
        ),
        Check(
            "nor with a decay of weights and biases alike, which turns no sign", "decay_of_both",
            high=0.0, each=True,
        ),
        Check(
            "momentum that is left over carries it by −η·v·β/(1 − β), to 1 %", "formula", high=0.01,
            each=True,
        ),
        Check(
            "none comes back where its inputs move", "upstream", high=0.0, role="scope",
            otherwise="Behind a layer that still moves, a unit may fire again: its inputs change.",
        ),
        Check(
            "none comes back where its bias decays", "decay_of_biases", high=0.0, role="scope",
            otherwise="A decay of biases alone raises a negative bias and brings units back.",
        ),
        Check(
            "without a gradient it does not move", "carried", high=0.0, role="scope", each=True,
            otherwise="Momentum left over from before its death moves it on, for better or worse.",
        ),
        Check(
            "flatline.examine names exactly the units that a direct count finds", "agrees", low=1.0,
            role="tool", each=True,
        ),
    ),
    plot=plot,
    history=(
        "the fourth and fifth check were one sentence that read the number of the decay alone; "
        "that of plain SGD is read as well since, and was 0 in every run.",
    ),
    null="units leak below their threshold: a slope of 0.1 instead of 0",
    command="flatline explain SITE:UNIT",
    advice="tells when a unit died, how far it is from firing, and whether others came back",
    needs=("sklearn",),
)  # fmt: skip
