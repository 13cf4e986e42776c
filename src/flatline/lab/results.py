"""What came out, as JSON has it and as every page says it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from flatline.lab.experiment import Check, Experiment, Outcome
from flatline.lab.runner import Result
from flatline.show.plain import version
from flatline.show.text import count, measured

Row = dict[str, Any]


def listing(experiments: Iterable[Experiment]) -> Row:
    """What there is, as ``flatline lab list --json`` gives it."""
    return _document([{"id": one.id, "claim": one.claim} for one in experiments])


def document(results: Iterable[Result]) -> Row:
    """What came out, as ``flatline lab run --json`` gives it."""
    return _document([row(one) for one in results])


def _document(experiments: list[Row]) -> Row:
    head = {"schema": "flatline/1", "kind": "lab", "flatline": version()}
    return {**head, "experiments": experiments}


def row(result: Result) -> Row:
    """One experiment of the document."""
    judged = result.judged
    evidence: Row = {"skipped": result.skipped} if result.skipped else {}
    if result.measurements:
        evidence = {
            "seeds": len(result.measurements),
            "checks": [_check(one) for one in judged.outcomes],
            "conditions": judged.conditions,
        }
    return {
        "id": result.experiment.id,
        "claim": result.experiment.claim,
        "verdict": judged.verdict,
        "evidence": evidence,
        "seconds": round(result.seconds, 3),
    }


def _check(outcome: Outcome) -> Row:
    interval = outcome.interval
    return {
        "says": outcome.check.says,
        "role": outcome.check.role,
        "bounds": [outcome.check.low, outcome.check.high],
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "holds": outcome.holds,
    }


def shown(outcome: Outcome) -> str:
    """What was measured, with its interval where there is one."""
    found = outcome.interval
    value, low, high = map(_short, (found.value, found.low, found.high))
    if found.seeds < 2:
        return value
    return f"{value} ± 0" if low == value == high else f"{value} [{low}, {high}]"


def bounds(check: Check) -> str:
    """What a criterion allows."""
    low, high = (_short(end) for end in (check.low, check.high))
    if check.low == check.high:
        return f"= {low}"
    if math.isinf(check.low):
        return f"≤ {high}"
    return f"≥ {low}" if math.isinf(check.high) else f"{low} to {high}"


def rests_on(result: Result) -> str:
    """What a verdict rests on."""
    if not result.measurements:
        return result.skipped
    if len(result.measurements) == 1:
        return "1 seed, so no interval: a verdict on one draw"
    return f"{count(len(result.measurements), 'seed')}, with the 95 % interval of the mean"


def remarks(result: Result) -> list[str]:
    """What a reader of the verdict must know: conditions, failed checks, why it was skipped."""
    if result.skipped:
        return [f"skipped, {result.skipped}"]
    judged = result.judged
    failed = [
        f"{_failure(one)} that {one.check.says}: {shown(one)}"
        for one in judged.outcomes
        if not one.holds and one.check.role == "claim"
    ]
    wrong = [
        f"flatline is wrong here; expected that {one.check.says}: {shown(one)}"
        for one in judged.outcomes
        if not one.holds and one.check.role == "tool"
    ]
    return [*judged.conditions, *failed, *wrong]


def _failure(outcome: Outcome) -> str:
    """A mean inside the bounds whose interval is not is no proof of the contrary."""
    inside = outcome.check.low <= outcome.interval.value <= outcome.check.high
    return "too few seeds show" if inside and not outcome.check.each else "it does not hold"


def _short(value: float) -> str:
    return measured(value) or "not a number"
