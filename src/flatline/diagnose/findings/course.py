"""What is found of a loss alone."""

from __future__ import annotations

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding

#: Part of the loss of a guess that is no better than it.
_GUESS = 0.9


@finding("no-learning")
def no_learning(chart: Chart) -> Finding | None:
    """A loss that does not move, and no other finding that explains it.

    Evidence: the median loss of each tenth of the steps, against the first ten and the noise
    within a tenth. Threshold: a fall of 5 % or twice the noise in any of them. Critical where the
    loss is known to be that of a guess, after 50 steps or more. Avoids: runs of fewer than 20
    steps; noisy losses; runs that had converged before, of which nobody can tell whether they
    should learn more, with a warning at most.
    """
    progress, guess = chart.progress, chart.guess
    if not progress.stuck:
        return None
    long = progress.steps >= chart.thresholds.least_steps
    poor = progress.last >= _GUESS * guess
    known = "" if np.isnan(guess) else f"; a guess has {guess:.3g}"
    return Finding(
        "no-learning",
        "critical" if poor and long else "warning",
        (),
        0.0,
        f"the loss went from {progress.first:.3g} to {progress.last:.3g} in {progress.steps:,} "
        f"steps{known}",
        {"first": progress.first, "last": progress.last, "noise": progress.noise}
        | ({} if np.isnan(guess) else {"guess": guess}),
    )
