"""Findings about units that no longer give anything, or never did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.findings.ranks import alike_from_the_start
from flatline.diagnose.findings.shares import (
    Bool,
    by_cause,
    by_share,
    dead,
    share_severity,
    silence,
    why,
    with_chance,
)
from flatline.diagnose.states import SATURATED_SHARE, States


def _followed(chart: Chart, found: Finding | None) -> Finding | None:
    """With what follows where so many units give nothing that it is critical."""
    if found is None or found.severity != "critical":
        return found
    lost = () if alike_from_the_start(chart) else ("rank-collapse",)
    others = ("upstream-death", "vanishing-gradient", "learning-rate-too-low", "no-learning")
    return replace(found, explains=(*others, *lost))


@finding("born-dead")
def born_dead(chart: Chart) -> Finding | None:
    """Units that were dead before the first update.

    Evidence: silent on every example witnessed, with no life shown at any step. Threshold: any
    unit; severity by share. Avoids: units seen on fewer than 459 examples, but for a whole site
    through which nothing passed while the loss stood still; runs in which no ledger
    was kept, where nobody can tell when they died; and activations that are flat at both ends,
    whose units sit on a rail (:func:`saturation`).
    """
    found = {
        s.site.name: (s, _born(s, stuck=chart.progress.stuck))
        for s in chart
        if s.watched and not s.pinned
    }
    hit = by_share(
        chart,
        "born-dead",
        found,
        share_severity,
        lambda s, m: f"never fired, from the first step on, for {silence(s, m)}",
    )
    return _followed(chart, with_chance(hit))


@finding("dying-relu")
def dying_relu(chart: Chart) -> Finding | None:
    """Units that died during training, or are dead where no training was watched.

    Evidence: silent now, with life shown before. Threshold: any unit; severity by share. Avoids:
    units that are merely rare (fewer than 459 silent examples), those of saturating activations,
    which :func:`saturation` reports, and those that lost their inputs, which
    :func:`upstream_death` reports.
    """
    upstream = by_cause(chart, "upstream-death")
    found = {
        s.site.name: (s, _died(s) & ~upstream[s.site.name][1]) for s in chart if not _saturates(s)
    }

    def says(states: States, mask: Bool) -> str:
        if not states.watched:
            return f"never fired for {silence(states, mask)}"
        first = int(states.since_after[mask].min()) + 1
        last = int(states.since_step[mask].max())
        when = f"at step {first:,}" if first == last else f"between steps {first:,} and {last:,}"
        if (states.since_step[mask] < 0).any():
            when = "during training"
        causes = why(chart, states, mask)
        causes.pop("unknown", None)
        of = ", ".join(f"{number:,} by {cause}" for cause, number in list(causes.items())[:2])
        how = f" ({of})" if of else ""
        return f"stopped firing {when}{how} and stayed silent for {silence(states, mask)}"

    hit = by_share(
        chart,
        "dying-relu",
        found,
        share_severity,
        says,
    )
    return _followed(chart, with_chance(hit))


@finding("upstream-death")
def upstream_death(chart: Chart) -> Finding | None:
    """Units that are silent because the units they read are dead.

    Evidence: at least 90 % of the units upstream were dead when they fell silent, or the loss of
    their inputs is most of what moved z. Threshold: any unit; severity by share. Avoids: units
    whose own weights or bias took them below their threshold while inputs still came.
    """
    hit = by_share(
        chart,
        "upstream-death",
        by_cause(chart, "upstream-death"),
        share_severity,
        lambda s, m: (
            f"lost their inputs when the units that they read died, and stayed silent for "
            f"{silence(s, m)}"
        ),
    )
    return _followed(chart, with_chance(hit))


@finding("saturation")
def saturation(chart: Chart) -> Finding | None:
    """Units of a saturating activation that are pinned at their rails.

    Evidence: slope below 1 % of its maximum on at least 95 % of examples, or an output that did
    not change at all. Threshold: any unit; severity by share. Avoids:
    activations without rails, and positions that saturate while others of the example do not.
    """
    found = {
        s.site.name: (s, s.are("saturated") | (_flat(s) if _saturates(s) else False)) for s in chart
    }
    hit = by_share(
        chart,
        "saturation",
        found,
        share_severity,
        lambda s, m: (
            f"sat at a flat end of their activation on at least {SATURATED_SHARE:.0%} of "
            f"{int(s.examples[m].min()):,} examples"
        ),
    )
    return _followed(chart, hit)


def _born(states: States, *, stuck: bool) -> Bool:
    """Units that never showed life: certainly, or as a whole site that the loss shows to block."""
    silent = dead(states, sure=False) & (states.last_life < 0)
    return silent if stuck and silent.all() else silent & states.certain


def _died(states: States) -> Bool:
    """Dead units that once lived, and those of which nobody knows."""
    if not states.watched:
        return states.are("dead")
    return states.are("dead") & (states.last_life >= 0)


def _flat(states: States) -> Bool:
    """Dead units of an activation with a rail, but those born on the only one."""
    return states.are("dead") if states.pinned else _died(states)


def _saturates(states: States) -> bool:
    """Whether a unit of this site that does not fire from below sits on a rail."""
    return any(low == -np.inf for low, _ in states.site.activation.rails)
