"""What is found of steps that are too large."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.context import trailing
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.findings.ranks import alike_from_the_start
from flatline.diagnose.findings.shares import by_cause, by_share, dead, share_severity
from flatline.diagnose.findings.spikes import spike
from flatline.diagnose.findings.units import nonfinite_step
from flatline.diagnose.progress import Progress

Double = npt.NDArray[np.float64]

#: Part of the weights at the start below which decay, not the rate, makes updates large.
_WITHERED = 0.05
#: Deaths that large updates explain: several of them are no drift, and inputs move by them too.
_OWN = ("step-too-large", "bias-drift", "weight-drift", "input-shift", "unknown")


@finding("learning-rate-too-high")
def learning_rate_too_high(chart: Chart) -> Finding | None:
    """Single updates large enough to kill units, or to make the loss diverge.

    Evidence: units that died of a large step; the relative update of the first steps; a rate that
    was raised; a loss that stood still or came back, or that the first updates threw up. Threshold:
    a tenth of a matrix in one update (TheDeepChecker allows 0.001 to 0.1), or a rate three times
    that of the steps before, where the training failed or units died, with severity by their share;
    a critical share that large steps killed, if most that died did; or a loss 30 times that before
    any update, within nine of them, with a warning where the training recovered. Avoids: warm-up
    and restarts, which raise the rate and do no harm; large relative updates of biases and scales
    that start near 0; updates by weight decay; one spike in a calm training, which
    ``exploding-gradient`` reports.
    """
    limits, progress = chart.thresholds, chart.progress
    update, raised = largest_update(chart), _raised(chart)
    large, thrown = update >= limits.large_update, progress.leap >= limits.exploding_ratio
    if not (large or thrown or raised is not None or _by_steps(chart)):
        return None
    died = by_cause(chart, *(_OWN if large else ("step-too-large",)))
    killed = by_share(chart, "learning-rate-too-high", died, share_severity, lambda s, m: "died")
    failed = (progress.failed and progress.known) or _diverged(chart, raised, thrown=thrown)
    if killed is None and not failed and not thrown:
        return None
    severity = "critical" if failed else "warning" if killed is None else killed.severity
    if thrown and severity == "info":
        severity = "warning"
    return Finding(
        "learning-rate-too-high",
        severity,
        () if killed is None else killed.sites,
        0.0 if killed is None else killed.share,
        _how(progress, update if large else None, raised, killed, thrown=thrown),
        {"update_ratio": update, "loss": progress.last, "leap": progress.leap}
        | ({} if raised is None else {"step": float(raised[0]), "raised": raised[1]})
        | ({} if killed is None else killed.evidence),
        explains=(
            "exploding-gradient", "non-finite", "dying-relu", "saturation", "upstream-death",
            "rank-collapse", "vanishing-gradient", "dormant-units", "learning-rate-too-low",
            "no-learning",
        ),
    )  # fmt: skip


def _how(
    progress: Progress,
    update: float | None,
    raised: tuple[int, float] | None,
    killed: Finding | None,
    *,
    thrown: bool,
) -> str:
    """What the rate did, in one sentence."""
    said = [] if update is None else [f"single updates changed weights by {update:.0%}"]
    if raised is not None:
        said.append(f"the rate was raised {raised[1]:.3g} times at step {raised[0]:,}")
    if thrown:
        said.append(f"the first updates raised the loss {progress.leap:,.0f} times")
    if killed is not None:
        said.append(f"large steps were the death of units: {killed.message}")
    said += ["the loss stood still"] if progress.stuck else []
    said += ["the loss came back"] if progress.relapsed else []
    return "; ".join(said)


def _diverged(chart: Chart, raised: tuple[int, float] | None, *, thrown: bool) -> bool:
    """Whether numbers were lost after the first updates threw the loss up, or the rate rose."""
    step = nonfinite_step(chart)
    return step is not None and (thrown or (raised is not None and raised[0] <= step))


def _by_steps(chart: Chart) -> bool:
    """Whether steps that were seen to be large killed a critical share, and most of the dead."""
    if spike(chart) is not None or alike_from_the_start(chart):
        return False  # their root, or what makes any step large beside the spread of z
    # Where the loss shows the harm, units that are silent so far count as well.
    sure = not chart.progress.failed
    shares, killed, others = [0.0], 0, 0
    for name, (states, mask) in by_cause(chart, "step-too-large", sure=sure).items():
        if mask.any():
            mask &= chart.causes[name].evidence["shift"] >= chart.thresholds.large_shift
        shares.append(float(mask.mean()))
        killed += int(mask.sum())
        others += int((dead(states, sure=sure) & (states.last_life >= 0) & ~mask).sum())
    return max(shares) >= chart.thresholds.critical_share and killed > others


def largest_update(chart: Chart) -> float:
    """Largest relative update of a weight matrix at the start; NaN where none is known.

    Biases and scales may start near 0, and what withered did so by decay.
    """
    readings = chart.readings
    matrix = np.isfinite(readings.first("fan_in"))
    withered = readings.late("weight_rms") < _WITHERED * readings.first("weight_rms")
    update = readings.early("update_ratio")[matrix & ~withered]
    return float(np.nanmax(update)) if np.isfinite(update).any() else np.nan


def _raised(chart: Chart) -> tuple[int, float] | None:
    """The step at which the rate was raised most, and how many times."""
    steps = chart.history.steps
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = steps.lr / trailing(steps.lr)
    ratio = np.where(np.isfinite(ratio), ratio, 0.0)
    if not len(ratio) or ratio.max() < chart.thresholds.raised_rate:
        return None
    place = int(np.argmax(ratio))
    return int(steps.step[place]), float(ratio[place])
