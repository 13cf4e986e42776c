"""Train the real bugs under flatline, and write ``benchmarks/results/real-bugs.json``.

Every program in scope is trained as the post had it, and repaired: once at flatline's default share
of the time, and once at a generous one. A bug is detected when a finding is a warning or critical,
diagnosed when one of those has a right code, and diagnosed first when the first finding has. What
flatline says of a repaired program is a false alarm when it is critical, and not a fault that the
repair leaves in. The exit status is 1 when a figure misses its bound, a program does not show its
fault, or its repair does not cure it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

import flatline

from .program import PROGRAMS, Program
from .table import BUGS, TOOLS, Bug, published

RESULTS = Path(__file__).parents[1] / "results" / "real-bugs.json"
#: Shares of the time: flatline's default, and a generous one.
BUDGETS = (0.01, 0.1)
#: Part of the bugs in scope that must be diagnosed.
BOUND = 0.9
Row = dict[str, Any]


class Watcher:
    """Watches one program and keeps what was found, the first finding first."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.found: list[tuple[str, str]] = []

    @contextmanager
    def __call__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        with flatline.Monitor(model, optimizer, budget=self.budget) as monitor:
            yield
        self.found = [(found.code, found.severity) for found in monitor.report().findings]

    def codes(self, *severities: str) -> list[str]:
        return [code for code, severity in self.found if severity in severities]


def examined(bug: Bug, program: Program, budget: float) -> Row:
    """Both versions of one bug, and how flatline did on them."""
    sick, well = Watcher(budget), Watcher(budget)
    buggy, fixed = program.buggy(sick), program.fixed(well)
    alarms = sick.codes("critical", "warning")
    return {
        "bug": bug.name,
        "url": bug.url,
        "metric": program.metric,
        "buggy": buggy,
        "fixed": fixed,
        "reproduced": program.is_bad(buggy) and program.is_good(fixed),
        "right": list(bug.codes),
        "found": sick.found,
        "detected": bool(alarms),
        "diagnosed": any(code in bug.codes for code in alarms),
        "first": bool(alarms) and sick.found[0][0] in bug.codes,
        "found_fixed": well.found,
        "false_alarms": [code for code in well.codes("critical") if code not in bug.leaves],
    }


def totals(rows: list[Row]) -> Row:
    return {
        "bugs": len(rows),
        **{what: sum(row[what] for row in rows) for what in ("detected", "diagnosed", "first")},
        "fixed_with_false_alarms": sum(bool(row["false_alarms"]) for row in rows),
        "not_reproduced": [row["bug"] for row in rows if not row["reproduced"]],
        "missed": [row["bug"] for row in rows if not row["detected"]],
        "misdiagnosed": [row["bug"] for row in rows if row["detected"] and not row["diagnosed"]],
    }


def met(score: Row) -> bool:
    """Whether the figures are within their bounds."""
    return score["diagnosed"] >= BOUND * score["bugs"] and not score["fixed_with_false_alarms"]


def others(bugs: list[Bug]) -> Row:
    """The published figures of the four tools."""
    return {
        name: dict(zip(("detected", "diagnosed"), published(bugs, initial), strict=True))
        for initial, name in TOOLS.items()
    }


def environment() -> Row:
    """What the figures were made with, and on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((ln.split(":")[1].strip() for ln in lines if ln.startswith("model name")), "")
    packages = ("flatline", "torch", "numpy", "scikit-learn", "mlxtend")
    return {
        "versions": {"python": platform.python_version()}
        | {package: metadata.version(package) for package in packages},
        "machine": {
            "cpu": model,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.release()}",
        },
    }


def line(row: Row) -> str:
    """One bug as a line of the printed table."""
    marks = " ".join("yes" if row[what] else " - " for what in ("detected", "diagnosed", "first"))
    numbers = f"{row['buggy']:8.3g} {row['fixed']:8.3g}{' ' if row['reproduced'] else '!'}"
    found = ", ".join(f"{code}{'' if severity == 'critical' else f' ({severity})'}"
                      for code, severity in row["found"])  # fmt: skip
    alarms = f"; repaired: {', '.join(row['false_alarms'])}" if row["false_alarms"] else ""
    return f"{row['bug'][:24]:<24} {row['metric']:<8} {numbers} {marks}  {found or '-'}{alarms}"


def summary(score: Row, in_scope: list[Bug], counted: list[Bug]) -> str:
    """The figures beside those of the four."""
    here, everywhere = others(in_scope), others(counted)
    columns = "detected  diagnosed"
    lines = [
        f"{'':<13} {f'{len(in_scope)} in scope':>19}     {f'all {len(counted)}':>19}",
        f"{'':<13} {columns}     {columns}",
        f"{'flatline':<13} {score['detected']:>8} {score['diagnosed']:>10}"
        f"     ({score['first']} by its first finding)",
        *(
            f"{name:<13} {here[name]['detected']:>8} {here[name]['diagnosed']:>10}"
            f"     {everywhere[name]['detected']:>8} {everywhere[name]['diagnosed']:>10}"
            for name in TOOLS.values()
        ),
        *(
            f"{what.replace('_', ' ')}: {', '.join(score[what]) or 'none'}"
            for what in ("missed", "misdiagnosed", "not_reproduced")
        ),
        f"repaired programs with critical findings: {score['fixed_with_false_alarms']}",
    ]
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_bugs", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--bugs", nargs="+", choices=PROGRAMS, help="only these", metavar="BUG")
    parser.add_argument(
        "--budgets", nargs="+", type=float, default=BUDGETS, help="flatline's shares of the time"
    )
    parser.add_argument("--output", type=Path, help="file to write")
    parser.add_argument("--list", action="store_true", help="say what was wrong with each, and end")
    return parser.parse_args()


def finite(value: float) -> float | None:
    """A number as JSON has them: what is not one becomes null."""
    return value if math.isfinite(value) else None


def catalogue() -> str:
    """Every bug, and why it counts as it does."""
    return "\n\n".join(
        f"{bug.name}  {bug.url}\n  {bug.about}\n"
        f"  {', '.join(bug.codes) or 'out of scope'}: {bug.why}"
        for bug in BUGS
    )


def measured(in_scope: list[Bug], counted: list[Bug], budget: float) -> Row:
    """All bugs at one share of the time, printed as they come."""
    print(f"flatline may take {budget:.0%} of the time")
    print(f"{'bug':<24} {'metric':<8} {'buggy':>8} {'fixed':>8}  det dia 1st  findings")
    rows = []
    for bug in in_scope:
        rows.append(examined(bug, PROGRAMS[bug.name], budget))
        print(line(rows[-1]), flush=True)
    score = totals(rows)
    print(f"\n{summary(score, in_scope, counted)}\n")
    return {
        "budget": budget,
        "flatline": score,
        "bugs": [row | {key: finite(row[key]) for key in ("buggy", "fixed")} for row in rows],
    }


def main() -> int:
    args = parsed()
    if args.list:
        print(catalogue())
        return 0
    torch.set_num_threads(1)
    counted = [bug for bug in BUGS if bug.counted]
    in_scope = [bug for bug in counted if bug.in_scope and bug.name in (args.bugs or PROGRAMS)]
    runs = [measured(in_scope, counted, budget) for budget in args.budgets]
    document = {
        "command": " ".join(["python -m benchmarks.real_bugs", *sys.argv[1:]]),
        **environment(),
        "bound": BOUND,
        "published": {"in_scope": others(in_scope), "counted": others(counted)},
        "out_of_scope": {bug.name: bug.why for bug in counted if not bug.in_scope},
        "runs": runs,
    }
    # Of a part of the bugs nothing is kept unasked.
    output = args.output or (None if args.bugs else RESULTS)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    whole = all(met(run["flatline"]) and not run["flatline"]["not_reproduced"] for run in runs)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
