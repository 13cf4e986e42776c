"""How many directions the activations of a layer use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.names import STATES

Bool = npt.NDArray[np.bool_]
Double = npt.NDArray[np.float64]

#: Units, and rows of activations, that a site needs for a statement about its rank.
_WIDE = 8
#: Effective rank, in one, of rows that all but lie on one line.
LINE = 1.5
#: Part of a site's units that may be silent where silence is not what makes its rank low.
_SILENT = 0.5
#: Spread of z, in its size, of examples that all look alike.
_ALIKE = 0.1
#: Part of the first loss, lost, with which a low rank has done no harm that is critical.
_WELL = 0.5


@finding("rank-collapse")
def rank_collapse(chart: Chart) -> Finding | None:
    """Activations of a wide layer that use next to no directions.

    Evidence: the effective rank (Roy & Vetterli 2007) of the activations in the last third of the
    exams, in the smaller of units and rows; whether it was as low at the start; the loss.
    Threshold: a tenth, or 1.5 in all. Critical where the loss failed or lost less than half.
    Avoids: narrow layers; few rows; classes that come to lie on few lines at the end of a training
    that went well (neural collapse, Papyan et al. 2020); layers that lost their rank because their
    units died, which ``dying-relu`` reports.
    """
    limits, readings, progress = chart.thresholds, chart.readings, chart.progress
    late, early = readings.late("effective_rank"), readings.early("effective_rank")
    possible, most = _possible(chart), _low(chart)
    silent = STATES.index("dead")  # for sure or so far
    dead = np.array([(s.code == silent).mean() for s in chart], np.float64) >= limits.critical_share
    harmed = progress.failed or progress.gained < limits.low_gain
    born = collapsed_from_the_start(chart)
    low = (late <= most) & ~dead & (harmed | (early <= most)) | (born & harmed)
    if not low.any() or not progress.known:
        return None
    order = np.flatnonzero(low)[np.argsort((np.fmax(late, early) / possible)[low])]
    worst = int(order[0])
    good = not progress.failed and progress.gained >= _WELL
    symptoms = ("vanishing-gradient", "duplicate-units", "learning-rate-too-low", "no-learning")
    return Finding(
        "rank-collapse",
        "warning" if good else "critical",
        tuple(chart.sites[place].name for place in order),
        float(late[worst] / chart.sites[worst].units),
        f"activations of {chart.sites[worst].name} have an effective rank of {late[worst]:.2g} "
        f"where {int(possible[worst]):,} is possible, and had {early[worst]:.2g} at the start",
        {
            "effective_rank": float(late[worst]),
            "effective_rank_first": float(early[worst]),
            "possible": float(possible[worst]),
        },
        explains=(*symptoms, *_ONE_SIDED) if alike_from_the_start(chart) else symptoms,
    )


#: Where all examples look alike, a unit is on one side of all of them.
_ONE_SIDED = ("born-dead", "dying-relu", "upstream-death", "linear-units", "dormant-units")


def collapsed_from_the_start(chart: Chart) -> Bool:
    """Sites whose activations used next to no directions at first although units fired."""
    units = np.array([site.units for site in chart.sites], np.float64)
    fired = chart.readings.early("silent") < _SILENT * units
    return np.asarray((chart.readings.early("effective_rank") <= _low(chart)) & fired)


def alike_from_the_start(chart: Chart) -> bool:
    """Whether examples looked alike to some site at first, so that its units lie on one side."""
    readings = chart.readings
    alike = readings.early("z_spread") <= _ALIKE * readings.early("z_rms")
    return bool((collapsed_from_the_start(chart) & alike).any())


def _possible(chart: Chart) -> Double:
    """The largest rank that the activations of each site could have."""
    units = np.array([site.units for site in chart.sites], np.float64)
    return np.asarray(np.fmin(units, chart.readings.late("rank_rows")))


def _low(chart: Chart) -> Double:
    """The largest effective rank at each site that is a collapse; NaN where none can be told."""
    possible = _possible(chart)
    low = np.fmax(chart.thresholds.low_rank * possible, LINE)
    return np.where(possible >= _WIDE, low, np.nan)
