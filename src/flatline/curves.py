"""Formulas of smooth nonlinearities, and where the slope of a formula is small."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Function = Callable[[Array], Array]
Interval = tuple[float, float]

#: Of numbers one by one: SciPy's would bring 13 MB into every training with GELU.
_erfc = np.frompyfunc(math.erfc, 1, 1)

#: A unit of a smooth activation fires where its slope exceeds this share of the largest slope.
SLOPE_FLOOR = 0.01
INF = math.inf


def gelu(z: Array) -> Array:
    """Hendrycks & Gimpel (2016), by the error function."""
    return np.asarray(0.5 * z * _erfc(-z / math.sqrt(2)).astype(np.float64))


def gelu_tanh(z: Array) -> Array:
    """The approximation of GELU by a tanh."""
    return np.asarray(0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))))


def sigmoid(z: Array) -> Array:
    """``1 / (1 + exp(-z))``, to the last digits in both tails."""
    return np.asarray(np.exp(logsigmoid(z)))


def softplus(z: Array) -> Array:
    """``log(1 + exp(z))``."""
    return np.logaddexp(0.0, z)


def logsigmoid(z: Array) -> Array:
    """``-log(1 + exp(-z))``."""
    return -np.logaddexp(0.0, -z)


def mish(z: Array) -> Array:
    """Misra (2019)."""
    return z * np.tanh(softplus(z))


def silu(z: Array) -> Array:
    """The sigmoid-weighted linear unit, also known as swish."""
    return np.asarray(z * sigmoid(z))


def quick_gelu(z: Array) -> Array:
    """The approximation of GELU by a sigmoid."""
    return np.asarray(z * sigmoid(1.702 * z))


def softsign(z: Array) -> Array:
    """``z / (1 + |z|)``."""
    return np.asarray(z / (1 + np.abs(z)))


def hardswish(z: Array) -> Array:
    """Howard et al. (2019)."""
    return np.asarray(z * np.clip(z / 6 + 0.5, 0.0, 1.0))


def _slope(function: Function, z: Array) -> Array:
    """Central difference; exact to about 1e-10, far below the 1 % that it is compared with."""
    step = 1e-5
    return (function(z + step) - function(z - step)) / (2 * step)


def steep(function: Function) -> tuple[Interval, ...]:
    """Intervals on which ``|φ'|`` exceeds 1 % of its maximum, to about 1e-7.

    Args:
        function: φ, with all that happens to its slope between -120 and 120.

    Example:
        >>> [(round(low, 3), round(high, 3)) for low, high in steep(np.tanh)]
        [(-2.993, 2.993)]
    """
    grid = np.linspace(-120.0, 120.0, 240_001)
    slope = np.abs(_slope(function, grid))
    floor = SLOPE_FLOOR * slope.max()

    def above(z: float) -> bool:
        return bool(abs(_slope(function, np.array([z]))[0]) > floor)

    found = slope > floor
    ends = [-INF] if found[0] else []
    for i in np.flatnonzero(found[1:] != found[:-1]):
        low, high = float(grid[i]), float(grid[i + 1])
        inside = above(low)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if above(middle) == inside else (low, middle)
        ends.append((low + high) / 2)
    if found[-1]:
        ends.append(INF)
    return tuple(zip(ends[::2], ends[1::2], strict=True))


def beyond(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """The flat tails outside ``intervals``.

    Example:
        >>> beyond(((0.0, 6.0),))
        ((-inf, 0.0), (6.0, inf))
    """
    tails = ((-INF, intervals[0][0]), (intervals[-1][1], INF))
    return tuple(tail for tail in tails if tail[0] != tail[1])
