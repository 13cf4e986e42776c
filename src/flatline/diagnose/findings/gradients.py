"""Findings about gradients that do not arrive, or arrive far too large."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.findings.rates import largest_update
from flatline.diagnose.findings.shares import by_cause, by_share, share_severity
from flatline.diagnose.findings.spikes import WAKE, spike
from flatline.diagnose.names import SEVERITIES

Double = npt.NDArray[np.float64]

#: Losses that must stand out before they count without other harm.
_OFTEN = 3


@finding("vanishing-gradient")
def vanishing_gradient(chart: Chart) -> Finding | None:
    """Gradients that shrink towards the input until early layers no longer move.

    Evidence: the gradient of the first site's output in the largest of later sites', the relative
    update of its weights, and a loss that never fell, or only after half of the steps (a warning);
    or units that are starved: their gradient too small to change a weight in single precision.
    Threshold: a hundredth, and an update of 1e-4; severity of starved units by share. Avoids: early
    layers with small gradients that still move, as under Adam; schedules and converged runs, whose
    loss has fallen; frozen layers, which get no gradient at all.
    """
    starved = by_share(
        chart,
        "vanishing-gradient",
        {s.site.name: (s, s.are("starved")) for s in chart},
        share_severity,
        lambda s, m: "get gradients too small to change a weight",
        explains=_AFTER_VANISHING,
    )
    across = _vanished(chart)
    if starved is None or across is None:
        return across or starved
    return max(across, starved, key=lambda one: SEVERITIES.index(one.severity))


_AFTER_VANISHING = ("rank-collapse", "learning-rate-too-low", "dormant-units", "no-learning")


def _vanished(chart: Chart) -> Finding | None:
    limits, readings = chart.thresholds, chart.readings
    ratio = arriving(chart)
    update = readings.usual("update_ratio")
    moving = np.flatnonzero(np.isfinite(update))
    stood = chart.progress.stood_still(limits.long_wait)
    if not len(moving) or not (stood and ratio <= limits.vanishing_ratio):
        return None
    stuck = chart.progress.stuck
    first = int(moving[0])
    if not update[first] <= min(limits.vanishing_update, 0.1 * np.nanmax(update)):
        return None
    return Finding(
        "vanishing-gradient",
        "critical" if stuck else "warning",
        tuple(site.name for site in chart.sites),
        1.0,
        f"the gradient that reaches {chart.sites[first].name} is {ratio:.1g} of that behind it: "
        f"one update changes its weights by {update[first]:.1g} of themselves, and the loss "
        f"{'never fell' if stuck else 'stood still at first'}",
        {"ratio": ratio, "update_ratio": float(update[first])},
        explains=_AFTER_VANISHING,
    )


def arriving(chart: Chart) -> float:
    """What arrives of the gradient at the first site, at the start or the end; NaN if unknown."""
    readings = chart.readings
    return max(_first_of(readings.early("signal_rms")), _first_of(readings.late("signal_rms")))


def _first_of(signal: Double) -> float:
    """The gradient at the first site in the largest of the others; NaN where there is none."""
    known = signal[np.isfinite(signal)]
    return float(known[0] / known[1:].max()) if len(known) > 1 and known[1:].max() > 0 else np.nan


@finding("exploding-gradient")
def exploding_gradient(chart: Chart) -> Finding | None:
    """A gradient out of all proportion to those before it, and harm by it.

    Evidence: the gradient norm, or the loss, in medians of the 50 steps before, at the first step
    where it exceeds 30; units that died within 25 steps of it by a large step, or a loss that came
    back. Threshold: 30, and harm; a warning for three such losses above that of the beginning.
    Avoids: large gradients of the first steps, and of trainings
    whose updates were large from the start; batches that are hard and do no harm; a learning rate
    that was raised, which is the root where it comes before.
    """
    first = spike(chart)
    if first is None or largest_update(chart) >= chart.thresholds.large_update:
        return None
    died = {
        name: (s, mask & (s.since_step > first.step) & (s.since_step <= first.step + WAKE))
        for name, (s, mask) in by_cause(chart, "step-too-large", "upstream-death").items()
    }
    found = by_share(chart, "exploding-gradient", died, share_severity, lambda s, m: "died")
    severity = "critical" if chart.progress.failed else "info" if found is None else found.severity
    if severity == "info" and first.losses >= _OFTEN:
        severity = "warning"
    after = "" if found is None else f"; by it {found.message}"
    after += f"; {first.losses:,} losses stood out so" if first.losses >= _OFTEN else ""
    after += "; the loss came back" if chart.progress.relapsed else ""
    return Finding(
        "exploding-gradient",
        severity,
        () if found is None else found.sites,
        0.0 if found is None else found.share,
        f"at step {first.step:,} the {first.what} was {first.ratio:,.0f} times that of the steps "
        f"before{after}",
        {"step": float(first.step), "ratio": first.ratio, "losses": float(first.losses)}
        | ({} if found is None else found.evidence),
        explains=(
            "dying-relu", "saturation", "upstream-death", "rank-collapse", "dormant-units",
            "learning-rate-too-low", "vanishing-gradient", "non-finite", "no-learning",
        ),
    )  # fmt: skip
