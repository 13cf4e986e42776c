"""Which of several findings is the root: it is named, and its symptoms are listed under it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flatline.diagnose.findings.finding import Finding
from flatline.diagnose.names import SEVERITIES

#: The nearer the beginning, the nearer the root: what was written and fed, before what came of it.
ORDER = (
    "stale-gradients",
    "frozen-parameters",
    "output-activation",
    "missing-nonlinearity",
    "zero-init",
    "unscaled-input",
    "init-too-large",
    "init-too-small",
    "weight-decay-collapse",
    "exploding-gradient",
    "learning-rate-too-high",
    "non-finite",
    "learning-rate-too-low",
    "born-dead",
    "dying-relu",
    "saturation",
    "upstream-death",
    "duplicate-units",
    "vanishing-gradient",
    "rank-collapse",
    "no-learning",
)

#: What was written, fed and drawn: whatever comes of it, it is the root. What happened later
#: explains nothing that is worse than itself.
_GIVEN = ORDER[: ORDER.index("exploding-gradient")]


def settle(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings with each symptom under its root, the most severe and then the nearest root first.

    A finding says what it would explain. The root takes over the severity of what it explains, and
    that is lowered below it; information explains nothing, and what is no matter of the start
    nothing worse than itself. ``no-learning``, which means that
    nothing else explains a loss that stands still, goes where something does.

    Example:
        >>> root = Finding("zero-init", "warning", (), 1.0, "", explains=("duplicate-units",))
        >>> found = settle([Finding("duplicate-units", "critical", (), 1.0, ""), root])
        >>> [(one.code, one.severity) for one in found]
        [('zero-init', 'critical'), ('duplicate-units', 'warning')]
    """
    left = {one.code: one for one in sorted(findings, key=_nearness)}
    settled: list[Finding] = []
    while left:
        root = left.pop(_next(left))
        symptoms = _symptoms(root, left)
        level = max(SEVERITIES.index(one.severity) for one in (root, *symptoms))
        for one in symptoms:
            del left[one.code]
            lower = min(SEVERITIES.index(one.severity), max(level - 1, 0))
            if one.code != "no-learning":
                settled.append(replace(one, severity=SEVERITIES[lower], explains=()))
        codes = tuple(one.code for one in symptoms)
        settled.append(replace(root, severity=SEVERITIES[level], explains=codes))
    settled.sort(key=lambda one: (-SEVERITIES.index(one.severity), _nearness(one), -one.share))
    return tuple(settled)


def _next(left: dict[str, Finding]) -> str:
    """The nearest root that no other finding explains; where each is explained, the nearest."""
    explained = {
        code
        for one in left.values()
        if one.severity != "info"
        for code in one.explains
        if code != one.code
    }
    return next((code for code in left if code not in explained), next(iter(left)))


def _symptoms(root: Finding, others: dict[str, Finding]) -> list[Finding]:
    """What the root explains, at once or by way of what it explains."""
    if root.severity == "info":
        return []
    level = SEVERITIES.index(root.severity)
    found: dict[str, Finding] = {}
    waiting = [root]
    while waiting:
        for code in waiting.pop().explains:
            known = code in others and code not in found
            if known and (root.code in _GIVEN or SEVERITIES.index(others[code].severity) <= level):
                found[code] = others[code]
                waiting.append(others[code])
    return [one for code, one in others.items() if code in found]


def _nearness(one: Finding) -> int:
    return ORDER.index(one.code) if one.code in ORDER else len(ORDER)
