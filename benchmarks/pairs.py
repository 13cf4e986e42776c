"""Ratios of interleaved pairs, with bootstrap intervals.

Two identical trainings, one of them watched, take turns in one process, so that whatever else the
machine does falls on both. Which goes first alternates. Where a model happens to lie in memory
changes its speed, so half of each round watches one of the two and half the other, and the two
ratios are averaged; the next round builds both anew. An exam runs from one optimizer step to the
next, under a dispatch mode that would catch the bare training as well; so the watched one goes on
until no mode is active, and the bare one does as many steps. What lies around ``backward`` is
taken away for the bare one's turns.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainings import Build, Training

Seconds = npt.NDArray[np.float64]
#: Attaches a watcher to a training and returns what detaches it; ``None`` watches nothing.
Attach = Callable[[Training], Callable[[], None]] | None
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
RESAMPLES = 4000


@dataclass
class Turns:
    """Seconds of each turn of half a round, and what attaching and detaching took."""

    bare: Seconds
    watched: Seconds
    steps: npt.NDArray[np.int64]
    ends: float = 0.0


Round = tuple[Turns, Turns]


@dataclass
class Clock:
    """Times steps; on a GPU a turn ends when the device has finished."""

    device: str
    now: Callable[[], float]

    def settle(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def time(self, training: Training, steps: int, until_idle: bool = False) -> tuple[float, int]:
        """Seconds of a turn, and the steps that were run in it."""
        if steps == 0:
            return 0.0, 0
        self.settle()
        start = self.now()
        done = run_steps(training, steps, until_idle)
        self.settle()
        return self.now() - start, done


def examining() -> bool:
    """Whether a dispatch mode is active, and so an exam under way."""
    return torch._C._len_torch_dispatch_stack() > 0


def run_steps(training: Training, steps: int, until_idle: bool = False) -> int:
    """Run ``steps`` steps, and on until no exam is under way; returns how many it were."""
    done = 0
    while done < steps or (until_idle and examining()):
        training.step()
        done += 1
    return done


def one_round(
    build: Build, attach: Attach, clock: Clock, turns: int, steps: int, warm: int
) -> Round:
    """Build two trainings; each is the watched one for ``turns`` turns of ``steps`` steps."""
    if "torch._dynamo" in sys.modules:
        # Else the builds of later rounds would exceed the limit of recompilations and run eagerly.
        torch.compiler.reset()
    first, second = build(clock.device), build(clock.device)
    for training in (first, second):
        run_steps(training, warm)
    gc.collect()
    return (
        take_turns(first, second, attach, clock, turns, steps),
        take_turns(second, first, attach, clock, turns, steps),
    )


def take_turns(
    bare: Training, watched: Training, attach: Attach, clock: Clock, turns: int, steps: int
) -> Turns:
    """Let two trainings take turns, one of them watched."""
    plain = torch.autograd.backward
    start = clock.now()
    detach = attach(watched) if attach else lambda: None
    ends = clock.now() - start
    patched = torch.autograd.backward

    def time_bare(steps: int) -> float:
        torch.autograd.backward = plain
        try:
            return clock.time(bare, steps)[0]
        finally:
            torch.autograd.backward = patched

    rows = []
    for turn in range(turns):
        bare_first = turn % 2 == 1
        bare_time = time_bare(steps) if bare_first else 0.0
        watched_time, done = clock.time(watched, steps, until_idle=True)
        owed = done - steps if bare_first else done
        rows.append((bare_time + time_bare(owed), watched_time, done))
    start = clock.now()
    detach()
    ends += clock.now() - start
    columns = np.array(rows)
    return Turns(columns[:, 0], columns[:, 1], columns[:, 2].astype(np.int64), ends)


def median_ratio(rounds: list[Round]) -> dict[str, Any]:
    """Median over all pairs of watched / bare: for a cost that is the same at every step."""
    return interval(
        [tuple(half.watched / half.bare for half in halves) for halves in rounds],
        lambda pairs: float(np.median(pairs)),
    )


def total_ratio(rounds: list[Round], steps: int) -> dict[str, Any]:
    """All seconds watched / all seconds bare, ends included: for a cost that comes in lumps.

    The cost of attaching and detaching is spread over the pairs, as part of a loop of ``steps``
    steps.
    """

    def pairs(half: Turns) -> Seconds:
        return np.stack([half.watched + half.ends * half.steps / steps, half.bare], axis=1)

    def estimate(pairs: Seconds) -> float:
        watched, bare = pairs.sum(axis=0)
        return float(watched / bare)

    return interval([tuple(pairs(half) for half in halves) for halves in rounds], estimate)


def interval(
    rounds: list[tuple[Seconds, ...]], estimate: Callable[[Seconds], float]
) -> dict[str, Any]:
    """The geometric mean over halves of the estimate, with a 95 % interval.

    Rounds are resampled, and pairs within each half of each.
    """

    def whole(chosen: list[tuple[Seconds, ...]]) -> float:
        halves = [estimate(np.concatenate(half)) for half in zip(*chosen, strict=True)]
        return float(np.exp(np.mean(np.log(halves))))

    def again(pairs: Seconds) -> Seconds:
        return pairs[rng.integers(len(pairs), size=len(pairs))]

    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        chosen = (rounds[i] for i in rng.integers(len(rounds), size=len(rounds)))
        draws.append(whole([tuple(again(pairs) for pairs in halves) for halves in chosen]))
    low, high = np.quantile(draws, [0.025, 0.975])
    count = sum(len(pairs) for halves in rounds for pairs in halves)
    found = {"ratio": whole(rounds), "low": float(low), "high": float(high)}
    return {**found, "pairs": count, "rounds": len(rounds)}
