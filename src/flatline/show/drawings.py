"""Where the pre-activation of one unit lay at a few exams of its life."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flatline.activations import Activation
from flatline.sense.histogram import TOTAL, UNITS, Histograms, unpack
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
    """The histograms of one site, unpacked where they are asked for.

    Args:
        packed: Step and packed histograms of each exam, by rising step.
    """

    def __init__(self, packed: Sequence[tuple[int, bytes]]) -> None:
        self._packed = packed
        self._unpacked: dict[int, Histograms] = {}

    def of(self, unit: int, life: int = -1, since: int = -1) -> tuple[Histogram, ...]:
        """The first and the last exam that drew a unit, and those around its death.

        Where these are few, some in between are added.

        Args:
            unit: The unit.
            life: Last step on which it showed life; -1 for never.
            since: First step on which it was dead; -1 for a unit that lives.
        """
        steps = [step for step, _ in self._packed]
        onward = range(len(steps))
        wanted: dict[str, Iterable[int]] = {"first exam": onward}
        if since >= 0:
            wanted["last alive"] = [place for place in reversed(onward) if steps[place] <= life]
            wanted["first dead"] = [place for place in onward if steps[place] >= since]
        wanted["last exam"] = reversed(onward)
        named: dict[int, list[str]] = {}
        for moment, places in wanted.items():
            place = next((one for one in places if self._row(one, unit) is not None), None)
            if place is not None:
                named.setdefault(place, []).append(moment)
        for moments in named.values():
            if moments[0] == "first exam" and moments[-1] == "last exam":
                moments[:] = ["only exam", *moments[1:-1]]
        chosen = sorted({*named, *self._between(named, unit)})
        return tuple(self._at(place, unit, named.get(place, ())) for place in chosen)

    def units(self, place: int) -> set[int]:
        """The units that an exam drew, counted from the first one, or from the last as -1."""
        return set(self._found(place % len(self._packed)).units.tolist())

    def _between(self, named: Mapping[int, object], unit: int) -> Iterable[int]:
        """Places between the first and the last, as many as are missing, evenly spaced."""
        missing = EXAMS - len(named)
        if not named or missing <= 0:
            return
        first, last = min(named), max(named)
        for part in range(1, missing + 1):
            place = first + round((last - first) * part / (missing + 1))
            if self._row(place, unit) is not None:
                yield place

    def _found(self, place: int) -> Histograms:
        if place not in self._unpacked:
            self._unpacked[place] = unpack(self._packed[place][1])
        return self._unpacked[place]

    def _row(self, place: int, unit: int) -> int | None:
        return self._found(place).row(unit)

    def _at(self, place: int, unit: int, moments: Sequence[str]) -> Histogram:
        found, row = self._found(place), self._row(place, unit)
        assert row is not None
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
