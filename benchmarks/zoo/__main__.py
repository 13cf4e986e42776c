"""Run the zoo, and score what flatline says of it: ``python -m benchmarks.zoo``.

Truth and reports are kept in ``.flatline/zoo/`` and made again when the code they rest on has
changed. The exit status is 1 when a figure exceeds its bound, or a run is not what its label says.

A run stands for a training of hours in a fraction of a second. The budget of exams is therefore
large: by default as much time as the training takes, which buys some 20 exams of 300 steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from .deaths import Death
from .fault import Plant
from .labels import SPLITS, Run
from .oracle import Truth, examine
from .runs import RUNS
from .score import BOUNDS, confusion, figures, met, per_code, row, text

Row = dict[str, Any]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE.parent / "results" / "zoo.json"
KEPT = ROOT / ".flatline" / "zoo"


@cache
def stamp(*folders: Path) -> str:
    """A digest of the code in these folders that matters here, and of torch's version."""
    digest = sha256(torch.__version__.encode())
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        if path.parent != HERE or path.stem not in ("__main__", "score", "diagnosed"):
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


def work(task: tuple[str, float, bool, bool]) -> Row:
    """One run: truth, report, and both in one row."""
    from .diagnosed import launched, summary, watched

    name, budget, cli, fresh = task
    torch.set_num_threads(1)
    run = RUNS[name]
    truth, value = truth_of(run, fresh)
    said_by = sha256((HERE / "diagnosed.py").read_bytes()).hexdigest()[:8]
    key = f"{stamp(HERE, ROOT / 'src')}-{said_by}-{budget}"
    report = launched if cli else watched

    def make() -> Row:
        return summary(report(run, budget), truth)

    said = kept("launched" if cli else "watched", run, key, make, fresh)
    seconds = {"truth": value["seconds"], "report": said["seconds"]}
    return row(run, value, said) | {"seconds": seconds}


def rows(names: list[str], args: argparse.Namespace) -> Iterator[Row]:
    """Rows as they are finished, in order."""
    tasks = [(name, args.budget, args.cli, args.fresh) for name in names]
    if args.jobs == 1:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, tasks)


def machine() -> Row:
    """What it ran on."""
    found = {
        name: metadata.version(name) for name in ("flatline", "torch", "numpy", "scikit-learn")
    }
    return {"python": platform.python_version(), **found, "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}"}  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="report")
    parser.add_argument("--only", nargs="+", default=[], help="runs whose id contains one of these")
    parser.add_argument(
        "--budget", type=float, default=1.0, help="share of the time that watching may take"
    )
    parser.add_argument("--cli", action="store_true", help="run each under `flatline run`")
    parser.add_argument("--fresh", action="store_true", help="use nothing kept from before")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--output", type=Path, help="file to write the figures to")
    return parser.parse_args()


def listing() -> str:
    """Each run with its label."""
    lines = [
        f"{run.split:<7} {run.main or '-':<24} {run.id:<50} {run.why}" for run in RUNS.values()
    ]
    count = Counter(code for run in RUNS.values() for code in run.expected)
    causes = Counter(c for run in RUNS.values() for c in {plant.cause for plant in run.plants})
    lines += ["", *(f"{n:4}  {code}" for code, n in count.most_common())]
    return "\n".join([*lines, "", *(f"{n:4}  cause {cause}" for cause, n in causes.most_common())])


def document(found: list[Row], seconds: float) -> Row:
    """Figures of both halves and one short line for each run."""
    halves = {split: [one for one in found if one["split"] == split] for split in SPLITS}
    short = ("id", "split", "sick", "main", "found", "exams", "seconds")
    return {
        "command": " ".join(["python", "-m", "benchmarks.zoo", *sys.argv[1:]]),
        "machine": machine(),
        "seconds": round(seconds, 1),
        "bounds": BOUNDS,
        "halves": {
            split: {"figures": figures(half), "codes": per_code(half), "causes": confusion(half)}
            for split, half in halves.items()
            if half
        },
        "runs": [{key: one[key] for key in short} for one in found],
    }


def main() -> int:
    args = parsed()
    if args.list:
        print(listing())
        return 0
    start = time.perf_counter()
    names = [name for name in RUNS if not args.only or any(part in name for part in args.only)]
    if args.split != "all":
        names = [name for name in names if RUNS[name].split == args.split]
    found = []
    for one in rows(names, args):
        found.append(one)
        if sys.stderr.isatty():
            print(f"\r{len(found)} of {len(names)}", end="", file=sys.stderr, flush=True)
    print(text(found))
    seconds = time.perf_counter() - start
    thread = sum(sum(one["seconds"].values()) for one in found)
    print(f"\n{seconds:.0f} s; {thread:.0f} s of one thread for all that was used")
    whole = len(found) == len(RUNS) and not args.cli
    output = args.output or (RESULTS if whole else None)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document(found, seconds), indent=1) + "\n")
    sound = not any(one["complaints"] for one in found)
    return 0 if sound and all(met(figures(found)).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
