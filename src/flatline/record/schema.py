"""The tables of the run store, and how a connection to it is opened.

Every failure of SQLite leaves this module as a :class:`StoreError` in plain words.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from urllib.parse import quote

from flatline.errors import StoreError

VERSION = 3
APPLICATION = 0x464C4154  # "FLAT", so that `file` and we can tell a store from any other database
BUSY_SECONDS = 5.0

# The latest vitals and ledgers replace older ones, and a bounded number of exams keeps histograms:
# the size of a run hardly grows with exams.
TABLES = """
CREATE TABLE runs (
    key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL,
    facts TEXT NOT NULL);
CREATE TABLE processes (
    run INTEGER, rank INTEGER, host TEXT, pid INTEGER, born TEXT, PRIMARY KEY (run, rank))
    WITHOUT ROWID;
CREATE TABLE sites (
    run INTEGER, rank INTEGER, position INTEGER, name TEXT, activation TEXT, units INTEGER,
    feeds TEXT, reads TEXT, pulse TEXT, PRIMARY KEY (run, rank, position)) WITHOUT ROWID;
CREATE TABLE unplaced (
    run INTEGER, rank INTEGER, position INTEGER, name TEXT, because TEXT,
    PRIMARY KEY (run, rank, position)) WITHOUT ROWID;
CREATE TABLE vitals (
    run INTEGER, rank INTEGER, site TEXT, units INTEGER, current BLOB, previous BLOB,
    UNIQUE (run, rank, site));
CREATE TABLE ledgers (
    run INTEGER, rank INTEGER, site TEXT, units INTEGER, step INTEGER, ledger BLOB,
    UNIQUE (run, rank, site));
CREATE TABLE exams (
    run INTEGER, rank INTEGER, step INTEGER, measures TEXT, PRIMARY KEY (run, rank, step))
    WITHOUT ROWID;
CREATE TABLE steps (
    run INTEGER, rank INTEGER, step INTEGER, loss REAL, lr REAL, gradient REAL,
    PRIMARY KEY (run, rank, step))
    WITHOUT ROWID;
CREATE TABLE metrics (run INTEGER, rank INTEGER, name TEXT, step INTEGER, value REAL);
CREATE INDEX metrics_of_run ON metrics (run);
CREATE TABLE events (
    run INTEGER, rank INTEGER, step INTEGER, site TEXT, kind TEXT, units TEXT, evidence TEXT);
CREATE INDEX events_of_run ON events (run);
CREATE TABLE lost (run INTEGER, rank INTEGER, what TEXT, why TEXT);
CREATE INDEX lost_of_run ON lost (run);
"""

_SINCE_2 = """
CREATE TABLE births (
    run INTEGER, rank INTEGER, site TEXT, step INTEGER, blob BLOB,
    PRIMARY KEY (run, rank, site)) WITHOUT ROWID;
CREATE TABLE deaths (
    run INTEGER, rank INTEGER, step INTEGER, site TEXT, before INTEGER, units BLOB, terms BLOB);
CREATE INDEX deaths_of_run ON deaths (run);
CREATE TABLE notes (run INTEGER, rank INTEGER, step INTEGER, kind TEXT, evidence TEXT);
CREATE INDEX notes_of_run ON notes (run);
"""
_SINCE_3 = """
CREATE TABLE histograms (
    run INTEGER, rank INTEGER, number INTEGER, step INTEGER, site TEXT, blob BLOB,
    UNIQUE (run, rank, number, site));
"""
TABLES += _SINCE_2 + _SINCE_3
#: What brings a store of each version to the next one.
_UPGRADES = {1: "ALTER TABLE steps ADD COLUMN gradient REAL;" + _SINCE_2, 2: _SINCE_3}


@contextlib.contextmanager
def plain_errors(path: Path | None) -> Iterator[None]:
    """Turn what SQLite raises into one plain sentence."""
    where = path or "the store in memory"
    try:
        yield
    except sqlite3.OperationalError as error:
        said = str(error)
        if "locked" in said or "busy" in said:
            message = (
                f"expected to write {where} within {BUSY_SECONDS:g} seconds, found it locked by "
                "another process; end that process, or name another file with --store"
            )
        elif "readonly" in said or "read-only" in said:
            message = (
                f"expected to write {where}, found it read-only; "
                "make it writable, or name another file with --store"
            )
        else:
            message = (
                f"expected to use {where} as the run store, found: {said}; "
                "name another file with --store"
            )
        raise StoreError(message) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"expected {where} to be a run store, found a file that is none or is damaged "
            f"({error}); name another file with --store"
        ) from error


def connect(path: Path, *, write: bool) -> Connection:
    """A connection to the database file, which need not hold a run store yet.

    Args:
        path: The file.
        write: Open it for writing, and make it when it is missing.
    """
    address = "file:" + quote(str(path.absolute()))
    if write:
        db = _open(address + "?mode=rwc")
        try:
            is_blank(db)  # the next line writes, which a file of somebody else must not see
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
        except (sqlite3.Error, StoreError):
            db.close()
            raise
        return db
    db = _open(address + "?mode=ro")
    try:
        db.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        db.close()
        # A folder that is read-only leaves no room for SQLite's index of the log; where there is
        # no log either, nobody writes and the file can be read as it lies.
        if Path(f"{path}-wal").exists():
            raise
        db = _open(address + "?mode=ro&immutable=1")
    return db


def _open(address: str) -> Connection:
    # A statement kept for later use would keep the vitals of a whole model that were bound to it.
    return sqlite3.connect(
        address,
        BUSY_SECONDS,
        isolation_level=None,
        uri=True,
        cached_statements=0,
    )


def in_memory() -> Connection:
    """A new store that is empty and lives as long as its connection."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    create(db)
    return db


def is_blank(db: Connection) -> bool:
    """Whether the database holds nothing yet.

    Raises:
        StoreError: When it holds something that this version cannot read.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    version = _version(db)
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and tables == 0:
        return True
    if application != APPLICATION:
        raise StoreError(
            f"expected {_file(db)} to be a run store, found a database of another program; "
            "name another file with --store"
        )
    if version > VERSION:
        raise StoreError(
            f"expected {_file(db)} to be a run store of version {VERSION} or older, found version "
            f"{version}, written by a newer flatline; upgrade flatline, or name another file "
            "with --store"
        )
    return False


def is_old(db: Connection) -> bool:
    """Whether an older version wrote the store."""
    return not is_blank(db) and _version(db) < VERSION


def _file(db: Connection) -> str:
    (_, _, path), *_ = db.execute("PRAGMA database_list")
    return str(path)


def create(db: Connection) -> None:
    """Make the tables that are missing in one transaction, unless another process was faster."""
    with transaction(db):
        if is_blank(db):
            statements = TABLES
        else:
            statements = ";".join(_UPGRADES[old] for old in range(_version(db), VERSION))
        for statement in statements.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={APPLICATION}")
        db.execute(f"PRAGMA user_version={VERSION}")


def _version(db: Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def transaction(db: Connection) -> Iterator[None]:
    """One transaction that is written as a whole or not at all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
