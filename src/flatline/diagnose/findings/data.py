"""Findings about the inputs of the model."""

from __future__ import annotations

import numpy as np

from flatline.diagnose.certainty import CERTAIN_EXAMPLES
from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding, Remedy
from flatline.diagnose.findings.harm import lost
from flatline.diagnose.findings.shares import by_share, share_severity
from flatline.diagnose.findings.slow import way_of
from flatline.diagnose.names import SEVERITIES


@finding("unscaled-input")
def unscaled_input(chart: Chart) -> Finding | None:
    """Inputs of a scale or an offset that drives the units that read them to one side.

    A unit is silent at birth on n inputs with a chance that rests on s², the squared length of
    their mean in total variances: 0.1 % at s² = 1, 5 % at 4, 21 % at 16 for n = 1,000. A step
    grows with the squared length of the inputs. Evidence: s² and the rms of the inputs, at the
    start or at the end; units of the first layers that are dead, saturated or constant; a loss
    that stands still, comes back or ends above that of a guess. Threshold: s² of 4 or an rms of
    10, and a warning's share of such units or a loss that failed. Avoids: raw inputs that a
    normalisation takes up, all that do no harm, and inputs off centre where the weights hardly
    moved.
    """
    limits, readings = chart.thresholds, chart.readings
    offset = np.fmax(readings.early("data_offset"), readings.late("data_offset"))
    rms = np.fmax(readings.early("data_rms"), readings.late("data_rms"))
    odd = (offset >= limits.offset) | (rms >= limits.input_rms)
    if not odd.any():
        return None
    states = {
        s.site.name: (s, s.are("dead", "saturated", "constant"))
        for s, one in zip(chart, odd, strict=True)
        if one
    }
    aside = by_share(
        chart, "unscaled-input", states, share_severity, lambda s, m: "lie on one side of it"
    )
    # Weights that went nowhere have not learned from inputs of any offset.
    large = rms.max(initial=0.0, where=odd) >= limits.input_rms
    failed = lost(chart) and (large or not way_of(chart) <= limits.short_way)
    if not failed and (aside is None or aside.severity == "info"):
        return None
    worst = aside.sites[0] if aside is not None else next(iter(states))
    place = [site.name for site in chart.sites].index(worst)
    count = "" if aside is None else f"; {aside.message}"
    return Finding(
        "unscaled-input",
        SEVERITIES[2] if failed or aside is None else aside.severity,
        tuple(states) if aside is None else aside.sites,
        0.0 if aside is None else aside.share,
        f"inputs of {worst} have an rms of {rms[place]:.3g} and lie {offset[place] ** 0.5:.3g} "
        f"spreads from 0{count}",
        {"offset": float(offset[place]), "rms": float(rms[place])}
        | ({} if aside is None else aside.evidence),
        (
            Remedy("standardise=input", "inputs of mean 0 and variance 1 reach both sides"),
            Remedy("norm=batch", "normalised pre-activations do not depend on the inputs' scale"),
            Remedy("lr=x0.1", "a step grows with the square of the inputs"),
        ),
        (
            "init-too-large", "learning-rate-too-high", "exploding-gradient", "non-finite",
            "born-dead", "dying-relu", "saturation", "upstream-death", "linear-units",
            "dormant-units", "duplicate-units", "rank-collapse", "vanishing-gradient",
            "learning-rate-too-low", "no-learning",
        ),
    )  # fmt: skip


@finding("constant-input")
def constant_input(chart: Chart) -> Finding | None:
    """Input features that never varied.

    Evidence: the smallest and largest value of each feature over all exams. Threshold: any
    feature, after 459 examples. Avoids: alarm; such a feature only adds to a bias.
    """
    readings = chart.readings
    constant, features = readings.last("data_constant"), readings.last("data_features")
    examples = np.array([states.examples.max(initial=0) for states in chart], np.int64)
    hit = np.flatnonzero((constant > 0) & (examples >= CERTAIN_EXAMPLES))
    if not len(hit):
        return None
    worst = int(hit[np.argmax(constant[hit] / features[hit])])
    number, of = int(constant[worst]), int(features[worst])
    return Finding(
        "constant-input",
        "info",
        tuple(chart.sites[place].name for place in hit),
        number / of,
        f"{number:,} of {of:,} input features of {chart.sites[worst].name} never varied",
        {"constant": float(number), "features": float(of)},
    )
