"""Watches a training: hears of optimizers and their steps, and runs pulse, exams and taps.

Everything here may fail without harm: each part runs behind a guard, and a part that fails is
lost, said once, and left out of the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from flatline.anatomy.atlas import Atlas
from flatline.anatomy.roots import Names
from flatline.anatomy.tracer import Tracer
from flatline.sense.census import Census
from flatline.sense.delivery import Delivery
from flatline.sense.examiner import Examiner
from flatline.sense.guard import Guard, Home
from flatline.sense.notes import Notes
from flatline.sense.pacer import Pacer
from flatline.sense.recorder import Recorder
from flatline.sense.staff import Staff
from flatline.sense.stride import Stride
from flatline.sense.taps import Taps, rate_of
from flatline.sense.turns import Turns


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
        self.guard = Guard(recorder.lost, self._undo, lambda: self.step)
        self.pacer = Pacer(budget)
        self.taps = Taps()
        self._step = 0
        self.began: float | None = None
        self._examples = 0
        self.unheard = 0
        self._backwards = self._most = 0
        self._max_steps, self._stop = max_steps, stop
        self._atlas = Atlas()
        tracer = Tracer(Names(models or []), self._atlas, Staff())
        spare = partial(self.guard, "histograms")
        self._census = Census(self._atlas, recorder, self.taps, spare, complete)
        self._notes = notes = Notes(recorder)
        self._turns = Turns()
        self._exams = Examiner(tracer, self._census, notes, self._turns, self.guard, models)
        self._delivery = Delivery(
            recorder, self._census, self.taps, notes, self.guard, progress, tell
        )
        #: Takes the steps that need no closer look; the hooks ask it first.
        self.stride: Stride | None = None
        self._closure = False
        self._rate: Any = None
        self._evaluations = 0
        self._wanted = False
        self._home = Home()
        self._closed = False
        self._leader: int | None = None
        self._last = time.perf_counter()

    # -- guarding -----------------------------------------------------------------------------

    @property
    def off(self) -> bool:
        """Whether nothing is to be done here and now."""
        return "hooks" in self.guard.lost or self._closed or self._home.away

    def _undo(self, part: str) -> None:
        """Use nothing of what a part had begun that failed."""
        if part in ("exam", "hooks"):
            self._exams.drop()
            self._census.discard()

    # -- what the training does ---------------------------------------------------------------

    def built(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer was constructed: the model exists, and training may begin any moment."""
        if self.off:
            return
        self._end_stride()
        self.guard("pulse", self._forget, optimizer)
        if self.step == 0:
            self._turns.expect(optimizer)
        self._exams.renew()
        self.guard("hooks", self._begin)

    def _forget(self, new: torch.optim.Optimizer | None = None) -> None:
        """Let go of optimizers that are gone, whose models may be gone too; welcome a new one."""
        gone = self._turns.dismiss()
        if new is not None:
            self._turns.admit(new)
        if gone:
            self._census.release(gone, self._turns.parameters)

    def _begin(self) -> None:
        if self.began is None:
            self.began = self._last = time.perf_counter()
            self._consider(event=False)

    def _watches(self, module: nn.Module) -> bool:
        return self._home.claim(self._exams.drop) and self._exams.watches(module)

    def scaled(self, result: Any, loss: Any) -> None:
        """``GradScaler.scale`` made ``result`` of ``loss``."""
        if not self.off:
            self.guard("taps", self.taps.scaled, result, loss)

    def scaler_stepped(self) -> None:
        """``GradScaler.step`` returned; it skips a step whose gradients are not finite."""
        if self.off or not self.taps.waiting:
            return
        self.guard("taps", self.taps.forget)
        self._backwards = 0
        if self.stride is not None:
            self.stride.backwards = 0

    def before_backward(self, tensors: Any) -> None:
        """``backward()`` is about to run on ``tensors``."""
        if self.off or torch._C._current_graph_task_id() != -1:
            return  # a backward pass inside another one is no loss's
        self._backwards += 1
        self._evaluations += 1
        if self._evaluations == 1 or not self._closure:  # a closure computes the same loss anew
            self.guard("taps", self.taps.backward, tensors)
        if self._notes.stale.armed:
            self.guard("notes", self._notes.stale.backward)
        if self._exams.exam is not None:
            self.guard("exam", self._exams.exam.before_backward)
        if self._exams.exam is not None:
            self.guard("notes", self._notes.backward, self._exams.exam, tensors, self.step)

    def loading(self, loader: Any) -> None:
        """An iteration over a ``DataLoader`` begins."""
        if not self.off and torch.is_grad_enabled():
            self.guard("notes", self._notes.loaders.begun, loader)

    def after_backward(self) -> None:
        """``backward()`` ended."""
        exam = self._exams.exam
        if exam is None or self.off or torch._C._current_graph_task_id() != -1:
            return
        self.guard("exam", exam.after_backward)

    def before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """``optimizer.step(*args, **kwargs)`` is about to run."""
        if self._closed or "hooks" in self.guard.lost or self._home.forked:
            return
        try:  # as guard() does, without its call: this is the path of every step
            if self._home.claim(self._exams.drop):
                self._before_step(optimizer, args, kwargs)
            else:
                self._pass_over()
        except Exception as error:
            self.guard.lose("hooks", error)

    def _pass_over(self) -> None:
        """Say once that another thread trains too."""
        if "thread" not in self.guard.lost:
            self.guard.lost.add("thread")
            why = "flatline watches the first thread that trains, and another one trains as well"
            self.guard.miss("training in another thread", why)

    def after_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """``optimizer.step(*args, **kwargs)`` ended.

        Raises:
            BaseException: The ``stop`` given, after the last step wanted.
        """
        if self._closed or self._home.away:
            return
        try:
            if "hooks" not in self.guard.lost:
                self._after_step(optimizer)
        except Exception as error:
            self.guard.lose("hooks", error)
        if self._max_steps is None or self._stop is None:
            return
        if "hooks" in self.guard.lost:
            self._count(optimizer)
        if self.step >= self._max_steps:
            raise self._stop

    def _count(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the steps of one optimizer, when nothing else is seen any more."""
        self._leader = self._leader or id(optimizer)
        self._step += id(optimizer) == self._leader

    # -- how it is watched --------------------------------------------------------------------

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        start = time.perf_counter()
        self._end_stride()
        if optimizer not in self._turns:
            self.built(optimizer)
        if not self.step:
            self.guard("pulse", self._forget)
        if self._turns.stepped(optimizer):
            self._end_tick(start)
        self._turns.begin(optimizer)
        self._rate = self.guard("taps", rate_of, optimizer)
        # With a closure the gradients of this step are made inside it.
        self._closure, self._evaluations = _has_closure(args, kwargs), 0
        if self._exams.exam is not None:
            self.guard("notes", self._notes.before_update, optimizer)
        if not self._closure:
            self._measure(optimizer)
        self.pacer.charge(time.perf_counter() - start)

    def _measure(self, optimizer: torch.optim.Optimizer) -> None:
        """Gradients of the step are complete; the update has happened only with a closure."""
        exam = self._exams.exam
        if exam is not None:
            self.guard("exam", self._exams.look, exam, optimizer, self._closure, self._forget)
        self.guard("pulse", self._census.beat, optimizer, self.step)
        if self._closure and self._evaluations > 1:
            # The gradients are those of the last evaluation alone.
            self.guard("pulse", self._census.doubt, optimizer)

    def _after_step(self, optimizer: torch.optim.Optimizer) -> None:
        start = time.perf_counter()
        if self._closure:
            self._measure(optimizer)
            self._closure = False
        self.guard("taps", self.taps.step, self.step, self._rate)
        if self._notes.stale.armed:
            self.guard("notes", self._notes.stepped, self.step, optimizer)
        self._turns.end(optimizer)
        if self._turns.all_stepped:
            self._end_tick(start)
            # Not where a tick ends late, in the midst of the next step.
            self._consider(event=self._wanted)
            if self._exams.exam is None:
                self.guard("hooks", self._stride)
        else:
            self.pacer.charge(time.perf_counter() - start)

    def _end_tick(self, start: float) -> None:
        """Every optimizer of the training has stepped once."""
        if not self._turns.any_stepped:
            return
        self._turns.complete()
        if self._exams.exam is not None:  # it waited for an optimizer that did not come
            self.pacer.charge(self._exams.exam.own)
            self.guard("exam", self._exams.drop)
        step, self._step = self._step, self._step + 1
        self._most, self._backwards = max(self._most, self._backwards), 0
        if self._exams.examined:
            self._exams.conclude(step)
        self._examples += self._census.batch
        if not self._census.room:
            self._wanted |= bool(self.guard("pulse", self._census.turn))
        if self.taps.full or start > self._delivery.due:
            self.flush()
        now = time.perf_counter()
        if self._exams.examined:
            own = now - start + self._census.own
            excess = self.pacer.excess(own, now - self._last)
            # Some programs step once before they train, which shows nothing.
            (self.pacer.charge_exam if self._exams.ran or step else self.pacer.charge)(excess)
            self._exams.examined = self._wanted = False
        else:
            self.pacer.bare_steps([self._last, start])
            self.pacer.charge(now - start)
        self._last = now

    # -- steps that need no closer look -------------------------------------------------------

    def _stride(self) -> None:
        """Let the next steps only collect, as far as nothing is due before."""
        if self.guard.lost or self._closure or self._notes.stale.armed:
            return
        optimizer = self._turns.only
        # The step after the last of a stride is looked at, and has to find room.
        steps = min(self._census.room, self.pacer.quiet(self.step)) - 1
        if self._max_steps is not None:
            steps = min(steps, self._max_steps - self.step - 1)
        if optimizer is not None and steps > 0:
            pulses = self._census.pulses(optimizer)
            until = min(self._delivery.due, (self.began or 0.0) + self.pacer.next)
            self.stride = Stride(optimizer, pulses, self.taps, self.step, steps, until)

    def _end_stride(self) -> None:
        """Book what the steps of a stride collected."""
        stride, self.stride = self.stride, None
        if stride is None:
            return
        steps = len(stride.starts)
        if steps:
            self._step = stride.step
            self._examples += steps * self._census.batch
            self.pacer.charge(stride.spent)
            self.pacer.bare_steps([self._last, *stride.starts])
            self._last = stride.starts[-1]
            self._most, self._backwards = max(self._most, stride.most), 0
        self._backwards += stride.backwards
        if stride.fault is not None:
            self.guard.lose(*stride.fault)

    def _consider(self, event: bool) -> None:
        """Open an exam for the next step if it is due."""
        if self._exams.exam is not None or "exam" in self.guard.lost or self.began is None:
            return
        elapsed = time.perf_counter() - self.began
        if self.pacer.due(self.step, elapsed, event):
            self._exams.open(self._watches)

    # -- writing ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hand over what pulse and taps have collected."""
        self._end_stride()
        self._wanted |= self._delivery.hand_over(self.step)

    def close(self) -> None:
        """Stop watching and hand over the rest."""
        if self._closed:
            return
        self._closed = True
        try:
            self._exams.drop()
        except Exception as error:
            self.guard.lose("exam", error)
        if not self._home.forked:
            self._step += self._turns.any_stepped
            self.guard("hooks", self.flush)
            self.guard("hooks", self._own_up)
        self.stride = None

    def _own_up(self) -> None:
        """Say so if the training went on where its steps could not be heard."""
        if self.unheard or self._backwards > max(self._most, 1):
            why = "the optimizer stepped inside a function under torch.compile"
            self.guard.miss(f"everything after step {self.step}", why)

    @property
    def knows_optimizers(self) -> bool:
        """Whether an optimizer was ever constructed."""
        return len(self._turns) > 0

    @property
    def step(self) -> int:
        """The step under way, and the number of steps done."""
        stride = self.stride
        return self._step if stride is None else stride.step

    @property
    def examples(self) -> int:
        """Number of examples that were trained on."""
        stride = self.stride
        ahead = 0 if stride is None else len(stride.starts)
        return self._examples + ahead * self._census.batch

    @property
    def device(self) -> str:
        """Where the parameters lie that were examined last."""
        return self._exams.device

    @property
    def nbytes(self) -> int:
        """Memory held between exams, in bytes."""
        return self._census.nbytes


def _has_closure(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether ``step`` was given a closure; the hook's arguments begin with the optimizer."""
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
