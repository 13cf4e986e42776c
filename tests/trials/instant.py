"""An engine whose runs take no time: it writes to the store what a training would have written."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from flatline.record.store import Store
from flatline.trials.plan import Job, Work, arms
from flatline.trials.process import Ended
from flatline.trials.runner import Runner

STEPS = 50
#: The loss that an arm ends with on a seed; an exception is a crash.
Ends = Callable[[str, int], float]


class InstantEngine:
    """Runs whose loss falls from a beginning to an end, handed back in any order.

    Those of the arm ``late`` are ended by the time limit before they store anything.
    """

    def __init__(self, store: Path, ends: Ends, begin: Ends, slots: int = 3) -> None:
        self.slots = slots
        self.jobs: list[Job] = []
        self.closed = False
        self.late = ""
        self._store, self._ends, self._begin = store, ends, begin
        self._under_way: list[Job] = []
        self._random = random.Random(0)

    def start(self, job: Job) -> None:
        assert len(self._under_way) < self.slots
        self.jobs.append(job)
        self._under_way.append(job)

    def ended(self, patience: float) -> Ended | None:
        job = self._under_way.pop(self._random.randrange(len(self._under_way)))
        if job.arm == self.late:
            return Ended(job, None)
        treatments = [] if job.arm == "control" else job.arm.split("+")
        facts = {"name": job.run, "treatments": treatments, "steps": STEPS}
        writer = Store(self._store).create_run(facts)
        try:
            end = self._ends(job.arm, job.seed)
        except Exception as error:
            writer.close("failed")
            return Ended(job, 1, f"{type(error).__name__}: {error}")
        begin = self._begin(job.arm, job.seed)
        rows = [(s, end + (begin - end) * max(0.0, 1 - s / 40), 0.1, 1.0) for s in range(STEPS)]
        writer.steps(rows)
        if end != end:
            writer.note(0, "nonfinite", {"what": "loss"})
        writer.close("finished")
        return Ended(job, 0)

    def close(self) -> None:
        self.closed = True


def runner(
    folder: Path,
    ends: Ends,
    treat: Sequence[str] | None,
    seeds: int = 3,
    begin: Ends = lambda arm, seed: 4.0,
    **more,
) -> tuple[Runner, InstantEngine]:
    """A trial of a program that does not exist."""
    store = folder / "runs.db"
    engine = InstantEngine(store, ends, begin)
    chosen = None if treat is None else arms(treat)
    return Runner(Work(("train.py",), store, 50), engine, range(seeds), arms=chosen, **more), engine
