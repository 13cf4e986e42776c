"""Large steps kill ReLU units."""

from __future__ import annotations

import torch

from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.intervals import rank_correlation
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve, points

RATES = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0)
#: Below this rate nobody dies, and the dead share has nothing to rise with.
KILLING = 0.3


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Dead share and accuracy after training at each rate; in the null all train at the least."""
    data = digits()
    rates = (0.1, 0.6, 4.0) if fast else RATES
    dead, accuracies, disagreement = [], [], 0.0
    for rate in rates:
        torch.manual_seed(seed)
        model = training.mlp((64, 64, 64, 10))
        optimizer = torch.optim.SGD(model.parameters(), rates[0] if null else rate)
        batches = training.batches(data.train_x, data.train_y, 64, 4 if fast else 10)
        training.train(model, optimizer, batches)
        dead.append(training.dead_share(model, data.train_x))
        disagreement += abs(dead[-1] - training.silent_share(model, data.train_x))
        accuracies.append(training.accuracy(model, data.test_x, data.test_y))
    high = sum(rate >= KILLING for rate in rates)
    return {
        "rates": list(rates),
        "dead": dead,
        "accuracy": accuracies,
        "rise": dead[-1] - dead[0],
        "order": rank_correlation(rates[-high:], dead[-high:]),
        "disagreement": disagreement,
    }


def plot(measurements: Measurements) -> Plot:
    """Dead share and accuracy against the rate."""
    rates = points(measurements[0]["rates"])
    return Plot(
        "Share of dead units and test accuracy against the learning rate",
        "learning rate of SGD",
        "share",
        (
            curve("dead units", rates, measurements, "dead", SHARE),
            curve("test accuracy", rates, measurements, "accuracy", SHARE),
        ),
        log_x=True,
    )


EXPERIMENT = Experiment(
    id="cause-learning-rate",
    claim="Large steps kill ReLU units.",
    protocol=(
        "MLP 64-64-64-10 with He initialisation, on scikit-learn's digits with pixels from 0 to 1, "
        f"by SGD with batches of 64 for 10 epochs, at rates from {RATES[0]:g} to {RATES[-1]:g}. "
        "Each rate starts from the same weights. Dead is what flatline.examine calls so on all "
        "1,297 training examples."
    ),
    measure=measure,
    criterion=(
        Check(
            "the dead share at the highest rate exceeds that at the lowest by at least 0.3",
            "rise",
            low=0.3,
        ),
        Check(
            f"from a rate of {KILLING:g} on, dead share and rate rise together: their rank "
            "correlation is at least 0.5",
            "order",
            low=0.5,
        ),
        Check(
            "flatline.examine counts the dead units that a direct count finds",
            "disagreement",
            high=1e-9,
            role="tool",
            each=True,
        ),
    ),
    plot=plot,
    null="every network trains at the lowest rate, whatever rate it is listed under",
    command="flatline run train.py",
    advice=(
        "reports learning-rate-too-high and dying-relu, and names the step that killed each unit; "
        "--apply lr=x0.1 treats it"
    ),
    needs=("sklearn",),
    history=(
        "the rank correlation was first asked of all rates; a trial with seeds 0 and 1 showed that "
        f"none dies below {KILLING:g}, where it says nothing, so it is asked from there on.",
    ),
)
