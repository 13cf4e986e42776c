"""Where the pre-activation of one unit lay at a few exams of its life."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flatline.activations import Activation
from flatline.sense.histogram import TOTAL, UNITS, Histograms, unpack
from flatline.sense.vitals import Int
from flatline.show.text import measured

#: Marks for the bins of a histogram in a line of text, by their height.
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
#: Exams of one unit that are shown, at least where there are so many.
EXAMS = 4


def tails(activation: Activation) -> str:
    """Where φ is flat, in words; empty where it is nowhere.

    Example:
        >>> from flatline import activations
        >>> tails(activations.get("relu")), tails(activations.get("leaky_relu"))
        ('z ≤ 0, where relu does not fire', '')
        >>> tails(activations.get("hardtanh"))
        'z ≤ −1 or z ≥ 1, where hardtanh is saturated'
    """
    (low, _), (_, high) = activation.fires[0], activation.fires[-1]
    flat = [f"z ≤ {measured(low)}"] if math.isfinite(low) else []
    flat += [f"z ≥ {measured(high)}"] if math.isfinite(high) else []
    pinned = len(flat) == len(activation.rails)
    what = "is saturated" if pinned else "does not fire"
    return f"{' or '.join(flat)}, where {activation.name} {what}" if flat else ""


def undrawn(activation: Activation, *, of_run: bool, of_site: bool) -> str:
    """Why there is no histogram of a unit.

    Args:
        activation: The activation of its site.
        of_run: There are some of other units of the run.
        of_site: There are some of other units of its site.
    """
    if not activation.shows_z:
        return "No histogram: its module shows no pre-activation, and z stands for its output."
    if of_site:
        return (
            f"No histogram: an exam draws those of {UNITS} units of a site and {TOTAL:,} in all, "
            "sick ones first, and this unit was not among them."
        )
    if of_run:
        return "No histogram: no exam drew one of this site."
    return "No histogram: what was seen was recorded without any."


@dataclass(frozen=True)
class Histogram:
    """The pre-activations of one unit in a sample of an exam's batch.

    Attributes:
        step: The exam.
        moments: What the exam is in the life of the unit; empty for one in between.
        low: The smallest value, where the first bin begins; ``None`` where none was finite.
        high: The largest, where the last one ends.
        lost: Values that were NaN or infinite.
        counts: Values in each bin; all bins are equally wide.
    """

    step: int
    moments: tuple[str, ...]
    low: float | None
    high: float | None
    lost: int
    counts: tuple[int, ...]


def bars(counts: Sequence[int], levels: str) -> str:
    """A histogram as one line of text, a column for each bin.

    Args:
        counts: Values in each bin.
        levels: From the mark of the least to that of the fullest bin; an empty one gets a space.

    Example:
        >>> bars([0, 1, 4, 8, 2], LEVELS)
        ' ▁▄█▂'
    """
    most = max(counts, default=0)
    return "".join(
        levels[-(-count * len(levels) // most) - 1] if count else " " for count in counts
    )


class Drawings:
    """The histograms of one site, unpacked when the first one is asked for.

    Args:
        packed: Step and packed histograms of each exam, by rising step.
    """

    def __init__(self, packed: Sequence[tuple[int, bytes]]) -> None:
        self._packed = packed

    @cached_property
    def _found(self) -> list[Histograms]:
        return [unpack(blob) for _, blob in self._packed]

    @cached_property
    def _places(self) -> tuple[Int, Int]:
        """Units by rising index, each as often as it was drawn, and the exams that did, rising."""
        units = np.concatenate([one.units for one in self._found])
        places = np.repeat(np.arange(len(self._found)), [len(one.units) for one in self._found])
        order = np.argsort(units, kind="stable")
        return units[order], places[order].astype(np.int32)

    def units(self, place: int) -> set[int]:
        """The units that an exam drew, counted from the first one, or from the last as -1."""
        return set(self._found[place].units.tolist())

    def of(self, unit: int, life: int = -1, since: int = -1) -> tuple[Histogram, ...]:
        """The first and the last exam that drew a unit, and those around its death.

        Where these are few, some in between are added.

        Args:
            unit: The unit.
            life: Last step on which it showed life; -1 for never.
            since: First step on which it was dead; -1 for a unit that lives.
        """
        if not self._packed:
            return ()
        units, places = self._places
        drawn = places[np.searchsorted(units, unit) : np.searchsorted(units, unit, "right")]
        steps = [self._packed[place][0] for place in drawn]
        moments = _moments(steps, life, since)
        chosen = sorted({*moments, *_between(len(steps), EXAMS - len(moments))})
        return tuple(self._at(drawn[index], unit, moments.get(index, ())) for index in chosen)

    def _at(self, place: int, unit: int, moments: Sequence[str]) -> Histogram:
        found = self._found[place]
        row = int(np.searchsorted(found.units, unit))
        low, high = (float(ends[row]) for ends in (found.low, found.high))
        known = math.isfinite(low)
        return Histogram(
            step=self._packed[place][0],
            moments=tuple(moments),
            low=low if known else None,
            high=high if known else None,
            lost=int(found.lost[row]),
            counts=tuple(found.counts[row].tolist()),
        )


def _moments(steps: Sequence[int], life: int, since: int) -> dict[int, list[str]]:
    """What some of these exams are in the life of a unit, by their place.

    Args:
        steps: The exams that drew it, rising.
        life: See :meth:`Drawings.of`.
        since: See there.
    """
    if not steps:
        return {}
    last = len(steps) - 1
    named = {0: ["first exam" if last else "only exam"]}
    if since >= 0:
        alive, dead = bisect_right(steps, life) - 1, bisect_left(steps, since)
        if alive >= 0:
            named.setdefault(alive, []).append("last alive")
        if dead <= last:
            named.setdefault(dead, []).append("first dead")
    if last:
        named.setdefault(last, []).append("last exam")
    return named


def _between(number: int, missing: int) -> Iterable[int]:
    """``missing`` places between the first and the last of ``number``, evenly spaced."""
    parts = range(1, missing + 1) if number else ()
    return (round((number - 1) * part / (missing + 1)) for part in parts)
