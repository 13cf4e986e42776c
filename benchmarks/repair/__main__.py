"""Try what flatline prescribes on the sick runs of the zoo: ``python -m benchmarks.repair``.

For each, the control is watched and diagnosed; the treatments that its findings name are taken in
the order in which a user sees them, at most ``--most``; control and treated trainings run on the
same ``--seeds`` seeds, which decide weights and batches. A treatment is a repair only where the
main finding is gone on every seed (neither raised as a warning or worse, nor explained by such a
finding) and the objective, the training loss without penalties, is better with the whole 95 %
interval of the paired difference, simultaneous over all prescriptions of the run.

Without options, it is the reported half of the draw :data:`FRESH`, of which nothing was seen before
its figures were written down. Prescriptions may be chosen on the half ``choose`` of other draws.
The exit status is 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.environment import machine, versions
from benchmarks.zoo.halves import SPLITS
from benchmarks.zoo.runs import drawn

from .jobs import Plan, rows
from .score import BOUNDS, figures, per_code, per_treatment, text

Row = dict[str, Any]
#: The draw that is reported.
FRESH = 13
RESULTS = Path(__file__).parents[1] / "results" / "repair.json"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repair", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="report", help="half tried")
    parser.add_argument("--draw", type=int, default=FRESH, help="draw of the zoo")
    parser.add_argument("--only", nargs="+", default=[], help="runs whose id contains one of these")
    parser.add_argument("--sample", type=int, help="so many of the runs, drawn by their ids")
    parser.add_argument("--seeds", type=int, default=Plan.seeds, help="paired seeds of each arm")
    parser.add_argument("--most", type=int, default=Plan.most, help="prescriptions tried at most")
    parser.add_argument("--every", action="store_true", help="go on behind the first repair")
    parser.add_argument("--fresh", action="store_true", help="use nothing kept from before")
    parser.add_argument("--output", type=Path, help="file to write the figures to")
    return parser.parse_args()


def chosen(args: argparse.Namespace) -> list[str]:
    """The sick runs that are asked for."""
    names = [
        name
        for name, run in drawn(args.draw).items()
        if run.sick
        and args.split in ("all", run.split)
        and (not args.only or any(part in name for part in args.only))
    ]
    if args.sample is None:
        return names
    return sorted(names, key=lambda name: sha256(name.encode()).digest())[: args.sample]


def document(found: list[Row], aside: int, seconds: float) -> Row:
    """Figures of both halves and of all, and what was tried on each run so far."""
    parts = {split: [row for row in found if row["split"] == split] for split in SPLITS}
    return {
        "command": " ".join(["python", "-m", "benchmarks.repair", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "bounds": BOUNDS,
        "set_aside": aside,
        "halves": {
            split: {"figures": figures(part), "codes": per_code(part)}
            for split, part in {**parts, "all": found}.items()
            if part
        },
        "treatments": per_treatment(found),
        "runs": found,
        "looks": looks(),
    }


def looks() -> list[Row]:
    """What was seen of a reported draw so far, written down by hand when it was seen."""
    return list(json.loads(RESULTS.read_text()).get("looks", [])) if RESULTS.exists() else []


def main() -> int:
    args = parsed()
    names = chosen(args)
    plan = Plan(args.seeds, args.most, args.every, args.fresh)
    whole = args.draw == FRESH and args.split == "report" and not args.only and args.sample is None
    output = args.output or (RESULTS if whole else None)
    start, found = time.perf_counter(), list[Row]()
    for done, row in enumerate(rows(names, plan, args.jobs), start=1):
        found += [] if row is None else [row]
        print(f"\r{done} of {len(names)}", end="", file=sys.stderr, flush=True)
        if output is not None:  # an interrupted benchmark leaves what it found so far
            said = document(found, done - len(found), time.perf_counter() - start)
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(said, indent=1) + "\n")
    print(f"; {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(text(found))
    return 0 if all(figures(found)[key] >= bound for key, bound in BOUNDS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
