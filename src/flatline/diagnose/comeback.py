"""Whether a dead unit may come back: how far it is from firing, and what became of others.

A dead unit gets no gradient, so its own weights bring it back only by decay or momentum that is
left over; else its inputs must lift it. How often that happens is not guessed but counted: among
the units of the run that died as far from firing, or farther.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flatline.diagnose.certainty import rate_upper
from flatline.diagnose.chart import Chart
from flatline.diagnose.states import STATES, States
from flatline.sense.history import Autopsy

#: Standard deviations of z within which a unit is close to firing. In MLPs on digits, of units that
#: were silent on the whole training set and read another layer, 30 to 50 % of those closer than
#: this fired again later, 29 % at 1 to 2, 10 % at 2 to 4, 4 % beyond; of those that read the data,
#: none of 10,000 did, at any distance.
CLOSE = 1.0

Double = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comeback:
    """What speaks for and against the return of a dead unit.

    Attributes:
        margin: How close it came to firing, in standard deviations of z; ``None`` if not known.
        depth: How far its mean pre-activation lay from firing when it was found silent, in
            standard deviations of z; ``None`` if not known.
        died: Units of the run that were found silent in training, at least as deep where the depth
            is known.
        returned: Those of them that fire again.
        moving: Largest relative update, at the last exam, of a layer whose units it reads; ``None``
            where no watched site feeds it.
    """

    margin: float | None
    depth: float | None
    died: int
    returned: int
    moving: float | None

    @property
    def upper(self) -> float:
        """Upper bound of the share that returns, at 99 % confidence."""
        return float(rate_upper(self.returned, self.died))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "upper": self.upper if self.died else None}


def comeback(chart: Chart, name: str, unit: int) -> Comeback:
    """What is known of the return of a dead unit.

    Args:
        chart: The states of all sites.
        name: The unit's site.
        unit: The unit.
    """
    states = chart.of(name)
    autopsies = chart.history.autopsies
    own = autopsies.get(name, Autopsy.empty())
    depths = _depth(states, own)[own.units == unit]
    depth = float(depths[0]) if len(depths) else np.nan
    died = returned = 0
    for other in chart:
        autopsy = autopsies.get(other.site.name, Autopsy.empty())
        alike = _depth(other, autopsy) >= depth if np.isfinite(depth) else autopsy.units >= 0
        alike &= (autopsy.units != unit) | (other is not states)
        died += int(alike.sum())
        returned += int((alike & (other.code[autopsy.units] != STATES.index("dead"))).sum())
    margin = float(states.margin[unit])
    return Comeback(
        margin if np.isfinite(margin) else None,
        depth if np.isfinite(depth) else None,
        died,
        returned,
        moving(chart, name),
    )


def near(chart: Chart) -> int:
    """Dead units close to firing, in layers whose inputs still move: many come back alone."""
    return sum(
        int((one.are("dead") & (one.margin >= -CLOSE)).sum())
        for one in chart
        if one.are("dead").any() and (moving(chart, one.site.name) or 0) > 0
    )


def moving(chart: Chart, name: str) -> float | None:
    """Largest relative update, at the last exam, of the layers whose units a site reads."""
    above = chart.upstream[name]
    found = [0.0]
    for other in above:
        if not chart.of(other).are("dead").all():
            _, updates = chart.history.measure(other, "update_ratio")
            found.extend(updates[-1:])
    return float(max(found)) if above else None


def _depth(states: States, autopsy: Autopsy) -> Double:
    """Distance of the mean pre-activation from firing at death, in standard deviations of z."""
    fires = states.site.activation.fires
    if not fires:
        return np.full(len(autopsy.units), np.nan)
    z, spread = autopsy.z_after.astype(np.float64), autopsy.spread_after.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.maximum(fires[0][0] - z, z - fires[-1][1])
        return np.asarray(gap / spread)
