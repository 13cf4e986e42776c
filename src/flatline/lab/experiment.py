"""What an experiment is: a claim, how it is measured, and by which criterion it is judged.

A criterion is data (:class:`Check`), so that a page can print the very bounds that were used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from flatline.lab.intervals import Interval, of_mean, of_range
from flatline.lab.plot import Measurements, Numbers, Plot, number

Role = Literal["claim", "scope", "tool"]

SUPPORTED = "supported"
CONDITIONAL = "supported with conditions"
UNSUPPORTED = "not supported"
SKIPPED = "skipped"
SEEDS = 5


class Measure(Protocol):
    """Measures what a claim is about, for one seed."""

    def __call__(self, seed: int, fast: bool, null: bool = False) -> Numbers:
        """Take one measurement.

        Args:
            seed: All random numbers follow from it.
            fast: Take the short form, for tests.
            null: Switch the mechanism off: the claim must then fail.
        """


@dataclass(frozen=True)
class Check:
    """One bound of a criterion: the interval of a number must lie inside ``[low, high]``.

    Attributes:
        says: What holds where the check holds, as a clause.
        number: The key of the number in a measurement.
        low: The least that is allowed.
        high: The most that is allowed.
        role: ``claim``, without which the claim is not supported; ``scope``, without which it is
            supported with conditions; ``tool``, which tests flatline and not the claim.
        each: Every seed must lie inside, instead of the 95 % interval of the mean.
        otherwise: For ``scope``: the condition that is met where the check fails, as a sentence.
    """

    says: str
    number: str
    low: float = -math.inf
    high: float = math.inf
    role: Role = "claim"
    each: bool = False
    otherwise: str = ""

    def judge(self, measurements: Measurements) -> Outcome:
        """Compare what was measured with the bounds."""
        values = [number(one[self.number]) for one in measurements]
        interval = of_range(values) if self.each else of_mean(values)
        holds = self.low <= interval.low and interval.high <= self.high  # False for NaN
        return Outcome(self, interval, holds)


@dataclass(frozen=True)
class Outcome:
    """A check with what was measured."""

    check: Check
    interval: Interval
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """What the measurements say of the claim.

    Attributes:
        verdict: ``supported``, ``supported with conditions`` or ``not supported``.
        outcomes: The checks with what was measured, in the order of the criterion.
    """

    verdict: str
    outcomes: tuple[Outcome, ...]

    @property
    def conditions(self) -> list[str]:
        """Where the claim does not hold, in sentences."""
        if self.verdict != CONDITIONAL:
            return []
        failed = [one.check for one in self.outcomes if not one.holds]
        return [check.otherwise for check in failed if check.role == "scope"]

    @property
    def tool_agrees(self) -> bool:
        """Whether flatline said what the experiment knows to be true."""
        return all(one.holds for one in self.outcomes if one.check.role == "tool")


@dataclass(frozen=True)
class Experiment:
    """A claim of the handbook with the experiment that tests it.

    Attributes:
        id: Its name, in words joined by hyphens.
        claim: The sentence that is tested.
        protocol: What is done, in sentences.
        measure: Takes the measurement of one seed.
        criterion: Checks fixed before the run; the first is the one shown in tables.
        plot: Draws what was measured.
        null: What is switched off in the planted null, and must make the claim fail.
        command: The command of flatline that detects or treats it.
        advice: What that command tells.
        needs: Packages of the extra ``examples`` that it cannot do without.
        history: Changes of the criterion since it was first run and their reasons, oldest first.
    """

    id: str
    claim: str
    protocol: str
    measure: Measure
    criterion: tuple[Check, ...]
    plot: Callable[[Measurements], Plot]
    null: str
    command: str
    advice: str
    needs: tuple[str, ...] = ()
    history: tuple[str, ...] = field(default=())

    def judge(self, measurements: Measurements) -> Verdict:
        """Apply the criterion."""
        outcomes = tuple(check.judge(measurements) for check in self.criterion)
        failed = {one.check.role for one in outcomes if not one.holds}
        if "claim" in failed:
            return Verdict(UNSUPPORTED, outcomes)
        return Verdict(CONDITIONAL if "scope" in failed else SUPPORTED, outcomes)
