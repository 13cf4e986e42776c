"""The exam: one training step, traced from its first forward pass to its optimizer step.

While an exam is open, calls of modules pass through :meth:`Exam.enter` and :meth:`Exam.leave`; the
tracing starts at the outermost watched module and stops for the backward pass, of which hooks hear
the gradients. No tensor of the training is written to, no random number is drawn, and everything is
taken away at the end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from flatline.anatomy.atlas import Place
from flatline.anatomy.course import Course
from flatline.anatomy.tracer import Tracer
from flatline.sense.gauge import Batch, Reading
from flatline.sense.gradients import Movement
from flatline.sense.patch import Patch
from flatline.sense.sample import Spare
from flatline.sense.sketch import sketch
from flatline.sense.staff import Staff
from flatline.sense.stance import Stance
from flatline.sense.unseen import lay_below, modes_active, simulated, unseen, withdraw

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
T = TypeVar("T")
#: Stands for the output of a module that raised.
_FAILED = object()


def attempt(exam: Exam, work: Callable[..., T], *args: Any) -> T | None:
    """Run work of our own, timed.

    A fault is kept for the watcher, ends the exam and goes no further.
    """
    start = time.perf_counter()
    try:
        return work(*args)
    except Exception as error:
        exam.fault = exam.fault or error
        return None
    finally:
        exam.own += time.perf_counter() - start


class _Mode(TorchDispatchMode):
    """Hands every operator of the traced step to the tracer, then runs it.

    It lies below all other modes, so that whoever takes off the topmost finds his own, and so
    that no other mode sees what the tracer does. It is pushed and popped without ``__enter__``,
    whose record of who came before holds only for modes that end in the opposite order.
    """

    #: Else torch refuses operators such as ``torch.cond`` while the mode is there.
    supports_higher_order_operators = True

    def __init__(self, exam: Exam) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._exam = exam

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from wrapping the next method: no code is compiled while the mode is there."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``func``; whatever goes wrong around it stays here."""
        kwargs = kwargs or {}
        exam = self._exam
        with torch._C.DisableTorchFunction():
            after = attempt(exam, exam.look, func, args, kwargs)
        out = func(*args, **kwargs)
        if after is not None:
            with torch._C.DisableTorchFunction():
                attempt(exam, after, out)
        return out


class Exam:
    """An open exam.

    Attributes:
        staff: What takes the readings.
        fault: What went wrong, if anything did; the exam is over then, and the training goes on.
        began: When the first forward pass began.
        course: How the tensors of the step came about.
        own: Seconds spent in flatline's own code.

    Args:
        tracer: The tracer; its observer is replaced by this exam's staff.
        watches: Tells whether a module belongs to the watched models, in the watched thread.
        spare: See :class:`flatline.sense.staff.Staff`.
    """

    def __init__(
        self, tracer: Tracer, watches: Callable[[nn.Module], bool], spare: Spare | None = None
    ) -> None:
        self.staff = Staff(spare)
        self.fault: Exception | None = None
        self.began: float | None = None
        self.own = 0.0
        self._tracer = tracer
        self._watches = watches
        tracer.observer = self.staff
        self._mode = _Mode(self)
        self._pushed = False
        self._active = False
        self._paused = False
        self._closed = False
        self._depth = 0
        self._trained = False
        self._training = True
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._patch: Patch | None = None
        self._stance = Stance()
        self.movements: dict[Place, Movement] = {}
        self.course = Course(tracer, sketch)

    # -- what the mode asks -------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        """Whether nothing more is to be seen: a fault, the end, or a forked process."""
        return self.fault is not None or self._closed or os.getpid() != self._pid

    @property
    def _looking(self) -> bool:
        """Whether operators are to be looked at now."""
        if self._over or self._paused:
            return False
        if self._depth == 0 and not torch.is_grad_enabled():
            return False
        # All modes of the user are above this one: any other is torch's own, for fake tensors.
        return (self._active or self._depth == 0) and not (
            modes_active()
            or torch.is_inference_mode_enabled()
            or torch._C._get_tracing_state() is not None
            or torch._C._functorch.peek_interpreter_stack() is not None
        )

    def look(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[Any], None] | None:
        """Show an operator to the tracer; the result is told the operator's output."""
        if not self._looking or not isinstance(func, torch._ops.OpOverload):
            return None
        units = self._tracer.before(func, args, kwargs)
        course = self.course.before(func, args, kwargs)
        if course is None:
            return units

        def after(out: Any) -> None:
            course(out)
            units(out)

        return after

    # -- opening and closing ------------------------------------------------------------------

    def open(self) -> None:
        """Let module calls pass through :meth:`enter` and :meth:`leave`.

        Raises:
            UnsupportedError: When compiled code cannot be kept aside now.
        """
        self._stance.take()
        self._patch = Patch(nn.Module, "__call__", self._around_call)

    def _around_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        exam = self

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not attempt(exam, exam.enter, module, args, kwargs):
                return original(module, *args, **kwargs)
            out: Any = _FAILED
            try:
                out = original(module, *args, **kwargs)
            finally:
                attempt(exam, exam.leave, module, args, out)
            return out

        return __call__

    def close(self) -> None:
        """Take everything away that :meth:`open` and the step have put in place."""
        self._closed = True
        hooks, self.staff.hooks = self.staff.hooks, []
        undo: list[Callable[[], object]] = [hook.remove for hook in hooks]
        if self._patch is not None:
            undo.append(self._patch.remove)
        for work in (
            *undo,
            self._pull,
            self._stance.give_back,
            self.course.clear,
            self._tracer.conclude,
        ):
            attempt(self, work)

    def _push(self) -> None:
        """Put the mode on the stack, below all others."""
        if not self._pushed:
            lay_below(self._mode)
            self._pushed = True

    def _pull(self) -> None:
        """Take the mode off the stack.

        From another thread, and while it handles an operator, that cannot be done; a closed
        exam's mode only passes operators on.
        """
        if self._pushed and threading.get_ident() == self._thread:
            self._pushed = not withdraw(self._mode)

    # -- the step -----------------------------------------------------------------------------

    def _passes(self, module: nn.Module) -> bool:
        """Whether a call of ``module`` concerns the exam."""
        if self._over or self._paused:
            return False
        if torch._C._current_graph_task_id() != -1:
            return False  # the second forward of activation checkpointing
        if simulated():
            if torch._C._functorch.peek_interpreter_stack() is not None:
                self._tracer.atlas.miss("a forward pass", "it ran inside a torch.func transform")
            return False
        if self._depth:
            return threading.get_ident() == self._thread
        return self._watches(module) and not self._over

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """``module`` is about to be called; returns whether :meth:`leave` is to be told."""
        if not self._passes(module):
            return False
        if self._depth == 0:
            self._thread = threading.get_ident()
            self._active = torch.is_grad_enabled() and unseen(self._begin, module, args, kwargs)
            if self._active:
                self._push()
        elif self._active:
            self._check_axis(module, args)
        self._paused = self._active and isinstance(module, _RECURRENT)
        self._depth += 1
        self._tracer.visit(module)
        return True

    def leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        """``module`` gave ``out``, or raised."""
        recurrent, self._paused = self._paused, False
        self._depth -= 1
        if self._tracer.stack:
            self._tracer.stack.pop()
        if recurrent and out is not _FAILED and not self._over:
            unseen(self._tracer.recurrent, module, args, out)
        if self._depth:
            return
        self._active = False
        if out is _FAILED:
            self.staff.discard()  # nothing of it will be trained on
        if self._closed:
            self._pull()

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a forward pass is to be looked at, and how its examples lie."""
        if self.began is None:
            self.began = time.perf_counter()
        if module.training and not self._training:
            self.staff.discard()  # what was run for evaluation is not what trains
        elif not module.training and self._training and self.staff.staged:
            return False
        self._training = module.training
        self._tracer.enter(args, kwargs)
        x = _first_tensor((*args, *kwargs.values()))
        if x is not None:
            self.staff.batch = _batch_of(x, module)._replace(draw=self.staff.draw(x))
        return True

    def _check_axis(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A time-first part of the model that gets the model's input tells which axis is which."""
        if getattr(module, "batch_first", True) or not args or not isinstance(args[0], Tensor):
            return
        x, batch = args[0], self.staff.batch
        if x.ndim == 3 and batch.axis == 0 and x.shape[0] == batch.examples != x.shape[1]:
            self.staff.batch = batch._replace(examples=x.shape[1], axis=1, positions=x.shape[0])

    def before_backward(self) -> None:
        """Backward begins: stop looking, and listen to the gradients."""
        self._pull()
        for reading in self.staff.staged:
            self.staff.listen(reading)

    def after_backward(self) -> None:
        """Backward ended: the staged forward passes were trained on."""
        if self.fault is None and self.staff.staged:
            attempt(self, self.staff.commit)
            self._trained = True

    def measure(self, parameters: Iterable[Tensor], *, updated: bool) -> None:
        """Measure the movement of sites that these parameters feed, which are about to be updated.

        Args:
            parameters: All parameters of an optimizer.
            updated: The update has happened already.
        """
        moving = {id(parameter) for parameter in parameters}
        for place in {reading.place for reading in self.staff.done} - self.movements.keys():
            movement = Movement(place, updated=updated)
            if id(movement.parameter) in moving:
                self.movements[place] = movement

    def finish(self) -> list[tuple[Reading, Tensor]]:
        """Close, and give what was read; empty after a fault.

        Staged passes count when no backward pass was seen at all (gradients by other means).
        """
        self.close()
        if not self._trained and self.fault is None:
            attempt(self, self.staff.commit)
        self._tracer.observer = Staff()  # or the tracer would keep the readings until the next exam
        # What is read goes with the caller; an exam and its patch wait for the garbage collector.
        done, self.staff.done = self.staff.done, []
        if self.fault is not None:
            return []
        return [(reading, reading.flat()) for reading in done]


def _first_tensor(values: Iterable[Any]) -> Tensor | None:
    for value in values:
        if isinstance(value, Tensor) and not value.is_nested and value.ndim:
            return value
        if isinstance(value, Mapping):
            value = tuple(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                if isinstance(item, Tensor) and not item.is_nested and item.ndim:
                    return item
    return None


def _batch_of(x: Tensor, module: nn.Module) -> Batch:
    """How many examples ``x`` holds, as far as its shape tells."""
    if not getattr(module, "batch_first", True) and x.ndim == 3:
        return Batch(x.shape[1], 1, x.shape[0])
    if not x.is_floating_point():
        return Batch(x.shape[0], 0, x[0].numel() if len(x) else 1)
    return Batch(x.shape[0], 0, x.shape[1] if x.ndim == 3 else 1)
