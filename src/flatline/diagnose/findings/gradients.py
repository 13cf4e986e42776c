"""Findings about gradients that do not arrive, or arrive far too large."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.context import ENOUGH, trailing
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding, Remedy
from flatline.diagnose.findings.rates import largest_update
from flatline.diagnose.findings.shares import by_cause, by_share, share_severity
from flatline.diagnose.names import SEVERITIES

Double = npt.NDArray[np.float64]

#: Steps after a spike within which deaths by a large step are put down to it.
_WAKE = 25
#: First step of a training whose gradient has an ordinary size to compare with.
_CALM = 2 * ENOUGH


@finding("vanishing-gradient")
def vanishing_gradient(chart: Chart) -> Finding | None:
    """Gradients that shrink towards the input until early layers no longer move.

    Evidence: the gradient of the first site's output in the largest of later sites', the relative
    update of its weights, and a loss that never fell; or units that are starved: their gradient
    too small to change a weight in single precision. Threshold: a hundredth, and an update of
    1e-4; severity of starved units by share. Avoids: early layers with small gradients that still
    move, as under Adam; schedules and converged runs, whose loss has fallen; frozen layers, which
    get no gradient at all.
    """
    starved = by_share(
        chart,
        "vanishing-gradient",
        {s.site.name: (s, s.are("starved")) for s in chart},
        share_severity,
        lambda s, m: "get gradients too small to change a weight",
        remedies=lambda _: _CURES,
        explains=_AFTER_VANISHING,
    )
    across = _vanished(chart)
    if starved is None or across is None:
        return across or starved
    return max(across, starved, key=lambda one: SEVERITIES.index(one.severity))


_CURES = (
    Remedy("init=he", "variance is kept from layer to layer"),
    Remedy("norm=batch", "z stays where the nonlinearity has a slope"),
    Remedy("activation=leaky_relu", "its slope does not shrink a gradient"),
)
_AFTER_VANISHING = ("rank-collapse", "learning-rate-too-low", "dormant-units", "no-learning")


def _vanished(chart: Chart) -> Finding | None:
    limits, readings = chart.thresholds, chart.readings
    ratio = max(_first_of(readings.early("signal_rms")), _first_of(readings.late("signal_rms")))
    update = readings.usual("update_ratio")
    moving = np.flatnonzero(np.isfinite(update))
    if not len(moving) or not (chart.progress.stuck and ratio <= limits.vanishing_ratio):
        return None
    first = int(moving[0])
    if not update[first] <= min(limits.vanishing_update, 0.1 * np.nanmax(update)):
        return None
    return Finding(
        "vanishing-gradient",
        "critical",
        tuple(site.name for site in chart.sites),
        1.0,
        f"the gradient that reaches {chart.sites[first].name} is {ratio:.1g} of that behind it: "
        f"one update changes its weights by {update[first]:.1g} of themselves, and the loss never "
        "fell",
        {"ratio": ratio, "update_ratio": float(update[first])},
        _CURES,
        _AFTER_VANISHING,
    )


def _first_of(signal: Double) -> float:
    """The gradient at the first site in the largest of the others; NaN where there is none."""
    known = signal[np.isfinite(signal)]
    return float(known[0] / known[1:].max()) if len(known) > 1 and known[1:].max() > 0 else np.nan


@finding("exploding-gradient")
def exploding_gradient(chart: Chart) -> Finding | None:
    """A gradient out of all proportion to those before it, and harm by it.

    Evidence: the gradient norm, or the loss, in medians of the 50 steps before, at the first step
    where it exceeds 30; units that died within 25 steps of it by a large step, or a loss that came
    back. Threshold: 30, and harm. Avoids: large gradients of the first steps, and of trainings
    whose updates were large from the start; batches that are hard and do no harm; a learning rate
    that was raised, which is the root where it comes before.
    """
    spike = _spike(chart)
    if spike is None or largest_update(chart) >= chart.thresholds.large_update:
        return None
    step, ratio, what = spike
    died = {
        name: (s, mask & (s.since_step > step) & (s.since_step <= step + _WAKE))
        for name, (s, mask) in by_cause(chart, "step-too-large", "upstream-death").items()
    }
    found = by_share(chart, "exploding-gradient", died, share_severity, lambda s, m: "died")
    severity = "critical" if chart.progress.failed else "info" if found is None else found.severity
    after = "" if found is None else f"; by it {found.message}"
    after += "; the loss came back" if chart.progress.relapsed else ""
    return Finding(
        "exploding-gradient",
        severity,
        () if found is None else found.sites,
        0.0 if found is None else found.share,
        f"at step {step:,} the {what} was {ratio:,.0f} times that of the steps before{after}",
        {"step": float(step), "ratio": ratio} | ({} if found is None else found.evidence),
        (
            Remedy("clip=norm:1.0", "one large gradient cannot throw the weights far"),
            Remedy("clip=agc:0.01", "no update exceeds a share of the weights it changes"),
            Remedy("lr=x0.1", "smaller steps survive a large gradient"),
        ),
        (
            "dying-relu", "saturation", "upstream-death", "rank-collapse", "dormant-units",
            "learning-rate-too-low", "vanishing-gradient", "non-finite", "no-learning",
        ),
    )  # fmt: skip


def _spike(chart: Chart) -> tuple[int, float, str] | None:
    """Step, size and kind of the first spike in a training whose rate was not raised before."""
    limits, steps = chart.thresholds, chart.history.steps
    with np.errstate(invalid="ignore", divide="ignore"):
        raised = steps.lr > limits.raised_rate * trailing(steps.lr)
        calm = (np.arange(len(raised)) >= _CALM) & ~np.logical_or.accumulate(raised)
        for what, values, least in (
            ("gradient", steps.gradient, 0.0),
            ("loss", steps.loss, chart.progress.first),
        ):
            ratio = values / trailing(values)
            ratio[~np.isfinite(ratio)] = 0.0
            hit = np.flatnonzero(calm & (ratio >= limits.exploding_ratio) & (values > least))
            if len(hit):
                height = float(ratio[hit[0] : hit[0] + _WAKE].max())
                return int(steps.step[hit[0]]), height, what
    return None
