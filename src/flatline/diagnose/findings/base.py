"""Statements about the model: what is wrong, on what evidence, how bad, what may help.

A finding is one small function of the chart, registered with :func:`finding`; its docstring says
what it rests on, where its threshold lies, and which false alarms it avoids. Only units whose
state is certain count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flatline.diagnose.chart import Chart
from flatline.diagnose.names import CODES as CODES
from flatline.diagnose.names import SEVERITIES as SEVERITIES


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
        explains: Codes of findings that are symptoms of this one; they are not raised beside it
            at the same severity.
    """

    code: str
    severity: str
    sites: tuple[str, ...]
    share: float
    message: str
    evidence: dict[str, float] = field(default_factory=dict)
    remedies: tuple[Remedy, ...] = ()
    explains: tuple[str, ...] = ()


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
