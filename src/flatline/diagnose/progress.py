"""Whether the loss went anywhere, robust against the noise of single batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flatline.sense.history import Steps

#: Steps below which nothing is said about the course of a loss.
ENOUGH = 20
#: Part of the steps at either end that the beginning and the end are judged by.
_END = 0.1


@dataclass(frozen=True)
class Progress:
    """The course of a loss.

    Attributes:
        first: Median loss over the first tenth of the steps.
        last: Median loss over the last tenth.
        best: Smallest median over any tenth.
        noise: Median absolute deviation of the loss within a tenth of the steps.
        steps: Number of steps with a loss.
        nonfinite: First step whose loss was NaN or infinite; -1 for none.
    """

    first: float
    last: float
    best: float
    noise: float
    steps: int
    nonfinite: int

    @property
    def known(self) -> bool:
        """Whether the course can be judged at all."""
        return self.steps >= ENOUGH

    @property
    def gained(self) -> float:
        """Decrease from the beginning to the best, relative to the beginning.

        Example:
            >>> Progress(first=2.0, last=1.0, best=0.5, noise=0.1, steps=99, nonfinite=-1).gained
            0.75
        """
        return (self.first - self.best) / max(abs(self.first), 1e-30)

    @property
    def moved(self) -> bool:
        """Whether the loss fell by more than its noise and one part in a hundred."""
        fell = self.first - self.best
        return fell > max(self.noise, 0.01 * abs(self.first))

    @property
    def diverged(self) -> bool:
        """Whether the loss ended clearly above its beginning, or was no number any more."""
        rose = self.last - self.first
        return self.nonfinite >= 0 or rose > max(3 * self.noise, 0.5 * abs(self.first))


def progress(steps: Steps) -> Progress:
    """The course of the loss.

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
        return Progress(np.nan, np.nan, np.nan, np.nan, 0, nonfinite)
    parts = _parts(finite)
    middles = np.array([np.median(part) for part in parts])
    noise = np.median([np.median(np.abs(part - np.median(part))) for part in parts])
    return Progress(
        first=float(middles[0]),
        last=float(middles[-1]),
        best=float(middles.min()),
        noise=float(noise),
        steps=len(finite),
        nonfinite=nonfinite,
    )


def _parts(loss: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    size = max(1, round(_END * len(loss)))
    return [loss[start : start + size] for start in range(0, len(loss) - size + 1, size)]
