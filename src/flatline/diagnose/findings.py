"""Statements about the model: what is wrong, on what evidence, how bad, what may help.

A finding is one small function of the chart, registered with :func:`finding`; its docstring says
what it rests on, where its threshold lies, and which false alarms it avoids. Only units whose
state is certain count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flatline.diagnose.certainty import firing_rate_upper
from flatline.diagnose.names import CODES as CODES
from flatline.diagnose.names import SEVERITIES as SEVERITIES
from flatline.diagnose.states import DORMANT_SCORE, SATURATED_SHARE, States

Bool = npt.NDArray[np.bool_]


WARNING_SHARE = 0.05
CRITICAL_SHARE = 0.30
CRITICAL_UNITS = 8
LINEAR_SHARE = 0.30
# At this rate or above a unit would be called alive; see the evidence `silent_by_chance`.
_RATE = 0.01


@dataclass(frozen=True)
class Remedy:
    """A treatment that may help, and why."""

    treatment: str
    why: str


@dataclass(frozen=True)
class Finding:
    """A statement about the model.

    Attributes:
        code: One of :data:`CODES`.
        severity: One of :data:`SEVERITIES`.
        sites: Names of the sites concerned, the worst first.
        share: Share of the worst site's units.
        message: One sentence with numbers.
        evidence: The numbers the statement rests on, about the worst site.
        remedies: What may help.
    """

    code: str
    severity: str
    sites: tuple[str, ...]
    share: float
    message: str
    evidence: dict[str, float] = field(default_factory=dict)
    remedies: tuple[Remedy, ...] = ()


Chart = Sequence[States]
Search = Callable[[Chart], Finding | None]
_SEARCHES: dict[str, Search] = {}


def finding(code: str) -> Callable[[Search], Search]:
    """Registers a function that looks for the finding ``code`` in a chart."""
    if code not in CODES:
        raise ValueError(f"expected a code among {', '.join(CODES)}, found {code!r}")

    def register(search: Search) -> Search:
        _SEARCHES[code] = search
        return search

    return register


def find(chart: Chart) -> tuple[Finding, ...]:
    """All findings in the states of a model's sites, the most severe first."""
    found = [one for search in _SEARCHES.values() if (one := search(chart)) is not None]
    found.sort(key=lambda one: (-SEVERITIES.index(one.severity), -one.share))
    return tuple(found)


def verdict(findings: Sequence[Finding]) -> str:
    """``"sick"``, ``"warning"`` or ``"healthy"``, by the highest severity.

    Example:
        >>> verdict([])
        'healthy'
    """
    words = {"critical": "sick", "warning": "warning", "info": "healthy"}
    highest = max((SEVERITIES.index(one.severity) for one in findings), default=0)
    return words[SEVERITIES[highest]]


def _share_severity(states: States, affected: Bool) -> str:
    """How much a share of units matters, by the harm it may do."""
    share = float(affected.mean())
    still = affected | states.are("dead", "constant")
    if still.all():
        return "critical"  # nothing passes the site any more
    hidden_and_wide = bool(states.site.reads) and len(affected) >= CRITICAL_UNITS
    if share >= CRITICAL_SHARE and hidden_and_wide:
        return "critical"
    return "warning" if share >= WARNING_SHARE else "info"


def _advisory_severity(states: States, affected: Bool) -> str:
    """Severity of what costs capacity at most: never critical."""
    wide = bool(states.site.reads) and len(affected) >= CRITICAL_UNITS
    return "warning" if affected.mean() >= CRITICAL_SHARE and wide else "info"


def _info(states: States, affected: Bool) -> str:
    return "info"


def _by_share(
    code: str,
    affected: Mapping[str, tuple[States, Bool]],
    severity: Callable[[States, Bool], str],
    says: Callable[[States, Bool], str],
    *,
    least: float = 0.0,
    remedies: Callable[[States], tuple[Remedy, ...]] = lambda _: (),
) -> Finding | None:
    """A finding about a share of units, led by the site that is worst off.

    Args:
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
    levels = {s.site.name: SEVERITIES.index(severity(s, mask)) for s, mask in hit}
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
        "dormant-units",
        _in_state(chart, "dormant"),
        _advisory_severity,
        lambda s, m: (
            f"gave at most {DORMANT_SCORE:.1%} of the site's mean output over "
            f"{s.examples[m].min():,} examples"
        ),
        least=WARNING_SHARE,
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
        "ignored-units",
        _in_state(chart, "ignored"),
        _advisory_severity,
        lambda s, m: "were read by weights that are all 0",
        least=WARNING_SHARE,
    )


@finding("linear-units")
def linear_units(chart: Chart) -> Finding | None:
    """Units whose nonlinearity never bent anything.

    Evidence: every pre-activation seen lay inside one straight piece. Threshold: 30 % of a site.
    Avoids: alarm. Such units are affine on this data only, and cost nothing but a fold.
    """
    return _by_share(
        "linear-units",
        _in_state(chart, "linear"),
        _info,
        lambda s, m: (
            f"were straight lines: they fired on every one of {s.examples[m].min():,} examples"
        ),
        least=LINEAR_SHARE,
    )


@finding("unvisited-units")
def unvisited_units(chart: Chart) -> Finding | None:
    """Units of sites that received no example.

    Evidence: no exam saw the site used. Threshold: any. Avoids: calling them dead: an expert that
    was never chosen or a branch that was never taken may be sound.
    """
    return _by_share(
        "unvisited-units",
        _in_state(chart, "unvisited"),
        _info,
        lambda s, m: "received no example in any exam",
    )
