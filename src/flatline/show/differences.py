"""What differs between runs, as rows of one value per run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flatline.diagnose.states import SICK
from flatline.show import words
from flatline.show.report import Report, SiteReport

#: What a difference may be about, in the order in which they are told.
ABOUT = ("verdict", "findings", "units", "metrics", "sites", "run")
_FACTS = (
    "status",
    "steps",
    "examples",
    "seconds",
    "treatments",
    "argv",
    "device",
    "world_size",
    "torch",
)


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in all runs.

    Attributes:
        about: One of :data:`ABOUT`.
        name: What it is.
        values: Its value in each run, in their order; ``None`` where a run has none.
        changes: Of numbers, each value less that of the first run.
    """

    about: str
    name: str
    values: tuple[Any, ...]
    changes: tuple[float | None, ...] | None = None


def differences(reports: Sequence[Report]) -> tuple[Difference, ...]:
    """Everything that is told of runs and not the same in all of them."""
    rows = (row for about in ABOUT for row in _ROWS[about](reports))
    return tuple(row for row in rows if any(value != row.values[0] for value in row.values[1:]))


def dead_share(report: Report) -> float | None:
    """Share of all units that are dead for certain; ``None`` without units."""
    return _share(words.totals(report), ("dead",))


def sick_share(report: Report) -> float | None:
    """Share of all units in a state that is sick; ``None`` without units."""
    return _share(words.totals(report), SICK)


def ends(report: Report) -> dict[str, dict[str, float | None]]:
    """Per metric its last value and the mean of its last tenth, of values that are finite."""
    found = {}
    for name, points in report.metrics.items():
        ordered = sorted(points, key=lambda point: point[0])
        tail = [v for _, v in ordered[-max(1, round(len(ordered) / 10)) :] if v is not None]
        tail = [value for value in tail if math.isfinite(value)]
        last = ordered[-1][1] if ordered else None
        found[name] = {
            "last": last if last is not None and math.isfinite(last) else None,
            "last_tenth": sum(tail) / len(tail) if tail else None,
        }
    return found


def _share(counts: dict[str, int], kinds: Sequence[str] | frozenset[str]) -> float | None:
    units = sum(counts.values())
    return sum(counts.get(kind, 0) for kind in kinds) / units if units else None


def _row(about: str, name: str, values: Sequence[Any]) -> Difference:
    return Difference(about, name, tuple(values), _changes(values))


def _changes(values: Sequence[Any]) -> tuple[float | None, ...] | None:
    numbers = [
        v if isinstance(v, int | float) and not isinstance(v, bool) else None for v in values
    ]
    first = numbers[0]
    if first is None:
        return None
    return tuple(None if value is None else value - first for value in numbers)


def _verdicts(reports: Sequence[Report]) -> Iterator[Difference]:
    yield _row("verdict", "verdict", [words.verdict(report) for report in reports])


def _findings(reports: Sequence[Report]) -> Iterator[Difference]:
    """Severity of each code, by the first finding of that code, which is the worst."""
    found = [{one.code: one.severity for one in report.findings[::-1]} for report in reports]
    for code in _together(report.findings for report in reports):
        yield _row("findings", code.code, [severities.get(code.code) for severities in found])


def _together(findings: Iterator[Sequence[Any]]) -> list[Any]:
    """One finding per code, in the order in which the runs raise them."""
    seen: dict[str, Any] = {}
    for some in findings:
        for one in some:
            seen.setdefault(one.code, one)
    return list(seen.values())


def _units(reports: Sequence[Report]) -> Iterator[Difference]:
    yield _row("units", "dead_share", [dead_share(report) for report in reports])
    yield _row("units", "sick_share", [sick_share(report) for report in reports])
    totals = [words.totals(report) for report in reports]
    for kind in words.severest():
        if any(kind in counts for counts in totals):
            yield _row("units", kind, [counts.get(kind, 0) for counts in totals])


def _metrics(reports: Sequence[Report]) -> Iterator[Difference]:
    found = [ends(report) for report in reports]
    for name in dict.fromkeys(name for one in found for name in one):
        for which in ("last", "last_tenth"):
            values = [one.get(name, {}).get(which) for one in found]
            yield _row("metrics", f"{name}.{which}", values)


def _sites(reports: Sequence[Report]) -> Iterator[Difference]:
    found = [{site.name: site for site in report.sites} for report in reports]
    for name in dict.fromkeys(name for one in found for name in one):
        own = [one.get(name) for one in found]
        for key, of in _OF_SITE:
            yield _row("sites", f"{name}.{key}", [None if s is None else of(s) for s in own])


_OF_SITE: tuple[tuple[str, Callable[[SiteReport], Any]], ...] = (
    ("units", lambda site: site.units),
    ("activation", lambda site: site.activation),
    ("dead_share", lambda site: _share(words.split(site), ("dead",))),
    ("effective_rank", lambda site: site.effective_rank),
)


def _facts(reports: Sequence[Report]) -> Iterator[Difference]:
    for name in _FACTS:
        values = [report.run.get(name) for report in reports]
        yield _row("run", name, [list(v) if isinstance(v, tuple) else v for v in values])
    limits = [report.thresholds.changed() for report in reports]
    for name in dict.fromkeys(name for one in limits for name in one):
        yield _row("run", name, [getattr(report.thresholds, name) for report in reports])


_ROWS: dict[str, Callable[[Sequence[Report]], Iterator[Difference]]] = {
    "verdict": _verdicts,
    "findings": _findings,
    "units": _units,
    "metrics": _metrics,
    "sites": _sites,
    "run": _facts,
}
