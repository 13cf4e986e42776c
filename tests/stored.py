"""Recordings put into a store as a training would have written them."""

from __future__ import annotations

from flatline.anatomy.site import Unplaced
from flatline.record.recording import Recording
from flatline.record.store import RunWriter, Store
from recordings import HOSTILE, Plan, record

#: Traps that a store takes as names; of half a character SQLite makes no text.
TRAPS = tuple(name for name in HOSTILE if "\ud800" not in name)


def trap(name: str) -> Recording:
    """A run whose every name is a trap, and which goes by one of them."""
    facts = {"name": name, "device": name, "torch": name, "argv": list(HOSTILE), "status": "failed"}
    return record(
        *(Plan(one, 12, dead={3: 2}, sick={"dormant": (7,)}) for one in TRAPS),
        steps=9,
        facts=facts,
        metrics={one: [(1, 1.0), (3, 2.0)] for one in TRAPS},
        unplaced=tuple(Unplaced(one, one) for one in TRAPS),
        lost=[(one, one) for one in TRAPS],
    )


def begin(store: Store, recording: Recording, run_id: str | None = None) -> RunWriter:
    """Write all of a recording but its end."""
    writer = store.create_run(recording.facts, run_id)
    writer.anatomy(recording.sites, recording.unplaced)
    rows = zip(*vars(recording.steps).values(), strict=True)
    writer.steps([tuple(part.item() for part in row) for row in rows])
    for step, measures in recording.exams:
        writer.exam(step, recording.windows, {}, recording.ledgers, measures)
    for name, points in recording.metrics.items():
        for step, value in points:
            writer.metric(name, step, value)
    for what, why in recording.lost:
        writer.lost(what, why)
    writer.flush()
    return writer


def put(store: Store, recording: Recording, run_id: str | None = None) -> str:
    """Write a recording, and the status that it ended with."""
    writer = begin(store, recording, run_id)
    writer.close(recording.facts["status"])
    assert writer.error is None
    return writer.id
