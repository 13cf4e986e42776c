"""Statements about the model: what is wrong, on what evidence, how bad, what may help.

A finding is one small function of the chart, registered with :func:`finding`; its docstring says
what it rests on, where its threshold lies, and which false alarms it avoids. Only units whose
state is certain count. What several findings have in common is settled at the end
(:mod:`flatline.diagnose.findings.roots`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.finding import Finding as Finding
from flatline.diagnose.findings.finding import Remedy as Remedy
from flatline.diagnose.findings.roots import settle
from flatline.diagnose.names import CODES as CODES
from flatline.diagnose.names import SEVERITIES as SEVERITIES

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
    """All findings in a chart, the most severe first, symptoms under their roots."""
    return settle(one for search in _SEARCHES.values() if (one := search(chart)) is not None)


def verdict(findings: Sequence[Finding]) -> str:
    """``"sick"``, ``"warning"`` or ``"healthy"``, by the highest severity.

    Example:
        >>> verdict([])
        'healthy'
    """
    words = {"critical": "sick", "warning": "warning", "info": "healthy"}
    highest = max((SEVERITIES.index(one.severity) for one in findings), default=0)
    return words[SEVERITIES[highest]]
