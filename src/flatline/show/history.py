"""What happened over the steps of a run: deaths in bins, their words, and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from flatline.show.report import Report, SiteReport
from flatline.show.text import count, named, number

Points = Sequence[tuple[int, float | None]]


@dataclass(frozen=True)
class Bins:
    """Equal parts of a run: part i holds ``size`` steps from step ``i * size`` on.

    Attributes:
        size: Steps in each.
        number: How many there are.
    """

    size: int
    number: int

    @classmethod
    def of(cls, report: Report, most: int) -> Bins:
        """At most ``most`` parts, which together hold every step and every death of the run."""
        steps = int(report.run.get("steps") or 0)
        last = max([steps, 1, *(step + 1 for step, _ in report.deaths)])
        size = math.ceil(last / most)
        return cls(size, math.ceil(last / size))

    def sums(self, deaths: Iterable[tuple[int, int]]) -> list[int]:
        """Deaths in each part."""
        sums = [0] * self.number
        for step, died in deaths:
            sums[step // self.size] += died
        return sums


def shares(site: SiteReport, bins: Bins) -> list[float]:
    """Share of a site's units that are dead now and were so by the end of each part."""
    dead = np.cumsum(bins.sums(site.deaths))
    return [float(share) for share in dead / max(site.units, 1)]


def deaths(report: Report) -> str:
    """How many units died, and when.

    Example:
        >>> deaths(Report(deaths=((0, 2), (7, 1), (9, 3))))
        'died: 2 before the first update, 4 from step 7 to 9, most at step 9 (3)'
    """
    born = sum(died for step, died in report.deaths if step == 0)
    later = [(step, died) for step, died in report.deaths if step > 0]
    parts = [f"{born:,} before the first update"] if born else []
    if later:
        first, last = later[0][0], later[-1][0]
        died = sum(died for _, died in later)
        when = f"at step {first:,}" if first == last else f"from step {first:,} to {last:,}"
        parts.append(f"{died:,} {when}")
        step, most = max(later, key=lambda pair: pair[1])
        if most > 1 and len(later) > 1:
            parts.append(f"most at step {step:,} ({most:,})")
    return "died: " + ", ".join(parts) if parts else ""


def courses(report: Report) -> list[str]:
    """For each metric, how it went, in one line.

    Example:
        >>> courses(Report(metrics={"loss": [(0, 2.5), (1, float("nan")), (2, 0.5)]}))
        ['loss: 2.5 at step 0, 0.5 at step 2; not finite at 1 step']
    """
    return [f"{named(name)}: {_course(points)}" for name, points in report.metrics.items()]


def _course(points: Points) -> str:
    values = [(step, v) for step, v in points if v is not None and math.isfinite(v)]
    values.sort(key=lambda point: point[0])
    gaps = len(points) - len(values)
    lost = f"not finite at {count(gaps, 'step')}" if gaps else ""
    if not values:
        return lost or "no value"
    (first, start), (last, end) = values[0], values[-1]
    low, high = min(values, key=_value), max(values, key=_value)
    if low[1] == high[1]:
        said = number(start) + (f" at step {first:,}" if first == last else " throughout")
    else:
        said = f"{number(start)} at step {first:,}, {number(end)} at step {last:,}"
        said += f", lowest {number(low[1])} at step {low[0]:,}" if low[1] < min(start, end) else ""
        said += (
            f", highest {number(high[1])} at step {high[0]:,}" if high[1] > max(start, end) else ""
        )
    return f"{said}; {lost}" if lost else said


def _value(point: tuple[int, float]) -> float:
    return point[1]


def thin(points: Points, most: int) -> tuple[list[int], list[float | None]]:
    """A metric with its peaks, in about so many points, by rising step.

    Args:
        points: Pairs of step and value.
        most: Parts of the series that each keep their lowest and their highest value; a part
            without any is kept as a gap.

    Example:
        >>> thin([(0, 1.0), (1, 9.0), (2, 3.0), (3, 2.0), (4, float("nan"))], 2)
        ([0, 1, 3], [1.0, 9.0, 2.0])
    """
    steps = np.array([step for step, _ in points], np.int64)
    values = np.array([math.nan if v is None else v for _, v in points], np.float64)
    values[~np.isfinite(values)] = math.nan
    order = np.argsort(steps, kind="stable")
    kept = order if len(order) <= 2 * most else np.array(_peaks(order, values, most))
    return steps[kept].tolist(), [None if math.isnan(v) else v for v in values[kept].tolist()]


def _peaks(order: np.ndarray, values: np.ndarray, most: int) -> list[int]:
    kept: list[int] = []
    for part in np.array_split(order, most):
        finite = part[~np.isnan(values[part])]
        if len(finite):
            pair = {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])}
            kept += [one for one in part.tolist() if one in pair]
        else:
            kept.append(int(part[0]))
    return kept
