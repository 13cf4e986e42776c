"""What findings about shares of a site's units have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flatline.diagnose.certainty import firing_rate_upper
from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.names import CAUSES, SEVERITIES, STATES
from flatline.diagnose.states import States
from flatline.diagnose.thresholds import Thresholds

Bool = npt.NDArray[np.bool_]
# At this rate or above a unit would be called alive; see the evidence `silent_by_chance`.
_RATE = 0.01


def share_severity(states: States, affected: Bool, thresholds: Thresholds) -> str:
    """How much a share of units matters, by the harm it may do."""
    share = float(affected.mean())
    still = affected | states.are("dead", "constant")
    if still.all() and 2 * affected.sum() >= (affected | states.are("dead")).sum():
        return "critical"  # nothing passes the site any more, for this reason more than others
    hidden_and_wide = bool(states.site.reads) and len(affected) >= thresholds.critical_units
    if share >= thresholds.critical_share and hidden_and_wide:
        return "critical"
    return "warning" if share >= thresholds.warning_share else "info"


def advisory_severity(states: States, affected: Bool, thresholds: Thresholds) -> str:
    """Severity of what costs capacity at most: never critical."""
    wide = bool(states.site.reads) and len(affected) >= thresholds.critical_units
    return "warning" if affected.mean() >= thresholds.critical_share and wide else "info"


def as_info(states: States, affected: Bool, thresholds: Thresholds) -> str:
    """Severity of what does no harm."""
    return "info"


def by_share(
    chart: Chart,
    code: str,
    affected: Mapping[str, tuple[States, Bool]],
    severity: Callable[[States, Bool, Thresholds], str],
    says: Callable[[States, Bool], str],
    *,
    least: float = 0.0,
    explains: tuple[str, ...] = (),
) -> Finding | None:
    """A finding about a share of units, led by the site that is worst off.

    Args:
        chart: The chart.
        code: Its code.
        affected: Per site, its states and which units are affected.
        severity: Severity at one site.
        says: What is the matter with the affected units of the worst site, from the verb on.
        least: Sites with a smaller share are left out.
        explains: Codes of what it would explain.
    """
    hit = [(s, mask) for s, mask in affected.values() if mask.any() and mask.mean() >= least]
    if not hit:
        return None
    limits = chart.thresholds
    levels = {s.site.name: SEVERITIES.index(severity(s, mask, limits)) for s, mask in hit}
    hit.sort(key=lambda pair: (-levels[pair[0].site.name], -pair[1].mean()))
    states, mask = hit[0]
    message = f"{who(states, mask)} {says(states, mask)}{others(hit[1:])}"
    number, share = int(mask.sum()), float(mask.mean())
    examples = int(states.examples[mask].min())
    return Finding(
        code,
        SEVERITIES[levels[states.site.name]],
        tuple(s.site.name for s, _ in hit),
        share,
        message,
        {"units": float(len(mask)), "affected": float(number), "examples": float(examples)},
        explains=explains,
    )


def who(states: States, mask: Bool) -> str:
    """Which units of which site, at the beginning of a sentence."""
    site, number = states.site, int(mask.sum())
    return f"{number:,} of {len(mask):,} units of site {site.name} ({site.activation.name})"


def others(rest: Sequence[tuple[States, Bool]]) -> str:
    """The other sites, at the end of a sentence."""
    if not rest:
        return ""
    named = ", ".join(f"{s.site.name}: {mask.mean():.0%}" for s, mask in rest[:3])
    more = f" and {len(rest) - 3:,} more" if len(rest) > 3 else ""
    sites = "one more site" if len(rest) == 1 else f"{len(rest):,} more sites"
    return f"; the same in {sites} ({named}{more})"


def in_state(chart: Chart, *names: str) -> dict[str, tuple[States, Bool]]:
    """Per site, its states and the units that are certainly in one of these."""
    return {s.site.name: (s, s.are(*names)) for s in chart}


def by_cause(chart: Chart, *causes: str, sure: bool = True) -> dict[str, tuple[States, Bool]]:
    """Per site, its states and the units that died of one of these causes, for sure or so far."""
    codes = [CAUSES.index(cause) for cause in causes]
    found = {}
    for states in chart:
        known = chart.causes.get(states.site.name)
        died = np.zeros(len(states.code), bool) if known is None else np.isin(known.code, codes)
        found[states.site.name] = (states, died & dead(states, sure=sure))
    return found


def why(chart: Chart, states: States, mask: Bool) -> dict[str, int]:
    """Causes of the deaths of some units, the most frequent first."""
    known = chart.causes.get(states.site.name)
    if known is None:
        return {}
    numbers = np.bincount(known.code[mask & (known.code >= 0)], minlength=len(CAUSES))
    return {CAUSES[i]: int(numbers[i]) for i in np.argsort(-numbers, kind="stable") if numbers[i]}


def dead(states: States, *, sure: bool) -> Bool:
    """Units that are certainly dead; unless ``sure``, also those that are silent so far."""
    silent = np.asarray(states.code == STATES.index("dead"))
    return silent & states.certain if sure else silent


def silence(states: States, mask: Bool) -> str:
    """What is known about silence, with its bound."""
    n = int(states.examples[mask].min())
    return f"{n:,} examples (firing rate below {float(firing_rate_upper(n)):.2g}, 99% confidence)"


def with_chance(found: Finding | None) -> Finding | None:
    """Adds the number of units that would be silent by chance if all of them fired rarely."""
    if found is not None:
        n, units = found.evidence["examples"], found.evidence["units"]
        found.evidence["firing_rate_upper"] = float(firing_rate_upper(n))
        found.evidence["silent_by_chance"] = units * (1 - _RATE) ** n
    return found
