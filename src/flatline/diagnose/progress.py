"""Whether the loss went anywhere, robust against the noise of single batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flatline.sense.history import Steps

Double = npt.NDArray[np.float64]

#: Steps below which nothing is said about the course of a loss.
ENOUGH = 20
#: Steps at the beginning whose median is where the loss started.
_START = 10
#: Part of the steps that the end, and each part between, is judged by.
_PART = 0.1
#: Part of the start by which a loss must fall at least to have moved.
_LEAST = 0.05
#: Part of the loss of a guess by which one that is no better than it may differ.
_SAME = 0.02
#: Part of what was gained whose loss makes a relapse.
_RELAPSE = 0.5


@dataclass(frozen=True)
class Progress:
    """The course of a loss.

    Attributes:
        first: Median loss over the first steps, at most ten.
        last: Median loss over the last tenth of the steps.
        best: Smallest median over any tenth.
        noise: Median absolute deviation of the loss within a tenth of the steps.
        steps: Number of steps with a loss that is a number.
        waited: Part of the steps before the loss was first clearly below its beginning.
        leap: Largest loss of the next steps, at most nine, in that of the very first.
        pace: Fall from the second to the last quarter, in that from the first to the third: 1 for a
            straight line, 0 for a loss that has settled.
        nonfinite: First step whose loss was infinite; -1 for none.
        guess: Loss of whoever guesses by the frequencies of the targets at best; NaN if unknown.
    """

    first: float
    last: float
    best: float
    noise: float
    steps: int
    waited: float = 0.0
    leap: float = 1.0
    pace: float = 0.0
    nonfinite: int = -1
    guess: float = math.nan

    @property
    def known(self) -> bool:
        """Whether the course can be judged at all."""
        return self.steps >= ENOUGH

    @property
    def gained(self) -> float:
        """Decrease from the beginning to the best, relative to the beginning.

        Example:
            >>> Progress(first=2.0, last=1.0, best=0.5, noise=0.1, steps=99).gained
            0.75
        """
        return (self.first - self.best) / max(abs(self.first), 1e-30)

    @property
    def fell(self) -> bool:
        """Whether the loss was ever clearly below its beginning."""
        return self.first - self.best > _least(self.first, self.noise)

    @property
    def moved(self) -> bool:
        """Whether the loss fell, and not just to that of a guess.

        A loss far above that of a guess may hold a penalty, and says nothing about it.
        """
        return self.fell and not abs(self.best - self.guess) <= _SAME * self.guess

    @property
    def stuck(self) -> bool:
        """Whether it is known and never moved."""
        return self.known and not self.moved

    def stood_still(self, part: float) -> bool:
        """Whether it never moved, or not for such a part of the steps."""
        return self.stuck or (self.known and self.waited >= part)

    @property
    def relapsed(self) -> bool:
        """Whether it ended far above where it once was, or rose from the start."""
        if not self.known:
            return False
        rose = self.last - self.best
        gain = max(self.first - self.best, _LEAST * abs(self.first))
        return rose > max(_RELAPSE * gain, 3 * self.noise)

    @property
    def failed(self) -> bool:
        """Whether the training did not do what it is for: lower the loss, and keep it low."""
        return self.stuck or self.relapsed or self.nonfinite >= 0


def progress(steps: Steps, guess: float = math.nan) -> Progress:
    """The course of the loss.

    Args:
        steps: Readings of the steps.
        guess: Loss of whoever guesses by the frequencies of the targets at best; NaN if unknown.

    Example:
        >>> rows = [(step, 1.0 / (step + 1), 0.1, None) for step in range(100)]
        >>> progress(Steps.of(rows)).moved
        True
    """
    loss = steps.loss[~np.isnan(steps.loss)]
    bad = steps.step[np.isinf(steps.loss)]
    finite = loss[np.isfinite(loss)]
    nonfinite = int(bad[0]) if len(bad) else -1
    if not len(finite):
        return Progress(np.nan, np.nan, np.nan, np.nan, 0, nonfinite=nonfinite)
    parts = _parts(finite)
    middles = np.array([np.median(part) for part in parts])
    noise = float(np.median([np.median(np.abs(part - np.median(part))) for part in parts]))
    first = float(np.median(finite[: min(_START, len(parts[0]))]))
    below = first - middles > _least(first, noise)
    return Progress(
        first=first,
        last=float(middles[-1]),
        best=float(middles.min()),
        noise=noise,
        steps=len(finite),
        waited=float(np.argmax(below) / len(below)) if below.any() else 1.0,
        leap=_leap(finite),
        pace=_pace(finite),
        nonfinite=nonfinite,
        guess=guess,
    )


def _leap(loss: Double) -> float:
    """The largest loss of the first updates, in that before any; 1 where none is larger."""
    opening, most = float(loss[0]), float(loss[:_START].max())
    return most / opening if most > opening > 0 else 1.0


def _pace(loss: Double) -> float:
    """How far a loss falls from the second quarter on, in how far it fell until the third."""
    if len(loss) < ENOUGH:
        return 0.0
    one, two, three, four = (float(part.mean()) for part in np.array_split(loss, 4))
    return (two - four) / (one - three) if one > three else 0.0


def _least(first: float, noise: float) -> float:
    """By how much a loss must fall to be clearly below its beginning."""
    return max(2 * noise, _LEAST * abs(first))


def _parts(loss: Double) -> list[Double]:
    size = max(1, round(_PART * len(loss)))
    return [loss[start : start + size] for start in range(0, len(loss) - size + 1, size)]
