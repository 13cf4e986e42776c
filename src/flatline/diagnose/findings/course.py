"""Findings about where a training went as a whole."""

from __future__ import annotations

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding, Remedy

#: Units, and rows of activations, that a site needs for a statement about its rank.
_WIDE = 8
#: Effective rank, in one, of rows that all but lie on one line.
_LINE = 1.5
#: Part of the loss of a guess that is no better than it.
_GUESS = 0.9
#: Part of the first loss, lost, with which a low rank has done no harm that is critical.
_WELL = 0.5


@finding("rank-collapse")
def rank_collapse(chart: Chart) -> Finding | None:
    """Activations of a wide layer that use next to no directions.

    Evidence: the effective rank (Roy & Vetterli 2007) of the activations in the last third of the
    exams, in the smaller of units and rows; whether it was as low at the start; the loss.
    Threshold: a tenth, or 1.5 in all. Critical where the loss failed or lost less than half.
    Avoids: narrow layers; few rows; classes that come to lie on few lines at the end of a training
    that went well (neural collapse, Papyan et al. 2020); layers whose units are dead, which
    ``dying-relu`` reports.
    """
    limits, readings, progress = chart.thresholds, chart.readings, chart.progress
    late, early = readings.late("effective_rank"), readings.early("effective_rank")
    units = np.array([site.units for site in chart.sites], np.float64)
    possible = np.fmin(units, readings.late("rank_rows"))
    most = np.where(possible >= _WIDE, np.fmax(limits.low_rank * possible, _LINE), np.nan)
    dead = np.array([s.are("dead").mean() for s in chart], np.float64) >= limits.critical_share
    harmed = progress.failed or progress.gained < limits.low_gain
    low = (late <= most) & ~dead & (harmed | (early <= most))
    if not low.any() or not progress.known:
        return None
    order = np.flatnonzero(low)[np.argsort((late / possible)[low])]
    worst = int(order[0])
    good = not progress.failed and progress.gained >= _WELL
    return Finding(
        "rank-collapse",
        "warning" if good else "critical",
        tuple(chart.sites[place].name for place in order),
        float(late[worst] / units[worst]),
        f"activations of {chart.sites[worst].name} have an effective rank of {late[worst]:.2g} "
        f"where {int(possible[worst]):,} is possible",
        {
            "effective_rank": float(late[worst]),
            "effective_rank_first": float(early[worst]),
            "possible": float(possible[worst]),
        },
        (
            Remedy("init=orthogonal", "orthogonal weights keep directions apart"),
            Remedy("norm=batch", "what examples have in common is taken off"),
        ),
        ("vanishing-gradient", "duplicate-units", "learning-rate-too-low", "no-learning"),
    )


@finding("no-learning")
def no_learning(chart: Chart) -> Finding | None:
    """A loss that does not move, and no other finding that explains it.

    Evidence: the median loss of each tenth of the steps, against the first ten and the noise
    within a tenth. Threshold: a fall of 5 % or twice the noise in any of them. Critical where the
    loss is known to be that of a guess. Avoids: runs of fewer than 20 steps; noisy losses; runs
    that had converged before, of which nobody can tell whether they should learn more, with a
    warning at most.
    """
    progress, guess = chart.progress, chart.guess
    if not progress.stuck:
        return None
    poor = progress.last >= _GUESS * guess
    known = "" if np.isnan(guess) else f"; a guess has {guess:.3g}"
    return Finding(
        "no-learning",
        "critical" if poor else "warning",
        (),
        0.0,
        f"the loss went from {progress.first:.3g} to {progress.last:.3g} in {progress.steps:,} "
        f"steps{known}",
        {"first": progress.first, "last": progress.last, "noise": progress.noise}
        | ({} if np.isnan(guess) else {"guess": guess}),
        (
            Remedy("lr=x10", "updates may be too small"),
            Remedy("lr=x0.1", "updates may jump over what is to be found"),
            Remedy("standardize=input", "inputs of one scale are learnt at one rate"),
        ),
    )
