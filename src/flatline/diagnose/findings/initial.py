"""Findings about how weights were drawn: what is wrong before the first update."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.findings.harm import lost
from flatline.diagnose.findings.shares import by_share, share_severity
from flatline.diagnose.names import STATES

Double = npt.NDArray[np.float64]

#: Largest difference between the rows of a matrix, in its largest weight, that is rounding.
_EQUAL = 1e-6
#: Part of a site's units, less the one that is the original, that must have stayed copies.
_COPIES = 0.9
_DEAD = STATES.index("dead")
_DEATHS = ("born-dead", "dying-relu", "upstream-death")
#: What comes of weights that were drawn badly.
_STUCK = (
    "vanishing-gradient", "born-dead", "dying-relu", "saturation", "upstream-death",
    "dormant-units", "linear-units", "rank-collapse", "learning-rate-too-low", "no-learning",
)  # fmt: skip


@finding("zero-init")
def zero_init(chart: Chart) -> Finding | None:
    """Hidden layers whose units started as copies of each other, and stayed so.

    Symmetry that no gradient breaks (Goodfellow et al. 2016, §8.4). Evidence: all rows of the
    weights equal before the first update, and 90 % of the units copies, constant or dead at the
    end; where the rows are equal still, also those that are silent so far. Threshold: any such
    site; severity by share. Avoids: layers that start at 0 on purpose, as the last of a residual
    branch or of an adapter, whose rows part at the first update.
    """
    readings = chart.readings
    born, now = readings.first("row_spread"), readings.last("row_spread")
    found = {}
    for states, first, last in zip(chart, born, now, strict=True):
        same = states.are("duplicate", "constant", "dead", "saturated")
        if last <= _EQUAL:  # silent copies: few examples need not say that they are dead
            same |= states.code == _DEAD
        if len(same) > 1 and first <= _EQUAL and same.sum() >= _COPIES * (len(same) - 1):
            found[states.site.name] = (states, same)
    limits = chart.thresholds
    elsewhere = [s.are("dead").mean() for s in chart if s.site.name not in found]
    others = max(elsewhere, default=0.0) >= limits.critical_share
    return by_share(
        chart,
        "zero-init",
        found,
        share_severity,
        lambda s, m: "started with the weights of the others and never parted from them",
        explains=(
            "init-too-small", "init-too-large", "duplicate-units", "ignored-units",
            "learning-rate-too-high", "exploding-gradient",
            *(code for code in _STUCK if not (others and code in _DEATHS)),
        ),
    )  # fmt: skip


@finding("init-too-small")
def init_too_small(chart: Chart) -> Finding | None:
    """Moments that shrink layer by layer from the start because weights are small.

    A layer multiplies the variance by its squared gain and what the nonlinearity lets through (He
    et al. 2015: the gain should be the root of 2 for ReLU, 1 for tanh). Evidence: the median gain
    before the first update, the spread of z and the gradient across the layers, and a loss that
    never fell, or only after half of the steps (a warning). Threshold: a gain below 0.75 and a
    moment that fell to a tenth. Avoids: weights of
    0, which ``zero-init`` reports where they do harm; nets whose normalisations or skip
    connections carry a small gain; weights that large steps have carried far from where they
    started; and all that learn nevertheless.
    """
    limits, readings = chart.thresholds, chart.readings
    gain = _gain(chart, "first")
    largest = max(gain, _gain(chart, "late"))
    spread = readings.early("z_spread")
    data = readings.early("data_rms")
    start = data[np.isfinite(data)][:1]
    forward = _across(np.concatenate([start, spread]))
    backward = _across(readings.early("signal_rms")[::-1])
    shrunk = float(np.fmin(forward, backward))
    stood = chart.progress.stood_still(limits.long_wait)
    if not (stood and gain > 0 and largest <= limits.small_gain and shrunk <= limits.shrink):
        return None
    stuck = chart.progress.stuck
    fell = [("spread of z", forward), ("gradient", backward)]
    falls = " and ".join(f"the {what} falls to {ratio:.1g}" for what, ratio in fell if ratio < 1)
    return Finding(
        "init-too-small",
        "critical" if stuck else "warning",
        tuple(site.name for site in chart.sites),
        1.0,
        f"weights start {_HE / gain:.2g} times below He's: across the layers {falls} of what it "
        f"was, and the loss {'never fell' if stuck else 'stood still at first'}",
        {"gain": gain, "forward": forward, "backward": backward},
        explains=("learning-rate-too-high", *_STUCK),
    )


#: The gain that keeps the second moment in a net of ReLUs.
_HE = 2**0.5


@finding("init-too-large")
def init_too_large(chart: Chart) -> Finding | None:
    """Moments that grow layer by layer from the start because weights are large.

    Evidence: the median gain (see :func:`init_too_small`) and the largest z before training, on
    inputs of ordinary size. Threshold: a gain of 2.5 and a z of 5; critical where the loss stands
    still, comes back, or ends above that of a guess. Avoids: large z by large inputs, which
    ``unscaled-input`` reports, and layers behind a normalisation.
    """
    limits, readings = chart.thresholds, chart.readings
    gain, largest = _gain(chart, "first"), _largest(readings.first("z_rms"))
    inputs = _largest(readings.first("data_rms"))
    if not (gain >= limits.large_gain and largest >= limits.large_rms * max(inputs, 1.0)):
        return None
    return Finding(
        "init-too-large",
        "critical" if lost(chart) else "warning",
        tuple(site.name for site in chart.sites),
        1.0,
        f"weights start {gain / _HE:.2g} times above He's: pre-activations reach an rms of "
        f"{largest:.3g} before training, and the loss starts at {chart.progress.first:.3g}",
        {"gain": gain, "z_rms": largest, "loss": chart.progress.first},
        explains=("exploding-gradient", "learning-rate-too-high", "non-finite", *_STUCK),
    )


def _gain(chart: Chart, when: Literal["first", "late"]) -> float:
    """Median over sites of rms(w)·√fan-in, before the first update or at the end."""
    readings = chart.readings
    weights = readings.first("weight_rms") if when == "first" else readings.late("weight_rms")
    gain = weights * np.sqrt(readings.first("fan_in"))
    gain = gain[np.isfinite(gain)]
    return float(np.median(gain)) if len(gain) else np.nan


def _across(moments: Double) -> float:
    """The last of some moments in the first of them."""
    known = moments[np.isfinite(moments)]
    return float(known[-1] / known[0]) if len(known) > 1 and known[0] > 0 else np.nan


def _largest(values: Double) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
