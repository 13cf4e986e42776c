"""Dead units cost epochs."""

from __future__ import annotations

import torch

from flatline.lab import training
from flatline.lab.data import Split, digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.interventions import kill
from flatline.lab.plot import Measurements, Numbers, Plot, curve

SHARES = (0.0, 0.25, 0.5, 0.75)
RATES = (0.1, 0.3)
TARGET, EVERY, LIMIT, WIDTH = 0.5, 5, 800, 64


def steps_to_target(data: Split, share: float, rate: float, seed: int) -> float:
    """The updates after which the loss on all training examples is below the target."""
    torch.manual_seed(seed)
    model = training.mlp((64, WIDTH, WIDTH, 10))
    kill(model, share)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    batches = training.batches(data.train_x, data.train_y, 64, LIMIT)
    for done in range(0, LIMIT, EVERY):
        if training.loss_of(model, data.train_x, data.train_y) <= TARGET:
            return float(done)
        training.train(model, optimizer, (next(batches) for _ in range(EVERY)))
    return float(LIMIT)


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Updates until the loss is reached against the dead share; in the null nobody is killed."""
    data = digits()
    planted = [0.0 if null else share for share in SHARES]

    def steps(rate: float) -> list[float]:
        return [steps_to_target(data, share, rate, seed) for share in planted]

    slow, quick = steps(RATES[0]), steps(RATES[1])
    return {
        "steps": slow,
        "quick": quick,
        "quarter": slow[1] / slow[0],
        "half": slow[2] / slow[0],
        "most": slow[3] / slow[0],
        "most_quick": quick[3] / quick[0],
        "recovered": quick[3] / slow[0],
    }


def plot(measurements: Measurements) -> Plot:
    """Updates against the dead share, at both rates."""
    return Plot(
        "Updates until the training loss is reached, against the share of dead units",
        "share of units killed",
        f"updates to a loss of {TARGET:g}",
        (
            curve(f"rate {RATES[0]:g}", SHARES, measurements, "steps"),
            curve(f"rate {RATES[1]:g}", SHARES, measurements, "quick"),
        ),
    )


EXPERIMENT = Experiment(
    id="impact-time",
    claim="Dead units cost epochs.",
    protocol=(
        f"MLP 64-{WIDTH}-{WIDTH}-10 with He initialisation on scikit-learn's digits, by SGD with "
        f"batches of 64 at rates of {RATES[0]:g} and {RATES[1]:g}, with a share of each hidden "
        "layer's units killed before the first step and all else equal. Counted are the updates "
        f"until the loss on all 1,297 training examples is at most {TARGET:g}, looked at every "
        f"{EVERY} updates."
    ),
    measure=measure,
    criterion=(
        Check(
            "with half of the units dead, the loss takes at least 1.3 times as many updates",
            "half",
            low=1.3,
        ),
        Check("with three quarters dead, at least 2 times as many", "most", low=2.0),
        Check(
            "at three times the rate too, three quarters dead take at least 1.5 times as many as "
            "none",
            "most_quick",
            low=1.5,
        ),
        Check(
            "a higher rate does not make up for it: three quarters dead at three times the rate "
            "still take at least 2 times the updates of none dead at the first rate",
            "recovered",
            low=2.0,
            role="scope",
            otherwise=(
                "At an equal rate: where the rate has room, three times the rate makes up for most "
                "of what three quarters dead cost."
            ),
        ),
    ),
    plot=plot,
    null="no unit is killed, whatever share is listed",
    command="flatline trial train.py",
    advice="measures what treating the dead units gains in steps, against an untreated control",
    needs=("sklearn",),
)
