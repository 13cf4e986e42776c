"""The session behind ``flatline run``: watches the program that runs in this process."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flatline.api import Watch, current, new_facts
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.record import TRAINING, TREATMENTS
from flatline.record.store import Store

if TYPE_CHECKING:
    from flatline.sense.watcher import Watcher
    from flatline.show.report import Report
    from flatline.treatments.registry import Treatment
    from flatline.treatments.seam import Seam


#: Seconds that the process which reports waits for the others of its run.
PATIENCE = 10.0


class StopTraining(BaseException):
    """Raised out of an optimizer's step when ``--max-steps`` is reached.

    Attributes:
        refused: Why the training cannot go on as was asked for; empty where it has only ended.
    """

    refused = ""


class TreatmentRefused(StopTraining):
    """Raised where a treatment of ``--apply`` cannot be carried out on this program.

    Args:
        refused: Why.
    """

    def __init__(self, refused: str) -> None:
        super().__init__(refused)
        self.refused = refused


def _refuse(why: str) -> NoReturn:
    raise TreatmentRefused(why)


class Session:
    """Watches the program that runs in this process.

    Args:
        store_path: The run store.
        name: A name for the run; the program's file name when left out.
        budget: Share of the training's time that watching may take.
        max_steps: Stop the training after so many optimizer steps.
        argv: The program and its arguments.
        quiet: Say nothing while the program runs.
        units: List at most so many units in the report one by one.
        named_store: The store as the report's commands name it; left out for the usual one.
        thresholds: What the report compares with.
        treatments: What is changed about the program's training.

    Raises:
        StoreError: When the store cannot be written.
    """

    def __init__(
        self,
        store_path: Path,
        name: str | None = None,
        budget: float = 0.01,
        max_steps: int | None = None,
        argv: Iterable[str] = (),
        quiet: bool = False,
        units: int = 10_000,
        named_store: str | None = None,
        thresholds: Thresholds = DEFAULT,
        treatments: Iterable[Treatment] = (),
    ) -> None:
        argv = list(argv)
        world = _environment("WORLD_SIZE", 1)
        rank = _environment("RANK", 0) if world > 1 else 0
        facts = new_facts(name or _name(argv), budget, world)
        facts["argv"] = argv
        self._treatments = tuple(treatments)
        facts["treatments"] = [str(one) for one in self._treatments]
        run_id = _shared_id() if world > 1 else None
        self._max_steps = max_steps
        self._quiet = quiet
        self._units = units
        self._named_store = named_store
        self._world = world
        self._seam: Seam | None = None
        #: Which treatments a program that ended well gave no occasion for; empty where none.
        self.untreated = ""
        self._watch = Watch(Store(store_path, create=True), facts, run_id, rank, thresholds)
        os.register_at_fork(after_in_child=current.clear)

    @property
    def treated(self) -> bool:
        """Whether the program's training is changed."""
        return bool(self._treatments)

    def attach(self) -> None:
        """Put the hooks into torch, which the program has just imported."""
        if self.treated:
            from flatline.treatments.seam import Seam

            # First, so that what is watched of a step is the step as it is treated.
            self._seam = Seam(self._treatments, _say, _refuse)
            self._seam.treat_program()
        self._watch.spare(TRAINING, self._attach)

    def _attach(self) -> None:
        from flatline.sense.watcher import Watcher

        watcher = Watcher(
            self._watch.writer,
            self._watch.budget,
            max_steps=self._max_steps,
            stop=StopTraining("--max-steps reached"),
            complete=self._world == 1,
            progress=self._progress if self._shows_progress() else None,
            tell=self._watch.tell,
        )
        self._watch.watch(watcher)

    def _shows_progress(self) -> bool:
        if self._quiet or self._watch.rank != 0:
            return False
        try:
            return sys.stderr.isatty()
        except (AttributeError, ValueError):  # closed, or replaced by the program
            return False

    def _progress(self, step: int, dead: int, units: int) -> None:
        """One plain line, now and then."""
        seconds = time.perf_counter() - self._watch.started
        _tell(f"flatline: step {step:,}, {seconds:.0f} s: {dead:,} of {units:,} units silent")

    def finish(self, status: str) -> Report | None:
        """End the watching.

        Args:
            status: How the program ended: ``finished``, ``failed`` or ``interrupted``.

        Returns:
            The report; ``None`` in a process that is not the one to report (another rank, a fork).
        """
        watch = self._watch
        if os.getpid() != watch.pid:
            return None
        watch.detach()
        watch.spare("why nothing was seen", self._explain, status)
        watch.spare("what was not treated", self._confess, status)
        watch.close(status)
        if watch.rank != 0:
            return None
        if self._world > 1:
            watch.spare("what other processes saw last", self._await, status)
        return watch.report(self._units, self._named_store)

    def _await(self, status: str) -> None:
        """Give the other processes time to write what they saw; they end together as a rule."""
        patience = PATIENCE if status == "finished" else PATIENCE / 10
        end = time.monotonic() + patience
        while (left := self._watch.store.writers(self._watch.writer.id)) and time.monotonic() < end:
            time.sleep(0.05)
        if left:
            what = "what other processes saw last"
            self._watch.miss(what, f"{left} of them still ran {patience:g} seconds after this one")

    def _explain(self, status: str) -> None:
        """Say so if there was nothing to watch."""
        unseen = _unseen(self._watch.watcher, status)
        if unseen is not None and not self._watch.failed:
            self._watch.writer.lost(TRAINING, unseen)

    def _confess(self, status: str) -> None:
        """Say so if a treatment was asked for and the training gave no occasion for it."""
        idle = self._treatments if self._seam is None else self._seam.idle
        if not idle or status != "finished":
            return
        why = "no optimizer trains the parameters of a torch.nn.Module"
        if self._seam is None or not self._seam.stepped:
            why = _unseen(self._watch.watcher, status) or "no optimizer took a step"
        names = " and ".join(map(str, idle))
        it = "it" if len(idle) == 1 else "them"
        self.untreated = (
            f"expected to apply {names}, found that {why}; take this run for one without {it}"
        )
        self._watch.writer.facts(treatments=[str(o) for o in self._treatments if o not in idle])
        self._watch.writer.lost(TREATMENTS, self.untreated)


def _name(argv: list[str]) -> str | None:
    """What the program is called, for a run that was given no name."""
    target = next((part for part in argv if part != "-m"), None)
    return Path(target).stem if target else None


def _environment(name: str, default: int) -> int:
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        return default


def _shared_id() -> str:
    """An id that all processes of one ``torchrun`` agree on without talking to each other."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    parts = [os.environ.get(name, "") for name in names]
    return hashlib.sha1("/".join([*parts, str(os.getppid())]).encode()).hexdigest()[:10]


def _say(line: str) -> None:
    _tell(f"flatline: {line}")


def _tell(line: str) -> None:
    """Write a line to standard error without breaking a bar that tqdm draws there."""
    bars = sys.modules.get("tqdm")
    if bars is not None and getattr(bars.tqdm, "_instances", None):
        bars.tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def _unseen(watcher: Watcher | None, status: str) -> str | None:
    """Why no training was seen, and what to do; ``None`` where one was."""
    if watcher is None:
        return "the program never imported torch"
    if watcher.step > 0:
        return None
    if watcher.taps.waiting and not watcher.knows_optimizers:
        return (
            "gradients were computed and no torch.optim.Optimizer took a step; flatline counts "
            "such steps: derive a hand-written optimizer from torch.optim.Optimizer, and write "
            "plain updates as torch.optim.SGD"
        )
    if status == "failed":
        return "the program failed before its first optimizer step; correct the error it shows"
    if status == "interrupted":
        return "the program was interrupted before its first optimizer step"
    if watcher.knows_optimizers:
        return "an optimizer was made, but the program ended before its first step"
    return (
        "neither backward() nor a torch.optim.Optimizer was used in this process; a program that "
        "trains in processes that it starts is watched when each of them is run by flatline, as "
        "torchrun does"
    )
