"""Findings about the inputs of the model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flatline.diagnose.certainty import CERTAIN_EXAMPLES
from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.findings.harm import lost
from flatline.diagnose.findings.ranks import LINE
from flatline.diagnose.findings.shares import by_share, share_severity
from flatline.diagnose.findings.slow import way_of
from flatline.diagnose.names import SEVERITIES


@finding("unscaled-input")
def unscaled_input(chart: Chart) -> Finding | None:
    """Inputs of a scale or an offset that drives the units that read them to one side.

    A unit is silent at birth on n inputs with a chance that rests on s², the squared length of
    their mean in total variances: 0.1 % at s² = 1, 5 % at 4, 21 % at 16 for n = 1,000. A step
    grows with the squared length of the inputs. Evidence: s² and the rms of the inputs, from the
    start on or at the end; units that are dead, saturated or constant, in the first layers or
    right behind one whose activations start on a line; a loss that stands still, comes back or
    ends above that of a guess. Threshold: s² of 4 or an rms of 10, and a warning's share of such
    units or a loss that failed. Avoids: raw inputs that a normalisation takes up, all that do no
    harm, and inputs off centre where the weights hardly moved.
    """
    limits = chart.thresholds
    offset, rms = _lasting(chart, "data_offset"), _lasting(chart, "data_rms")
    odd = (offset >= limits.offset) | (rms >= limits.input_rms)
    if not odd.any():
        return None
    states = {
        s.site.name: (s, s.are("dead", "saturated", "constant"))
        for s, one in zip(chart, odd | _behind_a_line(chart, odd), strict=True)
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
    readers = [site.name for site, one in zip(chart.sites, odd, strict=True) if one]
    worst = next((name for name in aside.sites if name in readers), "") if aside else ""
    place = int(np.flatnonzero(odd)[readers.index(worst) if worst else 0])
    count = "" if aside is None else f"; {aside.message}"
    return Finding(
        "unscaled-input",
        SEVERITIES[2] if failed or aside is None else aside.severity,
        tuple(states) if aside is None else aside.sites,
        0.0 if aside is None else aside.share,
        f"inputs of {chart.sites[place].name} have an rms of {rms[place]:.3g} and lie "
        f"{offset[place] ** 0.5:.3g} spreads from 0{count}",
        {"offset": float(offset[place]), "rms": float(rms[place])}
        | ({} if aside is None else aside.evidence),
        explains=(
            "init-too-large", "learning-rate-too-high", "exploding-gradient", "non-finite",
            "born-dead", "dying-relu", "saturation", "upstream-death", "linear-units",
            "dormant-units", "duplicate-units", "rank-collapse", "vanishing-gradient",
            "learning-rate-too-low", "no-learning",
        ),
    )  # fmt: skip


def _behind_a_line(chart: Chart, odd: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Sites that read odd ones whose activations start on a line: they get one-sided inputs too."""
    on_a_line = odd & (chart.readings.early("effective_rank") <= LINE)
    names = {site.name for site, one in zip(chart.sites, on_a_line, strict=True) if one}
    return np.array([bool(names & set(chart.upstream[s.name])) for s in chart.sites], np.bool_)


def _lasting(chart: Chart, measure: str) -> npt.NDArray[np.float64]:
    """A measure of the inputs at the start and at the end, whichever is less: few examples differ.

    The end alone where the inputs themselves changed.
    """
    readings = chart.readings
    early, late = readings.early(measure), readings.late(measure)
    changed = readings.late("data_shift") >= chart.thresholds.data_shift
    return np.asarray(np.where(changed, late, np.fmin(early, late)))


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
