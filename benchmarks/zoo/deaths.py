"""Which units died of what was planted, found by brute force.

A unit counts only where the plant is beyond doubt what killed it: a single step for
``step-too-large``, many small ones for a drift, the inputs for a shift. Others that died in the
same run are of no known cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from . import facts
from .fault import Plant
from .watch import RAILED, Array, Bool, SiteLog, Watch

#: A term that makes so much of a fall is what made it.
MOST = 0.7
#: A fall of which no step makes more than this is a drift.
SLOW = 0.35
#: Steps over which the ends of a fall are averaged, since batches differ.
BLUR = 5


@dataclass(frozen=True)
class Death:
    """The death of one unit.

    Attributes:
        site: Its site.
        unit: Its index.
        step: The first step on which it was silent for good; -1 where it was never alive or is
            not silent.
        plant: What it died of.
    """

    site: str
    unit: int
    step: int
    plant: Plant


def deaths(watch: Watch, plant: Plant) -> Iterator[Death]:
    """The units that died of one plant."""
    for index, site in enumerate(watch.sites.values()):
        if plant.site is not None and index != plant.site:
            continue
        first = site.last_life + 1
        inside = (first >= plant.first) & (first <= plant.last)
        known = _CAUSES[plant.cause](watch, site, index) & (inside | ~site.dead)
        for unit in np.flatnonzero(known).tolist():
            step = int(first[unit]) if site.dead[unit] and first[unit] > 0 else -1
            yield Death(site.name, unit, step, plant)


def falls(site: SiteLog) -> tuple[Array, Array]:
    """Shares of bias, weights and inputs in the fall of each dead unit, and its largest step's.

    The fall is from the highest mean pre-activation of its life, or rather the highest of its
    smoothed course, to that at its death.
    """
    terms = np.cumsum(site.terms, 0)
    share = np.full((3, site.units), np.nan)
    leap = np.full(site.units, np.nan)
    if not len(terms):
        return share, leap
    kernel = np.ones(BLUR) / BLUR
    for unit in np.flatnonzero(facts.died(site)):
        death = min(int(site.last_life[unit]) + 1, len(terms) - 1)
        path = terms[: death + BLUR, :, unit]
        own = path[:, :2].sum(1)
        smooth = np.convolve(path.sum(1), kernel, "valid")
        top = int(np.argmax(smooth[: max(len(smooth) - 1, 1)]))
        fall = path[-BLUR:].mean(0) - path[top : top + BLUR].mean(0)
        if fall.sum() < 0:
            share[:, unit] = fall / fall.sum()
            leap[unit] = -np.diff(own[top:]).min(initial=0) / -fall.sum()
    return share, leap


def _abrupt(site: SiteLog) -> Bool:
    """Fired on at least 5 % of the examples of its last living step, and never again."""
    last = site.fired[np.maximum(site.last_life, 0), np.arange(site.units)]
    return facts.died(site) & (last >= 0.05)


def _leapt(watch: Watch, site: SiteLog, index: int) -> Bool:
    """Killed by one update of its own weights and bias."""
    if isinstance(site.act, RAILED) or not len(site.terms):
        return np.zeros(site.units, bool)
    at = np.minimum(site.last_life + 1, len(site.terms) - 1)
    moved = site.terms[at, :, np.arange(site.units)]
    own = moved[:, :2].sum(1)
    return _abrupt(site) & (own < 0) & (own <= MOST * np.minimum(moved.sum(1), -1e-12))


def _drifted(term: int) -> Callable[[Watch, SiteLog, int], Bool]:
    def drifted(watch: Watch, site: SiteLog, index: int) -> Bool:
        share, leap = falls(site)
        with np.errstate(invalid="ignore"):
            known: Bool = (share[term] >= MOST) & (leap <= SLOW)
        return known

    return drifted


def _shifted(watch: Watch, site: SiteLog, index: int) -> Bool:
    """Alive one step, silent the next, and it was the inputs that moved."""
    if not len(site.terms):
        return np.zeros(site.units, bool)
    at = np.minimum(site.last_life + 1, len(site.terms) - 1)
    moved = site.terms[at, :, np.arange(site.units)]
    shifted: Bool = facts.died(site) & (moved.sum(1) < 0) & (moved[:, 2] <= MOST * moved.sum(1))
    return shifted


def _lost_inputs(watch: Watch, site: SiteLog, index: int) -> Bool:
    """Silent since about when the last unit before it died, for want of what they gave."""
    before = list(watch.sites.values())[index - 1]
    if before.dead.mean() < 0.9:
        return np.zeros(site.units, bool)
    end = before.last_life.max() + 1
    share, _ = falls(site)
    near = (site.last_life + 1 >= end - 30) & (site.last_life + 1 <= end + 5)
    with np.errstate(invalid="ignore"):
        known: Bool = facts.died(site) & near & ~(share[:2].max(0) >= 0.5)
    return known


def _withered(watch: Watch, site: SiteLog, index: int) -> Bool:
    """Its weights ended below a twentieth of what they were, and its bias hardly moved."""
    name = f"{site.name}.weight"
    now = dict(watch.training.model.named_parameters())[name].detach().flatten(1).norm(dim=1)
    left = (now / watch.start[name].flatten(1).norm(dim=1)).numpy()
    withered: Bool = facts.died(site) & (left < 0.05)
    return withered


_CAUSES: dict[str, Callable[[Watch, SiteLog, int], Bool]] = {
    "born-dead": lambda watch, site, index: facts.born_dead(site),
    "step-too-large": _leapt,
    "bias-drift": _drifted(0),
    "weight-drift": _drifted(1),
    "input-shift": _shifted,
    "upstream-death": _lost_inputs,
    "weight-decay": _withered,
    "saturation": lambda watch, site, index: (
        facts.saturated(site) | (facts.died(site) & isinstance(site.act, RAILED))
    ),
    "non-finite": lambda watch, site, index: ~site.finite.all(0),
}
