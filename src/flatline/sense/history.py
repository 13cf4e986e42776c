"""What a training went through, beside the vitals of its units: steps, exams, deaths, notes.

Everything here is NumPy or plain data, gathered while training and judged later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Int = npt.NDArray[np.int32]
Long = npt.NDArray[np.int64]

#: Readings of one step: step, loss, learning rate, gradient norm; ``None`` where there was none.
Row = tuple[int, float | None, float | None, float | None]


@dataclass(frozen=True)
class Steps:
    """Readings of every step, one entry per step in order; NaN where there was none.

    Attributes:
        step: The step.
        loss: The scalar on which ``backward()`` was called, summed over the step's calls.
        lr: Learning rate of the first parameter group of the first optimizer.
        gradient: Norm of the gradients of all feeding biases before the update. It stands for the
            norm of all gradients, which would cost a pass over every parameter.
    """

    step: Long
    loss: Double
    lr: Double
    gradient: Double

    @classmethod
    def of(cls, rows: Iterable[Sequence[float | None]]) -> Steps:
        """Readings from rows of ``(step, loss, lr, gradient)``.

        Example:
            >>> Steps.of([(0, 2.5, 0.1, None), (1, None, 0.1, 0.2)]).loss
            array([2.5, nan])
        """
        table = np.array(list(rows), np.float64).reshape(-1, 4)
        return cls(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3])


@dataclass(frozen=True)
class Autopsy:
    """How the mean pre-activation of units of one site moved until an exam found them silent.

    All arrays have one entry per unit that was ever found silent, in rising order of ``units``;
    of a unit that died several times the last death counts. z̄ is the mean of the pre-activation
    over the examples (and positions) of one exam. The three terms add up to the change of z̄:
    ``bias`` = Δb, ``weight`` = Δw·x̄ with the mean input x̄ of the exam before, ``input`` = the
    new weights times Δx̄, with whatever else is added (a residual connection). NaN where the
    layer that makes z could not be taken apart.

    Attributes:
        units: Which units.
        step: The exam that found the unit silent.
        before: The exam before it.
        z_before: z̄ at the exam before.
        z_after: z̄ at the exam that found it silent.
        spread_before: Standard deviation of z over the examples before this exam.
        spread_after: The same over the examples of this exam.
        bias: Δb between the two.
        weight: Δw·x̄ between the two.
        input: w·Δx̄ between the two.
        first: The site's first exam.
        z_first: z̄ at the first exam.
        spread_first: Standard deviation of z at the first exam.
        bias_first: Δb since the first exam.
        weight_first: Δw·x̄ since the first exam.
        input_first: w·Δx̄ since the first exam.
    """

    units: Int
    step: Int
    before: Int
    z_before: Float
    z_after: Float
    spread_before: Float
    spread_after: Float
    bias: Float
    weight: Float
    input: Float
    first: Int
    z_first: Float
    spread_first: Float
    bias_first: Float
    weight_first: Float
    input_first: Float

    @classmethod
    def empty(cls) -> Autopsy:
        """No deaths.

        Example:
            >>> len(Autopsy.empty().units)
            0
        """
        whole = ("units", "step", "before", "first")
        none: dict[str, Any] = {
            one.name: np.empty(0, np.int32 if one.name in whole else np.float32)
            for one in fields(cls)
        }
        return cls(**none)

    def row(self, unit: int) -> dict[str, float] | None:
        """The numbers of one unit by name; ``None`` when it was never found silent."""
        place = int(np.searchsorted(self.units, unit))
        if place >= len(self.units) or self.units[place] != unit:
            return None
        names = (one.name for one in fields(self) if one.name != "units")
        return {name: getattr(self, name)[place].item() for name in names}


@dataclass(frozen=True)
class Note:
    """Something seen once, or whenever it changed, about the model as a whole.

    Attributes:
        step: When.
        kind: ``"parameters"``, ``"loss"``, ``"stacked"``, ``"stale"``, ``"optimizer"``, ``"data"``
            or ``"nonfinite"``; :mod:`flatline.sense.notes` says what each holds.
        evidence: Plain data.
    """

    step: int
    kind: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """All that is known of a training beside vitals and ledgers.

    Attributes:
        steps: Loss, learning rate and gradient norm by step.
        exams: ``(step, numbers per site)`` of every exam, in order.
        autopsies: Per site, how its dead units died.
        notes: What was noted of the model as a whole, in order.
        metrics: Per name, ``(step, value)`` in the order of logging.
        facts: The JSON report's ``run`` object.
    """

    steps: Steps = field(default_factory=lambda: Steps.of([]))
    exams: Sequence[tuple[int, Mapping[str, Mapping[str, float]]]] = ()
    autopsies: Mapping[str, Autopsy] = field(default_factory=dict)
    notes: Sequence[Note] = ()
    metrics: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def measure(self, site: str, name: str) -> tuple[Long, Double]:
        """Steps and values of one number about a site, where it was measured and is finite.

        Example:
            >>> history = History(exams=[(0, {"net.0": {"batch": 64.0}}), (1, {})])
            >>> history.measure("net.0", "batch")
            (array([0]), array([64.]))
        """
        pairs = [(step, sites.get(site, {}).get(name, np.nan)) for step, sites in self.exams]
        step = np.array([step for step, _ in pairs], np.int64)
        value = np.array([value for _, value in pairs], np.float64)
        known = np.isfinite(value)
        return step[known], value[known]

    def last(self, kind: str) -> Mapping[str, Any] | None:
        """The evidence of the last note of a kind."""
        return next((note.evidence for note in reversed(self.notes) if note.kind == kind), None)
