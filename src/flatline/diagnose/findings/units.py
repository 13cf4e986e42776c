"""Findings about units that are alive and of little or no use, or no numbers any more."""

from __future__ import annotations

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import finding
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.findings.shares import (
    advisory_severity,
    as_info,
    by_share,
    in_state,
    others,
    share_severity,
    who,
)
from flatline.diagnose.states import DORMANT_SCORE

#: What is said of numbers that were lost after all.
_AFTER_NAN = (
    "exploding-gradient", "dying-relu", "saturation", "upstream-death", "rank-collapse",
    "vanishing-gradient", "learning-rate-too-low", "no-learning",
)  # fmt: skip


@finding("non-finite")
def non_finite(chart: Chart) -> Finding | None:
    """NaN or infinity in z, h or a gradient.

    Evidence: one such number is enough, and critical: it spreads to all that reads it. Named
    first is the site nearest the input, where it is most likely to have begun.
    """
    hit = [(s, mask) for s in chart if (mask := s.are("nonfinite")).any()]
    step = nonfinite_step(chart)
    if not hit:
        return None if step is None else _without_site(step)
    states, mask = hit[0]
    return Finding(
        "non-finite",
        "critical",
        tuple(s.site.name for s, _ in hit),
        float(mask.mean()),
        f"{who(states, mask)} gave or received NaN or infinity" + others(hit[1:]),
        {"units": float(len(mask)), "affected": float(mask.sum())},
        explains=_AFTER_NAN,
    )


def _without_site(step: int) -> Finding:
    """No exam saw a site with it, but the loss was no number any more."""
    return Finding(
        "non-finite",
        "critical",
        (),
        1.0,
        f"the loss was NaN or infinite at step {step:,} and later",
        {"step": float(step)},
        explains=_AFTER_NAN,
    )


def nonfinite_step(chart: Chart) -> int | None:
    """The first step whose loss was no number; ``None`` where all were."""
    noted = next((note.step for note in chart.history.notes if note.kind == "nonfinite"), None)
    if noted is not None:
        return noted
    step = chart.progress.nonfinite
    return step if step >= 0 else None


@finding("duplicate-units")
def duplicate_units(chart: Chart) -> Finding | None:
    """Units that are copies of another unit of their site.

    Evidence: the same pre-activation on every example, at least two. Threshold: any unit beyond
    the first of each group; severity by share. Avoids: dead and constant units, which agree
    without being copies.
    """
    return by_share(
        chart,
        "duplicate-units",
        in_state(chart, "duplicate"),
        share_severity,
        lambda s, m: (
            f"gave the same pre-activation as another unit on all {s.examples[m].min():,} examples"
        ),
        explains=("rank-collapse",),
    )


@finding("dormant-units")
def dormant_units(chart: Chart) -> Finding | None:
    """Units that give next to nothing beside the others of their site.

    Evidence: mean output at most 2.5 % of the site's mean. Threshold: 5 % of a site. Avoids:
    sparse codes, in which some units are quiet by design: at most a warning, and only from 30 %.
    """
    return by_share(
        chart,
        "dormant-units",
        in_state(chart, "dormant"),
        advisory_severity,
        lambda s, m: (
            f"gave at most {DORMANT_SCORE:.1%} of the site's mean output over "
            f"{s.examples[m].min():,} examples"
        ),
        least=chart.thresholds.warning_share,
    )


@finding("ignored-units")
def ignored_units(chart: Chart) -> Finding | None:
    """Units that nothing reads, because every weight that reads them is 0.

    Evidence: the reading weights, in every exam of the window. Threshold: 5 % of a site. Avoids:
    sites whose readers were not seen; and layers that start at zero on purpose leave this state
    with their first update.
    """
    return by_share(
        chart,
        "ignored-units",
        in_state(chart, "ignored"),
        advisory_severity,
        lambda s, m: "were read by weights that are all 0",
        least=chart.thresholds.warning_share,
    )


@finding("linear-units")
def linear_units(chart: Chart) -> Finding | None:
    """Units whose nonlinearity never bent anything.

    Evidence: every pre-activation seen lay inside one straight piece. Threshold: 30 % of a site.
    Avoids: alarm. Such units are affine on this data only, and cost nothing but a fold.
    """
    return by_share(
        chart,
        "linear-units",
        in_state(chart, "linear"),
        as_info,
        lambda s, m: (
            f"were straight lines: they fired on every one of {s.examples[m].min():,} examples"
        ),
        least=chart.thresholds.linear_share,
    )


@finding("unvisited-units")
def unvisited_units(chart: Chart) -> Finding | None:
    """Units of sites that received no example.

    Evidence: no exam saw the site used. Threshold: any. Avoids: calling them dead: an expert that
    was never chosen or a branch that was never taken may be sound.
    """
    return by_share(
        chart,
        "unvisited-units",
        in_state(chart, "unvisited"),
        as_info,
        lambda s, m: "received no example in any exam",
    )
