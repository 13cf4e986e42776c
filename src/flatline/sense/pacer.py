"""Decides when the next exam may happen, so that watching stays within its share of the time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

#: Seconds that watching may take at the start of a run, before any share of it can be earned. A
#: run of a few seconds is over before it has earned one exam; without any it would go undiagnosed.
GRACE = 0.2
#: Steps whose share may be spent in advance, where that is more: on a slow or busy machine an exam
#: takes longer, and a run that is short in steps would see none but the first.
ADVANCE = 1500
#: Share of the budget for exams by the clock; the rest waits for events.
REGULAR = 0.7


class Pacer:
    """Keeps the account of time: what was spent, and what an exam is expected to cost.

    Args:
        budget: Share of the training's time that watching may take, e.g. 0.01.

    Example:
        >>> pacer = Pacer(0.01)
        >>> pacer.due(step=0, elapsed=0.0, event=False), pacer.due(1, 0.0, False)  # none so far
        (True, True)
        >>> pacer.charge_exam(0.5)
        >>> pacer.due(step=1, elapsed=1.0, event=False)
        True
        >>> pacer.charge_exam(0.2)
        >>> pacer.due(step=4, elapsed=4.0, event=False), pacer.due(70, 70.0, False)
        (False, True)
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.spent = 0.0
        self.exams = 0
        self._start = self._expected = 0.0
        self._costs: deque[float] = deque(maxlen=5)
        self._steps: deque[float] = deque(maxlen=15)

    def charge(self, seconds: float) -> None:
        """Book time spent in hooks."""
        self.spent += seconds

    def charge_exam(self, seconds: float) -> None:
        """Book what an exam cost beyond a bare step.

        The first one says nothing of those to come, and is not held against them: most of what it
        takes goes into code that has never run before.
        """
        self.spent += seconds
        if self.exams:
            self._costs.append(seconds)
            self._expected = median(self._costs)
        else:
            self._start = seconds
        self.exams += 1

    def bare_steps(self, times: Sequence[float]) -> None:
        """Note how long steps without an exam took, from the times between which they lie."""
        self._steps += (after - before for before, after in pairwise(times))

    def excess(self, own: float, duration: float) -> float:
        """What an examined step cost beyond a bare one.

        Args:
            own: Seconds measured inside flatline's own code.
            duration: Seconds that the whole step took.

        Returns:
            The step's excess over the usual, but at least ``own``, and at most three times that:
            a step may be long for reasons that are not ours (the data, a validation).
        """
        if not self._steps:
            return own
        return max(own, min(duration - median(self._steps), 3 * own))

    def due(self, step: int, elapsed: float, event: bool) -> bool:
        """Whether the next step should be examined.

        Args:
            step: The next step.
            elapsed: Seconds since the training began.
            event: Whether the pulse asks for an exam.
        """
        if not self.exams:
            return True  # without the anatomy not even the pulse can be read
        if self.budget <= 0:
            return False
        if event:
            return self._cost <= max(self.budget * elapsed, self._advance)
        return elapsed >= self.next or (_early(step) and self._cost <= self._advance)

    @property
    def next(self) -> float:
        """Seconds since the training began after which an exam is due by the clock alone."""
        if self.budget <= 0:
            return math.inf
        return max(self._cost, self._advance) / (REGULAR * self.budget)

    @property
    def _cost(self) -> float:
        """What will have been spent after one more exam."""
        return self.spent - self._start + self._expected

    @property
    def _advance(self) -> float:
        return max(GRACE, self.budget * ADVANCE * median(self._steps or [0.0]))

    @staticmethod
    def quiet(step: int) -> int:
        """How many steps from ``step`` on need not be looked at one by one.

        Example:
            >>> [Pacer.quiet(step) for step in (1, 2, 15, 16, 17)]
            [3, 2, 1, 48, 47]
        """
        early = 1
        while early <= step:
            early *= 4
        return early - step


def _early(step: int) -> bool:
    """Whether a step is examined before time was earned: 1, 4, 16, 64 ..., to reach far.

    Example:
        >>> [step for step in range(1, 100) if _early(step)]
        [1, 4, 16, 64]
    """
    return step & (step - 1) == 0 and step.bit_length() % 2 == 1
