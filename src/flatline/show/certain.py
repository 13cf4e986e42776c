"""Sentences on how sure it is who is dead."""

from __future__ import annotations

from flatline.diagnose.certainty import ALPHA, CERTAIN_EXAMPLES, LONG, RATE
from flatline.diagnose.comeback import CLOSE
from flatline.diagnose.progress import ENOUGH
from flatline.show.report import Report
from flatline.show.text import count, number, percent


def sentences(report: Report) -> list[str]:
    """What the calls of dead units rest on, and what they exclude; nothing in a run too short.

    Args:
        report: The report.
    """
    found = report.certainty
    if not found.units or found.short:
        return []
    power = (
        f"a unit that fires on 1 in {found.one_in:,} or more would have been seen, at "
        f"{1 - ALPHA:.0%} confidence"
    )
    if not found.called:
        seen = f"Each unit was seen on at least {count(found.examples, 'example')}: {power}."
        return [seen, *_unexamined(report)]
    who = "The dead unit was" if found.called == 1 else f"Each of {found.called:,} dead units was"
    return [
        f"{who} silent on at least {count(found.examples, 'example')}: {power}.",
        f"Expected false calls: {_few(found.false_calls)}, if all of "
        f"{count(found.units, 'unit')} fired on {percent(RATE)} of examples.",
        *_exhausted(report),
        *_near(report),
        *_unexamined(report),
    ]


def _unexamined(report: Report) -> list[str]:
    """What a larger budget would have told."""
    number = report.certainty.unexamined
    if not number:
        return []
    who = "One more unit has" if number == 1 else f"{number:,} more units have"
    return [
        f"{who} had no gradient for the last {LONG} steps or more, and no exam has looked since: "
        "a larger --budget examines more often."
    ]


def _near(report: Report) -> list[str]:
    number = report.certainty.near
    if not number:
        return []
    return [
        f"{number:,} {'lies' if number == 1 else 'lie'} within {CLOSE:g} standard deviation of "
        "firing, in layers whose inputs still move: many such units come back by themselves."
    ]


def _few(expected: float) -> str:
    return "below 1e-9" if expected < 1e-9 else number(float(f"{expected:.2g}"))


def _exhausted(report: Report) -> list[str]:
    found = report.certainty
    if not found.exhausted or found.set_size is None:
        return []
    who = "All of them were" if found.exhausted == found.called else f"{found.exhausted:,} were"
    return [
        f"{'It was' if found.called == 1 else who} silent over a whole pass of the "
        f"{found.set_size:,} training examples, which is no sample: on this set the firing rate "
        "is 0."
    ]


def too_short(report: Report) -> str:
    """That no unit could be called dead, and what length would do."""
    found = report.certainty
    said = (
        f"Too short to call any unit dead: {count(found.most, 'example')} "
        f"{'was' if found.most == 1 else 'were'} seen, {CERTAIN_EXAMPLES} are needed"
    )
    if report.kind == "examination":
        return f"{said}; give more batches."
    if found.enough_steps is None:
        return f"{said}."
    said += f", which is {count(found.enough_steps, 'step')} of {found.batch:,}"
    if found.steps < ENOUGH:
        said += f"; the course of the loss is judged from {ENOUGH} steps on"
    return f"{said}."


def more(report: Report) -> str:
    """What would make sure of units that are silent so far; empty where that is not known."""
    found = report.certainty
    few = [unit.examples for unit in report.units if not unit.certain]
    if not few or not found.batch:
        return ""
    steps = -(-(CERTAIN_EXAMPLES - min(few)) // found.batch)
    return f"{count(steps, 'more step')} would do."
