"""The pen of one process of one run: calls queue up, one thread writes them to the store.

It exists before the program starts, which is to load NumPy first: hence the late imports.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any

from flatline.record.schema import transaction

if TYPE_CHECKING:
    from flatline.anatomy.site import Site, Unplaced
    from flatline.sense.histogram import Histograms
    from flatline.sense.history import Float, Int, Row
    from flatline.sense.vitals import Ledger, Vitals

_log = logging.getLogger("flatline")

COMMIT_SECONDS = 0.5
CLOSE_SECONDS = 20.0
ATTEMPTS = 3
#: Exams of a run whose histograms are kept, at most.
KEPT = 256

Statement = tuple[str, list[tuple[Any, ...]]]


class RunWriter:
    """Writes what one process of a run sees.

    Every call only queues; a thread commits at least every half second, and at once after an exam
    and after facts. In a process that was forked from this one all calls do nothing. A store that
    fails never raises into the training: the first error is kept, and what comes after is dropped.

    Attributes:
        id: The run's id.
        rank: The rank of this process.
        known: The facts of the run as they were given so far.
        error: What made the writing fail, in plain words; ``None`` when all went well so far.
    """

    def __init__(
        self,
        run: tuple[int, str],
        rank: int,
        facts: Mapping[str, Any],
        open_store: Callable[[], contextlib.AbstractContextManager[Connection]],
    ) -> None:
        self._run, self.id = run
        self.rank = rank
        self.error: Exception | None = None
        self.known = dict(facts)
        self._open_store = open_store
        self._pid = os.getpid()
        # A SimpleQueue may be filled from a signal handler in the midst of another call.
        self._queue: queue.SimpleQueue[Statement | threading.Event | None] = queue.SimpleQueue()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closed = False
        self._drawn = 0
        self._thread = threading.Thread(
            target=_serve, args=(self,), name="flatline store", daemon=True
        )
        self._thread.start()

    def facts(self, **changes: Any) -> None:
        """Change entries of the JSON report's ``run`` object; only rank 0 speaks for the run.

        It ends what is handed over together, which is then written at once.
        """
        if self.rank == 0:
            self.known.update(changes)
            self._put("UPDATE runs SET facts = ? WHERE key = ?", [(dump(self.known), self._run)])
        if self._here and not self.error:
            self._wake.put(None)

    def anatomy(self, sites: Sequence[Site], unplaced: Sequence[Unplaced]) -> None:
        """Keep the sites of this process in place of those given before."""
        from flatline.record.recording import dump_activation

        for table in ("sites", "unplaced"):
            self._put(f"DELETE FROM {table} WHERE run = ? AND rank = ?", [()])
        self._put(
            "INSERT INTO sites VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    i,
                    s.name,
                    dump_activation(s.activation),
                    s.units,
                    json.dumps(s.feeds),
                    json.dumps(s.reads),
                    s.pulse,
                )
                for i, s in enumerate(sites)
            ],
        )
        self._put(
            "INSERT INTO unplaced VALUES (?, ?, ?, ?, ?)",
            [(i, one.name, one.because) for i, one in enumerate(unplaced)],
        )

    def exam(
        self,
        step: int,
        vitals: Mapping[str, Vitals],
        previous: Mapping[str, Vitals | None],
        ledgers: Mapping[str, Ledger],
        measures: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Keep what an exam found, by site, in place of what the last one found.

        Args:
            step: The step that was examined.
            vitals: The window that is being filled.
            previous: The last complete window; ``None`` when it has not changed.
            ledgers: When each unit last showed life.
            measures: Numbers about the site as a whole; kept for every exam.
        """
        if not self._here:
            return
        from flatline.sense.vitals import pack

        self._put(
            "INSERT INTO vitals VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run, rank, site) DO UPDATE "
            "SET units = excluded.units, current = excluded.current, "
            "previous = CASE WHEN units = excluded.units "
            "THEN coalesce(excluded.previous, previous) ELSE excluded.previous END",
            [
                (site, v.units, pack(v), pack(old) if (old := previous.get(site)) else None)
                for site, v in vitals.items()
            ],
        )
        row: dict[str, dict[str, float]] = {s: {**values} for s, values in measures.items()}
        for site, ledger in ledgers.items():
            silent = int((ledger.first_silent > ledger.last_life).sum())
            row[site] = {"silent": silent, **row.get(site, {})}
        self._put("INSERT OR REPLACE INTO exams VALUES (?, ?, ?, ?)", [(step, dump(row))])
        self.ledgers(step, ledgers)
        self._wake.put(None)

    def histograms(self, step: int, found: Mapping[str, Histograms]) -> None:
        """Keep where the pre-activations of some units lay at an exam, by site.

        Of a long run ever fewer exams are kept, evenly spread over it, and always the last one.
        """
        if not self._here:
            return
        from flatline.sense.histogram import pack

        number, self._drawn = self._drawn, self._drawn + 1
        self._put(
            "INSERT INTO histograms VALUES (?, ?, ?, ?, ?, ?)",
            [(number, step, site, pack(one)) for site, one in found.items()],
        )
        stride = 1 << (number // KEPT).bit_length()
        if stride > 1:
            self._put(
                "DELETE FROM histograms "
                "WHERE run = ? AND rank = ? AND number % ? != 0 AND number < ?",
                [(stride, number)],
            )

    def ledgers(self, step: int, ledgers: Mapping[str, Ledger]) -> None:
        """Keep the ledgers as they stand after ``step``, in place of those given before."""
        if self._here:
            from flatline.sense.vitals import pack

            self._put(
                "INSERT OR REPLACE INTO ledgers VALUES (?, ?, ?, ?, ?, ?)",
                [(site, len(one.last_life), step, pack(one)) for site, one in ledgers.items()],
            )

    def steps(self, rows: Sequence[Row]) -> None:
        """Keep readings of steps, given as ``(step, loss, lr, gradient)``."""
        self._put("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?)", rows)

    def birth(self, step: int, site: str, birth: Float) -> None:
        """Keep where the units of a site began; see :class:`flatline.sense.drift.Drift`."""
        self._put(
            "INSERT OR IGNORE INTO births VALUES (?, ?, ?, ?, ?)", [(site, step, birth.tobytes())]
        )

    def deaths(self, step: int, site: str, before: int, units: Int, terms: Float) -> None:
        """Keep how units died that the exam of ``step`` found silent."""
        row = (step, site, before, units.tobytes(), terms.tobytes())
        self._put("INSERT INTO deaths VALUES (?, ?, ?, ?, ?, ?, ?)", [row])

    def note(self, step: int, kind: str, evidence: Mapping[str, Any]) -> None:
        """Keep something seen of the model as a whole."""
        self._put("INSERT INTO notes VALUES (?, ?, ?, ?, ?)", [(step, kind, dump(evidence))])

    def metric(self, name: str, step: int, value: float) -> None:
        """Keep one value of a metric."""
        self._put("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", [(name, step, float(value))])

    def event(
        self, step: int, site: str, kind: str, units: Sequence[int], evidence: Mapping[str, Any]
    ) -> None:
        """Keep something that happened to units of a site."""
        row = (step, site, kind, json.dumps([int(unit) for unit in units]), dump(evidence))
        self._put("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", [row])

    def lost(self, what: str, why: str) -> None:
        """Keep a note of what could not be seen, for the report to show."""
        self._put("INSERT INTO lost VALUES (?, ?, ?, ?)", [(what, why)])

    def flush(self) -> None:
        """Wait until everything given so far is in the store, but not for ever."""
        if self._here and not self._closed:
            done = threading.Event()
            self._queue.put(done)
            self._wake.put(None)
            end = time.monotonic() + CLOSE_SECONDS
            while not done.wait(0.05) and self._thread.is_alive() and time.monotonic() < end:
                pass

    def close(self, status: str) -> None:
        """Write what is left with the run's final status, and end the thread."""
        if not self._here or self._closed:
            return
        if self.rank == 0:
            self.facts(status=status)
            self._put("UPDATE runs SET status = ? WHERE key = ?", [(status, self._run)])
        self._put("DELETE FROM processes WHERE run = ? AND rank = ?", [()])
        self._closed = True
        self._queue.put(None)
        self._wake.put(None)
        self._thread.join(CLOSE_SECONDS)

    @property
    def _here(self) -> bool:
        """Whether this is the process that opened the run, not a fork of it."""
        return os.getpid() == self._pid

    def _put(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Queue a statement; rows of tables are completed by run and rank."""
        if not self._here or self._closed or self.error:
            return
        if not sql.startswith("UPDATE"):
            rows = [(self._run, self.rank, *row) for row in rows]
        self._queue.put((sql, list(rows)))

    def work(self) -> None:
        """Write what is queued until all is written or the store fails.

        One connection, one transaction per batch. The connection is a local of the thread, so a
        forked process, in which the thread does not run, never closes it under its parent.
        """
        batch: list[Statement | threading.Event | None] = []
        try:
            with self._open_store() as db:
                going = True
                while going:
                    batch = self._batch()
                    self._write(db, batch)
                    self._release(batch)
                    going = None not in batch
                    batch = []  # else vitals of a whole model would be kept until the next one
        except Exception as error:
            self._fail(error)
            self._release(batch)
        while self.error and not self._closed:
            # Nobody may wait for ever for a store that failed.
            self._release(self._batch())

    def _batch(self) -> list[Statement | threading.Event | None]:
        first = self._queue.get()
        if first is not None:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=COMMIT_SECONDS)
        batch = [first]
        for line, into in ((self._queue, batch), (self._wake, [])):
            with contextlib.suppress(queue.Empty):
                while True:
                    into.append(line.get_nowait())
        return batch

    def _write(self, db: Connection, batch: list[Statement | threading.Event | None]) -> None:
        """Commit a batch."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with transaction(db):
                    for entry in batch:
                        if isinstance(entry, tuple):
                            db.executemany(*entry)
                return
            except sqlite3.OperationalError:
                # Other runs write here too; what was locked for 5 seconds may be free now.
                if attempt == ATTEMPTS:
                    raise

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            _log.warning("flatline no longer stores what it sees: %s", error)

    @staticmethod
    def _release(batch: list[Statement | threading.Event | None]) -> None:
        for entry in batch:
            if isinstance(entry, threading.Event):
                entry.set()


def _serve(writer: RunWriter) -> None:
    """What the thread runs; it must not end with an exception, which Python would print."""
    try:
        writer.work()
    except Exception as error:
        if writer.error is None:
            writer.error = error
            _log.warning("flatline no longer stores what it sees: %s", error)


def dump(value: Any) -> str:
    """JSON of plain data; a number that is not finite becomes ``null``.

    Example:
        >>> dump({"a": float("nan"), "b": (1, 2.5)})
        '{"a": null, "b": [1, 2.5]}'
    """
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _finite(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
