"""The life of one unit, or of a site's units together: what happened when, with its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flatline.diagnose.states import States
from flatline.sense.history import History

#: Everything that can happen, in the order in which it happens within one step.
EVENTS = ("born", "revived", "last fired", "died", "found silent", "now")
#: What exams call the changes that they find.
_TURNS = {"death": "found silent", "revival": "revived"}


@dataclass(frozen=True)
class Moment:
    """Something that happened to a unit, or to units of a site.

    Attributes:
        step: When; for what an exam found, the step of that exam.
        event: One of :data:`EVENTS`.
        evidence: Numbers that belong to it.
    """

    step: int
    event: str
    evidence: Mapping[str, Any]


def of_unit(
    states: States, unit: int, history: History, turns: Iterable[tuple[int, str]]
) -> tuple[Moment, ...]:
    """The life story of one unit, by rising step.

    Args:
        states: States of its site.
        unit: Its index.
        history: What the training went through.
        turns: Step and kind, ``"death"`` or ``"revival"``, of what exams found of this unit.
    """
    site = states.site.name
    row = history.autopsies[site].row(unit) if site in history.autopsies else None
    found = [Moment(step, _TURNS[kind], {}) for step, kind in turns if kind in _TURNS]
    if row is not None:
        found = [_with_numbers(moment, row) for moment in found]
    first = first_exam(history, site)
    if first is not None:
        begun = {"mean_z": row["z_first"], "spread_z": row["spread_first"]} if row else {}
        found.append(Moment(first, "born", _known(begun)))
    life, since = int(states.last_life[unit]), int(states.since_step[unit])
    if states.watched and life >= 0:
        found = [_before(life, moment) for moment in found]
        found.append(Moment(life, "last fired", {}))
    if since >= 0:
        exact = bool(states.since_exact[unit])
        found.append(Moment(since, "died", {"exact": exact, "after": life if life >= 0 else None}))
    found.append(Moment(_end(history), "now", _present(states, unit)))
    return _in_order(found)


def of_site(
    states: States, history: History, turns: Iterable[tuple[int, str, Sequence[int]]]
) -> tuple[Moment, ...]:
    """What happened to the units of a site, by rising step.

    Args:
        states: Their states.
        history: What the training went through.
        turns: Step, kind and units of what exams found.
    """
    found = [
        Moment(step, _TURNS[kind], {"units": len(units)})
        for step, kind, units in turns
        if kind in _TURNS
    ]
    first = first_exam(history, states.site.name)
    if first is not None:
        found.append(Moment(first, "born", {"units": states.site.units}))
    dead = states.since_step >= 0
    steps, which = np.unique(states.since_step[dead], return_inverse=True)
    vague = np.bincount(which, ~states.since_exact[dead], minlength=len(steps))
    numbers = np.bincount(which, minlength=len(steps))
    for step, number, some in zip(steps.tolist(), numbers.tolist(), vague, strict=True):
        found.append(Moment(step, "died", {"units": number, "exact": not some}))
    found.append(Moment(_end(history), "now", dict(states.counts())))
    return _in_order(found)


def first_exam(history: History, site: str) -> int | None:
    """The first exam that saw a site."""
    return next((step for step, sites in history.exams if site in sites), None)


def _end(history: History) -> int:
    """The last step of the run."""
    return max(int(history.facts.get("steps") or 0) - 1, 0)


def _with_numbers(moment: Moment, row: Mapping[str, float]) -> Moment:
    """The last death with where it left the unit; only of that one the numbers are kept."""
    if moment.event != "found silent" or moment.step != row["step"]:
        return moment
    now = {"mean_z": row["z_after"], "spread_z": row["spread_after"]}
    return Moment(moment.step, moment.event, _known(now))


def _before(life: int, moment: Moment) -> Moment:
    """A revival, which an exam may notice when the unit is silent again, while it still lived."""
    late = moment.event == "revived" and moment.step > life
    return Moment(life, moment.event, {"noticed": moment.step}) if late else moment


def _present(states: States, unit: int) -> dict[str, Any]:
    numbers = {
        "firing_rate": float(states.firing_rate[unit]),
        "firing_rate_upper": float(states.firing_rate_upper[unit]),
        "margin": float(states.margin[unit]),
    }
    known = {"state": states.state(unit), "certain": bool(states.certain[unit])}
    return {**known, "examples": int(states.examples[unit]), **_known(numbers)}


def _known(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _in_order(moments: Iterable[Moment]) -> tuple[Moment, ...]:
    return tuple(sorted(moments, key=lambda one: (one.step, EVENTS.index(one.event))))


@dataclass(frozen=True)
class Way:
    """How the mean pre-activation of a unit went from one exam to the one that found it silent.

    Attributes:
        start: The exam from which it is told.
        end: The exam that found it silent.
        z_start: Mean pre-activation at the start.
        z_end: Mean pre-activation at the end.
        spread_start: Standard deviation of z at the start.
        spread_end: Standard deviation of z at the end.
        bias: What the change of the bias added.
        weight: What the change of the weights added, on the inputs of the start.
        input: What the change of the inputs added, through the weights of the end.
    """

    start: int
    end: int
    z_start: float
    z_end: float
    spread_start: float
    spread_end: float
    bias: float
    weight: float
    input: float


def ways(history: History, site: str, unit: int) -> tuple[Way, ...]:
    """The last way of a unit into silence: since the exam before, and since the first one.

    Empty for a unit that no exam saw die.
    """
    row = history.autopsies[site].row(unit) if site in history.autopsies else None
    if row is None:
        return ()
    found = []
    for start, ends in (("before", ""), ("first", "_first")):
        terms = (row[f"{term}{ends}"] for term in ("bias", "weight", "input"))
        z, spread = row[f"z_{start}"], row[f"spread_{start}"]
        begin, end = int(row[start]), int(row["step"])
        found.append(Way(begin, end, z, row["z_after"], spread, row["spread_after"], *terms))
    return tuple(found if found[0].start != found[1].start else found[:1])
