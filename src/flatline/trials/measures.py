"""What one finished run says: its objective, and the state that it left the model in.

**The training loss** of a run is the mean over the last tenth of its readings, one for each step
that has a loss of its own. It is what ``backward()`` was called on, so a penalty inside the loss is
part of it in every arm and the optimizer's weight decay in none. **A metric** that the program logs
is the mean over the last tenth of its readings.

A run has **diverged** when that is no finite number, or more than ten times the first loss: means
over numbers that grow without bound only tell where the run was stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flatline.diagnose.diagnose import Diagnosis, diagnose
from flatline.diagnose.impact import gaps, latest
from flatline.diagnose.names import SICK
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.errors import UsageError
from flatline.record import TRAINING, TREATMENTS
from flatline.record.recording import Recording
from flatline.trials.plan import LOSS
from flatline.trials.statistics import steps_to_reach

Double = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: Part of the readings, from the end, over which an objective is the mean.
LAST = 0.1
#: Times the first loss beyond which a run has diverged.
FAR = 10.0


@dataclass(frozen=True)
class Curve:
    """Readings of the objective in the order of training.

    Attributes:
        steps: Step of each.
        values: What was read; not finite where the training was at no number.
    """

    steps: npt.NDArray[np.int64]
    values: Double

    @property
    def window(self) -> int:
        """Number of readings at the end that are averaged."""
        return max(1, round(len(self.values) * LAST))

    def end(self) -> float:
        """The mean over the window; not finite where the run had diverged, or nothing was read."""
        last = self.values[-self.window :]
        with np.errstate(over="ignore", invalid="ignore"):
            return float(last.mean()) if len(last) else math.nan

    def steps_to(self, goal: float, maximise: bool) -> int | None:
        """Steps until the curve, smoothed as its end, is as good as ``goal``."""
        reached = steps_to_reach(self.values, goal, self.window, maximise=maximise)
        return None if reached is None else int(self.steps[reached - 1]) + 1


@dataclass(frozen=True)
class Measures:
    """What a run says.

    Attributes:
        run: Its id in the store.
        objective: Not finite where it diverged.
        curve: The readings behind it.
        untrained: The loss before the first update, where the objective is the loss.
        dead_share: Share of watched units that are dead; ``None`` where none is watched.
        sick_share: Share of them in a sick state.
        effective_rank: Mean over sites.
        gap: Validation against training, where the program logs both.
        steps: Optimizer steps that it took.
    """

    run: str
    objective: float
    curve: Curve = field(repr=False)
    untrained: float | None
    dead_share: float | None
    sick_share: float | None
    effective_rank: float | None
    gap: float | None
    steps: int


def measure(
    recording: Recording, objective: str = LOSS, thresholds: Thresholds = DEFAULT
) -> tuple[Measures, Diagnosis]:
    """What a run says, and what is wrong with it.

    Args:
        recording: The run.
        objective: ``"loss"`` or the name of a metric that the program logged.
        thresholds: What its findings compare with.

    Raises:
        UsageError: It has no such objective, or was not treated as its arm.
    """
    lost = dict(recording.lost)
    if TREATMENTS in lost:
        raise UsageError(lost[TREATMENTS])
    curve = _curve(recording, objective)
    found = diagnose(
        recording.sites, recording.windows, recording.ledgers, recording.history, thresholds
    )
    known = curve.values[np.isfinite(curve.values)]
    first = float(known[0]) if objective == LOSS and len(known) else None
    end = curve.end()
    if first is not None and first > 0 and end > FAR * first:
        end = math.inf
    ranks = [one.get("effective_rank") for one in latest(recording.history).values()]
    measured = Measures(
        run=str(recording.facts["id"]),
        objective=end,
        curve=curve,
        untrained=first,
        dead_share=_share(found, frozenset({"dead"})),
        sick_share=_share(found, SICK),
        effective_rank=_mean([rank for rank in ranks if rank is not None]),
        gap=_gap(recording),
        steps=int(recording.facts.get("steps") or 0),
    )
    return measured, found


def _curve(recording: Recording, objective: str) -> Curve:
    if objective == LOSS:
        taken = recording.steps
        noted = [one.step for one in recording.notes if one.kind == "nonfinite"]
        read = ~_missing(taken.step, taken.loss, min(noted, default=None))
        if read.any():
            return Curve(taken.step[read], taken.loss[read])
    elif objective in recording.metrics:
        steps, values = zip(*recording.metrics[objective], strict=True)
        return Curve(np.array(steps, np.int64), np.array(values, np.float64))
    names = ", ".join([LOSS, *recording.metrics])
    if why := dict(recording.lost).get(TRAINING):
        # Where a training may be watched but not as it is written, the reason says what to do.
        advice = "" if ";" in why else "; name a program that trains, with the arguments it needs"
        raise UsageError(
            f"expected a program whose optimizer takes steps, found that {why}{advice}"
        )
    if objective == LOSS:
        raise UsageError(
            "expected a loss that backward() was called on, found none; log one with "
            "flatline.log(NAME, value) and name it with --objective"
        )
    raise UsageError(
        f"expected the program to log {objective!r}, found {names}; name one of these, or add "
        f"flatline.log({objective!r}, value) to the program"
    )


def _missing(steps: npt.NDArray[np.int64], loss: Double, broken: int | None) -> Bool:
    """Where a step had no loss of its own. A loss that was NaN is stored alike: as nothing.

    Args:
        steps: Step of each loss.
        loss: The losses.
        broken: The first step whose loss was seen not to be finite. Before it whatever is not there
            is missing; from it on only gaps that are no longer than those before.
    """
    gap = np.isnan(loss)
    if broken is None:
        return gap
    early = gap & (steps < broken)
    usual = int(_lengths(early).max(initial=0))
    later: Bool = gap & (steps != broken) & (_lengths(gap) <= usual)
    return early | later


def _lengths(gap: Bool) -> npt.NDArray[np.int64]:
    """How many neighbours in a row are in the gap that each is in; 0 outside of gaps."""
    ends = np.flatnonzero(np.diff(gap, prepend=False, append=False)).reshape(-1, 2)
    runs = ends[:, 1] - ends[:, 0]
    lengths = np.zeros(len(gap), np.int64)
    lengths[gap] = np.repeat(runs, runs)
    return lengths


def _share(found: Diagnosis, states: frozenset[str]) -> float | None:
    """Share of units in one of the states; those only silent so far are in none."""
    units = sum(len(one.code) for one in found.sites.values())
    number = sum(
        sum(n for state, n in one.counts().items() if state in states) - one.silent_so_far
        for one in found.sites.values()
    )
    return number / units if units else None


def _gap(recording: Recording) -> float | None:
    """Of the loss, where the program logs it on both, else of the first metric that it does."""
    steps = recording.steps
    losses = {LOSS: list(zip(steps.step.tolist(), steps.loss.tolist(), strict=True))}
    found = gaps(losses | recording.metrics)
    return min(found, key=lambda gap: LOSS not in gap.metric).gap if found else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
