"""Opens the exams of a training, shows each what it is to see, and finds the model to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from flatline.anatomy.roots import Names, parameters_of, roots
from flatline.anatomy.tracer import Tracer
from flatline.sense.census import Census
from flatline.sense.exam import Exam
from flatline.sense.guard import Guard
from flatline.sense.notes import Notes
from flatline.sense.turns import Turns
from flatline.sense.unseen import unseen

_NO_MODULE = (
    "what the optimizer updates belongs to no nn.Module; make these tensors parameters of one, "
    "and call it in the forward pass"
)


class Examiner:
    """The exams of a training, at most one at a time.

    Attributes:
        exam: The one under way.
        examined: One was taken in the step under way.
        ran: That one saw the model run.
        device: Where what it examined last lies.

    Args:
        tracer: Follows the operators of an examined step.
        census: Takes what exams show of units.
        notes: Takes what they show of the training as a whole.
        turns: The optimizers.
        guard: Runs what may fail.
        models: The models, when they are known; else they are found through the optimizers.
    """

    def __init__(
        self,
        tracer: Tracer,
        census: Census,
        notes: Notes,
        turns: Turns,
        guard: Guard,
        models: Sequence[nn.Module] | None,
    ) -> None:
        self.exam: Exam | None = None
        self.examined = self.ran = False
        self.device = "cpu"
        self._tracer, self._census, self._notes = tracer, census, notes
        self._turns, self._guard = turns, guard
        self._known = models is not None
        self._unsearched = not self._known

    # -- the model ----------------------------------------------------------------------------

    def renew(self) -> None:
        """An optimizer was built, whose model may be another one."""
        self._unsearched = not self._known

    def watches(self, module: nn.Module) -> bool:
        """Whether an exam is under way that looks at a module."""
        if self._unsearched:
            self._guard("exam", unseen, self._search)
        return self.exam is not None and self._tracer.names.module(module) is not None

    def _search(self) -> None:
        """Find the models behind the optimizers known so far."""
        self._unsearched = False
        found = roots(parameters_of(self._turns.known()))
        if not found:
            self._guard.miss("the model", _NO_MODULE)
        self._tracer.names = Names(found)

    # -- an exam ------------------------------------------------------------------------------

    def open(self, watches: Callable[[nn.Module], bool]) -> None:
        """Open an exam for the next step.

        Args:
            watches: Whether a module is one of those to look at, here and now.
        """
        self.exam = Exam(self._tracer, watches, partial(self._guard, "histograms"))
        self._guard("exam", self.exam.open)

    def drop(self) -> None:
        """Close an open exam and use nothing of it."""
        exam, self.exam = self.exam, None
        if exam is not None:
            exam.close()
            if exam.fault is not None:
                self._guard.lose("exam", exam.fault)
        self._guard("notes", self._notes.discard)

    def look(
        self,
        exam: Exam,
        optimizer: torch.optim.Optimizer,
        updated: bool,
        forget: Callable[[], None],
    ) -> None:
        """Take what the exam shows before an optimizer steps, and all before the last one does.

        Args:
            exam: The exam under way.
            optimizer: The one whose gradients are complete.
            updated: Its update has happened already, as with a closure.
            forget: Lets go of optimizers that are gone.
        """
        parameters = parameters_of([optimizer])
        self.device = next((str(one.device) for one in parameters), self.device)
        exam.measure(parameters, updated=updated)
        if not self._turns.all_begun:  # else all layers are looked at in a moment
            self._census.look(exam, parameters)
        self._guard("notes", self._notes.gradients, optimizer, updated)
        if self._turns.all_begun:  # a step may be called by another one
            self.exam, self.examined = None, True
            self.ran = exam.began is not None
            self._guard("pulse", forget)
            try:
                self._census.collect(exam, self._turns.parameters, updated)
            finally:
                exam.close()
            if exam.fault is not None:
                raise exam.fault
            if self._unsearched:  # no module was called at all
                self._search()

    def conclude(self, step: int) -> None:
        """The step that was examined is complete: keep what was seen in it."""
        self._guard("exam", self._census.conclude, step)
        self._guard("notes", self._note, step)

    def _note(self, step: int) -> None:
        """Note what it showed of the training as a whole."""
        tracer = self._tracer
        self._notes.conclude(step, tracer.names, tracer.shown, self._turns.known())
        self._notes.fed(step, self._census.batch)
