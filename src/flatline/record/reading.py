"""From the rows of one run to its :class:`Recording`."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import reduce
from sqlite3 import Connection
from typing import Any

import numpy as np

from flatline.anatomy.site import Site, Unplaced
from flatline.record.recording import Event, Recording, load_activation, merge_ledgers
from flatline.sense.autopsy import Deaths, autopsy
from flatline.sense.history import Autopsy, Note, Steps
from flatline.sense.vitals import Ledger, Vitals, merge, unpack


def read(db: Connection, run: int, facts: dict[str, Any]) -> Recording:
    """Everything the store holds about a run.

    Args:
        db: An open store.
        run: The run's key.
        facts: The run's facts, with its status as it is now.
    """
    lost = list(dict.fromkeys(_rows(db, "what, why FROM lost", run, "rowid")))
    # All ranks hold the same sites, except where they hold parts of the model.
    names = {name: None for (name,) in _rows(db, "name FROM sites", run, "rank, position")}
    sites = {row[0]: row for row in _rows(db, _SITES, run, "rank DESC")}
    unplaced = _rows(db, "name, because FROM unplaced", run, "rank, position")
    units = {name: sites[name][2] for name in names}
    return Recording(
        facts=_summed(db, run, facts),
        sites=tuple(_site(*sites[name]) for name in names),
        unplaced=tuple(Unplaced(*row) for row in dict.fromkeys(unplaced)),
        windows=_windows(db, run, units, lost),
        ledgers=_ledgers(db, run, units),
        exams=_exams(db, run),
        steps=Steps.of(_steps(db, run)),
        autopsies=_autopsies(db, run, units),
        notes=[
            Note(step, kind, json.loads(evidence))
            for step, kind, evidence in _rows(
                db, "step, kind, evidence FROM notes", run, "rank DESC, step, rowid"
            )
        ],
        metrics=_metrics(db, run),
        events=[
            Event(step, site, kind, tuple(json.loads(which)), json.loads(evidence))
            for step, site, kind, which, evidence in _rows(
                db, "step, site, kind, units, evidence FROM events", run, "step, rowid"
            )
        ],
        lost=lost,
        histograms=_histograms(db, run, units),
    )


def _summed(db: Connection, run: int, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, which come from process 0, with the examples of all processes."""
    if facts.get("world_size", 1) == 1:
        return facts
    steps = dict(_rows(db, "rank, max(step) + 1 FROM steps", run, "rank", "GROUP BY rank"))
    exams: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for rank, step, measures in _rows(db, "rank, step, measures FROM exams", run, "rank, step"):
        batches = [values.get("batch") or 0 for values in json.loads(measures).values()]
        exams[rank].append((step, max(batches, default=0)))
    others = 0.0
    for rank, found in exams.items():
        ends = [step for step, _ in found[1:]] + [steps.get(rank, 0)]
        if rank:
            others += sum(
                batch * max(end - step, 0) for (step, batch), end in zip(found, ends, strict=True)
            )
    return {**facts, "examples": facts.get("examples", 0) + int(others)}


_SITES = "name, activation, units, feeds, reads, pulse FROM sites"


def _rows(
    db: Connection, what: str, run: int, order: str, group: str = ""
) -> list[tuple[Any, ...]]:
    query = f"SELECT {what} WHERE run = ? {group} ORDER BY {order}"
    return db.execute(query, (run,)).fetchall()


def _site(name: str, activation: str, units: int, feeds: str, reads: str, pulse: str) -> Site:
    return Site(
        name,
        load_activation(activation),
        units,
        feeds=tuple(json.loads(feeds)),
        reads=tuple(json.loads(reads)),
        pulse=pulse,
    )


def _windows(
    db: Connection, run: int, units: dict[str, int], lost: list[tuple[Any, ...]]
) -> dict[str, Vitals]:
    found: dict[str, list[Vitals]] = defaultdict(list)
    for rank, site, width, *blobs in _rows(
        db, "rank, site, units, previous, current FROM vitals", run, "rank"
    ):
        if units.get(site) != width:
            if site in units:
                why = f"it watched {width} units where another process watched {units[site]}"
                lost.append((f"what process {rank} saw of {site}", why))
            continue
        for blob in blobs:
            if blob is not None:
                vitals = unpack(Vitals, width, blob)
                assert isinstance(vitals, Vitals)
                found[site].append(vitals)
    return {site: reduce(merge, found[site]) for site in units if site in found}


def _ledgers(db: Connection, run: int, units: dict[str, int]) -> dict[str, Ledger]:
    found: dict[str, list[tuple[int, Ledger]]] = defaultdict(list)
    for site, width, step, blob in _rows(db, "site, units, step, ledger FROM ledgers", run, "rank"):
        if units.get(site) == width:
            ledger = unpack(Ledger, width, blob)
            assert isinstance(ledger, Ledger)
            found[site].append((step, ledger))
    return {site: merge_ledgers(found[site]) for site in units if site in found}


def _exams(db: Connection, run: int) -> list[tuple[int, dict[str, dict[str, float]]]]:
    """Exams by step; where several processes measured a site, the lowest rank is heard."""
    exams: dict[int, dict[str, dict[str, float]]] = {}
    for step, measures in _rows(db, "step, measures FROM exams", run, "step, rank"):
        sites = exams.setdefault(step, {})
        for site, values in json.loads(measures).items():
            sites.setdefault(
                site, {k: math.nan if value is None else value for k, value in values.items()}
            )
    return list(exams.items())


def _autopsies(db: Connection, run: int, units: dict[str, int]) -> dict[str, Autopsy]:
    """Deaths by site; where several processes saw some, the lowest rank is heard."""
    births = {
        (rank, site): (step, np.frombuffer(blob, np.float32))
        for rank, site, step, blob in _rows(db, "rank, site, step, blob FROM births", run, "site")
    }
    found: dict[tuple[int, str], list[Deaths]] = defaultdict(list)
    for rank, site, step, before, which, terms in _rows(
        db, "rank, site, step, before, units, terms FROM deaths", run, "step, rowid"
    ):
        died = np.frombuffer(which, np.int32)
        found[rank, site].append(Deaths(step, before, died, np.frombuffer(terms, np.float32)))
    return {
        site: autopsy(deaths, first, birth, units[site])
        for (rank, site), deaths in sorted(found.items(), key=lambda entry: -entry[0][0])
        if site in units
        for first, birth in [births.get((rank, site), (-1, None))]
    }


def _histograms(
    db: Connection, run: int, units: dict[str, int]
) -> dict[str, list[tuple[int, bytes]]]:
    """Packed histograms by site and step; where several processes drew some, the lowest rank's."""
    found: dict[str, dict[int, bytes]] = {}
    for site, step, blob in _rows(db, "site, step, blob FROM histograms", run, "rank DESC, number"):
        if site in units:
            found.setdefault(site, {})[step] = blob
    return {site: sorted(blobs.items()) for site, blobs in found.items()}


def _steps(db: Connection, run: int) -> list[list[float | None]]:
    """Readings by step; where several processes gave some, the lowest rank is heard."""
    rows = _rows(db, "step, loss, lr, gradient FROM steps", run, "step, rank DESC")
    return [[step, *rest] for step, rest in {step: rest for step, *rest in rows}.items()]


def _metrics(db: Connection, run: int) -> dict[str, list[tuple[int, float]]]:
    metrics: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, step, value in _rows(db, "name, step, value FROM metrics", run, "rowid"):
        metrics[name].append((step, math.nan if value is None else value))
    return dict(metrics)
