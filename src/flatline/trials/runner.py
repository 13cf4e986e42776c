"""Runs a trial: which runs are wanted, what each of them says, what that makes of the arms.

What judges a run, NumPy and SciPy among it, is loaded while the first run is under way: hence the
late imports.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.errors import StoreError, UsageError
from flatline.record.store import Store
from flatline.trials.engine import Engine
from flatline.trials.plan import CONTROL, LOSS, OUTPUT, Arm, Job, Work
from flatline.trials.process import Ended, heeding_termination
from flatline.trials.progress import Cell, Progress

if TYPE_CHECKING:
    from flatline.diagnose.findings import Finding
    from flatline.record.recording import Recording
    from flatline.trials.measures import Measures
    from flatline.trials.result import ArmResult, Result

#: Seconds between two looks at what else is to be done while runs are under way.
PATIENCE = 60.0
_OURS = "flatline: "


class Runner:
    """Runs a trial.

    Args:
        work: The program.
        engine: Who carries runs out.
        seeds: What is added to the program's seeds.
        arms: What is tried; ``None`` for what the control's findings prescribe.
        objective: ``"loss"`` or the name of a metric.
        maximise: Whether larger is better; ``None`` to tell by the objective's name.
        halving: Give up the worse half of the arms after each seed.
        fresh: Repeat what an earlier call has finished.
        thresholds: What findings compare with.
        store: The store as commands name it, where it is not the usual one.

    Attributes:
        progress: How far it is.
        tell: Told whenever a run begins or ends.
    """

    def __init__(
        self,
        work: Work,
        engine: Engine,
        seeds: Sequence[int],
        *,
        arms: Sequence[Arm] | None = None,
        objective: str = LOSS,
        maximise: bool | None = None,
        halving: bool = False,
        fresh: bool = False,
        thresholds: Thresholds = DEFAULT,
        store: str | None = None,
    ) -> None:
        self._work, self._engine, self._seeds = work, engine, tuple(seeds)
        self._arms = None if arms is None else tuple(arms)
        self._objective = objective
        self._direction = maximise
        self._halving, self._fresh = halving, fresh
        self._thresholds, self._named = thresholds, store
        self._store = Store(work.store, create=True)
        self._runs: dict[tuple[str, int], Measures] = {}
        self._failed: dict[tuple[str, int], str] = {}
        self._stopped: dict[str, str] = {}
        self._findings: tuple[Finding, ...] = ()
        self._kept = 0
        self._earlier: frozenset[str] = frozenset()
        self.progress = Progress(objective, self._seeds)
        self.tell: Callable[[Progress], None] = lambda progress: None

    def run(self) -> Result:
        """Carry out what is still wanted, and compare.

        Raises:
            UsageError: The control does not run, or has no such objective.
            StoreError: Runs cannot be stored.
        """
        self._earlier = frozenset(facts["id"] for facts in self._store.runs())
        try:
            with heeding_termination():
                arms, left_out = self._choose()
                self._rounds(arms)
        finally:
            self._engine.close()
        return self._result(arms, left_out)

    @property
    def _maximise(self) -> bool:
        from flatline.diagnose.impact import rises

        return rises(self._objective) if self._direction is None else self._direction

    # -- what is run ---------------------------------------------------------------------------

    def _choose(self) -> tuple[tuple[Arm, ...], dict[str, str]]:
        """The arms; where none is named, one run of the control says which."""
        if self._arms is not None:
            return self._arms, {}
        seed = self._seeds[0]
        self._carry_out([self._work.job(Arm(), seed)])
        if (CONTROL, seed) not in self._runs:
            raise self._no_control()
        from flatline.trials.prescribe import prescribed

        return prescribed(self._findings)

    def _rounds(self, arms: Sequence[Arm]) -> None:
        """All runs; with halving seed by seed, fewer arms each time."""
        if not arms:
            return
        alive = list(arms)
        self._expect([Arm(), *arms])
        rounds = [[seed] for seed in self._seeds] if self._halving else [list(self._seeds)]
        for number, seeds in enumerate(rounds, 1):
            self._carry_out(
                [self._work.job(arm, seed) for seed in seeds for arm in (Arm(), *alive)]
            )
            if self._halving and number < len(rounds):
                alive = self._halve(alive, number)

    def _halve(self, alive: list[Arm], rounds: int) -> list[Arm]:
        order = [arm.treatment for arm in self._ranked(alive) if not arm.is_control]
        kept = set(order[: math.ceil(len(order) / 2)])
        for arm in alive:
            if str(arm) not in kept:
                seeds = "1 seed" if rounds == 1 else f"{rounds} seeds"
                self._stopped[str(arm)] = f"by halving after {seeds}"
                for seed in self._seeds[rounds:]:
                    self._mark((str(arm), seed), state="given up")
        return [arm for arm in alive if str(arm) in kept]

    def _carry_out(self, jobs: Iterable[Job]) -> None:
        """Some runs, as many at once as the engine has room for, but for those that are kept."""
        waiting = deque(job for job in jobs if not self._recall(job))
        under_way = 0
        while waiting or under_way:
            while waiting and under_way < self._engine.slots:
                self._begin(waiting.popleft())
                under_way += 1
            _load_judges()
            ended = self._engine.ended(PATIENCE)
            if ended is None:
                continue
            under_way -= 1
            if waiting:  # first of all, so that nothing stands still while this one is read
                self._begin(waiting.popleft())
                under_way += 1
            self._take(ended)

    def _begin(self, job: Job) -> None:
        self._engine.start(job)
        self._mark((job.arm, job.seed), state="running", since=time.monotonic())

    # -- what it says --------------------------------------------------------------------------

    def _recall(self, job: Job) -> bool:
        """Take a run from the store if an earlier call has finished it."""
        place = (job.arm, job.seed)
        if place in self._runs or place in self._failed:
            return True
        recording = None if self._fresh else self._load(job, ("finished",))
        if recording is None:
            return False
        self._kept += 1
        self._measured(place, recording, "kept", 0.0)
        return True

    def _take(self, ended: Ended) -> None:
        """Learn what a run says, or why it says nothing."""
        place = (ended.job.arm, ended.job.seed)
        seconds = time.monotonic() - self.progress.cells[place].since
        if ended.fault:
            self._fails(place, ended.fault, seconds)
            return
        recording = self._load(ended.job, ignoring=self._earlier)
        late = f"still ran after {seconds:.0f} s, its time limit" if ended.status is None else ""
        if late and recording is None:  # its first words to the store were still to come
            self._fails(place, late, seconds)
            return
        if recording is None or (ended.status == 0 and recording.facts["status"] != "finished"):
            raise self._not_stored(ended)
        if recording.facts["status"] == "finished":
            self._measured(place, recording, "done", seconds)
            if ended.log is not None:
                Path(ended.log).unlink(missing_ok=True)
        elif late:
            self._fails(place, late, seconds)
        elif not self._has_diverged(place, recording, seconds):
            self._fails(place, _reason(ended), seconds)

    def _has_diverged(self, place: tuple[str, int], recording: Recording, seconds: float) -> bool:
        """Take a program that gave up by itself, because its loss was no number, as diverged."""
        from flatline.trials.measures import measure

        with contextlib.suppress(UsageError):
            found, _ = measure(recording, self._objective, self._thresholds)
            if not math.isfinite(found.objective):
                self._measured(place, recording, "done", seconds)
                return True
        return False

    def _measured(
        self, place: tuple[str, int], recording: Recording, state: str, seconds: float
    ) -> None:
        from flatline.trials.measures import measure

        try:
            found, diagnosis = measure(recording, self._objective, self._thresholds)
        except UsageError as error:
            if place[0] == CONTROL:
                raise
            self._fails(place, str(error), seconds)
            return
        self._runs[place] = found
        if place == (CONTROL, self._seeds[0]):
            self._findings = diagnosis.findings
        self._mark(place, state=state, seconds=seconds, objective=found.objective)

    def _fails(self, place: tuple[str, int], why: str, seconds: float) -> None:
        self._failed[place] = why
        self._mark(place, state="failed", seconds=seconds, why=why)

    def _load(
        self, job: Job, states: Sequence[str] = (), ignoring: Collection[str] = ()
    ) -> Recording | None:
        """The last run of this name, in one of some states; ``None`` where there is none."""
        for facts in self._store.runs():
            if facts["name"] != job.run or facts["id"] in ignoring:
                continue
            if not states or facts["status"] in states:
                return self._store.load(facts["id"])
        return None

    # -- what comes of it ----------------------------------------------------------------------

    def _ranked(self, arms: Iterable[Arm]) -> tuple[ArmResult, ...]:
        from flatline.trials.result import ArmResult, ranked

        found = [
            ArmResult(
                treatment=name,
                runs={s: self._runs[name, s] for s in self._seeds if (name, s) in self._runs},
                failed={s: self._failed[name, s] for s in self._seeds if (name, s) in self._failed},
                stopped=self._stopped.get(name, ""),
            )
            for name in (CONTROL, *map(str, arms))
        ]
        return ranked(found, self._maximise)

    def _result(self, arms: Sequence[Arm], left_out: dict[str, str]) -> Result:
        if not any(arm == CONTROL for arm, _ in self._runs):
            raise self._no_control()
        from flatline.trials.result import Result, remarks

        table = self._ranked(arms)
        notes = remarks(table, self._objective) if arms else []
        if not arms:
            notes.append(
                "the control's findings prescribe nothing that can be applied; name the treatments "
                "to try"
            )
        if self._kept:
            notes.append(
                f"{self._kept} of {len(self._runs)} runs were kept from an earlier call; --fresh "
                "repeats them"
            )
        return Result(
            objective=self._objective,
            maximise=self._maximise,
            seeds=self._seeds,
            arms=table,
            program=self._work.title,
            max_steps=self._work.max_steps,
            left_out=left_out,
            notes=tuple(notes),
            store=self._named,
        )

    def _no_control(self) -> UsageError:
        why = next(why for (arm, _), why in self._failed.items() if arm == CONTROL)
        title = self._work.title
        advice = f"try it with flatline run {title}" if title else "correct this first"
        return UsageError(
            f"expected the untreated training to run, found that it failed: {why}; {advice}"
        )

    def _not_stored(self, ended: Ended) -> StoreError:
        _, ours, why = ended.words.partition(": expected ")
        if ours:  # the run itself has said what is wrong with the store
            return StoreError(f"expected {why}")
        found = f": {ended.words}" if ended.words else ""
        return StoreError(
            f"expected the run {ended.job.run!r} in {self._work.store}, found it missing or "
            f"incomplete{found}; make room on the disk, or name another file with --store"
        )

    # -- speaking ------------------------------------------------------------------------------

    def _expect(self, arms: Iterable[Arm]) -> None:
        for arm in arms:
            for seed in self._seeds:
                self.progress.cells.setdefault((str(arm), seed), Cell())

    def _mark(self, place: tuple[str, int], **changes: object) -> None:
        cell = self.progress.cells.setdefault(place, Cell())
        for name, value in changes.items():
            setattr(cell, name, value)
        self.progress.last = place
        self.tell(self.progress)


def _load_judges() -> None:
    """Load what will be needed at the end of a run."""
    import scipy.special  # noqa: F401

    import flatline.record.reading
    import flatline.trials.result  # noqa: F401


def _reason(ended: Ended) -> str:
    """Why a run failed, as far as its exit status and last words tell."""
    words = ended.words.removeprefix(_OURS)
    if not ended.job.command:  # no process of its own
        return words
    status = ended.status or 0
    how = f"ended with status {status}"
    if status > 128:
        with contextlib.suppress(ValueError):
            how = f"was ended by {signal.Signals(status - 128).name}"
    where = f"{OUTPUT}{os.path.relpath(ended.log)}" if ended.log else ""
    return f"{how}{f': {words}' if words else ''}{where}"
