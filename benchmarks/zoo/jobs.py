"""One run after the other: its truth and what was recorded of it, diagnosed anew.

Truth and recordings are kept from before where the code that they rest on has not changed, so that
a change of the diagnosis alone is judged in seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from .deaths import Death
from .diagnosed import launched, record, reported, summary
from .fault import Plant
from .labels import Run
from .oracle import Truth, examine
from .runs import named
from .score import row

Row = dict[str, Any]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".flatline" / "zoo"
#: Modules of the zoo that neither the truth nor the training of a run depends on.
OUTER = ("__main__", "jobs", "score", "diagnosed", "train", "halves")
#: Rooms of flatline that only judge and show what was recorded.
JUDGES = ("diagnose", "show")


@cache
def stamp(*folders: Path) -> str:
    """A digest of the code in these folders that a recording rests on, and of torch's version."""
    digest = sha256(torch.__version__.encode())
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        outer = path.parent == HERE and path.stem in OUTER
        if not outer and not set(path.relative_to(ROOT).parts) & set(JUDGES):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def kept(kind: str, run: Run, key: str, make: Callable[[], Row], fresh: bool) -> Row:
    """What was made before from the same code, or made now."""
    path = KEPT / kind / f"{run.id}.json"
    if not fresh and path.exists():
        found = json.loads(path.read_text())
        if found["key"] == key:
            return dict(found["value"])
    start = time.process_time()
    value = make() | {"seconds": round(time.process_time() - start, 3)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "value": value}))
    return value


def truth_of(run: Run, fresh: bool) -> tuple[Truth, Row]:
    """Brute force on one run."""

    def make() -> Row:
        found = asdict(examine(run))
        return found | {"facts": sorted(found["facts"])}

    value = kept("truth", run, stamp(HERE), make, fresh)
    return (
        Truth(
            tuple(value["complaints"]),
            tuple(_death(**death) for death in value["deaths"]),
            value["last_life"],
            frozenset(value["facts"]),
            value["skill"],
        ),
        value,
    )


def _death(plant: Row, **death: Any) -> Death:
    return Death(plant=Plant(**plant | {"equal": tuple(plant["equal"])}), **death)


def recording_of(run: Run, budget: float | None, cli: bool, fresh: bool) -> tuple[Path, Row]:
    """The store that watching the run has written."""
    kind = "launched" if cli else "watched"
    store = KEPT / kind / f"{run.id}.db"

    def make() -> Row:
        for part in ("", "-wal", "-shm"):
            Path(f"{store}{part}").unlink(missing_ok=True)
        store.parent.mkdir(parents=True, exist_ok=True)
        (launched if cli else record)(run, store, budget)
        return {}

    key = f"{stamp(HERE, ROOT / 'src')}-{budget}"
    return store, kept(kind, run, key, make, fresh or not store.exists())


def work(name: str, budget: float | None, cli: bool, fresh: bool) -> Row:
    """One run: label, truth and diagnosis in one row."""
    torch.set_num_threads(1)
    run = named(name)
    truth, value = truth_of(run, fresh)
    store, recorded = recording_of(run, budget, cli, fresh)
    start = time.process_time()
    said = summary(reported(store), truth)
    seconds = {"truth": value["seconds"], "watched": recorded["seconds"]}
    seconds["diagnosis"] = round(time.process_time() - start, 3)
    return row(run, value, said) | {"seconds": seconds}


def rows(
    names: Sequence[str],
    jobs: int = 1,
    *,
    budget: float | None = None,
    cli: bool = False,
    fresh: bool = False,
) -> Iterator[Row]:
    """Rows in the order of the names, made in so many processes of one thread each."""
    task = partial(work, budget=budget, cli=cli, fresh=fresh)
    if jobs == 1:
        yield from map(task, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, names)
