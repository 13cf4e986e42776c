"""Where a gradient or a loss first stood out in a training that was calm until then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.context import ENOUGH, trailing

#: Steps after a spike within which deaths by a large step are put down to it.
WAKE = 25
#: First step of a training whose gradient has an ordinary size to compare with.
_CALM = 2 * ENOUGH


@dataclass(frozen=True)
class Spike:
    """The first spike of a training.

    Attributes:
        step: When.
        ratio: How high, in medians of the steps before.
        what: ``"gradient"`` or ``"loss"``.
        losses: How many losses stood out so, with their gradients, and lay above that of the
            beginning. A gradient that was clipped moves the weights no more than others.
    """

    step: int
    ratio: float
    what: str
    losses: int


def spike(chart: Chart) -> Spike | None:
    """The first spike of a training whose rate was not raised before; ``None`` for a calm one."""
    limits, steps = chart.thresholds, chart.history.steps
    with np.errstate(invalid="ignore", divide="ignore"):
        raised = steps.lr > limits.raised_rate * trailing(steps.lr)
        calm = (np.arange(len(raised)) >= _CALM) & ~np.logical_or.accumulate(raised)
        gradient, loss = (x / trailing(x) for x in (steps.gradient, steps.loss))
        gradient[~(np.isfinite(gradient) & calm)] = 0.0
        loss[~(np.isfinite(loss) & calm & (steps.loss > chart.progress.first))] = 0.0
    for what, ratio in (("gradient", gradient), ("loss", loss)):
        hit = np.flatnonzero(ratio >= limits.exploding_ratio)
        if len(hit):
            height = float(ratio[hit[0] : hit[0] + WAKE].max())
            losses = int(np.count_nonzero(np.minimum(loss, gradient) >= limits.exploding_ratio))
            return Spike(int(steps.step[hit[0]]), height, what, losses)
    return None
