"""Intervals over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A number with its interval.

    Attributes:
        value: The mean over seeds.
        low: The lower end.
        high: The upper end.
        seeds: How many seeds it rests on; one has no interval, and ``low`` and ``high`` are it.
    """

    value: float
    low: float
    high: float
    seeds: int


def of_mean(values: Sequence[float]) -> Interval:
    """The mean with its 95 % interval by Student's t.

    Example:
        >>> found = of_mean([1.0, 2.0, 3.0])
        >>> round(found.low, 3), found.value, round(found.high, 3)
        (-0.484, 2.0, 4.484)
    """
    mean, n = _mean(values), len(values)
    if n < 2 or not math.isfinite(mean):
        return Interval(mean, mean, mean, n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def of_range(values: Sequence[float]) -> Interval:
    """The mean with the least and the greatest value."""
    mean = _mean(values)
    if math.isnan(mean):
        return Interval(mean, mean, mean, len(values))
    return Interval(mean, min(values), max(values), len(values))


def _mean(values: Sequence[float]) -> float:
    """The mean; exact where all values are equal."""
    return values[0] if len({*values}) == 1 else math.fsum(values) / len(values)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one of the two does not vary.

    Example:
        >>> round(rank_correlation([1, 2, 3, 4], [10, 20, 20, 80]), 3)
        0.949
        >>> rank_correlation([1, 2, 3], [5, 5, 5])
        0.0
    """
    if len({*x}) == 1 or len({*y}) == 1:
        return 0.0
    from scipy.stats import rankdata

    return statistics.correlation(rankdata(x).tolist(), rankdata(y).tolist())
