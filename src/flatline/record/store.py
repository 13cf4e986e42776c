"""The run store: one SQLite file with all that is known of past and present runs."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flatline.errors import StoreError, UnknownRunError
from flatline.record import schema
from flatline.record.process import identity, may_run
from flatline.record.writer import RunWriter, dump

if TYPE_CHECKING:
    from flatline.record.recording import Recording

__all__ = ["Overview", "RunWriter", "Store"]

# Process 0 speaks for all: its rows are found without reading those between.
_OVERVIEW = """
SELECT status, facts,
    (SELECT sum(units) FROM sites WHERE run = key AND rank = 0),
    (SELECT measures FROM exams WHERE run = key AND rank = 0 ORDER BY step DESC LIMIT 1)
FROM runs WHERE key = ?
"""
_STAMP = """
SELECT key, status, facts,
    (SELECT max(step) FROM exams WHERE run = key AND rank = 0),
    (SELECT max(rowid) FROM metrics WHERE run = key)
FROM runs WHERE {}
"""


@dataclass(frozen=True)
class Overview:
    """What can be told of a run without judging it.

    Attributes:
        facts: The JSON report's ``run`` object.
        units: Number of units watched, as process 0 saw them.
        silent: How many of them its last exam found silent; ``None`` before the first exam.
    """

    facts: dict[str, Any]
    units: int
    silent: int | None


class Store:
    """The runs that one file holds.

    A file is opened anew for each call, so that no connection is open when the program forks.

    Args:
        path: The file; ``None`` for a store that lives as long as this object, in a temporary
            file: vitals of a wide model would fill memory that watching promises not to take.
        create: Open it for new runs, and make the file and its folder when they are missing.
            Otherwise it is only read.

    Raises:
        StoreError: When the file cannot be used as asked.

    Example:
        >>> with Store(None) as store:
        ...     writer = store.create_run({"name": "first"})
        ...     writer.close("finished")
        ...     store.runs()[0]["status"]
        'finished'
    """

    def __init__(self, path: Path | str | None, *, create: bool = True) -> None:
        self.path = None if path is None else Path(str(path))
        self._create = create or path is None
        self._file = self.path or self._temporary()
        # os.path says no where pathlib raises: a folder that may not be entered, a name too long.
        if os.path.isdir(self._file):
            raise StoreError(
                f"expected a file for the run store, found the folder {self.path}; "
                "name a file in it with --store"
            )
        if self._create:
            self._make()
        elif not os.path.exists(self._file):
            raise StoreError(
                f"expected a run store at {self.path}, found no file; record a run first with "
                "flatline run SCRIPT, or name another file with --store"
            )
        with self._open(write=self._create) as db:
            old = schema.is_old(db)
        if old:
            self._make()  # only read so far, but this version cannot read it as it is

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove a temporary store; one with a file of its own has nothing to give back."""
        if self.path is None:
            _remove(self._file.parent, os.getpid())

    def create_run(
        self, facts: Mapping[str, Any], run_id: str | None = None, rank: int = 0
    ) -> RunWriter:
        """Start a run, or join one as another process of it.

        Args:
            facts: The JSON report's ``run`` object, as far as it is known; what joins a run that
                exists already as another rank than 0 leaves its facts as they are.
            run_id: The run's id, when several processes share it; made up when left out.
            rank: Rank of this process.
        """
        run_id = run_id or secrets.token_hex(5)
        facts = {
            "name": None,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
            "id": run_id,
            "status": "running",
        }
        with self._open(write=True) as db, schema.transaction(db):
            db.execute(
                "INSERT INTO runs (id, status, facts) VALUES (?, 'running', ?) "
                "ON CONFLICT (id) DO UPDATE SET facts = excluded.facts WHERE ?",
                (run_id, dump(facts), rank == 0),
            )
            (key,) = db.execute("SELECT key FROM runs WHERE id = ?", (run_id,)).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?)", (key, rank, *identity())
            )
        return RunWriter((key, run_id), rank, facts, lambda: self._open(write=True))

    def runs(self) -> list[dict[str, Any]]:
        """The facts of all runs, newest first."""
        with self._open() as db:
            rows = db.execute("SELECT key, status, facts FROM runs ORDER BY key DESC").fetchall()
            return [_facts(db, *row) for row in rows]

    def overviews(self, known: Mapping[str, Overview] = MappingProxyType({})) -> list[Overview]:
        """What can be told of all runs without judging them, newest first.

        Args:
            known: What was told before, by id; it is taken for runs that ended then.
        """
        with self._open() as db:
            rows = db.execute("SELECT key, id, status FROM runs ORDER BY key DESC").fetchall()
            return [
                known[run_id]
                if run_id in known and status == known[run_id].facts["status"] != "running"
                else Overview(*_overview(db, key))
                for key, run_id, status in rows
            ]

    def stamp(self, run_id: str | None = None) -> str:
        """Something short that changes whenever more is stored.

        Args:
            run_id: The run that is asked about; ``None`` for all that the store holds.

        Raises:
            UnknownRunError: When there is no run of exactly this id.
        """
        with self._open() as db:
            if run_id is None:
                known = db.execute("SELECT count(*), max(key) FROM runs").fetchone()
                rows = db.execute(_STAMP.format("status = 'running'")).fetchall()
            else:
                known = None
                rows = db.execute(_STAMP.format("id = ?"), (run_id,)).fetchall()
                if not rows:
                    raise self._unknown(run_id)
            seen = [(key, _status(db, key, status), *rest) for key, status, *rest in rows]
        return hashlib.blake2b(repr((known, seen)).encode(), digest_size=8).hexdigest()

    def find(self, run: str | None = None) -> str:
        """The id of the run that ``run`` means.

        Args:
            run: An id, a name (the latest run of that name), or the beginning of one id only;
                ``None`` for the last run.

        Raises:
            StoreError: When there is no such run; the message names those that come close.
        """
        known = [(facts["id"], facts["name"]) for facts in self.runs()]
        where = self.path or "this store"
        if not known:
            raise StoreError(
                f"expected a stored run, found none in {where}; "
                "record one first with flatline run SCRIPT"
            )
        if run is None:
            return str(known[0][0])
        exact = [key for key, _ in known if key == run] or [key for key, n in known if n == run]
        if exact:
            return str(exact[0])
        begin = [str(key) for key, _ in known if run and key.startswith(run)]
        if len(begin) == 1:
            return begin[0]
        if begin:
            raise StoreError(
                f"expected the beginning of one run's id, found that {run!r} begins "
                f"{len(begin)} of them: {', '.join(begin[:5])}; give more characters"
            )
        words = [str(word) for pair in known for word in pair if word]
        close = difflib.get_close_matches(run, dict.fromkeys(words), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "flatline runs lists them"
        raise StoreError(f"expected the id or name of a run in {where}, found {run!r}; {hint}")

    def writers(self, run_id: str) -> int:
        """Number of processes of a run that still run and have not closed it."""
        query = (
            "SELECT host, pid, born FROM processes WHERE run = (SELECT key FROM runs WHERE id = ?)"
        )
        with self._open() as db:
            return sum(map(may_run, db.execute(query, (run_id,)).fetchall()))

    def load(self, run_id: str) -> Recording:
        """Everything about one run.

        Raises:
            UnknownRunError: When there is no run of exactly this id.
        """
        # Not at the top: a store is opened before a program starts, which is to load NumPy first.
        from flatline.record.reading import read

        with self._open() as db:
            # One transaction: what a run in progress writes meanwhile is not seen by halves.
            db.execute("BEGIN")
            try:
                query = "SELECT key, status, facts FROM runs WHERE id = ?"
                row = db.execute(query, (run_id,)).fetchone()
                if row is None:
                    raise self._unknown(run_id)
                return read(db, row[0], _facts(db, *row))
            finally:
                db.execute("ROLLBACK")

    def _unknown(self, run_id: str) -> UnknownRunError:
        return UnknownRunError(
            f"expected the id of a run in {self.path or 'this store'}, found {run_id!r}; "
            "flatline runs lists them"
        )

    def _temporary(self) -> Path:
        """A file that goes when this object does, or when the process that made it ends."""
        folder = Path(tempfile.mkdtemp(prefix="flatline-"))
        weakref.finalize(self, _remove, folder, os.getpid())
        return folder / "runs.db"

    def _make(self) -> None:
        """Make the folder, the file and its tables where they are missing."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"expected to make the folder {self._file.parent} for the run store, "
                f"found: {error.strerror}; name another file with --store"
            ) from error
        with (
            schema.plain_errors(self._file),
            contextlib.closing(schema.connect(self._file, write=True)) as db,
        ):
            schema.create(db)

    @contextlib.contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A checked connection for the length of a ``with`` block."""
        if write and not self._create:
            raise StoreError(
                f"expected to write {self.path}, found it opened for reading only; "
                "open it with create=True"
            )
        with schema.plain_errors(self._file), contextlib.ExitStack() as stack:
            db = stack.enter_context(contextlib.closing(schema.connect(self._file, write=write)))
            if schema.is_blank(db) and not write:
                # The process that made the file was killed before it made the tables.
                db = stack.enter_context(contextlib.closing(schema.in_memory()))
            yield db


def _remove(folder: Path, maker: int) -> None:
    """Remove a temporary store; a process forked from the one that made it has no say."""
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)


def _facts(db: sqlite3.Connection, key: int, status: str, facts: str) -> dict[str, Any]:
    """Facts of a run with its status now."""
    return {**json.loads(facts), "status": _status(db, key, status)}


def _status(db: sqlite3.Connection, key: int, status: str) -> str:
    """The status of a run now: one whose processes are all gone was interrupted."""
    if status == "running":
        query = "SELECT host, pid, born FROM processes WHERE run = ?"
        if not any(may_run(process) for process in db.execute(query, (key,)).fetchall()):
            return "interrupted"
    return status


def _overview(db: sqlite3.Connection, key: int) -> tuple[dict[str, Any], int, int | None]:
    status, facts, units, measures = db.execute(_OVERVIEW, (key,)).fetchone()
    silent = None
    if measures is not None:
        found = json.loads(measures).values()
        silent = sum(int(values.get("silent") or 0) for values in found)
    return _facts(db, key, status, facts), units or 0, silent
