"""Run the zoo, and score what flatline says of it: ``python -m benchmarks.zoo``.

The first draw (0) is what the rules were made with, and some others have been looked at since
(:mod:`.draws`). Run without options, it is the draws :data:`FRESH` together, of which nothing was
seen before their figures were written down, each under ``looks``.

Truth and recordings are kept in ``.flatline/zoo/`` and made again when the code they rest on has
changed; the diagnosis is always made anew. Thresholds may be chosen on the half ``choose``; the
figures printed are those of the half ``report``, unless another is asked for. The exit status is 1
when a figure exceeds its bound, or when a run is not what its label says.

A run stands for a training of hours in a fraction of a second. Exams are therefore taken at set
steps, some thirty of 300, so that figures repeat whatever else the machine does; ``--budget`` lets
the clock decide, as in a real training.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from .halves import SPLITS
from .jobs import rows
from .runs import RUNS, drawn
from .score import BOUNDS, confusion, figures, judged, met, per_code, text

Row = dict[str, Any]
#: The draws that are reported.
FRESH = [11, 14]
RESULTS = Path(__file__).parents[1] / "results" / "zoo.json"


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
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="all", help="runs to be run")
    parser.add_argument("--draw", type=int, nargs="+", default=FRESH, help="draws of the zoo")
    parser.add_argument("--only", nargs="+", default=[], help="runs whose id contains one of these")
    parser.add_argument("--budget", type=float, help="share of the time that watching may take")
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
    sound = judged(found)
    halves = {split: [one for one in sound if one["split"] == split] for split in SPLITS}
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
        "set_aside": {one["id"]: one["complaints"] for one in found if one not in sound},
        "runs": [{key: one[key] for key in short} for one in sound],
        "looks": looks(),
    }


def looks() -> list[Row]:
    """What was seen of the reported half so far, written down by hand when it was seen."""
    return list(json.loads(RESULTS.read_text()).get("looks", [])) if RESULTS.exists() else []


def main() -> int:
    args = parsed()
    if args.list:
        print(listing())
        return 0
    start = time.perf_counter()
    runs = {name: run for draw in args.draw for name, run in drawn(draw).items()}
    names = [name for name in runs if not args.only or any(part in name for part in args.only)]
    if args.split != "all":
        names = [name for name in names if runs[name].split == args.split]
    found = []
    for one in rows(names, args.jobs, budget=args.budget, cli=args.cli, fresh=args.fresh):
        found.append(one)
        if sys.stderr.isatty():
            print(f"\r{len(found)} of {len(names)}", end="", file=sys.stderr, flush=True)
    # Thresholds may be chosen on one half: what counts is the other.
    shown = [one for one in found if args.split != "all" or one["split"] == "report"]
    print(text(shown))
    seconds = time.perf_counter() - start
    thread = sum(sum(one["seconds"].values()) for one in found)
    print(f"\n{seconds:.0f} s; {thread:.0f} s of one thread for all that was used")
    whole = len(found) == len(FRESH) * len(RUNS) and args.draw == FRESH and not args.cli
    whole = whole and args.budget is None
    output = args.output or (RESULTS if whole else None)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document(found, seconds), indent=1) + "\n")
    sound = not any(one["complaints"] for one in judged(found))
    return 0 if sound and all(met(figures(judged(shown))).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
