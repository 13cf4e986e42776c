"""What was watched, what it cost, and by which thresholds it was judged."""

from __future__ import annotations

from flatline.diagnose import states
from flatline.diagnose.certainty import ALPHA, CERTAIN_EXAMPLES
from flatline.diagnose.thresholds import DEFAULT, meaning
from flatline.show.plain import version
from flatline.show.report import Report
from flatline.show.text import NAME, clean, count, duration, number, percent

#: Below this a run's cost of watching may be that of its first exams.
SHORT_SECONDS = 120.0


def title(report: Report) -> str:
    """What was watched: its name, its id, and how it ended."""
    run = report.run
    if report.kind == "examination":
        return f"examination of {clean(run.get('name') or 'a model', NAME)}"
    name = clean(run.get("name") or "run", NAME)
    parts = [f"{name} ({clean(run['id'], NAME)})" if run.get("id") else name]
    status = run.get("status") or "running"
    step = count(int(run.get("steps") or 0), "step")
    parts.append(
        {
            "failed": f"the program failed after {step}",
            "interrupted": f"interrupted after {step}",
            "running": f"running, {step} so far",
        }.get(str(status), step)
    )
    return " · ".join(parts)


def facts(report: Report) -> str:
    """Size of the run."""
    run = report.run
    parts = []
    if run.get("examples"):
        parts.append(count(int(run["examples"]), "example"))
    if run.get("seconds") is not None:
        parts.append(duration(float(run["seconds"])))
    if run.get("device"):
        parts.append(clean(run["device"], NAME))
    if int(run.get("world_size") or 1) > 1:
        parts.append(count(int(run["world_size"]), "process", "processes"))
    if treatments := run.get("treatments") or ():
        parts.append("treated with " + ", ".join(clean(one, NAME) for one in treatments))
    return " · ".join(parts)


def watching(report: Report) -> str:
    """What the watching cost beside its budget; empty where nobody measured it."""
    overhead = report.run.get("overhead") or {}
    measured, budget = overhead.get("measured"), overhead.get("budget")
    if report.kind == "examination" or measured is None:
        return ""
    exams = count(int(overhead.get("exams") or 0), "exam")
    share = percent(float(measured))
    if budget is None:
        return f"watching took {share} of the time ({exams})"
    if measured <= budget:
        return f"watching took {share} of the time, within its {percent(float(budget))} ({exams})"
    spent, seconds = overhead.get("spent"), float(report.run.get("seconds") or 0)
    if not spent or not budget or seconds > SHORT_SECONDS:
        return f"watching took {share} of the time, over its {percent(float(budget))} ({exams})"
    return (
        f"watching took {duration(float(spent))} ({exams}), {share} of this short training: the "
        f"first exams have a fixed cost, within the budget of {percent(float(budget))} from "
        f"{duration(float(spent) / float(budget))} on"
    )


def details(report: Report) -> list[tuple[str, str]]:
    """All that is known about the run, as names and values."""
    run = report.run
    overhead = run.get("overhead") or {}
    steps = [step for step, _ in report.exams]
    known = [
        ("run", f"{clean(run['name'], NAME)}" if run.get("name") else ""),
        ("id", clean(run.get("id") or "", NAME)),
        ("status", clean(run.get("status") or "", NAME)),
        ("program", clean(" ".join(map(str, run.get("argv") or ())), 4 * NAME)),
        ("started", clean(run.get("started") or "", NAME)),
        ("steps", f"{int(run.get('steps') or 0):,}"),
        ("examples", f"{int(run.get('examples') or 0):,}"),
        ("took", duration(float(run["seconds"])) if run.get("seconds") is not None else ""),
        ("device", clean(run.get("device") or "", NAME)),
        ("processes", f"{int(run.get('world_size') or 1):,}"),
        ("treatments", ", ".join(clean(one, NAME) for one in run.get("treatments") or ())),
        ("exams", f"{len(steps):,}, the last at step {steps[-1]:,}" if steps else ""),
        ("budget", percent(float(overhead["budget"])) if overhead.get("budget") else ""),
        ("watching took", _cost(overhead)),
        ("torch", clean(run.get("torch") or "", NAME)),
        ("flatline", version()),
    ]
    return [(name, value) for name, value in known if value]


def _cost(overhead: dict[str, float]) -> str:
    if overhead.get("measured") is None:
        return ""
    spent = f", {duration(float(overhead['spent']))}" if overhead.get("spent") else ""
    return f"{percent(float(overhead['measured']))} of the time{spent}"


def judged(report: Report) -> str:
    """The thresholds that are not the default; empty where all are.

    Example:
        >>> from flatline.diagnose.thresholds import Thresholds
        >>> judged(Report(thresholds=Thresholds(warning_share=0.1)))
        'judged with warning_share = 0.1 (default 0.05)'
    """
    changed = report.thresholds.changed()
    said = [
        f"{name} = {number(value)} (default {number(getattr(DEFAULT, name))})"
        for name, value in changed.items()
    ]
    return f"judged with {', '.join(said)}" if said else ""


def thresholds(report: Report) -> list[tuple[str, str]]:
    """What a unit or a site had to reach to be called something; then all that is not default."""
    limits = report.thresholds
    warning, critical = percent(limits.warning_share), percent(limits.critical_share)
    return [
        (
            "dead, for certain",
            f"silent on at least {CERTAIN_EXAMPLES} examples: it fires on less than 1% of them, "
            f"at {1 - ALPHA:.0%} confidence",
        ),
        ("saturated", f"flat on at least {percent(states.SATURATED_SHARE)} of the examples"),
        ("constant", f"range at most {states.CONSTANT_RANGE:g} of the site's typical output"),
        ("dormant", f"mean output at most {percent(states.DORMANT_SCORE)} of the site's"),
        (
            "starved",
            f"updates below {states.STARVED_UPDATE:g} of the weights, and a gradient below "
            f"{states.STARVED_GRADIENT:g} of the largest",
        ),
        ("a warning", f"from {warning} of a site's units"),
        (
            "critical",
            f"from {critical} of a hidden site of at least {limits.critical_units} units, or "
            "when nothing passes the site",
        ),
        *(
            (
                f"{name}, changed",
                f"{number(value)}, by default {number(getattr(DEFAULT, name))}: {meaning(name)}",
            )
            for name, value in limits.changed().items()
        ),
    ]
