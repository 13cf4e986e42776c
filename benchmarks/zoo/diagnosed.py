"""What flatline says of a run: the only module of the zoo that knows it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import flatline
from flatline.record.store import Store
from flatline.show.report import build

from .labels import Run
from .oracle import Truth
from .training import Training

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]
#: Steps between two exams.
EVERY = 10


def watched(run: Run, budget: float | None = None) -> Row:
    """The JSON report of a run under a monitor; see :func:`record`."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "runs.db"
        record(run, store, budget)
        return reported(store)


def record(run: Run, store: Path, budget: float | None = None) -> None:
    """Train a run under a monitor that writes to a store.

    Args:
        run: The run.
        store: Where to write what was seen.
        budget: Share of the time for exams; without one, exams are taken at set steps.
    """
    follow(run.begin(), run, store, budget)


def follow(training: Training, run: Run, store: Path, budget: float | None = None) -> None:
    """Carry out a training that was set up, under a monitor that writes to a store."""
    monitor = flatline.Monitor(
        training.model, training.optimizer, budget=budget or 1.0, path=store, name=run.id
    )
    if budget is None:
        _at_set_steps(monitor)
    with monitor:
        for _ in range(run.steps):
            training.step()


def reported(store: Path) -> Row:
    """The JSON report of the last run of a store, diagnosed anew."""
    runs = Store(store, create=False)
    return build(runs.load(runs.find())).to_dict()


def _at_set_steps(monitor: flatline.Monitor) -> None:
    """Take exams by the step and not by the clock, so that a report repeats on a busy machine."""
    watcher = monitor._watch.watcher
    assert watcher is not None
    pacer: Any = watcher.pacer
    pacer.due = lambda step, elapsed, event: event or step < 4 or step % EVERY == 0
    pacer.quiet = lambda step: 1 if step < 3 else EVERY - step % EVERY


def launched(run: Run, store: Path, budget: float | None = None) -> None:
    """Train the run as an unmodified program under ``flatline run``, which writes to a store."""
    command = [sys.executable, "-m", "flatline", "run", "--quiet", "--store", str(store)]
    command += ["--budget", f"{100 * (budget or 1)}", "-m", "benchmarks.zoo.train", run.id]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)


def summary(report: Row, truth: Truth) -> Row:
    """What of a report is scored."""
    units = {(unit["site"], unit["unit"]): unit for unit in report["units"]}
    overhead = report["run"]["overhead"]
    return {
        "verdict": report["verdict"],
        "found": [[one["code"], one["severity"]] for one in report["findings"]],
        "explained": sorted({code for one in report["findings"] for code in _explained(one)}),
        "causes": _causes(units, truth),
        "times": _times(units, truth),
        "exams": overhead["exams"],
        "lost": [one["what"] for one in report["lost"]],
    }


def _explained(finding: Row) -> list[str]:
    """Codes that a finding explains."""
    listed = finding.get("explains") or []
    return [one if isinstance(one, str) else one["code"] for one in listed]


def _causes(units: dict[tuple[str, int], Row], truth: Truth) -> list[Row]:
    """For each plant and site, how many of its units were given which cause."""
    places: dict[tuple[str, str, tuple[str, ...]], Counter[str]] = {}
    for death in truth.deaths:
        place = death.plant.cause, death.site, death.plant.equal
        unit = units.get((death.site, death.unit))
        named = "not listed" if unit is None else unit.get("cause") or "none"
        places.setdefault(place, Counter())[named] += 1
    return [
        {"cause": cause, "site": site, "equal": list(equal), "named": dict(count)}
        for (cause, site, equal), count in places.items()
    ]


def _times(units: dict[tuple[str, int], Row], truth: Truth) -> Row:
    """Of the certain deaths whose step the report calls exact, how many are."""
    right, wrong = 0, []
    for (site, number), unit in units.items():
        exact = unit["state"] == "dead" and unit["certain"] and unit["since_exact"]
        if not exact or site not in truth.last_life:
            continue
        step = truth.last_life[site][number] + 1
        if unit["since_step"] == step:
            right += 1
        else:
            wrong.append([site, number, unit["since_step"], step])
    return {"right": right, "wrong": wrong}
