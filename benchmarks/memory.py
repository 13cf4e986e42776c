"""Memory of a training, bare or watched, in a process of its own.

``python benchmarks/memory.py TRAINING DEVICE bare|pulse|exams STEPS [UNITS]`` prints one JSON
object. With UNITS the training is ``wide`` with so many units.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch

#: What an exam found is on its way to the disk for a moment; memory is read when it has arrived.
SETTLE_SECONDS = 4.0


def resident() -> int:
    """Bytes of this process in memory, after what is free has been given back to the system."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_resident() -> int:
    """Most bytes of this process that were ever in memory.

    Not ``ru_maxrss``, which a child inherits from the process that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def measure(name: str, device: str, how: str, steps: int, units: int | None) -> dict[str, int]:
    """Run one training and read its memory between exams and at its peak."""
    from trainings import TRAININGS, wide
    from watching import watch

    build = partial(wide, units=units) if units else TRAININGS[name]
    training = build(device)
    if how != "bare":
        # The whole time goes into exams when they are asked for: every step may be a peak.
        watch(training.model, training.optimizer, how == "exams", budget=1.0)
    for _ in range(steps):
        training.step()
    training.optimizer.zero_grad()
    time.sleep(SETTLE_SECONDS)
    peak, between = peak_resident(), resident()
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
        between += torch.cuda.memory_allocated()
    return {"between": between, "peak": peak}


def in_process(name: str, device: str, how: str, steps: int, units: int | None = None) -> dict:
    """:func:`measure` in a new process."""
    tail = [str(units)] if units else []
    command = [sys.executable, __file__, name, device, how, str(steps), *tail]
    # The end of another thread's arena cannot be given back from outside. What lies there after
    # the store's thread wrote a whole model hangs on single allocations: 0 or 64 bytes per unit.
    arena = {"MALLOC_ARENA_MAX": "1"} if units else {}
    environment = {**os.environ, **arena}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def bytes_per_unit(device: str, how: str, repeats: int = 3) -> dict[str, float]:
    """Slope over the number of units of the memory held between exams, beyond the bare run."""
    few, many, steps = 10_000, 510_000, 4
    slopes = []
    for _ in range(repeats):
        beyond = [
            in_process("wide", device, how, steps, units)["between"]
            - in_process("wide", device, "bare", steps, units)["between"]
            for units in (few, many)
        ]
        slopes.append((beyond[1] - beyond[0]) / (many - few))
    return {"bytes_per_unit": median(slopes), "low": min(slopes), "high": max(slopes)}


def peak_ratio(name: str, device: str, how: str, repeats: int = 3) -> dict[str, float]:
    """Peak memory watched / bare; for ``how="bare"`` this is the control."""
    ratios = [
        in_process(name, device, how, 8)["peak"] / in_process(name, device, "bare", 8)["peak"]
        for _ in range(repeats)
    ]
    return {"ratio": median(ratios), "low": min(ratios), "high": max(ratios)}


if __name__ == "__main__":
    name, device, how, steps, *rest = sys.argv[1:]
    print(json.dumps(measure(name, device, how, int(steps), int(rest[0]) if rest else None)))
