"""The sentences of a report, the same in the terminal and on the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flatline.diagnose.certainty import CERTAIN_EXAMPLES
from flatline.diagnose.findings import Finding
from flatline.diagnose.states import DORMANT_SCORE, SATURATED_SHARE, SICK, STATES
from flatline.show import certain
from flatline.show.marks import KINDS, SO_FAR
from flatline.show.report import Report, SiteReport, UnitReport
from flatline.show.text import NAME, clean, count, named, number, percent
from flatline.treatments.prescriptions import prescription

#: What makes a unit one of a kind.
MEANINGS = {
    "healthy": "fires on some examples, varies, and learns",
    "linear": "fired on every example: its activation never bent anything, which costs nothing",
    "ignored": "every weight that reads it is 0",
    "dormant": f"its mean output is at most {percent(DORMANT_SCORE)} of the site's mean",
    "unvisited": "its site received no example",
    "starved": "fires and varies, but its gradient is too small to move its weights",
    "duplicate": "had the same pre-activation as another unit of its site on every example",
    "constant": "its output did not vary",
    "saturated": (
        "sat at a flat end of its activation on at least "
        f"{percent(SATURATED_SHARE)} of the examples"
    ),
    SO_FAR: f"never fired, on fewer than the {CERTAIN_EXAMPLES} examples that make it certain",
    "dead": "fired on no example, and its output did not vary",
    "nonfinite": "its values or gradients were NaN or infinite",
}
ADVICE = 2  # remedies named where room is short
LINE = 300  # characters of a program's command line that are repeated at most


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


def listing(counts: Mapping[str, int]) -> str:
    """The kinds that are not healthy with their numbers, the most severe first.

    Example:
        >>> listing({"healthy": 9, "duplicate": 1, "dead": 30})
        '30 dead, 1 duplicate'
        >>> listing({"healthy": 9})
        'healthy'
    """
    named = [f"{counts[k]:,} {k}" for k in severest() if k in counts and k != "healthy"]
    return ", ".join(named) or "healthy"


def severest() -> list[str]:
    """Kinds in the order of the states; what is only silent so far comes after what is sick."""
    first = [state for state in STATES if state in SICK]
    return [*first, SO_FAR, *(state for state in STATES if state not in SICK)]


def kind(unit: UnitReport) -> str:
    """The kind of a unit: its state, unless that is not certain."""
    return unit.state if unit.certain else SO_FAR


# -- the head ---------------------------------------------------------------------------------


def verdict(report: Report) -> str:
    """The verdict in one word: unknown where nothing was seen that could be judged.

    Example:
        >>> verdict(Report())
        'unknown'
    """
    return report.verdict if report.sites else "unknown"


def headline(report: Report) -> str:
    """The verdict in one sentence, followed by what limits it."""
    return " ".join(sentences(report))


def sentences(report: Report) -> list[str]:
    """The sentences of the headline; the first is the verdict."""
    counts = totals(report)
    units = sum(counts.values())
    if not units:
        return ["Nothing to judge: no nonlinearity with units was seen."]
    if set(counts) == {"unvisited"}:
        return [
            f"Nothing to judge: none of {count(units, 'unit')} received an example in any exam."
        ]
    sick = {kind: number for kind, number in counts.items() if kind in SICK}
    said = [_verdict(report, sick, units)]
    if unsure := counts.get(SO_FAR, 0):
        said.append(
            f"{unsure:,} {'more ' if sick else ''}{_are(unsure)} {SO_FAR}, on fewer than the "
            f"{CERTAIN_EXAMPLES} examples that make it certain."
        )
    if report.certainty.short:
        said.append(certain.too_short(report))
    elif unsure and (cure := certain.more(report)):
        said.append(cure)
    if early := unexamined(report):
        said.append(f"No exam came after step {early[0]:,} of {early[1]:,}.")
    return said


def _verdict(report: Report, sick: Mapping[str, int], units: int) -> str:
    whole = f"{count(units, 'unit')} in {count(len(report.sites), 'site')}"
    if not sick:
        return f"None of {whole} is sick."
    number = sum(sick.values())
    kinds = next(iter(sick)) if len(sick) == 1 else f"sick: {listing(sick)}"
    said = f"{number:,} of {whole} {_are(number)} {kinds} ({percent(number / units)})"
    said += _worst(report)
    if report.verdict == "healthy":
        said += f", below {percent(report.thresholds.warning_share)} of every site"
    return f"{said}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _worst(report: Report) -> str:
    """Where the sick units are, when there is more than one site."""
    sick = [_sick(site) for site in report.sites]
    most = max(range(len(sick)), key=sick.__getitem__)
    if len(sick) < 2:
        return ""
    if 2 * sick[most] < sum(sick):
        return f", spread over {sum(map(bool, sick))} sites"
    where = f"in site {named(report.sites[most].name)}"
    if sum(sick) == 1:
        return f", {where}"
    return f", {'all' if sick[most] == sum(sick) else f'{sick[most]:,} of them'} {where}"


def _sick(site: SiteReport) -> int:
    return sum(number for kind, number in split(site).items() if kind in SICK)


def unexamined(report: Report) -> tuple[int, int] | None:
    """Step of the last exam and steps of the run, when more than half of them came after it."""
    steps = int(report.run.get("steps") or 0)
    if report.kind == "examination" or not report.exams or steps < 10:
        return None
    last = report.exams[-1][0]
    return (last, steps) if last < steps / 2 else None


# -- findings ---------------------------------------------------------------------------------


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


def advice(finding: Finding) -> list[tuple[str, str]]:
    """What to do about a finding first: treatment and reason; nothing for mere information."""
    return [] if finding.severity == "info" else remedies(finding)[:ADVICE]


def remedies(finding: Finding) -> list[tuple[str, str]]:
    """All that may help: treatment and reason."""
    return [(clean(one.treatment, NAME), clean(one.why, 300)) for one in finding.remedies]


@dataclass(frozen=True)
class Prescribed:
    """A remedy with what to type.

    Attributes:
        treatment: What may help.
        why: Why it may.
        command: A command line that applies it; empty where it cannot be applied.
        code: A line of Python that applies it.
    """

    treatment: str
    why: str
    command: str = ""
    code: str = ""


def prescribed(report: Report, finding: Finding) -> list[Prescribed]:
    """All that may help against a finding, with command and code."""
    argv = [] if _program(report) == "SCRIPT" else list(map(str, report.run.get("argv") or ()))
    return [
        Prescribed(
            clean(one.treatment, NAME),
            clean(one.why, 300),
            **prescription(one.treatment, argv, report.store),
        )
        for one in finding.remedies
    ]


def explains(finding: Finding) -> str:
    """The findings that are symptoms of this one; empty where there are none."""
    return clean(", ".join(finding.explains), 300)


def evidence(finding: Finding) -> list[tuple[str, str]]:
    """The numbers that a finding rests on: what each is, and its value."""
    return [
        (
            _EVIDENCE.get(key) or clean(key.replace("_", " "), NAME),
            "below 1e-9" if 0 < value < 1e-9 else number(value),
        )
        for key, value in finding.evidence.items()
    ]


_EVIDENCE = {
    "units": "units of the site",
    "affected": "units affected",
    "examples": "examples",
    "firing_rate_upper": "firing rate at most, at 99% confidence",
    "silent_by_chance": "units silent by chance, if each fired on 1% of examples",
}


# -- sites and units --------------------------------------------------------------------------


def worst_sites(report: Report, most: int) -> tuple[SiteReport, ...]:
    """At most ``most`` sites, those with the largest sick shares, in the order of the model."""

    def badness(place: int) -> tuple[float, float]:
        site = report.sites[place]
        healthy = site.states.get("healthy", 0)
        return _sick(site) / max(site.units, 1), 1 - healthy / max(site.units, 1)

    kept = sorted(range(len(report.sites)), key=badness, reverse=True)[:most]
    return tuple(report.sites[place] for place in sorted(kept))


@dataclass(frozen=True)
class Group:
    """Units of one site in the same state; those that were born dead apart.

    Attributes:
        site: Name of the site.
        units: Their indices.
        kind: Their kind.
        since: When they died.
        examples: Examples that the statement rests on, at the least.
        fires: Upper bound of the firing rate, at the most.
        margin: How far they were from firing, at the least.
    """

    site: str
    units: tuple[int, ...]
    kind: str
    since: str
    examples: str
    fires: str
    margin: str


def groups(report: Report, most: int) -> tuple[list[Group], int]:
    """The worst units, grouped, and the number of units in groups that are left out.

    Args:
        report: The report.
        most: Number of groups, at most.
    """
    found: dict[tuple[str, str, bool], list[UnitReport]] = {}
    for unit in report.units:
        found.setdefault((unit.site, kind(unit), _born_dead(unit)), []).append(unit)
    order = severest()
    # Sick units first; among them the states as they are checked, then the largest groups.
    ranked = sorted(found.items(), key=lambda item: (order.index(item[0][1]), -len(item[1])))
    worth = [item for item in ranked if item[0][1] in SICK or item[0][1] == SO_FAR] or ranked
    shown = [
        Group(site, tuple(u.unit for u in members), which, since(members), *rests_on(members))
        for (site, which, _), members in worth[:most]
    ]
    return shown, sum(len(members) for _, members in worth[most:])


def _born_dead(unit: UnitReport) -> bool:
    return unit.state == "dead" and unit.since_after is None


def since(members: Sequence[UnitReport]) -> str:
    """When units died that are all dead, as far as it is known; empty for others.

    Example:
        >>> since([UnitReport("a", 0, "dead", since_step=8, since_exact=True, since_after=7)])
        'step 8'
    """
    if any(unit.state != "dead" for unit in members):
        return ""
    after = [unit.since_after for unit in members if unit.since_after is not None]
    if not after:
        return "born dead" if members[0].cause == "born-dead" else ""
    known = [unit.since_step for unit in members if unit.since_step is not None]
    if len(known) < len(members):
        return f"after step {min(after):,}"
    exact = all(unit.since_exact for unit in members)
    first, last = (min(known) if exact else min(after) + 1), max(known)
    return f"step {first:,}" if first == last else f"step {first:,}–{last:,}"


def rests_on(members: Sequence[UnitReport]) -> tuple[str, str, str]:
    """What the state of all of these units rests on: examples, firing rate, margin."""
    examples = f"{min(unit.examples for unit in members):,}"
    upper = [unit.firing_rate_upper for unit in members if unit.firing_rate_upper is not None]
    fires = f"≤ {percent(max(upper))}" if upper and members[0].examples else ""
    margins = [unit.evidence["margin"] for unit in members if "margin" in unit.evidence]
    return examples, fires, f"{max(margins):.2g} σ".replace("-", "−") if margins else ""


# -- what is left -----------------------------------------------------------------------------


def unseen(report: Report) -> list[tuple[str, str, str]]:
    """What could not be seen: ``("not watched", "lost" or "not examined", name, reason)``."""
    early = unexamined(report)
    late = f"steps {early[0] + 1:,} to {early[1] - 1:,}" if early else ""
    why = "states are as of the last exam, and who died later is not known; raise --budget"
    return [
        *([("not examined", late, why)] if early else []),
        *(("not watched", named(n), clean(why, 300)) for n, why in report.not_watched),
        *(("lost", named(what), clean(why, 300)) for what, why in report.lost),
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
    if worst := groups(report, 1)[0]:
        target = f"{worst[0].site}:{worst[0].units[0]}"
        story = shlex.join(["flatline", "explain", str(run), target, *store])
        following.append((story, "the story of one unit"))
    if report.verdict != "healthy" and report.findings:
        following.extend(_prescribed(report))
        gate = f"flatline run --fail-on {report.findings[0].code} {_program(report)}"
        following.append((gate, "status 10 while this is found"))
    return [pair for pair in following if clean(pair[0]) == pair[0]]


def _prescribed(report: Report) -> list[tuple[str, str]]:
    """The first remedy of the first finding, ready to be used."""
    found = report.findings[0]
    for remedy in found.remedies[:1]:
        if said := usage(report, remedy.treatment):
            return [(said["command"], f"the first remedy for {found.code}, applied")]
    return []


def usage(report: Report, treatment: str) -> dict[str, str]:
    """Command and code that apply a treatment to what was watched; empty where there is none."""
    known = _program(report) != "SCRIPT"
    argv = [str(word) for word in report.run["argv"]] if known else ()
    return prescription(treatment, argv, report.store)


def _program(report: Report) -> str:
    """The command line that was watched, when it is short enough and safe to use again."""
    argv = [str(word) for word in report.run.get("argv") or ()]
    line = shlex.join(argv)
    return line if argv and len(line) <= LINE and clean(line) == line else "SCRIPT"
