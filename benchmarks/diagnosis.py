"""Measure what the diagnosis of a run with a million units costs, in seconds and memory.

``python -m benchmarks.diagnosis`` makes up recordings of such a run, a wide one of a hundred sites
and a deep one of four hundred, with every kind of sick unit, deaths at many steps, 500 exams and
100,000 steps; diagnoses each in a process of its own, whose own time is told; and writes
``benchmarks/results/diagnosis-cpu.json``. The exit status is 1 when a bound is not met.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from flatline import activations
from flatline.anatomy.site import Site
from flatline.record.recording import Recording
from flatline.sense.history import Autopsy, Steps
from flatline.sense.vitals import Ledger, Vitals

from .environment import machine, versions

OUTPUT = Path(__file__).parent / "results" / "diagnosis-cpu.json"
UNITS = 1_000_000
SHAPES = {"wide": 100, "deep": 400}
EXAMS, STEPS = 500, 100_000
#: What must be reached, of the median of the rounds.
BOUNDS = {"seconds": 2.0, "mib": 1024.0}
ROUNDS = 5
MEASURES = (
    "batch", "gradient_rms", "update_ratio", "z_rms", "z_spread", "h_abs", "firing", "cold",
    "silent", "signal_rms", "effective_rank", "stable_rank", "participation", "rank_rows", "gini",
    "top_share", "weight_rms", "fan_in", "row_spread", "weight_spread", "shift", "shift_high",
    "lr", "decay", "decay_ratio",
)  # fmt: skip


def peak() -> float:
    """Largest resident memory of this process so far, in MiB."""
    line = next(ln for ln in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in ln)
    return int(line.split()[1]) / 1024


def vitals(units: int, draw: np.random.Generator) -> Vitals:
    """Units of which a tenth each is dead, dormant, a copy, saturated or a straight line."""
    kind = draw.integers(0, 10, units)
    examples = 5120
    single = np.float32
    z = np.abs(draw.normal(size=units)).astype(single) + single(0.1)
    dead, straight = kind == 0, kind == 4
    copy = np.where(kind == 2, 0, np.arange(units))
    return replace(
        Vitals.empty(units),
        examples=examples,
        fired=np.where(dead, 0, examples // 2).astype(np.int32),
        railed=np.where(kind == 3, examples, 0).astype(np.int32),
        z_min=np.where(straight, single(0.1), -z),
        z_max=np.where(dead, -z / 2, z),
        h_min=np.where(straight, single(0.1), single(0)),
        h_max=np.where(dead, single(0), z),
        h_abs=np.where(dead, 0.0, np.where(kind == 1, 1e-3, 1.0) * examples),
        z_sum=np.zeros(units),
        z_sq=np.full(units, float(examples)),
        twin=copy.astype(np.int32),
        ignored=np.zeros(units, bool),
        gradient=z,
        update=z,
    )


def ledger(dead: np.ndarray[Any, Any], draw: np.random.Generator) -> Ledger:
    """Deaths at any step, half of them exact."""
    last = draw.integers(0, STEPS - 200, len(dead))
    return Ledger(
        np.where(dead, last, STEPS - 1).astype(np.int32),
        np.where(dead, last + draw.integers(1, 100, len(dead)), -1).astype(np.int32),
        np.where(dead, 5120, 0).astype(np.int64),
        draw.random(len(dead)) < 0.5,
    )


def autopsy(dead: np.ndarray[Any, Any], draw: np.random.Generator) -> Autopsy:
    """Terms of each death."""
    units = np.flatnonzero(dead).astype(np.int32)
    step = draw.integers(100, STEPS, len(units)).astype(np.int32)
    whole = {"units": units, "step": step, "before": step - 100, "first": np.zeros_like(step)}
    terms = {
        one.name: draw.normal(size=len(units)).astype(np.float32)
        for one in fields(Autopsy)
        if one.name not in whole
    }
    return Autopsy(**whole, **terms)


def recording(sites: int, seed: int = 0) -> Recording:
    """A run with a million units in so many sites."""
    draw = np.random.default_rng(seed)
    units = UNITS // sites
    kinds = [activations.get(name) for name in ("relu", "gelu", "tanh", "relu6")]
    places = tuple(
        Site(
            f"layers.{i}.act", kinds[i % len(kinds)], units,
            feeds=(f"layers.{i}.weight",), reads=(f"layers.{i + 1}.weight",), pulse="exact",
        )
        for i in range(sites)
    )  # fmt: skip
    windows = {site.name: vitals(units, draw) for site in places}
    dead = {name: one.fired == 0 for name, one in windows.items()}
    numbers = draw.lognormal(size=(sites, len(MEASURES)))
    measured = {
        site.name: dict(zip(MEASURES, row.tolist(), strict=True)) | {"decay": 0.01}
        for site, row in zip(places, numbers, strict=True)
    }
    rows = draw.lognormal(size=(STEPS, 3))
    return Recording(
        facts={"id": "million", "status": "finished", "steps": STEPS},
        sites=places,
        windows=windows,
        ledgers={name: ledger(gone, draw) for name, gone in dead.items()},
        autopsies={name: autopsy(gone, draw) for name, gone in dead.items()},
        exams=[(step, measured) for step in range(0, STEPS, STEPS // EXAMS)],
        steps=Steps(np.arange(STEPS), *rows.T),
    )


def measured(sites: int, rounds: int) -> dict[str, Any]:
    """Seconds and memory of the diagnosis and of the report, in this process."""
    from flatline.diagnose.diagnose import diagnose
    from flatline.show.report import build

    run = recording(sites)
    before = peak()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        found = diagnose(run.sites, run.windows, run.ledgers, run.history)
        seconds.append(round(time.process_time() - start, 4))
    after = peak()
    start = time.process_time()
    build(run)
    return {
        "sites": sites,
        "units": sum(site.units for site in run.sites),
        "findings": [one.code for one in found.findings],
        "seconds": seconds,
        "report_seconds": round(time.process_time() - start, 4),
        "mib": round(after, 1),
        "mib_before": round(before, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diagnosis", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--shape", choices=SHAPES, help="only this one, in this process")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write")
    args = parser.parse_args()
    if args.shape is not None:
        print(json.dumps(measured(SHAPES[args.shape], args.rounds)))
        return 0
    found = {}
    for shape in SHAPES:
        command = [sys.executable, "-m", "benchmarks.diagnosis", "--shape", shape]
        command += ["--rounds", str(args.rounds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[shape] = json.loads(done.stdout)
        middle = float(np.median(found[shape]["seconds"]))
        print(f"{shape}: {middle:.2f} s, {found[shape]['mib']:.0f} MiB in all, "
              f"{found[shape]['mib_before']:.0f} MiB of them the recording")  # fmt: skip
    met = all(
        np.median(one["seconds"]) <= BOUNDS["seconds"] and one["mib"] <= BOUNDS["mib"]
        for one in found.values()
    )
    document = {
        "command": " ".join(["python -m benchmarks.diagnosis", *sys.argv[1:]]),
        "versions": versions(),
        "machine": machine(),
        "bounds": BOUNDS,
        "exams": EXAMS,
        "steps": STEPS,
        "shapes": found,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
