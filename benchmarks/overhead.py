"""Measure what watching costs, and write ``benchmarks/results/overhead-DEVICE.json``.

Whole training steps, in interleaved pairs (see ``pairs.py``). Every workload also gets an A/A
control, in which neither training is watched: the width of its interval is what this machine can
tell apart, and 1 lies outside of it once in twenty times by chance. The exit status is 1 when a
figure exceeds its bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from environment import machine, versions
from memory import bytes_per_unit, peak_ratio
from pairs import CLOCKS, Attach, Clock, Round, interval, median_ratio, one_round, total_ratio
from trainings import TRAININGS, Build, Training
from watching import watch

RESULTS = Path(__file__).parent / "results"
PARTS = ("control", "pulse", "loop", "memory", "start")
#: What each figure must not exceed; ``peak`` is a ratio, ``units`` is in bytes.
BOUNDS = {"pulse": 1.003, "loop": 1.01, "units": 64.0, "peak": 1.10, "help": 0.25, "import": 1.05}
Row = dict[str, Any]


def pulse_only(training: Training) -> Callable[[], None]:
    return watch(training.model, training.optimizer, exams=False)


def default_budget(training: Training) -> Callable[[], None]:
    return watch(training.model, training.optimizer, exams=True)


def rounds_of(build: Build, attach: Attach, clock: Clock, args: argparse.Namespace) -> list[Round]:
    """Rounds of pairs, for a cost that is the same at every step."""
    turns = max(args.pairs // 2, 1)
    return [
        one_round(build, attach, clock, turns, args.turn, args.warm) for _ in range(args.rounds)
    ]


def loops_of(build: Build, attach: Attach, clock: Clock, args: argparse.Namespace) -> list[Round]:
    """One round whose halves are whole loops."""
    return [one_round(build, attach, clock, max(args.steps // args.turn, 1), args.turn, args.warm)]


def timings(name: str, clock: Clock, args: argparse.Namespace) -> Iterator[Row]:
    """The control, the pulse and the whole loop of one workload."""
    build = TRAININGS[name]
    if "control" in args.parts:
        rounds = rounds_of(build, None, clock, args)
        bare = [half.bare / half.steps for halves in rounds for half in halves]
        step = float(np.median(np.concatenate(bare)))
        row = {"what": "control", "workload": name, "step_seconds": step, **median_ratio(rounds)}
        yield row | {"holds": row["low"] <= 1 <= row["high"]}
    if "pulse" in args.parts:
        row = median_ratio(rounds_of(build, pulse_only, clock, args))
        yield {"what": "pulse", "workload": name, **row, "holds": row["ratio"] <= BOUNDS["pulse"]}
    if "loop" in args.parts:
        if "control" in args.parts:
            row = total_ratio(loops_of(build, None, clock, args), args.steps)
            holds = row["low"] <= 1 <= row["high"]
            yield {"what": "loop control", "workload": name, **row, "holds": holds}
        row = total_ratio(loops_of(build, default_budget, clock, args), args.steps)
        yield {"what": "loop", "workload": name, **row, "holds": row["ratio"] <= BOUNDS["loop"]}


def memories(workloads: list[str], args: argparse.Namespace) -> Iterator[Row]:
    """Bytes per unit between exams, and the peak of an exam."""
    if "control" in args.parts:
        yield {"what": "units control", "workload": "wide", **bytes_per_unit(args.device, "bare")}
        row = peak_ratio(workloads[0], args.device, "bare")
        yield {"what": "peak control", "workload": workloads[0], **row}
    row = bytes_per_unit(args.device, "exams")
    holds = row["bytes_per_unit"] <= BOUNDS["units"]
    yield {"what": "units", "workload": "wide", **row, "holds": holds}
    for name in workloads:
        row = peak_ratio(name, args.device, "exams")
        yield {"what": "peak", "workload": name, **row, "holds": row["ratio"] <= BOUNDS["peak"]}


def seconds_of(*arguments: str) -> float:
    """Wall time of a fresh Python."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def start_up(repeats: int = 15) -> Iterator[Row]:
    """Time of ``--help``, and of importing flatline beside torch."""
    seconds = np.array([seconds_of("-m", "flatline", "--help") for _ in range(repeats + 1)][1:])
    row = {"seconds": float(np.median(seconds)), "low": seconds.min(), "high": seconds.max()}
    yield {"what": "help", **row, "holds": row["seconds"] <= BOUNDS["help"]}
    for what, code in (("import", "import flatline"), ("import both", "import torch, flatline")):
        pairs = [
            seconds_of("-c", code) / seconds_of("-c", "import torch") for _ in range(repeats + 1)
        ]
        row = interval([(np.array(pairs[1:]),)], lambda chosen: float(np.median(chosen)))
        yield {"what": what, **row, "holds": row["ratio"] <= BOUNDS["import"]}


def table_line(row: Row) -> str:
    """One figure as a line of the printed table."""
    value = next(row[key] for key in ("ratio", "bytes_per_unit", "seconds") if key in row)
    name = f"{row['what']:<14} {row.get('workload', ''):<13}"
    verdict = {True: "yes", False: "NO", None: ""}[row.get("holds")]
    return f"{name} {value:9.4f}  [{row['low']:9.4f}, {row['high']:9.4f}]  {verdict}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workloads", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=6, help="builds of each pair")
    parser.add_argument(
        "--pairs", type=int, default=100, help="pairs in each round, half for each role"
    )
    parser.add_argument("--steps", type=int, default=2000, help="length of the whole loop")
    parser.add_argument("--turn", type=int, help="steps of a turn (default 1, 10 on a GPU)")
    parser.add_argument("--warm", type=int, default=10, help="steps before anything is timed")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu on a busy machine")
    parser.add_argument("--threads", type=int, help="torch's threads")
    parser.add_argument("--output", type=Path, help="file to write")
    args = parser.parse_args()
    args.turn = args.turn or (10 if args.device == "cuda" else 1)
    return args


def figures(args: argparse.Namespace) -> Iterator[Row]:
    """All figures that were asked for, one by one."""
    clock = Clock(args.device, CLOCKS[args.clock])
    for name in args.workloads:
        yield from timings(name, clock, args)
    if "memory" in args.parts:
        yield from memories(args.workloads, args)
    if "start" in args.parts:
        yield from start_up()


def main() -> int:
    args = parsed()
    if args.threads:
        torch.set_num_threads(args.threads)
    output = args.output or RESULTS / f"overhead-{args.device}.json"
    document: Row = {
        "command": " ".join(["python", "benchmarks/overhead.py", *sys.argv[1:]]),
        "versions": versions(),
        "machine": machine(),
        "bounds": BOUNDS,
        "figures": [],
    }
    print(f"{'figure':<14} {'workload':<13} {'value':>9}  {'95 % interval':^22}  met")
    for row in figures(args):
        document["figures"].append(row)
        print(table_line(row), flush=True)
        # Written after every figure, so that an interrupted benchmark keeps what it has.
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1, default=float) + "\n")
    bounded = (row for row in document["figures"] if "control" not in row["what"])
    return 0 if all(row["holds"] for row in bounded) else 1


if __name__ == "__main__":
    sys.exit(main())
