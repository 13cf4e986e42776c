"""What the training was like around a step: learning rate, gradient, loss, exams."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from flatline.sense.history import History

Double = npt.NDArray[np.float64]
Long = npt.NDArray[np.int64]
Steps = npt.NDArray[np.generic]

#: Steps before a step whose median says what a gradient or a loss usually was.
TRAIL = 50
#: Steps that a median needs before anything can stand out against it.
ENOUGH = 5
#: Steps before the fatal one in which a spike may have set it off: momentum carries it on.
REACH = 3

_NONE: Mapping[str, float] = {}


class Context:
    """Answers questions about the steps and exams of one history, many at once.

    Args:
        history: The history.
    """

    def __init__(self, history: History) -> None:
        steps = history.steps
        self._examined = np.array([step for step, _ in history.exams], np.int64)
        self._exams = [exam for _, exam in history.exams]
        self._shrunk: dict[float, Double] = {}
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
        first = np.maximum(after.astype(np.int64) - REACH, 0)
        return self._ratios.largest(first, until.astype(np.int64))

    @cached_property
    def _ratios(self) -> Peaks:
        with np.errstate(invalid="ignore", divide="ignore"):
            return Peaks(self._gradient / trailing(self._gradient))

    def loss_ratio(self, after: Steps, until: Steps) -> Double:
        """Loss at the first silent step, in medians of the losses before."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = _take(self._loss, until) / _take(self._usual_loss, after + 1)
        return np.where(np.isfinite(ratio), ratio, np.nan)

    @cached_property
    def _usual_loss(self) -> Double:
        usual = trailing(np.append(self._loss, np.nan))
        return np.where(usual > 0, usual, np.nan)

    def largest(self, site: str, measure: str, first: Steps, last: Steps) -> Double:
        """Largest value of a site's measure at the exams of ``[first, last]``; NaN for none."""
        return _between(*self._measure(site, measure), first, last)

    def data_shift(self, first: Steps, last: Steps) -> Double:
        """Largest change of the means of any data, at the exams of ``[first, last]``."""
        return _between(*self._data_shifts, first, last)

    @cached_property
    def _data_shifts(self) -> tuple[Long, Double]:
        """Steps of exams, and the largest change at any site."""
        shifts = [
            max((one.get("data_shift", np.nan) for one in exam.values()), default=np.nan, key=_rank)
            for exam in self._exams
        ]
        value = np.array(shifts, np.float64)
        known = np.isfinite(value)
        return self._examined[known], value[known]

    def decayed(self, site: str, step: Steps) -> Double:
        """Factor by which weight decay alone has shrunk the site's weights before each step.

        It is the product of 1 − lr·λ, as SGD and decoupled decay apply it; the decay that Adam
        takes into its gradient does not act so and counts as unknown.
        """
        last = (exam.get(site, _NONE).get("decay", np.nan) for exam in reversed(self._exams))
        rate = next((decay for decay in last if np.isfinite(decay)), np.nan)
        if np.isnan(rate):
            return np.full(len(step), np.nan)
        if rate not in self._shrunk:
            lr = np.where(np.isfinite(self._lr), self._lr, 0.0)
            logs = np.log1p(-np.clip(lr * rate, 0, 0.999999))
            self._shrunk[rate] = np.exp(np.concatenate([[0.0], np.cumsum(logs)]))
        whole = self._shrunk[rate]
        return np.asarray(whole[np.clip(step.astype(np.int64), 0, len(whole) - 1)])

    def _measure(self, site: str, name: str) -> tuple[Long, Double]:
        """Exams at which a site's measure was taken, and its values."""
        value = np.array([exam.get(site, _NONE).get(name, np.nan) for exam in self._exams])
        known = np.isfinite(value)
        return self._examined[known], value[known]


class Peaks:
    """Largest values of parts of a series, of any part at once.

    Keeps the largest values of all parts whose length is a power of two: any part is covered by two
    of them.

    Args:
        values: The series; what is not finite counts as missing.
    """

    def __init__(self, values: Double) -> None:
        level = np.where(np.isfinite(values), values, -np.inf).astype(np.float32)
        self._levels = [level]
        while len(level) > 1 << (len(self._levels) - 1):
            half = 1 << (len(self._levels) - 1)
            level = level.copy()
            level[:-half] = np.maximum(level[:-half], self._levels[-1][half:])
            self._levels.append(level)

    def largest(self, start: Long, stop: Long) -> Double:
        """The largest value of each ``[start, stop)``; NaN where there is none.

        Example:
            >>> Peaks(np.array([3.0, 1.0, 2.0])).largest(np.array([0, 1, 2]), np.array([2, 3, 2]))
            array([ 3.,  2., nan])
        """
        size = len(self._levels[0])
        start, stop = np.clip(start, 0, size), np.clip(stop, 0, size)
        found = np.full(len(start), -np.inf)
        length = stop - start
        log = np.full(len(length), -1)
        log[length > 0] = np.frexp(length[length > 0])[1] - 1
        for power in np.unique(log[log >= 0]):
            rows = np.flatnonzero(log == power)
            level = self._levels[power]
            last = stop[rows] - (1 << int(power))
            found[rows] = np.maximum(level[start[rows]], level[last])
        return np.where(np.isfinite(found), found, np.nan)


def _rank(value: float) -> float:
    """NaN below all numbers."""
    return value if value == value else -np.inf


def _between(step: Long, value: Double, first: Steps, last: Steps) -> Double:
    """Largest value at the steps of each ``[first, last]``; NaN for none, and where not known."""
    found = np.full(len(first), np.nan)
    known = np.isfinite(first.astype(np.float64)) & np.isfinite(last.astype(np.float64))
    if len(step) and known.any():
        start = np.searchsorted(step, first[known], side="left")
        stop = np.searchsorted(step, last[known], side="right")
        found[known] = Peaks(value).largest(start, stop)
    return found


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


def trailing(values: Double) -> Double:
    """For each value the median of those before it.

    Of all of them for the first 50, then of the 50 that end with a whole block of 25. NaN where
    fewer than :data:`ENOUGH` of them are finite.

    Example:
        >>> float(trailing(np.array([1.0] * 25 + [9.0]))[-1])
        1.0
    """
    size = TRAIL // 2
    blocks = max(1, -(-len(values) // size))
    padded = np.full((blocks + 2) * size, np.nan)
    padded[2 * size :][: len(values)] = np.where(np.isfinite(values), values, np.nan)
    before = np.lib.stride_tricks.sliding_window_view(padded, TRAIL)
    found = np.repeat(_medians(before[::size][:blocks]), size)
    found[:TRAIL] = _medians(before[: min(TRAIL, blocks * size)])
    return found[: len(values)]


def _medians(rows: Double) -> Double:
    """Median of each row, NaN left out; NaN where too few are left."""
    enough = (~np.isnan(rows)).sum(axis=1) >= ENOUGH
    found = np.full(len(rows), np.nan)
    found[enough] = np.nanmedian(rows[enough], axis=1)
    return found
