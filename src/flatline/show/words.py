"""The words of a report, the same in the terminal and on the page.

Names come from the model and the program that were watched and may hold anything: whatever is
shown of them goes through :func:`clean`.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flatline.diagnose.certainty import CERTAIN_EXAMPLES
from flatline.diagnose.states import SICK, STATES
from flatline.diagnose.thresholds import DEFAULT
from flatline.show.report import Report, SiteReport, UnitReport

#: Silent units that were seen on too few examples: shown apart from the dead.
SO_FAR = "silent so far"
#: All kinds of units, the healthy first and what gives nothing last, as bars show them.
KINDS = (
    "healthy",
    "linear",
    "ignored",
    "dormant",
    "unvisited",
    "starved",
    "duplicate",
    "constant",
    "saturated",
    SO_FAR,
    "dead",
    "nonfinite",
)
NAME = 60  # characters of a name that are shown at most, where nothing else limits it


def clean(text: object, limit: int | None = None) -> str:
    r"""Text that stays on one line and cannot steer a terminal.

    Control characters, line ends, direction overrides and unpaired surrogates are written as
    Python writes them.

    Args:
        text: Any text.
        limit: Characters to keep, at most; the middle of what is longer is left out.

    Example:
        >>> clean("a\nb\x1b[31m")
        'a\\nb\\x1b[31m'
        >>> clean("abcdefghij", 7)
        'abc…hij'
    """
    shown = str(text)
    if limit is not None and len(shown) > limit:
        left = limit // 2
        shown = f"{shown[:left]}…{shown[len(shown) - (limit - left - 1) :]}"
    return "".join(
        repr(c)[1:-1] if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c
        for c in shown
    )


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "unit"), count(2_000, "unit")
        ('1 unit', '2,000 units')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(share: float) -> str:
    """A share with two digits, and never rounded to nothing.

    Example:
        >>> percent(0.416), percent(0.0004), percent(0.0), percent(1.0)
        ('42 %', '0.04 %', '0 %', '100 %')
    """
    return f"{share:.0%}"[:-1] + " %" if share >= 0.1 else f"{share * 100:.2g} %"


def split(site: SiteReport) -> dict[str, int]:
    """Number of units of each kind that occurs, in the order of :data:`KINDS`."""
    counts = dict(site.states)
    counts["dead"] = counts.get("dead", 0) - site.silent_so_far
    counts[SO_FAR] = site.silent_so_far
    return {kind: counts[kind] for kind in KINDS if counts.get(kind, 0) > 0}


def totals(report: Report) -> dict[str, int]:
    """Number of units of each kind in the whole model."""
    parts = [split(site) for site in report.sites]
    whole = {kind: sum(part.get(kind, 0) for part in parts) for kind in KINDS}
    return {kind: number for kind, number in whole.items() if number}


def listing(counts: dict[str, int]) -> str:
    """The kinds that are not healthy with their numbers, the most severe first.

    Example:
        >>> listing({"healthy": 9, "duplicate": 1, "dead": 30})
        '30 dead, 1 duplicate'
    """
    return ", ".join(f"{counts[k]:,} {k}" for k in _severest() if k in counts and k != "healthy")


def _severest() -> list[str]:
    """Kinds in the order of the states; what is only silent so far comes after what is sick."""
    first = [state for state in STATES if state in SICK]
    return [*first, SO_FAR, *(state for state in STATES if state not in SICK)]


def headline(report: Report) -> str:
    """The verdict in one or two sentences."""
    counts = totals(report)
    units = sum(counts.values())
    if not units:
        return "Nothing to judge: no nonlinearity with units was seen."
    if set(counts) == {"unvisited"}:
        return f"Nothing to judge: none of {count(units, 'unit')} received an example in any exam."
    sick = {kind: number for kind, number in counts.items() if kind in SICK}
    number = sum(sick.values())
    if not sick:
        said = f"none of {_units_in_sites(report, units)} is sick"
    elif len(sick) == 1:
        said = f"{number:,} of {_units_in_sites(report, units)} {_are(number)} {next(iter(sick))}"
    else:
        said = f"{number:,} of {_units_in_sites(report, units)} are sick: {listing(sick)}"
    if sick:
        said += f" ({percent(number / units)}){_worst(report)}"
        if report.verdict == "healthy":
            said += f", below {percent(DEFAULT.warning_share)} of every site"
    unsure = counts.get(SO_FAR, 0)
    if unsure:
        said += (
            f". {unsure:,} more {_are(unsure)} silent so far"
            if sick
            else (f"; {unsure:,} {_are(unsure)} silent so far")
        )
        said += f", on fewer than the {CERTAIN_EXAMPLES} examples that would make it certain"
    return f"{said[0].upper()}{said[1:]}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _units_in_sites(report: Report, units: int) -> str:
    return f"{count(units, 'unit')} in {count(len(report.sites), 'site')}"


def _worst(report: Report) -> str:
    """Where the sick units are, when there is more than one site."""
    if len(report.sites) < 2:
        return ""
    sick = {site.name: _sick(site) for site in report.sites}
    name = max(sick, key=sick.__getitem__)
    everywhere = "all" if sick[name] == sum(sick.values()) else f"{sick[name]:,} of them"
    return (
        f", {everywhere} in {clean(name, NAME)}"
        if sum(sick.values()) > 1
        else (f", in {clean(name, NAME)}")
    )


def _sick(site: SiteReport) -> int:
    return sum(number for kind, number in split(site).items() if kind in SICK)


def worst_sites(report: Report, most: int) -> tuple[SiteReport, ...]:
    """At most ``most`` sites, those with the largest sick shares, in the order of the model."""

    def badness(site: SiteReport) -> tuple[float, float]:
        healthy = site.states.get("healthy", 0)
        return _sick(site) / max(site.units, 1), 1 - healthy / max(site.units, 1)

    kept = sorted(report.sites, key=badness, reverse=True)[:most]
    names = {site.name for site in kept}
    return tuple(site for site in report.sites if site.name in names)


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
    """Size and cost of the run."""
    run = report.run
    parts = []
    if run.get("examples"):
        parts.append(count(int(run["examples"]), "example"))
    if run.get("seconds") is not None:
        parts.append(duration(float(run["seconds"])))
    if run.get("device"):
        parts.append(clean(run["device"], NAME))
    if int(run.get("world_size") or 1) > 1:
        parts.append(count(int(run["world_size"]), "process").replace("processs", "processes"))
    overhead = run.get("overhead") or {}
    if report.kind != "examination" and overhead.get("measured") is not None:
        exams = count(int(overhead.get("exams") or 0), "exam")
        budget = overhead.get("budget")
        of = "" if budget is None else f" of at most {percent(float(budget))}"
        parts.append(f"watching took {percent(float(overhead['measured']))}{of} ({exams})")
    treatments = run.get("treatments") or ()
    if treatments:
        parts.append("treated with " + ", ".join(clean(one, NAME) for one in treatments))
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(0.31), duration(12.34), duration(4000)
        ('0.3 s', '12 s', '1 h 7 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def message(text: str, sites: Iterable[str]) -> str:
    """A finding's message, in which long names of sites are shortened.

    Args:
        text: The message.
        sites: Names that may occur in it.
    """
    for name in sorted({*sites}, key=len, reverse=True):
        if len(name) > NAME:
            text = text.replace(name, clean(name, NAME))
    said = clean(text, 1000)
    return said if said.endswith(".") else f"{said}."


@dataclass(frozen=True)
class Group:
    """Units of one site that came to the same state at the same time."""

    site: str
    units: tuple[int, ...]
    state: str
    since: str
    evidence: str


def groups(report: Report, most: int) -> tuple[list[Group], int]:
    """The worst units, grouped, and the number of units in groups that are left out.

    Args:
        report: The report.
        most: Number of groups, at most.
    """
    found: dict[tuple[str, str, str], list[UnitReport]] = {}
    for unit in report.units:
        kind = unit.state if unit.certain else SO_FAR
        found.setdefault((unit.site, kind, since(unit)), []).append(unit)
    order = _severest()
    # Sick units first; among them the states as they are checked, then the largest groups.
    ranked = sorted(found.items(), key=lambda item: (order.index(item[0][1]), -len(item[1])))
    worth = [item for item in ranked if item[0][1] in SICK or item[0][1] == SO_FAR] or ranked
    shown = [
        Group(site, tuple(u.unit for u in members), kind, when, _evidence(members))
        for (site, kind, when), members in worth[:most]
    ]
    return shown, sum(len(members) for _, members in worth[most:])


def since(unit: UnitReport) -> str:
    """When a unit died, as far as it is known."""
    if unit.state != "dead":
        return ""
    if unit.since_after is None:
        return "the start" if unit.cause == "born-dead" else ""
    if unit.since_step is None:
        return f"after step {unit.since_after:,}"
    if unit.since_exact:
        return f"step {unit.since_step:,}"
    return f"step {unit.since_after + 1:,} to {unit.since_step:,}"


def _evidence(members: Sequence[UnitReport]) -> str:
    """What the state of all of these units rests on at the least."""
    least = min(members, key=lambda unit: unit.examples)
    if least.state != "dead":
        return f"{count(least.examples, 'example')}"
    said = f"silent on {count(least.examples, 'example')}"
    upper = [u.firing_rate_upper for u in members if u.firing_rate_upper is not None]
    if upper:
        said += f", fires on < {percent(max(upper))}"
    margins = [unit.evidence["margin"] for unit in members if "margin" in unit.evidence]
    if margins:
        said += f", {-max(margins):.2g} σ short"
    return said


def ranges(units: Sequence[int], most: int = 4) -> str:
    """Indices of units, shortened.

    Example:
        >>> ranges([1, 2, 3, 7, 9, 12, 20, 21])
        '1–3, 7, 9, 12 and 2 more'
    """
    runs: list[list[int]] = []
    for unit in sorted(units):
        if runs and unit == runs[-1][1] + 1:
            runs[-1][1] = unit
        else:
            runs.append([unit, unit])
    shown = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs[:most])
    left = sum(b - a + 1 for a, b in runs[most:])
    return f"{shown} and {left:,} more" if left else shown


def deaths(report: Report) -> str:
    """How many units died, and when."""
    total = sum(number for _, number in report.deaths)
    born = sum(number for step, number in report.deaths if step == 0)
    later = [(step, number) for step, number in report.deaths if step > 0]
    if not total:
        return ""
    parts = [f"{born:,} before the first update"] if born else []
    if later:
        first, last = later[0][0], later[-1][0]
        died = sum(number for _, number in later)
        when = f"at step {first:,}" if first == last else f"from step {first:,} to {last:,}"
        parts.append(f"{died:,} {when}")
        step, most = max(later, key=lambda pair: pair[1])
        if most > 1 and len(later) > 1:
            parts.append(f"most at step {step:,} ({most:,})")
    return ", ".join(parts)


def timeline(report: Report, bins: int) -> list[int]:
    """Deaths in ``bins`` equal parts of the run."""
    last = max([int(report.run.get("steps") or 0), *(step + 1 for step, _ in report.deaths)])
    bins = max(1, min(bins, last))
    numbers = [0] * bins
    for step, number in report.deaths:
        numbers[min(step * bins // last, bins - 1)] += number
    return numbers


def unseen(report: Report) -> list[tuple[str, str, str]]:
    """What could not be seen: ``("not watched" or "lost", name, reason)``."""
    return [
        *(("not watched", clean(n, NAME), clean(why, 300)) for n, why in report.not_watched),
        *(("lost", clean(what, NAME), clean(why, 300)) for what, why in report.lost),
    ]


def commands(report: Report) -> list[tuple[str, str]]:
    """What to type next, and what it gives."""
    run, store = report.run.get("id"), []
    if report.kind == "examination" or not run:
        return [("flatline run SCRIPT", "watch a training and learn when units die")]
    if report.store is not None:
        store = ["--store", report.store]
    again = shlex.join(["flatline", "report", str(run), *store])
    following = [
        (f"{again} --html report.html", "this report as a page"),
        (f"{again} --json -", "every unit, for programs"),
    ]
    if report.verdict != "healthy":
        program = _program(report)
        following.append(
            (f"flatline run --fail-on 'dead>5%' {program}", "exit with 10 while that holds")
        )
    return [pair for pair in following if clean(pair[0]) == pair[0]]


def _program(report: Report) -> str:
    """The command line that was watched, when it is short and safe to type again."""
    argv = [str(word) for word in report.run.get("argv") or ()]
    line = shlex.join(argv)
    return line if argv and len(line) <= NAME and clean(line) == line else "SCRIPT"
