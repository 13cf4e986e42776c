"""What a plot shows, apart from how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flatline.lab.intervals import of_mean

#: What one seed gives: numbers that checks ask for, and curves for the plot.
Numbers = dict[str, float | list[float]]
Measurements = Sequence[Mapping[str, float | list[float]]]
#: The bounds of a share.
SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Series:
    """A named line through points, with an interval at each.

    Attributes:
        name: What the legend says.
        x: Places, or indices into the plot's ``ticks``.
        y: Values.
        low: Lower ends of their intervals; the same as ``y`` where there is none.
        high: Upper ends.
        dashed: A line of theory, without points.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """Lines, or bars where the x axis has names.

    Attributes:
        title: What is seen, for readers who cannot see it too.
        x: Name of the x axis.
        y: Name of the y axis.
        series: What is drawn.
        ticks: Names along the x axis: bars are drawn.
        log_x: Whether the x axis is logarithmic.
        log_y: Whether the y axis is logarithmic.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    ticks: tuple[str, ...] = ()
    log_x: bool = False
    log_y: bool = False


def curve(
    name: str,
    x: Sequence[float],
    measurements: Measurements,
    key: str,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Series:
    """The mean over seeds of a measured curve, with its 95 % interval.

    Args:
        name: What the legend says.
        x: Places of its points; the curve may be shorter.
        measurements: One per seed.
        key: The curve's key.
        within: What values are possible: an interval ends there.
    """
    found = [
        of_mean(values) for values in zip(*(points(one[key]) for one in measurements), strict=True)
    ]
    return Series(
        name,
        tuple(x[: len(found)]),
        tuple(one.value for one in found),
        tuple(max(one.low, within[0]) for one in found),
        tuple(min(one.high, within[1]) for one in found),
    )


def line(name: str, x: Sequence[float], y: Sequence[float]) -> Series:
    """A line of theory."""
    return Series(name, tuple(x), tuple(y), dashed=True)


def bars(
    name: str,
    measurements: Measurements,
    keys: Sequence[str],
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Series:
    """One bar for each number, the mean over seeds with its 95 % interval."""
    curves = [{"bars": [number(one[key]) for key in keys]} for one in measurements]
    return curve(name, range(len(keys)), curves, "bars", within)


def points(value: float | list[float]) -> list[float]:
    """A curve.

    Raises:
        TypeError: It is a number.
    """
    if not isinstance(value, list):
        raise TypeError(f"expected a curve, found the number {value}; give the plot a curve")
    return value


def number(value: float | list[float]) -> float:
    """A number.

    Raises:
        TypeError: It is a curve.
    """
    if isinstance(value, list):
        raise TypeError(f"expected a number, found a curve of {len(value)} points; give a number")
    return float(value)
