"""Findings about shares of units in some state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flatline.diagnose.certainty import firing_rate_upper
from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import SEVERITIES, Finding, Remedy, finding
from flatline.diagnose.states import DORMANT_SCORE, SATURATED_SHARE, States
from flatline.diagnose.thresholds import Thresholds

Bool = npt.NDArray[np.bool_]
# At this rate or above a unit would be called alive; see the evidence `silent_by_chance`.
_RATE = 0.01


def _share_severity(states: States, affected: Bool, thresholds: Thresholds) -> str:
    """How much a share of units matters, by the harm it may do."""
    share = float(affected.mean())
    still = affected | states.are("dead", "constant")
    if still.all():
        return "critical"  # nothing passes the site any more
    hidden_and_wide = bool(states.site.reads) and len(affected) >= thresholds.critical_units
    if share >= thresholds.critical_share and hidden_and_wide:
        return "critical"
    return "warning" if share >= thresholds.warning_share else "info"


def _advisory_severity(states: States, affected: Bool, thresholds: Thresholds) -> str:
    """Severity of what costs capacity at most: never critical."""
    wide = bool(states.site.reads) and len(affected) >= thresholds.critical_units
    return "warning" if affected.mean() >= thresholds.critical_share and wide else "info"


def _info(states: States, affected: Bool, thresholds: Thresholds) -> str:
    return "info"


def _by_share(
    chart: Chart,
    code: str,
    affected: Mapping[str, tuple[States, Bool]],
    severity: Callable[[States, Bool, Thresholds], str],
    says: Callable[[States, Bool], str],
    *,
    least: float = 0.0,
    remedies: Callable[[States], tuple[Remedy, ...]] = lambda _: (),
) -> Finding | None:
    """A finding about a share of units, led by the site that is worst off.

    Args:
        chart: The chart.
        code: Its code.
        affected: Per site, its states and which units are affected.
        severity: Severity at one site.
        says: What is the matter with the affected units of the worst site, from the verb on.
        least: Sites with a smaller share are left out.
        remedies: What may help, judged by the worst site.
    """
    hit = [(s, mask) for s, mask in affected.values() if mask.any() and mask.mean() >= least]
    if not hit:
        return None
    limits = chart.thresholds
    levels = {s.site.name: SEVERITIES.index(severity(s, mask, limits)) for s, mask in hit}
    hit.sort(key=lambda pair: (-levels[pair[0].site.name], -pair[1].mean()))
    states, mask = hit[0]
    message = f"{_who(states, mask)} {says(states, mask)}{_others(hit[1:])}"
    number, share = int(mask.sum()), float(mask.mean())
    examples = int(states.examples[mask].min())
    return Finding(
        code,
        SEVERITIES[levels[states.site.name]],
        tuple(s.site.name for s, _ in hit),
        share,
        message,
        {"units": float(len(mask)), "affected": float(number), "examples": float(examples)},
        remedies(states),
    )


def _who(states: States, mask: Bool) -> str:
    site, number = states.site, int(mask.sum())
    return f"{number:,} of {len(mask):,} units of site {site.name} ({site.activation.name})"


def _others(rest: Sequence[tuple[States, Bool]]) -> str:
    if not rest:
        return ""
    named = ", ".join(f"{s.site.name}: {mask.mean():.0%}" for s, mask in rest[:3])
    more = f" and {len(rest) - 3:,} more" if len(rest) > 3 else ""
    sites = "one more site" if len(rest) == 1 else f"{len(rest):,} more sites"
    return f"; the same in {sites} ({named}{more})"


def _in_state(chart: Chart, *names: str) -> dict[str, tuple[States, Bool]]:
    return {s.site.name: (s, s.are(*names)) for s in chart}


def _silence(states: States, mask: Bool) -> str:
    """What is known about silence, with its bound."""
    n = int(states.examples[mask].min())
    return f"{n:,} examples (firing rate below {float(firing_rate_upper(n)):.2g}, 99% confidence)"


def _with_chance(found: Finding | None) -> Finding | None:
    """Adds the number of units that would be silent by chance if all of them fired rarely."""
    if found is not None:
        n, units = found.evidence["examples"], found.evidence["units"]
        found.evidence["firing_rate_upper"] = float(firing_rate_upper(n))
        found.evidence["silent_by_chance"] = units * (1 - _RATE) ** n
    return found


def _swap(states: States, why: str) -> tuple[Remedy, ...]:
    """The activation that the site's own may be swapped for first, if there is one."""
    swaps = states.site.activation.swaps
    return (Remedy(f"activation={swaps[0]}", why),) if swaps else ()


@finding("non-finite")
def non_finite(chart: Chart) -> Finding | None:
    """NaN or infinity in z, h or a gradient.

    Evidence: one such number is enough, and critical: it spreads to all that reads it. Named
    first is the site nearest the input, where it is most likely to have begun.
    """
    hit = [(s, mask) for s in chart if (mask := s.are("nonfinite")).any()]
    if not hit:
        return None
    states, mask = hit[0]
    return Finding(
        "non-finite",
        "critical",
        tuple(s.site.name for s, _ in hit),
        float(mask.mean()),
        f"{_who(states, mask)} gave or received NaN or infinity" + _others(hit[1:]),
        {"units": float(len(mask)), "affected": float(mask.sum())},
        (
            Remedy("lr=x0.1", "a smaller step keeps weights in range"),
            Remedy("clip=norm:1.0", "one large gradient cannot throw the weights far"),
        ),
    )


@finding("born-dead")
def born_dead(chart: Chart) -> Finding | None:
    """Units that were dead before the first update.

    Evidence: silent on every example witnessed, with no life shown at any step. Threshold: any
    unit; severity by share. Avoids: units seen on fewer than 459 examples, and runs in which no
    ledger was kept, where nobody can tell when they died.
    """
    found = {s.site.name: (s, s.are("dead") & (s.last_life < 0)) for s in chart if s.watched}
    return _with_chance(
        _by_share(
            chart,
            "born-dead",
            found,
            _share_severity,
            lambda s, m: f"never fired, from the first step on, for {_silence(s, m)}",
            remedies=lambda s: (
                Remedy("init=he", "weights scaled to the fan-in keep about half the inputs firing"),
                Remedy(
                    "init=asymmetric", "one weight or bias of each unit is drawn to be positive"
                ),
                *_swap(s, "its slope is nowhere 0, so a silent unit can still learn"),
            ),
        )
    )


@finding("dying-relu")
def dying_relu(chart: Chart) -> Finding | None:
    """Units that died during training, or are dead where no training was watched.

    Evidence: silent now, with life shown before. Threshold: any unit; severity by share. Avoids:
    units that are merely rare (fewer than 459 silent examples), and those of saturating
    activations, which :func:`saturation` reports.
    """
    found = {s.site.name: (s, _died(s)) for s in chart if not _saturates(s)}

    def says(states: States, mask: Bool) -> str:
        if not states.watched:
            return f"never fired for {_silence(states, mask)}"
        first = int(states.since_after[mask].min()) + 1
        last = int(states.since_step[mask].max())
        when = f"at step {first:,}" if first == last else f"between steps {first:,} and {last:,}"
        if (states.since_step[mask] < 0).any():
            when = "during training"
        return f"stopped firing {when} and stayed silent for {_silence(states, mask)}"

    return _with_chance(
        _by_share(
            chart,
            "dying-relu",
            found,
            _share_severity,
            says,
            remedies=lambda s: (
                Remedy("lr=x0.1", "single updates no longer carry units past their threshold"),
                Remedy("clip=norm:1.0", "one large gradient cannot kill many units at once"),
                *_swap(s, "its slope is nowhere 0, so a silent unit can still learn"),
                Remedy("revive=redo", "resets silent units, so that their capacity is used again"),
            ),
        )
    )


@finding("saturation")
def saturation(chart: Chart) -> Finding | None:
    """Units of a saturating activation that are pinned at their rails.

    Evidence: slope below 1 % of its maximum on at least 95 % of examples, or an output that did
    not change at all after a life in training. Threshold: any unit; severity by share. Avoids:
    activations without rails, and positions that saturate while others of the example do not.
    """
    found = {
        s.site.name: (s, s.are("saturated") | (_died(s) if _saturates(s) else False)) for s in chart
    }
    return _by_share(
        chart,
        "saturation",
        found,
        _share_severity,
        lambda s, m: (
            f"sat at a flat end of their activation on at least {SATURATED_SHARE:.0%} of "
            f"{int(s.examples[m].min()):,} examples"
        ),
        remedies=lambda s: (
            Remedy("init=xavier", "weights scaled to fan-in and fan-out keep z where it bends"),
            Remedy("norm=layer", "normalised pre-activations stay off the flat ends"),
            Remedy("lr=x0.1", "smaller updates keep z where the activation bends"),
            *_swap(s, "it does not flatten at both ends"),
        ),
    )


def _died(states: States) -> Bool:
    """Dead units that once lived, and those of which nobody knows."""
    if not states.watched:
        return states.are("dead")
    return states.are("dead") & (states.last_life >= 0)


def _saturates(states: States) -> bool:
    """Whether a unit of this site that does not fire from below sits on a rail."""
    return any(low == -np.inf for low, _ in states.site.activation.rails)


@finding("duplicate-units")
def duplicate_units(chart: Chart) -> Finding | None:
    """Units that are copies of another unit of their site.

    Evidence: the same pre-activation on every example, at least two. Threshold: any unit beyond
    the first of each group; severity by share. Avoids: dead and constant units, which agree
    without being copies.
    """
    return _by_share(
        chart,
        "duplicate-units",
        _in_state(chart, "duplicate"),
        _share_severity,
        lambda s, m: (
            f"gave the same pre-activation as another unit on all {s.examples[m].min():,} examples"
        ),
        remedies=lambda _: (
            Remedy("init=he", "random weights tell units apart"),
            Remedy("init=orthogonal", "orthogonal weights keep units as different as can be"),
        ),
    )


@finding("dormant-units")
def dormant_units(chart: Chart) -> Finding | None:
    """Units that give next to nothing beside the others of their site.

    Evidence: mean output at most 2.5 % of the site's mean. Threshold: 5 % of a site. Avoids:
    sparse codes, in which some units are quiet by design: at most a warning, and only from 30 %.
    """
    return _by_share(
        chart,
        "dormant-units",
        _in_state(chart, "dormant"),
        _advisory_severity,
        lambda s, m: (
            f"gave at most {DORMANT_SCORE:.1%} of the site's mean output over "
            f"{s.examples[m].min():,} examples"
        ),
        least=chart.thresholds.warning_share,
        remedies=lambda _: (Remedy("revive=redo", "resets units that give next to nothing"),),
    )


@finding("ignored-units")
def ignored_units(chart: Chart) -> Finding | None:
    """Units that nothing reads, because every weight that reads them is 0.

    Evidence: the reading weights, in every exam of the window. Threshold: 5 % of a site. Avoids:
    sites whose readers were not seen; and layers that start at zero on purpose leave this state
    with their first update.
    """
    return _by_share(
        chart,
        "ignored-units",
        _in_state(chart, "ignored"),
        _advisory_severity,
        lambda s, m: "were read by weights that are all 0",
        least=chart.thresholds.warning_share,
    )


@finding("linear-units")
def linear_units(chart: Chart) -> Finding | None:
    """Units whose nonlinearity never bent anything.

    Evidence: every pre-activation seen lay inside one straight piece. Threshold: 30 % of a site.
    Avoids: alarm. Such units are affine on this data only, and cost nothing but a fold.
    """
    return _by_share(
        chart,
        "linear-units",
        _in_state(chart, "linear"),
        _info,
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
    return _by_share(
        chart,
        "unvisited-units",
        _in_state(chart, "unvisited"),
        _info,
        lambda s, m: "received no example in any exam",
    )
