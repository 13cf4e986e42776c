"""Watches a training: hears of optimizers and their steps, and runs pulse, exams and taps.

Everything here may fail without harm: each part runs behind a guard, and a part that fails is
lost, said once, and left out of the report.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from flatline.anatomy.atlas import Atlas
from flatline.anatomy.roots import Names, parameters_of, roots
from flatline.anatomy.site import Site, Unplaced
from flatline.anatomy.tracer import Tracer
from flatline.sense.census import Census
from flatline.sense.exam import Exam, Staff
from flatline.sense.pacer import Pacer
from flatline.sense.taps import Row, Taps
from flatline.sense.vitals import Ledger, Vitals

_log = logging.getLogger("flatline")

#: Seconds between two writings of what the pulse and the taps collected.
FLUSH_SECONDS = 0.5
#: Seconds between two lines of progress.
PROGRESS_SECONDS = 10.0
#: What each part is called when it is lost.
_PARTS = {
    "exam": "activations (exams)",
    "pulse": "the reading at every step (pulse)",
    "taps": "loss and learning rate",
    "hooks": "everything after this step",
}


class Recorder(Protocol):
    """Where a watched run is written to; no call may raise."""

    def anatomy(self, sites: Sequence[Site], unplaced: Sequence[Unplaced]) -> None:
        """The sites, whenever new ones were found."""

    def exam(
        self,
        step: int,
        vitals: Mapping[str, Vitals],
        previous: Mapping[str, Vitals | None],
        ledgers: Mapping[str, Ledger],
        measures: Mapping[str, Mapping[str, float]],
    ) -> None:
        """An exam."""

    def ledgers(self, step: int, ledgers: Mapping[str, Ledger]) -> None:
        """Ledgers between exams."""

    def steps(self, rows: Sequence[Row]) -> None:
        """Losses and learning rates."""

    def event(
        self, step: int, site: str, kind: str, units: Sequence[int], evidence: dict[str, float]
    ) -> None:
        """A death or a revival."""

    def lost(self, what: str, why: str) -> None:
        """Something that could not be seen."""


class Watcher:
    """Watches the steps of any number of optimizers as one training.

    Args:
        recorder: Where to write.
        budget: Share of the training's time that watching may take.
        models: The models, when they are known; else they are found through the optimizers.
        max_steps: Ends the training by ``stop`` after so many steps.
        stop: What to raise then.
        complete: An exam sees every example of the step (``False`` for one rank of several).
        progress: Told the step, the silent units and all units, now and then.
        tell: Called whenever what was seen is handed over.
    """

    def __init__(
        self,
        recorder: Recorder,
        budget: float,
        *,
        models: Sequence[nn.Module] | None = None,
        max_steps: int | None = None,
        stop: BaseException | None = None,
        complete: bool = True,
        progress: Callable[[int, int, int], None] | None = None,
        tell: Callable[[], None] | None = None,
    ) -> None:
        self.recorder = recorder
        self.pacer = Pacer(budget)
        self.taps = Taps()
        self.step = 0
        self.began: float | None = None
        self.device = "cpu"
        self.examples = 0
        self._models = models
        self._max_steps = max_steps
        self._stop = stop
        self._names = Names(models or [])
        self._atlas = Atlas()
        self._tracer = Tracer(self._names, self._atlas, Staff())
        self._census = Census(self._atlas, recorder, complete)
        self._optimizers: dict[int, weakref.ref[torch.optim.Optimizer]] = {}
        self._unsearched = models is None
        self._stepped: set[int] = set()
        self._expected: set[int] = set()
        self._exam: Exam | None = None
        self._closure = False
        self._backwards = 0
        self._wanted = False
        self._lost: set[str] = set()
        self._pid = os.getpid()
        self._last = self._flushed = time.perf_counter()
        self._examined = False
        self._progress = progress
        self._tell = tell
        self._shown = self._last

    # -- guarding -----------------------------------------------------------------------------

    @property
    def off(self) -> bool:
        """Whether nothing is to be done: a forked child, or everything was lost."""
        return "hooks" in self._lost or os.getpid() != self._pid

    def guard(self, part: str, work: Callable[..., Any], *args: Any) -> Any:
        """Run our own work; a fault loses ``part`` and nothing else."""
        if part in self._lost:
            return None
        try:
            return work(*args)
        except Exception as error:
            self.lose(part, error)
            return None

    def lose(self, part: str, error: Exception) -> None:
        """Give up a part of the watching, and say so once."""
        if part in self._lost:
            return
        self._lost.add(part)
        why = f"a fault inside flatline at step {self.step}: {type(error).__name__}: {error}"
        try:
            if self._exam is not None and part in ("exam", "hooks"):
                exam, self._exam = self._exam, None
                exam.close()
            _log.warning("flatline no longer sees %s: %s", _PARTS.get(part, part), why)
            _log.debug("the fault", exc_info=error)
            self.recorder.lost(_PARTS.get(part, part), why)
        except Exception:  # reporting a fault must not be one
            self._lost.add("hooks")

    # -- what the training does ---------------------------------------------------------------

    def built(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer was constructed: the model exists, and training may begin any moment."""
        if self.off:
            return
        self._optimizers[id(optimizer)] = weakref.ref(optimizer)
        if self.step == 0:
            self._expected.add(id(optimizer))
        self._unsearched = self._models is None
        self.guard("hooks", self._begin)

    def _begin(self) -> None:
        if self.began is None:
            self.began = self._last = time.perf_counter()
            self._consider(event=False)

    def _search(self) -> None:
        """Find the models behind the optimizers known so far."""
        self._unsearched = False
        optimizers = [known for ref in self._optimizers.values() if (known := ref()) is not None]
        found = roots(parameters_of(optimizers))
        if not found:
            self.recorder.lost("the model", "no live nn.Module owns what the optimizer updates")
        self._names = self._tracer.names = Names(found)

    def _watches(self, module: nn.Module) -> bool:
        if self._unsearched:
            self.guard("exam", self._search)
        return self._names.module(module) is not None

    def before_backward(self, tensors: Any) -> None:
        """``backward()`` is about to run on ``tensors``."""
        if self.off:
            return
        self._backwards += 1
        if self._backwards == 1 or not self._closure:  # a closure computes the same loss anew
            self.guard("taps", self.taps.backward, tensors)
        if self._exam is not None:
            self.guard("exam", self._exam.before_backward)

    def after_backward(self) -> None:
        """``backward()`` ended."""
        if self._exam is not None and not self.off:
            self.guard("exam", self._exam.after_backward)

    def before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """``optimizer.step(*args, **kwargs)`` is about to run."""
        if torch.compiler.is_compiling() or self.off:
            return
        self.guard("hooks", self._before_step, optimizer, args, kwargs)

    def after_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """``optimizer.step(*args, **kwargs)`` ended.

        Raises:
            BaseException: The ``stop`` given, after the last step wanted.
        """
        if torch.compiler.is_compiling() or self.off:
            return
        self.guard("hooks", self._after_step, optimizer, args, kwargs)
        if self._max_steps is not None and self.step >= self._max_steps and self._stop is not None:
            raise self._stop

    # -- how it is watched --------------------------------------------------------------------

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        start = time.perf_counter()
        key = id(optimizer)
        if key not in self._optimizers:
            self.built(optimizer)
        if key in self._stepped:
            self._end_tick(start)
        # With a closure the gradients of this step are made inside it.
        self._closure, self._backwards = _has_closure(args, kwargs), 0
        if not self._closure:
            self._measure(optimizer)
        self.pacer.charge(time.perf_counter() - start)

    def _measure(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradients of the step are complete; the update has happened only with a closure."""
        if self._exam is not None:
            self.guard("exam", self._examine, self._exam, optimizer)
        self.guard("pulse", self._census.beat, optimizer, self.step)
        if self._closure and self._backwards > 1:
            # The gradients are those of the last evaluation alone.
            self.guard("pulse", self._census.doubt, optimizer)

    def _examine(self, exam: Exam, optimizer: torch.optim.Optimizer) -> None:
        """Take what the exam shows before an optimizer steps, and all before the last one does."""
        exam.measure(parameters_of([optimizer]), updated=self._closure)
        if self._expected <= self._stepped | {id(optimizer)}:
            self._exam = None
            self._examined = True
            self._census.collect(exam, self._parameters, self._closure)

    def _parameters(self) -> list[tuple[torch.optim.Optimizer, list[Tensor]]]:
        known = [optimizer for ref in self._optimizers.values() if (optimizer := ref()) is not None]
        return [(optimizer, parameters_of([optimizer])) for optimizer in known]

    def _after_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        start = time.perf_counter()
        if self._closure:
            self._measure(optimizer)
            self._closure = False
        if not self._stepped:
            self.guard("taps", self.taps.step, self.step, optimizer)
        self._stepped.add(id(optimizer))
        if self._expected <= self._stepped:
            self._end_tick(start)
        else:
            self.pacer.charge(time.perf_counter() - start)

    def _end_tick(self, start: float) -> None:
        """Every optimizer of the training has stepped once."""
        if not self._stepped:
            return
        self._expected, self._stepped = self._stepped, set()
        if self._exam is not None:  # it waited for an optimizer that did not come
            exam, self._exam = self._exam, None
            self.guard("exam", exam.close)
            self.pacer.charge(exam.own)
        step, self.step = self.step, self.step + 1
        self.examples += self._census.batch
        if self._examined:
            self.guard("exam", self._census.conclude, step)
        if self._census.full:
            self._wanted |= bool(self.guard("pulse", self._census.take))
        if self.taps.full or start - self._flushed > FLUSH_SECONDS:
            self.flush()
        now = time.perf_counter()
        if self._examined:
            own = now - start + self._census.own
            self.pacer.charge_exam(self.pacer.excess(own, now - self._last))
            self._examined = self._wanted = False
        else:
            self.pacer.bare_step(start - self._last)
            self.pacer.charge(now - start)
        self._last = now
        self._consider(event=self._wanted)

    def _consider(self, event: bool) -> None:
        """Open an exam for the next step if it is due."""
        if self._exam is not None or "exam" in self._lost or self.began is None:
            return
        elapsed = time.perf_counter() - self.began
        if self.pacer.due(self.step, elapsed, event):
            self._exam = Exam(self._tracer, self._watches, self._fail_exam)
            self.guard("exam", self._exam.open)

    def _fail_exam(self, error: Exception) -> None:
        self.lose("exam", error)

    # -- writing ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hand over what pulse and taps have collected."""
        self._flushed = time.perf_counter()
        rows = self.guard("taps", self.taps.flush)
        if rows:
            self.recorder.steps(rows)
        self.guard("pulse", self._census.hand_over, self.step)
        if self._tell is not None:
            self.guard("hooks", self._tell)
        if self._progress is not None and self._flushed - self._shown > PROGRESS_SECONDS:
            self._shown = self._flushed
            self.guard("hooks", self._progress, self.step, *self._census.silent())

    def close(self) -> None:
        """Stop watching and hand over the rest."""
        if os.getpid() != self._pid:
            return
        if self._exam is not None:
            exam, self._exam = self._exam, None
            self.guard("exam", exam.close)
        if self._stepped:
            self.step += 1
        self.flush()

    @property
    def nbytes(self) -> int:
        """Memory held between exams, in bytes."""
        return self._census.nbytes

    @property
    def sites(self) -> int:
        """Number of sites found."""
        return len(self._census)


def _has_closure(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether ``step`` was given a closure; the hook's arguments begin with the optimizer."""
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
