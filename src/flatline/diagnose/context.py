"""What the training was like around a step: learning rate, gradient, loss, exams."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from flatline.sense.history import History

Double = npt.NDArray[np.float64]
Steps = npt.NDArray[np.generic]

#: Steps before a step whose median says what a gradient or a loss usually was.
TRAIL = 50
#: Steps that a median needs before anything can stand out against it.
ENOUGH = 5
#: Steps before the fatal one in which a spike may have set it off: momentum carries it on.
REACH = 3
#: Steps of one interval that are looked at; longer ones are sampled by their largest gradients.
_LONGEST = 256


class Context:
    """Answers questions about the steps and exams of one history, many at once.

    Args:
        history: The history.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        steps = history.steps
        self._lr = _by_step(steps.step, steps.lr)
        self._loss = _by_step(steps.step, steps.loss)
        self._gradient = _by_step(steps.step, steps.gradient)

    def lr(self, step: Steps) -> Double:
        """Learning rate of the update of each step; NaN where not known."""
        return _take(self._lr, step)

    def gradient_ratio(self, after: Steps, until: Steps) -> Double:
        """Largest gradient norm of updates in ``[after, until)``, in medians of the steps before.

        Args:
            after: Last step on which a unit showed life.
            until: First step on which it was silent.
        """
        return self._each(after, until, self._spike)

    def loss_ratio(self, after: Steps, until: Steps) -> Double:
        """Loss at the first silent step, in medians of the losses before."""

        def jump(first: int, last: int) -> float:
            usual = _usual(self._loss, first + 1)
            return float(_take(self._loss, np.array([last]))[0] / usual) if usual > 0 else np.nan

        return self._each(after, until, jump)

    def _spike(self, first: int, last: int) -> float:
        window = self._gradient[max(first - REACH, 0) : last]
        if not np.isfinite(window).any():
            return np.nan
        start = max(first - REACH, 0)
        places = np.flatnonzero(np.isfinite(window))
        if len(places) > _LONGEST:
            places = places[np.argsort(window[places])[-_LONGEST:]]
        ratios = [
            window[place] / usual
            for place in places
            if (usual := _usual(self._gradient, start + int(place))) > 0
        ]
        return float(max(ratios, default=np.nan))

    @staticmethod
    def _each(after: Steps, until: Steps, find: Callable[[int, int], float]) -> Double:
        """``find(after, until)`` for every pair, each pair once."""
        pairs = np.stack([after.astype(np.int64), until.astype(np.int64)], axis=1)
        each, inverse = np.unique(pairs, axis=0, return_inverse=True)
        found = np.array([find(int(a), int(b)) for a, b in each], np.float64)
        return found[inverse.reshape(-1)]

    def largest(self, site: str, measure: str, first: Steps, last: Steps) -> Double:
        """Largest value of a site's measure at the exams of ``[first, last]``; NaN for none."""
        step, value = self._history.measure(site, measure)
        if not len(step):
            return np.full(len(first), np.nan)

        def most(low: int, high: int) -> float:
            inside = value[(step >= low) & (step <= high)]
            return float(inside.max()) if len(inside) else np.nan

        known = np.isfinite(first.astype(np.float64)) & np.isfinite(last.astype(np.float64))
        found = np.full(len(first), np.nan)
        found[known] = self._each(first[known], last[known], most)
        return found

    def decayed(self, site: str, step: Steps) -> Double:
        """Factor by which weight decay alone has shrunk the site's weights before each step.

        It is the product of 1 − lr·λ, as SGD and decoupled decay apply it; the decay that Adam
        takes into its gradient does not act so and counts as unknown.
        """
        exams, decay = self._history.measure(site, "decay")
        if not len(exams):
            return np.full(len(step), np.nan)
        lr = np.where(np.isfinite(self._lr), self._lr, 0.0)
        logs = np.log1p(-np.clip(lr * decay[-1], 0, 0.999999))
        total = np.concatenate([[0.0], np.cumsum(logs)])
        return np.asarray(np.exp(total[np.clip(step.astype(np.int64), 0, len(logs))]))


def _by_step(step: npt.NDArray[np.int64], value: Double) -> Double:
    """Values placed at their step; NaN between."""
    found = np.full(int(step.max()) + 1 if len(step) else 0, np.nan)
    found[step] = value
    return found


def _take(values: Double, step: Steps) -> Double:
    place = step.astype(np.int64)
    inside = (place >= 0) & (place < len(values))
    found = np.full(len(place), np.nan)
    found[inside] = values[place[inside]]
    return found


def _usual(values: Double, step: int) -> float:
    """The median over the steps before one; NaN where they are too few."""
    before = values[max(step - TRAIL, 0) : max(step, 0)]
    before = before[np.isfinite(before)]
    return float(np.median(before)) if len(before) >= ENOUGH else np.nan


def trailing(values: Double) -> Double:
    """For each value the median of those before it: the 25 to 50 that end with a whole block.

    NaN where fewer than :data:`ENOUGH` of them are finite.

    Example:
        >>> float(trailing(np.array([1.0] * 25 + [9.0]))[-1])
        1.0
    """
    size = TRAIL // 2
    blocks = max(1, -(-len(values) // size))
    padded = np.full((blocks + 2) * size, np.nan)
    padded[2 * size : 2 * size + len(values)] = np.where(np.isfinite(values), values, np.nan)
    before = np.lib.stride_tricks.sliding_window_view(padded, 2 * size)[::size][:blocks]
    known = (~np.isnan(before)).sum(axis=1) >= ENOUGH
    usual = np.full(blocks, np.nan)
    usual[known] = np.nanmedian(before[known], axis=1)
    return np.repeat(usual, size)[: len(values)]
