"""A store that cannot be used is refused before the program starts, and left as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3

import pytest

from flatline.record.schema import APPLICATION, VERSION
from flatline.record.store import Store

#: What takes from root the right to read and write everything.
UNPRIVILEGED = "-dac_override,-dac_read_search"


def locked(path):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    return db


def database(path, application=0, version=0):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE songs (title)")
    db.execute(f"PRAGMA application_id={application}")
    db.execute(f"PRAGMA user_version={version}")
    db.commit()
    db.close()


@pytest.fixture
def runs(twice):
    """Nothing stands in for the store; the program must not start."""
    twice.env["PYTHONPATH"] = twice.env["PYTHONPATH"].rpartition(":")[2]
    twice.write("train.py", "raise SystemExit('it started')")
    return twice


@pytest.fixture
def powerless(runs):
    """The same without the right to read and write everything."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, to be without root's permissions")
        take = ["setpriv", "--bounding-set", UNPRIVILEGED, "--inh-caps", UNPRIVILEGED]
        runs.python = [*take, *runs.python]
    return runs


def refused(runs, sentence, *command):
    status, output, errors = runs.run(*runs.flatline, *command)
    assert (status, output) == (2, "")
    assert errors == f"flatline: {sentence}\n"


READERS = [["run", "train.py"], ["report"], ["runs"]]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_file_that_is_no_database(runs, command):
    song = runs.write("song.db", "la " * 400)
    refused(
        runs,
        f"expected {song} to be a run store, found a file that is none or is damaged (file is not "
        "a database); name another file with --store",
        command[0],
        "--store",
        "song.db",
        *command[1:],
    )
    assert song.read_text() == "la " * 400


@pytest.mark.parametrize("command", READERS, ids=" ".join)
@pytest.mark.parametrize(
    ("application", "version", "found"),
    [
        (0, 0, "found a database of another program; name another file with --store"),
        (
            APPLICATION,
            7,
            f"of version {VERSION} or older, found version 7, written by a newer flatline; upgrade "
            "flatline, or name another file with --store",
        ),
    ],
    ids=["of another program", "newer"],
)
def test_a_database_that_is_not_ours_to_change(runs, command, application, version, found):
    path = runs.folder / "other.db"
    database(path, application, version)
    before = path.read_bytes()
    comma = ", " if application == 0 else " "
    refused(
        runs,
        f"expected {path} to be a run store{comma}{found}",
        command[0],
        "--store",
        "other.db",
        *command[1:],
    )
    assert path.read_bytes() == before


def test_a_store_that_is_locked(runs):
    path = runs.folder / ".flatline" / "runs.db"
    Store(path).close()
    db = locked(path)
    try:
        refused(
            runs,
            f"expected to write {path} within 5 seconds, found it locked by another process; end "
            "that process, or name another file with --store",
            "run",
            "train.py",
        )
    finally:
        db.close()


def test_a_store_that_may_not_be_written_can_be_read(powerless):
    runs, folder = powerless, powerless.folder / "kept"
    path = folder / "runs.db"
    with Store(path) as store:
        store.create_run({"name": "kept"}).close("finished")
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        refused(
            runs,
            f"expected to write {path}, found it read-only; make it writable, or name another file "
            "with --store",
            *("run", "--store", "kept/runs.db", "train.py"),
        )
        refused(
            runs,
            f"expected to make the folder {folder}/new for the run store, found: Permission "
            "denied; name another file with --store",
            *("run", "--store", "kept/new/runs.db", "train.py"),
        )
        status, output, _ = runs.run(*runs.flatline, "runs", "--store", "kept/runs.db")
        assert (status, output.split()[7:9]) == (0, ["kept", "finished"])
    finally:
        folder.chmod(0o755)


def test_a_script_that_may_not_be_read(powerless):
    powerless.write("secret.py", "").chmod(0)
    refused(
        powerless,
        "expected a Python script that can be read, found 'secret.py': permission denied; change "
        "its permissions or name another script",
        *("run", "secret.py"),
    )


TRAINED = """
import sqlite3, sys, torch
from torch import nn
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
SPOIL
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(32, 8)).square().mean().backward()
    optimizer.step()
print("trained")
"""


def test_a_store_that_vanishes_does_not_end_the_training(runs):
    runs.write("train.py", TRAINED.replace("SPOIL", "import shutil; shutil.rmtree('.flatline')"))

    status, output, errors = runs.watched("train.py")

    assert (status, output) == (0, "trained\n")
    assert errors.startswith(
        "flatline no longer sees what is stored of this run: expected to use "
        f"{runs.folder}/.flatline/runs.db as the run store, found: unable to open database file; "
        "name another file with --store\nUNKNOWN  "
    )
