"""How much of a treatment, and whether one is called for at all, by what a run showed."""

from __future__ import annotations

import math

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.rates import largest_update

#: Relative update of a weight matrix that most trainings do well with.
USUAL_UPDATE = 3e-3
#: Learning rate, and part of the usual update, below which any training crawls.
_CRAWL, _FAR = 1e-5, 0.01
#: Factors of a learning rate are between this and its inverse.
_LEAST = 1e-6


def rounded(number: float) -> str:
    """To one digit, as a person would choose it.

    Example:
        >>> rounded(0.0347), rounded(1730.0)
        ('0.03', '2000')
    """
    digits = -math.floor(math.log10(number))
    return f"{round(number, digits):.12g}"


def factor(update: float, otherwise: str) -> str:
    """The learning-rate factor that brings an update to its usual size."""
    if not (math.isfinite(update) and update > 0):
        return otherwise
    return f"lr=x{rounded(min(max(USUAL_UPDATE / update, _LEAST), 1 / _LEAST))}"


def slower(chart: Chart) -> str:
    """A learning rate at which updates are of the usual size."""
    update = largest_update(chart)
    if not update > 3 * USUAL_UPDATE:
        return "lr=x0.1"
    return factor(update, "lr=x0.1")


def usual_update(chart: Chart) -> float:
    """The largest usual relative update of a site; NaN where none is known."""
    usual = chart.readings.usual("update_ratio")
    usual = usual[np.isfinite(usual)]
    return float(usual.max()) if len(usual) else math.nan


def crawls(chart: Chart) -> bool:
    """Whether the learning rate is so small that updates are, whatever the gradients."""
    rates = chart.history.steps.lr
    rates = rates[np.isfinite(rates)]
    update = usual_update(chart)
    return len(rates) > 0 and rates.max() <= _CRAWL and bool(update <= _FAR * USUAL_UPDATE)


def stillborn(chart: Chart) -> float:
    """Probability that some ReLU layer is silent as a whole if weights are drawn anew, at most.

    Lu et al. 2020: each unit of a layer with symmetric weights is silent with probability 1/2.
    """
    units = [one.units for one in chart.sites if one.activation.name == "relu"]
    return float(1 - np.prod(1 - 0.5 ** np.array(units, np.float64)))


def steep(chart: Chart) -> bool:
    """Whether the first gradient that was no number came of a loss that was one."""
    steps = chart.history.steps
    lost = np.flatnonzero(~np.isfinite(steps.loss))
    if not len(lost) or lost[0] < 2:
        return False
    before, last = np.isfinite(steps.gradient[lost[0] - 2 : lost[0]])
    return bool(before and not last)
