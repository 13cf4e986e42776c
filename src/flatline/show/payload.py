"""The data behind the page's pictures, as small as they can do with.

Numbers that a person reads are written here already, by the same words as in the terminal; the
page only draws and filters.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from flatline.diagnose.states import SICK, STATES
from flatline.show import words
from flatline.show.history import Bins, thin
from flatline.show.marks import KINDS, MARKS, SO_FAR
from flatline.show.report import UNSURE, Report, SiteReport, UnitReport
from flatline.show.stories import stories
from flatline.show.text import clean, named

#: Parts of the run in the pictures, at most.
BINS = 360
#: Parts of a metric that each keep their lowest and highest value.
POINTS = 500
#: Metrics drawn, at most; all of them are told in words.
METRICS = 8
EXAMS = 400
NAME = 200


def payload(report: Report) -> dict[str, Any]:
    """Everything the page draws, in the types of JSON."""
    bins = Bins.of(report, BINS)
    exams = [step for step, _ in report.exams]
    return {
        "kinds": [
            {
                "name": kind,
                "path": mark.path,
                "meaning": words.MEANINGS[kind],
                "sick": kind in SICK,
            }
            for kind, mark in MARKS.items()
        ],
        "bins": {
            "size": bins.size,
            "number": bins.number,
            "steps": int(report.run.get("steps") or 0),
        },
        "sites": _sites(report, bins),
        "units": _units(report),
        "lives": stories(report),
        "metrics": [
            {"name": named(name, NAME), **_series(points)}
            for name, points in list(report.metrics.items())[:METRICS]
            if points
        ],
        "exams": exams if len(exams) <= EXAMS else thin([(e, 0.0) for e in exams], EXAMS // 2)[0],
    }


def _sites(report: Report, bins: Bins) -> list[dict[str, Any]]:
    listed: dict[str, list[UnitReport]] = {}
    for unit in report.units:
        listed.setdefault(unit.site, []).append(unit)
    return [
        {
            "name": named(site.name, NAME),
            "activation": clean(site.activation, NAME),
            "units": site.units,
            "kinds": _packed(_kinds(site, listed.get(site.name, []))),
            "deaths": [[i, n] for i, n in enumerate(bins.sums(site.deaths)) if n],
        }
        for site in report.sites
    ]


def _kinds(site: SiteReport, listed: Sequence[UnitReport]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Index into :data:`KINDS` of each unit of a site; a report made by hand has only the list."""
    if len(site.codes) == site.units:
        return _BY_CODE[np.frombuffer(site.codes, np.uint8)]
    kinds = np.zeros(site.units, np.uint8)
    for unit in listed:
        if 0 <= unit.unit < site.units:
            kinds[unit.unit] = KINDS.index(words.kind(unit))
    return kinds


def _by_code() -> np.ndarray[Any, np.dtype[np.uint8]]:
    table = np.full(2 * UNSURE, KINDS.index(SO_FAR), np.uint8)
    table[: len(STATES)] = [KINDS.index(state) for state in STATES]
    return table


_BY_CODE = _by_code()


def _packed(kinds: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """Two units per byte, the first in the lower half, in base 64."""
    even = np.append(kinds, np.zeros(len(kinds) % 2, np.uint8)).reshape(-1, 2)
    return base64.b64encode((even[:, 0] | even[:, 1] << 4).tobytes()).decode()


def _units(report: Report) -> dict[str, Any]:
    """The listed units as columns; words that return are kept once."""
    sites = {site.name: index for index, site in enumerate(report.sites)}
    units = [unit for unit in report.units if unit.site in sites]
    rests = [words.rests_on([unit]) for unit in units]
    return {
        "site": [sites[unit.site] for unit in units],
        "unit": [unit.unit for unit in units],
        "kind": [KINDS.index(words.kind(unit)) for unit in units],
        "since": _column(words.since([unit]) for unit in units),
        "examples": _column(examples for examples, _, _ in rests),
        "fires": _column(fires for _, fires, _ in rests),
        "margin": _column(margin for _, _, margin in rests),
        "cause": _column(clean(unit.cause or "", NAME) for unit in units),
        "of": report.units_truncated or len(units),
    }


def _column(entries: Iterable[str]) -> dict[str, list[Any]]:
    """Words that occur, and for each unit the index of its own."""
    known: dict[str, int] = {}
    index = [known.setdefault(entry, len(known)) for entry in entries]
    return {"words": list(known), "index": index}


def _series(points: Sequence[tuple[int, float | None]]) -> dict[str, list[Any]]:
    steps, values = thin(points, POINTS)
    return {
        "steps": steps,
        "values": [None if value is None else float(f"{value:.5g}") for value in values],
    }
