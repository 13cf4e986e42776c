"""The exam: one training step, traced from its first forward pass to its optimizer step.

While an exam is open, calls of modules pass through :meth:`Exam.call`, which starts the tracing
at the outermost watched module; the tracing stops for the backward pass. Nothing is computed on
tensors of the training, no random number is drawn, and everything is taken away at the end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from flatline.anatomy.atlas import Place
from flatline.anatomy.spread import Spread
from flatline.anatomy.tracer import Tracer
from flatline.sense.gauge import Batch, Reading
from flatline.sense.gradients import Movement

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


class Staff:
    """Hears from the tracer and takes the readings of one exam."""

    def __init__(self) -> None:
        self.batch = Batch(1)
        self.staged: list[Reading] = []
        self.done: list[Reading] = []
        self.inputs: set[int] = set()
        self._draws = 0

    def before(self, place: Place, z: Tensor, spread: Spread) -> Reading:
        """Read a pre-activation; see :class:`flatline.anatomy.tracer.Observer`."""
        reading = Reading.of(place, z, spread, self.batch)
        self.staged.append(reading)
        return reading

    def after(self, token: Reading, h: Tensor) -> None:
        """Read an output."""
        token.take(h)

    def gated(self, token: Reading, place: Place, product: Tensor) -> None:
        """Read the gated product in the output's place."""
        token.place = place
        token.take(product)

    def forget(self, token: Reading) -> None:
        """Drop what turned out to be a part of a formula."""
        token.dropped = True

    def read(self, token: Reading, columns: Tensor | None) -> None:
        """Note how strongly the units are read."""
        token.listen()
        if columns is not None:
            token.read(columns)

    def leak(self, token: Reading) -> None:
        """Note a use that no parameter shows."""
        token.listen()
        token.leaked = True

    def commit(self) -> None:
        """The staged forward passes were trained on: merge what shares a place."""
        merged: dict[tuple[Place, int], Reading] = {}
        for reading in self.staged:
            if reading.dropped or reading.h_sum is None:
                continue
            key = reading.place, reading.batch.draw
            known = merged.get(key)
            if known is None or not known.absorb(reading):
                if known is not None:
                    self._finish(known)
                merged[key] = reading
        for reading in merged.values():
            self._finish(reading)
        self.staged = []
        self.inputs = set()

    def draw(self, x: Tensor) -> int:
        """Number of the draw of examples that ``x`` is, given to a call from outside the model.

        What was computed from earlier calls, or lies in the same memory as their inputs (a time
        step of a sequence, the same batch once more), is about the same examples.
        """
        home = x.untyped_storage().data_ptr() if x.layout is torch.strided else id(x)
        if self.staged and not x.requires_grad and home not in self.inputs:
            self._draws += 1
        self.inputs.add(home)
        return self._draws

    def _finish(self, reading: Reading) -> None:
        reading.place.seen = True
        self.done.append(reading)


class _Mode(TorchDispatchMode):
    """Hands every operator of the traced step to the tracer, then runs it."""

    def __init__(self, exam: Exam) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._exam = exam

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
        if not exam.looking:
            return func(*args, **kwargs)
        after = exam.guard(exam.look, func, args, kwargs)
        out = func(*args, **kwargs)
        if after is not None:
            exam.guard(after, out)
        return out


class Exam:
    """An open exam.

    Args:
        tracer: The tracer; its observer is replaced by this exam's staff.
        watches: Tells whether a module belongs to the watched models.
        fail: Told the exception when something of ours goes wrong; the exam is then over.
    """

    def __init__(
        self,
        tracer: Tracer,
        watches: Callable[[nn.Module], bool],
        fail: Callable[[Exception], None],
    ) -> None:
        self.staff = Staff()
        self._tracer = tracer
        self._watches = watches
        self._fail = fail
        tracer.observer = self.staff
        self._mode = _Mode(self)
        self._pushed = False
        self._active = False
        self._paused = False
        self._broken = False
        self._error: Exception | None = None
        self._depth = 0
        self._trained = False
        self._training = True
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self.began: float | None = None
        self.own = 0.0
        self.movements: dict[Place, Movement] = {}
        self._call = nn.Module.__call__
        self._stance: Any = None

    # -- what the mode asks -------------------------------------------------------------------

    @property
    def looking(self) -> bool:
        """Whether operators are to be looked at now."""
        if self._broken or self._paused or not self._pushed or os.getpid() != self._pid:
            return False
        if self._depth == 0 and not torch.is_grad_enabled():
            return False
        return self._active or self._depth == 0

    def guard(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run our own work, timed; a fault ends the exam and not the training.

        It is reported when the exam is closed: inside an operator, the mode is off the stack for
        the moment and cannot be taken away.
        """
        start = time.perf_counter()
        try:
            return work(*args)
        except Exception as error:
            self._broken, self._error = True, self._error or error
            return None
        finally:
            self.own += time.perf_counter() - start

    def look(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[Any], None]:
        """Show an operator to the tracer."""
        name = func._schema.name
        return self._tracer.before(name[name.index(":") + 2 :], args, kwargs)

    # -- opening and closing ------------------------------------------------------------------

    def open(self) -> None:
        """Let module calls pass through :meth:`call`, and keep compiled code aside."""
        exam, original = self, self._call

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if exam.passes(module):
                return exam.call(module, args, kwargs)
            return original(module, *args, **kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        self.stand_aside()

    def stand_aside(self) -> None:
        """Run compiled code eagerly while the exam lasts; its compiled form is kept."""
        import sys

        dynamo = sys.modules.get("torch._dynamo.eval_frame")
        if dynamo is None or self._stance is not None or not hasattr(dynamo, "_stance"):
            return
        if dynamo._stance.stance == "default":
            self._stance = dynamo._set_stance(dynamo.DynamoStance("force_eager"))

    def close(self) -> None:
        """Take everything away that :meth:`open` and the step have put in place."""
        nn.Module.__call__ = self._call  # type: ignore[method-assign]
        self.pull()
        if self._stance is not None:
            import torch._dynamo.eval_frame as dynamo

            dynamo._set_stance(self._stance)
            self._stance = None
        self._tracer.labels.clear()
        self._tracer.stack.clear()
        error, self._error = self._error, None
        if error is not None:
            self._fail(error)

    def pull(self) -> None:
        """Take the mode off the stack, wherever others may have been put on top of it."""
        if not self._pushed:
            return
        self._pushed = False
        above = []
        while (stack := _python_dispatch._get_current_dispatch_mode_stack()) and (
            stack[-1] is not self._mode
        ):
            above.append(_python_dispatch._pop_mode())
        if stack:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for mode in reversed(above):
            _python_dispatch._push_mode(mode)

    # -- the step -----------------------------------------------------------------------------

    def passes(self, module: nn.Module) -> bool:
        """Whether a call of ``module`` concerns the exam."""
        if self._broken or self._paused or threading.get_ident() != self._thread:
            return False
        if os.getpid() != self._pid or torch._C._current_graph_task_id() != -1:
            return False  # a worker process; the second forward of activation checkpointing
        return self._depth > 0 or self._watches(module)

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call ``module`` as usual, with the tracer knowing where it is."""
        outer = self._depth == 0
        if outer:
            self.guard(self._enter, module, args, kwargs)
        elif self._active:
            self.guard(self._check_axis, module, args)
        recurrent = self._active and isinstance(module, _RECURRENT)
        self._depth += 1
        self._tracer.stack.append(module)
        self._paused = recurrent
        staged = len(self.staff.staged)
        try:
            out = self._call(module, *args, **kwargs)
        except BaseException:
            del self.staff.staged[staged:]  # what came to nothing is not trained on
            raise
        finally:
            self._paused = False
            self._depth -= 1
            if self._tracer.stack:
                self._tracer.stack.pop()
        if recurrent and not self._broken:
            self.guard(self._tracer.recurrent, module, args, out)
        if outer:
            self._active = False
            self._give_up()
        return out

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._active = torch.is_grad_enabled()
        if not self._active:
            return
        if self.began is None:
            self.began = time.perf_counter()
        if module.training and not self._training:
            self.staff.staged = []  # what was run for evaluation is not what trains
        elif not module.training and self._training and self.staff.staged:
            self._active = False
            return
        self._training = module.training
        x = _first_tensor((*args, *kwargs.values()))
        if x is not None:
            self.staff.batch = _batch_of(x, module)._replace(draw=self.staff.draw(x))
        if not self._pushed:
            self._mode.__enter__()  # type: ignore[no-untyped-call]
            self._pushed = True

    def _check_axis(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A time-first part of the model that gets the model's input tells which axis is which."""
        if getattr(module, "batch_first", True) or not args or not isinstance(args[0], Tensor):
            return
        x, batch = args[0], self.staff.batch
        if x.ndim == 3 and batch.axis == 0 and x.shape[0] == batch.examples != x.shape[1]:
            self.staff.batch = batch._replace(examples=x.shape[1], axis=1, positions=x.shape[0])

    def _give_up(self) -> None:
        """Close after a fault."""
        if self._broken:
            self.close()

    def before_backward(self) -> None:
        """Backward begins: stop looking, and listen to the gradients."""
        self.pull()
        self._give_up()
        for reading in self.staff.staged:
            if not reading.dropped:
                reading.listen()

    def after_backward(self) -> None:
        """Backward ended: the staged forward passes were trained on."""
        if not self._broken and self.staff.staged:
            self.guard(self.staff.commit)
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
        if not self._trained and not self._broken:
            self.guard(self.staff.commit)
        self._give_up()
        return [] if self._broken else [(reading, reading.flat()) for reading in self.staff.done]


def _first_tensor(values: Iterable[Any]) -> Tensor | None:
    for value in values:
        if isinstance(value, Tensor) and value.ndim:
            return value
        if isinstance(value, Mapping):
            value = tuple(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                if isinstance(item, Tensor) and item.ndim:
                    return item
    return None


def _batch_of(x: Tensor, module: nn.Module) -> Batch:
    """How many examples ``x`` holds, as far as its shape tells."""
    if not getattr(module, "batch_first", True) and x.ndim == 3:
        return Batch(x.shape[1], 1, x.shape[0])
    if not x.is_floating_point():
        return Batch(x.shape[0], 0, x[0].numel() if len(x) else 1)
    return Batch(x.shape[0], 0, x.shape[1] if x.ndim == 3 else 1)
