"""What a trial may claim: paired differences, their intervals, verdicts.

Arms are compared with the control seed by seed, so that what a seed does to both cancels out. The
mean difference gets a t interval at 95 %, simultaneous over all arms of the trial by Bonferroni's
correction: the chance that any of its intervals misses is at most 5 %, however the arms depend on
each other, which they do through the control that they share. A pooled variance, as in Dunnett's
test, would give narrower intervals, but treatments change the spread as often as the mean.

Three things have no interval, and then no verdict but ``no difference shown``: fewer than two
seeds in common; a program that the seeds do not change; differences that are all the same, as of an
accuracy that moves in steps, from which no spread can be learnt.

**A run that diverged** has no objective. It counts as the worst finite one of the whole trial, the
untrained model's included: it is at least as bad. So an arm that rescues a control that diverges
must learn more than nothing to be ``better``. Where an arm diverges on every seed, at least three,
and the control on none of them, it is ``worse`` without further arithmetic.

**Seeds that an arm lacks** and the control has were lost to a crash, to a time limit, or because
the arm was given up. What is left was selected by its outcome, so such an arm is never ``better``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]

CONFIDENCE = 0.95
BETTER, WORSE, UNDECIDED = "better", "worse", "no difference shown"
#: Seeds from which on an arm that diverges on all of them is worse than a control that never does.
CERTAIN_DIVERGENCE = 3
#: Spread of differences, in parts of the objectives, that rounding alone explains.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Comparison:
    """One arm against the control.

    Attributes:
        difference: Mean of arm less control over the seeds that both have; ``None`` without any.
        low: Lower end of its interval; ``None`` where there is none.
        high: Upper end.
        verdict: ``"better"``, ``"worse"`` or ``"no difference shown"``.
        pairs: Number of seeds that both have.
        why: What limits the claim; empty where nothing does.
    """

    difference: float | None
    low: float | None
    high: float | None
    verdict: str
    pairs: int
    why: str = ""


def compare(
    control: Mapping[int, float],
    arms: Mapping[str, Mapping[int, float]],
    *,
    maximise: bool = False,
    untrained: Iterable[float] = (),
    confidence: float = CONFIDENCE,
) -> dict[str, Comparison]:
    """Every arm of a trial against its control.

    Args:
        control: The control's objective by seed; not finite where it diverged, left out where there
            is none.
        arms: The same of each arm.
        maximise: Whether a larger objective is the better one.
        untrained: Objectives of models before their training, where they are known.
        confidence: Of all intervals together.

    Example:
        >>> control = {0: 2.0, 1: 2.2, 2: 1.9}
        >>> compare(control, {"lr=x0.1": {0: 1.0, 1: 1.1, 2: 0.9}})["lr=x0.1"].verdict
        'better'
    """
    sign = -1.0 if maximise else 1.0
    everything = [*control.values(), *(v for arm in arms.values() for v in arm.values())]
    finite = [sign * value for value in (*everything, *untrained) if math.isfinite(value)]
    worst = sign * max(finite, default=math.nan)
    blind = seeds_change_nothing(list(control.values()))
    error = (1 - confidence) / max(len(arms), 1)
    return {
        name: _judged(control, arm, worst=worst, sign=sign, error=error, blind=blind)
        for name, arm in arms.items()
    }


def seeds_change_nothing(controls: Sequence[float]) -> bool:
    """Whether several runs of the control gave the same finite objective to the last bit.

    Example:
        >>> seeds_change_nothing([0.5, 0.5]), seeds_change_nothing([0.5])
        (True, False)
    """
    return len(controls) > 1 and math.isfinite(controls[0]) and len(set(controls)) == 1


def interval(differences: Double, error: float) -> tuple[float, float]:
    """Student's two-sided interval of a mean.

    Args:
        differences: At least two.
        error: The chance to miss that is allowed.

    Example:
        >>> low, high = interval(np.array([1.0, 2.0, 3.0]), 0.05)
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    from scipy.special import stdtrit  # a quarter of the time that scipy.stats takes to load

    n = len(differences)
    half = float(stdtrit(n - 1, 1 - error / 2) * differences.std(ddof=1) / math.sqrt(n))
    mean = float(differences.mean())
    return mean - half, mean + half


def steps_to_reach(loss: Double, goal: float, window: int, *, maximise: bool = False) -> int | None:
    """Steps until the mean of the last ``window`` readings first is as good as a goal.

    Args:
        loss: A reading per step; NaN where there was none, which never reaches anything.
        goal: What is to be reached.
        window: Readings that are averaged; those of the goal, so that both are equally smooth.
        maximise: Whether larger is better.

    Returns:
        The number of steps; ``None`` where it is not reached.

    Example:
        >>> steps_to_reach(np.array([4.0, 2.0, 2.0, 0.0]), 2.0, 2)
        3
    """
    if len(loss) < window or not math.isfinite(goal):
        return None
    # Rounding must not keep a control from reaching its own end.
    slack = 1e-9 * abs(goal)
    with np.errstate(over="ignore", invalid="ignore"):
        means = np.lib.stride_tricks.sliding_window_view(loss, window).mean(axis=1)
        reached = means >= goal - slack if maximise else means <= goal + slack
    return int(np.argmax(reached)) + window if reached.any() else None


def middle(numbers: Sequence[float | None]) -> float | None:
    """The median, where ``None`` lies above every number.

    Example:
        >>> middle([3, None, 5]), middle([3, None, None]), middle([])
        (5.0, None, None)
    """
    if not numbers:
        return None
    found = np.median([math.inf if one is None else one for one in numbers])
    return float(found) if math.isfinite(found) else None


def _judged(
    control: Mapping[int, float],
    arm: Mapping[int, float],
    *,
    worst: float,
    sign: float,
    error: float,
    blind: bool,
) -> Comparison:
    seeds = sorted(control.keys() & arm.keys())
    n = len(seeds)
    ours = np.array([arm[seed] for seed in seeds], np.float64)
    theirs = np.array([control[seed] for seed in seeds], np.float64)
    lost = len(control) - n
    missing = f"measured on {n} of the control's {len(control)} seeds" if lost else ""
    if n == 0:
        return Comparison(None, None, None, UNDECIDED, 0, "no seed that the control has too")
    diverged = ~np.isfinite(ours)
    if not np.isfinite(worst):
        return Comparison(None, None, None, UNDECIDED, n, "every run of the trial diverged")
    differences = np.where(diverged, worst, ours) - np.where(np.isfinite(theirs), theirs, worst)
    mean = float(differences.mean())
    if diverged.all() and np.isfinite(theirs).all() and n >= CERTAIN_DIVERGENCE:
        return Comparison(mean, None, None, WORSE, n, "diverged on every seed")
    if not np.isfinite([*ours, *theirs]).any():
        return Comparison(None, None, None, UNDECIDED, n, "diverged on every seed, as the control")
    scale = float(np.abs(np.nan_to_num([*ours, *theirs], posinf=0, neginf=0)).max())
    reason = _no_interval(differences, blind, scale)
    if reason:
        return Comparison(mean, None, None, UNDECIDED, n, reason)
    low, high = interval(differences, error)
    verdict = _verdict(sign * low, sign * high)
    if verdict == BETTER and lost:
        verdict = UNDECIDED
    limits = filter(None, (missing, _divergence(diverged)))
    return Comparison(mean, low, high, verdict, n, "; ".join(limits))


def _no_interval(differences: Double, blind: bool, scale: float) -> str:
    if len(differences) < 2:
        return "one seed gives no interval"
    if blind:
        return "the control gives the same on every seed: the program ignores them"
    if not differences.any():
        return "the same as the control to the last bit"
    if np.ptp(differences) <= ROUNDING * scale:
        return "the same difference on every seed, so no spread to judge by"
    return ""


def _verdict(one: float, other: float) -> str:
    if max(one, other) < 0:
        return BETTER
    return WORSE if min(one, other) > 0 else UNDECIDED


def _divergence(diverged: npt.NDArray[np.bool_]) -> str:
    return f"diverged on {diverged.sum()} of {len(diverged)} seeds" if diverged.any() else ""
