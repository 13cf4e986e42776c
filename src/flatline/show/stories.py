"""What opens on the page when a unit is picked: its life, its way into silence, its neighbours.

Words that return are kept once, and only so many units are told: a page must stay small.
"""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from flatline.diagnose.states import States
from flatline.show.drawings import Histogram, tails, undrawn
from flatline.show.explanation import beside
from flatline.show.lives import Life, Lives, Spread
from flatline.show.reasons import CAUSES, happened, neighbour, notable, signed
from flatline.show.report import Report, UnitReport
from flatline.show.text import measured

#: Units whose life is told, at most.
LIVES = 2_000
#: Neighbours of a site that are named, at most, on each side.
NEIGHBOURS = 6


def stories(report: Report) -> dict[str, Any]:
    """Lives of units by ``site:unit``, and the neighbours of each site, in the types of JSON."""
    lives = report.lives
    if lives is None:
        return {"words": [], "of": {}, "sites": [], "axes": [], "explain": None}
    book = _Book()
    listed = {(unit.site, unit.unit): unit for unit in report.units}
    index = {site.name: place for place, site in enumerate(report.sites)}
    return {
        "of": {
            f"{index[site]}:{unit}": book.tell(lives.of(site, unit), listed.get((site, unit)))
            for site, unit in told(report)
        },
        "sites": [_neighbours(lives, site.name, index) for site in report.sites],
        "axes": [book.axis(lives, site.name) for site in report.sites],
        "words": list(book.words),
        "explain": _explain(report),
    }


def told(report: Report) -> list[tuple[str, int]]:
    """The units whose life is told: all where they are few, else some sick ones of each site.

    Those go first whose life exams have drawn from its beginning, then those drawn at its end.
    """
    if sum(site.units for site in report.sites) <= LIVES:
        return [(site.name, unit) for site in report.sites for unit in range(site.units)]
    listed: dict[str, list[int]] = {site.name: [] for site in report.sites}
    for unit in report.units:
        if unit.site in listed:
            listed[unit.site].append(unit.unit)
    each = max(LIVES // max(sum(map(bool, listed.values())), 1), 1)
    kept = []
    for site, units in listed.items():
        first, last = report.lives.drawn_at_ends(site) if report.lives else (set(), set())
        units.sort(key=lambda unit: (unit not in first, unit not in last))
        kept += [(site, unit) for unit in units[:each]]
    return kept[:LIVES]


class _Book:
    """Lives as lists of numbers that point at words."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def word(self, text: str) -> int:
        return self.words.setdefault(text, len(self.words))

    def tell(self, life: Life, unit: UnitReport | None) -> dict[str, Any]:
        told: dict[str, Any] = {
            "story": [
                [one.step, self.word(one.event), self.word(happened(one, whole_site=False))]
                for one in life.story
            ],
            "z": [_numbers(spread) for spread in life.spreads],
        }
        if life.histograms:
            told["drawn"] = [self._drawn(one) for one in life.histograms]
        if why := [self.word(line) for line in _why(unit)]:
            told["why"] = why
        if life.ways:
            told["ways"] = [
                [
                    way.start,
                    way.end,
                    *(self.word(signed(term)) for term in (way.bias, way.weight, way.input)),
                    self.word(signed(way.z_end - way.z_start)),
                    self.word(f"{measured(way.z_start)} to {measured(way.z_end)}"),
                ]
                for way in life.ways[::-1]
            ]
        return told

    def axis(self, lives: Lives, site: str) -> list[Any]:
        """Ends of what lies between the flat tails of a site's activation, and words about it."""
        activation = lives.chart.of(site).site.activation
        (low, _), (_, high) = activation.fires[0], activation.fires[-1]
        ends = [end if math.isfinite(end) else None for end in (low, high)]
        lacking = undrawn(
            activation, of_run=bool(lives.histograms), of_site=site in lives.histograms
        )
        return [*ends, self.word(tails(activation)), self.word(lacking)]

    def _drawn(self, one: Histogram) -> list[Any]:
        """Step, moments, lower end, width, counts as bytes in base 64, and values left out."""
        # Of two ends of few digits each, a narrow distribution would have but one.
        width = None if one.low is None or one.high is None else one.high - one.low
        ends = (None if value is None else float(f"{value:.4g}") for value in (one.low, width))
        counts = base64.b64encode(bytes(one.counts)).decode()
        lost = [one.lost] if one.lost else []
        return [one.step, self.word(", ".join(one.moments)), *ends, counts, *lost]


def _why(unit: UnitReport | None) -> Iterable[str]:
    if unit is not None and unit.cause is not None:
        yield CAUSES[unit.cause]
        yield from notable(unit.evidence)


def _numbers(spread: Spread) -> list[float | None]:
    values = (spread.mean, spread.deviation, spread.low, spread.high)
    return [spread.step, *(None if value is None else float(f"{value:.3g}") for value in values)]


def _neighbours(lives: Lives, site: str, index: dict[str, int]) -> list[list[list[Any]]]:
    """The sites that one reads, and those that read it: place and sentence of each."""

    def few(found: Sequence[States]) -> list[list[Any]]:
        some = found[:NEIGHBOURS]
        return [[index[one.site.name], neighbour(beside(one))] for one in some]

    return [few(lives.upstream(site)), few(lives.downstream(site))]


def _explain(report: Report) -> list[str] | None:
    """What stands before and after the name of a unit in the command that tells all of it."""
    run = report.run.get("id")
    if not run or report.kind == "examination":
        return None
    store = "" if report.store is None else shlex.join(["--store", report.store])
    return [shlex.join(["flatline", "explain", str(run)]), store]
