"""What is noted of a training as a whole, beside its units.

Each note has a kind and plain data:

``parameters``
    At an exam, again when it changed: ``total`` tensors and ``elements``, elements that this update
    ``trained``, and names (at most 100) with their ``…_elements``: ``frozen``
    (``requires_grad=False``), ``unowned`` (in no optimizer), ``no_gradient`` (owned, gradient
    missing or all 0), ``still`` (gradient not 0, yet not changed), ``unused`` by any loss.
    ``drawn`` says which of these lists look as if they had just been initialised, ``leading``
    which of them come before all that moved.
``loss``
    At the first exams, again when it changed: see :mod:`flatline.sense.lossside`.
``stacked``
    Once: ``pairs`` of linear maps with nothing between, their ``widths`` and ``groups``.
``stale``
    Once certain: ``optimizer`` and the ``steps`` in a row whose gradients nobody reset.
``optimizer``
    At the first exam, again when more than a learning rate changed: a list ``optimizers``.
``data``
    Once known: ``examples``, ``batch_size``, ``shuffle`` and ``drop_last`` of the loader.
``nonfinite``
    At the first step whose loss was not finite: ``what``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flatline.anatomy.course import reached
from flatline.anatomy.ending import ending
from flatline.anatomy.roots import Names, parameters_of
from flatline.anatomy.stacked import stacked
from flatline.sense.exam import Exam
from flatline.sense.history import Row
from flatline.sense.loaders import Loaders
from flatline.sense.lossside import LossSide
from flatline.sense.optimizers import describe
from flatline.sense.parameters import Parameters
from flatline.sense.recorder import Recorder
from flatline.sense.stale import Stale

Optimizers = Sequence[torch.optim.Optimizer]


class Notes:
    """Takes notes at exams, and writes those that say something new.

    Args:
        recorder: Where to write.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.stale = Stale()
        self.loaders = Loaders()
        self._recorder = recorder
        self._parameters = Parameters()
        self._loss = LossSide()
        self._written: dict[str, Mapping[str, Any]] = {}
        self._ended = False
        self._reached: set[str] = set()
        self._lost_way = False
        self._pending: list[Callable[[], None]] = []

    def _note(self, step: int, kind: str, evidence: Mapping[str, Any] | None) -> None:
        """Write what differs from the last note of its kind."""
        if evidence is not None and self._written.get(kind) != evidence:
            self._written[kind] = evidence
            self._recorder.note(step, kind, evidence)

    # -- in an exam ---------------------------------------------------------------------------

    def backward(self, exam: Exam, tensors: Any, step: int) -> None:
        """``backward()`` is about to run on ``tensors`` in an exam."""
        if exam.course.fault is not None:
            raise exam.course.fault
        losses = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        nodes = [node for loss in losses if (node := exam.course.node(loss)) is not None]
        self._lost_way |= len(nodes) < len(losses)
        for node in nodes:
            self._reached |= reached(node)
        if not nodes or self._ended:
            return
        self._ended = True
        found = ending(nodes[0])
        self._pending.append(lambda: self._note(step, "loss", self._loss.describe(found)))
        if "stacked" not in self._written and (pairs := stacked(exam.course.layers)):
            self._note(
                step,
                "stacked",
                {
                    "pairs": [[one.name, two.name] for one, two in pairs],
                    "widths": [[one.inputs, one.outputs, two.outputs] for one, two in pairs],
                    "groups": [[one.groups, two.groups] for one, two in pairs],
                },
            )

    def before_update(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer is about to step in an exam; with a closure, before this runs."""
        self._parameters.before_update(parameters_of([optimizer]))

    def gradients(self, optimizer: torch.optim.Optimizer, updated: bool) -> None:
        """The gradients of an update in an exam are complete."""
        self._parameters.gradients(parameters_of([optimizer]), updated=updated)

    def discard(self) -> None:
        """Drop an exam that is not concluded."""
        self._parameters.discard()
        self._pending, self._ended = [], False

    def conclude(self, step: int, names: Names, shown: set[str], all_of: Optimizers) -> None:
        """Write what an exam showed, after the update.

        Args:
            step: The step.
            names: Names of all parameters.
            shown: Names of those that an operator was given.
            all_of: All optimizers.
        """
        pending, self._pending, self._ended = self._pending, [], False
        for write in pending:
            write()
        owned = parameters_of(all_of)
        used = shown if self._lost_way else shown & self._reached
        found = self._parameters.conclude(names.parameters(), owned, used)
        self._note(step, "parameters", found)
        self._settings(step, all_of)
        if "stale" not in self._written:
            self.stale.arm(all_of)

    def _settings(self, step: int, optimizers: Optimizers) -> None:
        now, before = describe(optimizers), self._written.get("optimizer")
        if before is None or _without_lr(now) != _without_lr(before):
            self._note(step, "optimizer", now)

    def fed(self, step: int, batch: int) -> None:
        """A step was taken on so many examples."""
        self._note(step, "data", self.loaders.feeding(batch))

    # -- between exams ------------------------------------------------------------------------

    def stepped(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer has stepped while :attr:`stale` is armed."""
        self._note(step, "stale", self.stale.stepped(optimizer))

    def losses(self, rows: Iterable[Row]) -> None:
        """Losses of some steps have come over."""
        if "nonfinite" in self._written:
            return
        bad = (step for step, loss, *_ in rows if loss is not None and not math.isfinite(loss))
        step = next(bad, None)
        if step is not None:
            self._note(step, "nonfinite", {"what": "loss"})


def _without_lr(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in one.items() if k != "lr"} for one in settings["optimizers"]]
