"""Measure ``flatline trial``, and write ``benchmarks/results/trial.json``.

- ``cost``: what it takes beyond the runs that it starts, one at a time, against the same commands
  typed one after the other; beside it plain python on the same program, which shows what a run of
  flatline itself adds. The two take turns, and each figure is the median of the rounds.
- ``digits``: seconds of 3 treatments and the control on 3 seeds of the digits example.
- ``null``: how often an arm is called ``better`` that is nothing but the control on other seeds.
  Healthy runs of the zoo are trained on many seeds; those are dealt out at random, again and again,
  to a control and to arms.

The exit status is 1 when a figure exceeds its bound.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import machine, versions
from benchmarks.zoo.runs import RUNS
from flatline.trials.measures import Curve
from flatline.trials.plan import Arm, Work, arms
from flatline.trials.statistics import BETTER, compare

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "trial.json"
DIGITS = str(ROOT / "examples" / "digits_mlp.py")
EPOCHS = ("--epochs", "6")
PARTS = ("cost", "digits", "null")
#: Ratio to the bare runs; seconds on 2 cores; share of trials with an arm called better.
BOUNDS = {"cost": 1.03, "digits": 90.0, "null": 0.05}
Row = dict[str, Any]


def timed(work: Callable[[Path], object]) -> tuple[float, float]:
    """Wall time, and processor time of all that was started, of work in a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        work(Path(folder))
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def python(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def tried(folder: Path, *options: str) -> None:
    store = ("--store", str(folder / "runs.db"))
    python("-m", "flatline", "trial", "--quiet", *store, *options)


def typed(folder: Path, seeds: int, treatment: str) -> None:
    """The runs of a trial, each as a person would type it."""
    work = Work((DIGITS, *EPOCHS), folder / "runs.db")
    for seed in range(seeds):
        for arm in (Arm(), *arms([treatment])):
            python(*work.job(arm, seed).command)


def plain(folder: Path, runs: int) -> None:
    for seed in range(runs):
        python(DIGITS, *EPOCHS, "--seed", str(seed))


def cost(args: argparse.Namespace) -> Row:
    treatment, seeds = "lr=x0.1", 3
    options = ("--treat", treatment, "--seeds", str(seeds), DIGITS, *EPOCHS)
    ways: dict[str, Callable[[Path], object]] = {
        "typed": partial(typed, seeds=seeds, treatment=treatment),
        "trial": lambda folder: tried(folder, *options),
        "plain": partial(plain, runs=2 * seeds),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(args.rounds):
        order = list(ways) if number % 2 else list(ways)[::-1]
        for name in order:
            found[name].append(timed(ways[name]))
    walls, used = ({n: np.array([one[i] for one in f]) for n, f in found.items()} for i in (0, 1))
    ratio = float(np.median(walls["trial"] / walls["typed"]))
    return {
        "what": "cost",
        "runs": 2 * seeds,
        "ratio": ratio,
        "ratio_of_processor_time": float(np.median(used["trial"] / used["typed"])),
        "ratio_to_plain_python": float(np.median(walls["trial"] / walls["plain"])),
        "seconds": {name: float(np.median(wall)) for name, wall in walls.items()},
        "holds": ratio <= BOUNDS["cost"],
    }


def digits(args: argparse.Namespace) -> Row:
    treats = [w for one in ("lr=x0.1", "clip=norm:1.0", "init=he") for w in ("--treat", one)]
    options = (*treats, "--seeds", "3", "--max-steps", "200", "--jobs", str(args.jobs), DIGITS)
    seconds = min(timed(lambda folder: tried(folder, *options))[0] for _ in range(args.rounds))
    return {"what": "digits", "runs": 12, "seconds": seconds, "holds": seconds <= BOUNDS["digits"]}


def objectives(name: str, seeds: int) -> list[float]:
    """What a healthy run of the zoo ends with on other seeds."""
    import torch

    from benchmarks.zoo.training import Training

    torch.set_num_threads(1)
    run, found = RUNS[name], []
    for seed in range(seeds):
        training = Training(run.recipe, run.seed + 1000 * seed)
        losses = np.array([training.step() for _ in range(run.steps)])
        found.append(Curve(np.arange(len(losses)), losses).end())
    return found


def dealt(values: Sequence[float], seeds: int, treated: int, deals: int) -> tuple[float, float]:
    """Share of trials with an arm called better, and of arms, when all are the same."""
    rng = np.random.default_rng(0)
    trials = called = 0
    for _ in range(deals):
        hands = rng.permutation(values).reshape(treated + 1, seeds)
        control, *others = (dict(enumerate(hand.tolist())) for hand in hands)
        found = compare(control, {str(i): one for i, one in enumerate(others)})
        better = sum(one.verdict == BETTER for one in found.values())
        trials, called = trials + (better > 0), called + better
    return trials / deals, called / deals / treated


def null(args: argparse.Namespace) -> Row:
    seeds, treated = 3, 3
    healthy = [name for name, run in RUNS.items() if not run.sick]
    chosen = healthy[:: math.ceil(len(healthy) / args.null_runs)]
    task = partial(objectives, seeds=seeds * (treated + 1))
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        ends = dict(zip(chosen, pool.map(task, chosen), strict=True))
    shares = {name: dealt(values, seeds, treated, args.deals) for name, values in ends.items()}
    trials, called = np.mean(list(shares.values()), axis=0).tolist()
    return {
        "what": "null",
        "healthy_runs": len(chosen),
        "seeds": seeds,
        "arms": treated,
        "deals_per_run": args.deals,
        "trials_with_better": trials,
        "arms_called_better": called,
        "worst": max((share, name) for name, (share, _) in shares.items())[::-1],
        "objectives": ends,
        "holds": trials <= BOUNDS["null"],
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trial", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of what is timed")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, but for the cost")
    parser.add_argument("--null-runs", type=int, default=18, help="healthy runs of the zoo")
    parser.add_argument("--deals", type=int, default=1000, help="trials dealt for each of them")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to write")
    return parser.parse_args()


def figures(args: argparse.Namespace) -> Iterator[Row]:
    """All figures that were asked for, one by one."""
    for part, measure in (("cost", cost), ("digits", digits), ("null", null)):
        if part in args.parts:
            yield measure(args)


def main() -> int:
    args = parsed()
    document: Row = {
        "command": " ".join(["python", "-m", "benchmarks.trial", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "bounds": BOUNDS,
        "figures": [],
    }
    for row in figures(args):
        document["figures"].append(row)
        shown = {key: value for key, value in row.items() if key != "objectives"}
        print(json.dumps(shown, indent=1), flush=True)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(document, indent=1, default=float) + "\n")
    return 0 if all(row["holds"] for row in document["figures"]) else 1


if __name__ == "__main__":
    sys.exit(main())
