"""What is asked of a network and what it can answer: its loss, last nonlinearity and targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from flatline.anatomy.ending import Ending
from flatline.sense.sketch import Numbers, Sketch

Evidence = dict[str, Any]

#: Targets of this value are left out by torch's classification losses.
IGNORED = -100
#: More kinds of targets than this are no classes.
CLASSES = 4096
#: Sums of shares differ from 1 by no more.
ROUNDING = 1e-2
#: Exams whose numbers are noted in any case.
FIRST = 3
_TARGETS = (
    *("target_integer", "target_low", "target_high", "target_classes", "target_spread"),
    "target_off_one",
)
_STRUCTURE = ("op", "last", "own", "width", "scaled", "broadcast")


class LossSide:
    """Describes how the network ends, and keeps the range of all targets seen."""

    def __init__(self) -> None:
        self._exams = 0
        self._noted: Evidence = {}

    @np.errstate(all="ignore")  # numbers of a training that diverges are out of range
    def describe(self, ending: Ending) -> Evidence | None:
        """The evidence of the note ``"loss"``; ``None`` where nothing new was seen."""
        found = _structure(ending) | _outputs(_numbers(ending.output))
        found |= _targets(_numbers(ending.target))
        same = all(self._noted.get(name) == found[name] for name in _STRUCTURE)
        if same:
            found |= _widened(self._noted, found)
        ranges = ("target_low", "target_high", "target_classes", "target_integer")
        news = not same or any(self._noted[name] != found[name] for name in ranges)
        self._exams += 1
        if not news and self._exams > FIRST:
            return None
        self._noted = found
        return found


def _structure(ending: Ending) -> Evidence:
    return {name: getattr(ending, name) for name in _STRUCTURE}


def _numbers(sketch: Sketch | None) -> Numbers | None:
    return None if sketch is None else sketch.numbers()


def _outputs(numbers: Numbers | None) -> Evidence:
    if numbers is None:
        return dict.fromkeys(("inputs", "output_low", "output_high", "output_spread"))
    return {
        "inputs": numbers.shape[0] if numbers.shape else None,
        "output_low": _finite(numbers.low),
        "output_high": _finite(numbers.high),
        "output_spread": _finite(numbers.spread),
    }


def _targets(numbers: Numbers | None) -> Evidence:
    if numbers is None:
        return dict.fromkeys(_TARGETS)
    rows = numbers.rows
    if numbers.whole and rows.shape[1] == 1:  # indices of classes
        rows = rows[rows[:, 0] != IGNORED]
    numbers = Numbers(numbers.shape, numbers.whole, rows)
    if not rows.size:
        return dict.fromkeys(_TARGETS)
    classes = numbers.distinct if numbers.integer else None
    return {
        "target_integer": numbers.integer,
        "target_low": _finite(numbers.low),
        "target_high": _finite(numbers.high),
        "target_classes": classes if classes is not None and classes <= CLASSES else None,
        "target_spread": _finite(numbers.spread),
        "target_off_one": _off_one(numbers),
    }


def _off_one(numbers: Numbers) -> float | None:
    """Share of rows of several targets that do not add up to 1; ``None`` where there are none."""
    rows = numbers.rows
    if len(numbers.shape) != 2 or rows.shape[1] < 2 or rows.shape[1] != numbers.shape[1]:
        return None
    return float(np.mean(np.abs(rows.sum(axis=1, dtype=np.float64) - 1) > ROUNDING))


def _widened(before: Mapping[str, Any], now: Evidence) -> Evidence:
    """The range of targets over all exams."""
    if before.get("target_low") is None or now["target_low"] is None:
        return {name: now[name] or before.get(name) for name in ("target_low", "target_high")}
    classes = (before["target_classes"], now["target_classes"])
    return {
        "target_low": min(before["target_low"], now["target_low"]),
        "target_high": max(before["target_high"], now["target_high"]),
        "target_integer": before["target_integer"] and now["target_integer"],
        "target_classes": None if None in classes else max(classes),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
