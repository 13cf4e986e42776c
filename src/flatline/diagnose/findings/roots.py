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


def settle(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings with each symptom under its root, the most severe and then the nearest root first.

    A finding says what it would explain. The root takes over the severity of what it explains, and
    that is lowered below it; information explains nothing. ``no-learning``, which means that
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
        root = left.pop(next(iter(left)))
        symptoms = [] if root.severity == "info" else _symptoms(root, left)
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


def _symptoms(root: Finding, others: dict[str, Finding]) -> list[Finding]:
    """What the root explains, at once or by way of what it explains."""
    found: dict[str, Finding] = {}
    waiting = [root]
    while waiting:
        for code in waiting.pop().explains:
            if code in others and code not in found:
                found[code] = others[code]
                waiting.append(others[code])
    return [one for code, one in others.items() if code in found]


def _nearness(one: Finding) -> int:
    return ORDER.index(one.code) if one.code in ORDER else len(ORDER)
