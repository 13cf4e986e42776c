"""One run after the other: its truth and its report, kept from before where nothing has changed."""

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
from .diagnosed import launched, summary, watched
from .fault import Plant
from .labels import Run
from .oracle import Truth, examine
from .runs import RUNS
from .score import row

Row = dict[str, Any]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".flatline" / "zoo"
#: Modules that neither the truth nor the training of a run depends on.
OUTER = ("__main__", "jobs", "score", "diagnosed", "train", "halves")


@cache
def stamp(*folders: Path) -> str:
    """A digest of the code in these folders that matters here, and of torch's version."""
    digest = sha256(torch.__version__.encode())
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        if path.parent != HERE or path.stem not in OUTER:
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


def work(name: str, budget: float | None, cli: bool, fresh: bool) -> Row:
    """One run: label, truth and report in one row."""
    torch.set_num_threads(1)
    run = RUNS[name]
    truth, value = truth_of(run, fresh)
    report = launched if cli else watched
    said_by = sha256((HERE / "diagnosed.py").read_bytes()).hexdigest()[:8]
    key = f"{stamp(HERE, ROOT / 'src')}-{said_by}-{budget}"

    def make() -> Row:
        return summary(report(run, budget), truth)

    said = kept("launched" if cli else "watched", run, key, make, fresh)
    seconds = {"truth": value["seconds"], "report": said["seconds"]}
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
