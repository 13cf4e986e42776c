"""Ratios of interleaved pairs, with bootstrap intervals.

Two identical trainings, one of them watched, take turns in one process, so that whatever else the
machine does falls on both. Which goes first alternates. Each round builds both anew and swaps
which of the two builds is watched, since where a model happens to lie in memory changes its speed.
An exam runs from one optimizer step to the next, under a dispatch mode that would catch the bare
training as well; so the watched one goes on until no mode is active, and the bare one does as many
steps.
"""

from __future__ import annotations

import gc
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
    """Seconds of each turn of one round, and what attaching and detaching took."""

    bare: Seconds
    watched: Seconds
    steps: npt.NDArray[np.int64]
    ends: float = 0.0


@dataclass
class Clock:
    """Times steps; on a GPU a turn ends when the device has finished."""

    device: str
    now: Callable[[], float]

    def settle(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def time(self, work: Callable[[], object]) -> float:
        self.settle()
        start = self.now()
        work()
        self.settle()
        return self.now() - start


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
    build: Build, attach: Attach, clock: Clock, turns: int, steps: int, *, swap: bool, warm: int
) -> Turns:
    """Build both trainings, and let them take turns of ``steps`` steps."""
    first, second = build(clock.device), build(clock.device)
    bare, watched = (second, first) if swap else (first, second)
    for training in (bare, watched):
        run_steps(training, warm)
    detach: Callable[[], None] = lambda: None  # noqa: E731
    ends = 0.0
    if attach is not None:
        start = clock.now()
        detach = attach(watched)
        ends += clock.now() - start
    rows = []
    gc.collect()
    for turn in range(turns):
        ahead = clock.time(lambda: run_steps(bare, steps)) if turn % 2 else 0.0
        done = 0

        def watched_turn() -> None:
            nonlocal done
            done = run_steps(watched, steps, until_idle=True)

        spent = clock.time(watched_turn)
        owed = done - steps if turn % 2 else done
        rows.append((ahead + clock.time(lambda n=owed: run_steps(bare, n)), spent, done))
    ends += clock.time(detach)
    columns = np.array(rows)
    return Turns(columns[:, 0], columns[:, 1], columns[:, 2].astype(np.int64), ends)


def median_ratio(rounds: list[Turns]) -> dict[str, Any]:
    """Median over all pairs of watched / bare: for a cost that is the same at every step."""
    ratios = [turns.watched / turns.bare for turns in rounds]

    def estimate(chosen: list[Seconds]) -> float:
        return float(np.median(np.concatenate(chosen)))

    return interval(ratios, estimate)


def total_ratio(rounds: list[Turns], steps: int) -> dict[str, Any]:
    """All seconds watched / all seconds bare, ends included: for a cost that comes in lumps.

    The cost of attaching and detaching is spread over the pairs, as part of a loop of ``steps``
    steps.
    """
    pairs = []
    for turns in rounds:
        ends = turns.ends * turns.steps / steps
        pairs.append(np.stack([turns.watched + ends, turns.bare], axis=1))

    def estimate(chosen: list[Seconds]) -> float:
        watched, bare = np.concatenate(chosen).sum(axis=0)
        return float(watched / bare)

    return interval(pairs, estimate)


def interval(rounds: list[Seconds], estimate: Callable[[list[Seconds]], float]) -> dict[str, Any]:
    """The estimate with a 95 % interval; rounds are resampled, and pairs within each."""
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        chosen = [rounds[i] for i in rng.integers(len(rounds), size=len(rounds))]
        draws.append(
            estimate([pairs[rng.integers(len(pairs), size=len(pairs))] for pairs in chosen])
        )
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "ratio": estimate(rounds),
        "low": float(low),
        "high": float(high),
        "pairs": sum(len(pairs) for pairs in rounds),
        "rounds": len(rounds),
    }
