"""Why a unit or a site is as it is: everything that ``flatline explain`` tells, as plain data."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flatline.anatomy.site import Site
from flatline.diagnose.chart import Chart
from flatline.diagnose.comeback import Comeback, comeback
from flatline.diagnose.findings import Finding
from flatline.diagnose.names import CAUSES, SICK
from flatline.diagnose.states import States
from flatline.diagnose.story import Moment, Way, of_site, of_unit, ways
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.errors import UsageError
from flatline.record.recording import Recording
from flatline.sense.history import Steps
from flatline.show.document import Document
from flatline.show.drawings import Drawings, Histogram
from flatline.show.entries import SiteReport, UnitReport, unit_report, unit_reports
from flatline.show.plain import plain, version
from flatline.show.report import SCHEMA, UNITS, Report, build, judge
from flatline.show.text import named
from flatline.treatments.prescriptions import prescription

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

#: Steps told before a death and after it.
BEFORE, AFTER = 4, 2
#: Steps told between the last life and a death of which only that interval is known.
BETWEEN = 6
#: What the course of a site is told by, at each exam.
COURSE = ("silent", "firing", "z_rms", "gradient_rms", "update_ratio", "effective_rank")
#: States of units that findings of these codes are about; the others are about all that is sick.
_ABOUT = {
    "born-dead": ("dead",),
    "dying-relu": ("dead",),
    "saturation": ("saturated", "dead"),
    "upstream-death": ("dead",),
    "non-finite": ("nonfinite",),
    "duplicate-units": ("duplicate",),
    "zero-init": ("duplicate",),
    "dormant-units": ("dormant",),
    "ignored-units": ("ignored",),
    "linear-units": ("linear",),
    "unvisited-units": ("unvisited",),
    "vanishing-gradient": ("starved",),
}


@dataclass(frozen=True)
class Reading:
    """What the training was like at one step; ``None`` where it is not known.

    Attributes:
        step: The step.
        lr: Learning rate of its update.
        gradient: Norm of the gradients of the feeding biases, before the update.
        loss: Its loss.
    """

    step: int
    lr: float | None
    gradient: float | None
    loss: float | None


@dataclass(frozen=True)
class Neighbour:
    """A site that the explained one reads, or that reads it.

    Attributes:
        site: Its name.
        activation: Its activation.
        units: Its units.
        dead: Those that are dead now.
        dead_before: Those that were dead when the explained unit died; ``None`` without a death.
    """

    site: str
    activation: str
    units: int
    dead: int
    dead_before: int | None = None


@dataclass(frozen=True, repr=False)
class Explanation(Document):
    """The story of one unit or one site; ``print`` shows it as text.

    Attributes:
        report: The report of the run.
        site: The site.
        unit: The unit; ``None`` when the whole site is explained.
        units: The units of the site that are not healthy, when the whole site is explained.
        units_truncated: Their number, when not all are listed.
        story: What happened, by rising step.
        ways: How the unit's mean pre-activation went into silence.
        histograms: How its pre-activation was distributed at some exams.
        context: What the training was like around the death.
        comeback: Whether a dead unit may return.
        upstream: Sites whose units it reads.
        downstream: Sites that read it.
        findings: Findings that concern it.
        causes: Per cause, number of units of the site that died of it.
        course: Per exam, its step and what it measured of the site.
    """

    report: Report
    site: SiteReport
    unit: UnitReport | None = None
    units: tuple[UnitReport, ...] = ()
    units_truncated: int | None = None
    story: tuple[Moment, ...] = ()
    ways: tuple[Way, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    context: tuple[Reading, ...] = ()
    comeback: Comeback | None = None
    upstream: tuple[Neighbour, ...] = ()
    downstream: tuple[Neighbour, ...] = ()
    findings: tuple[Finding, ...] = ()
    causes: Mapping[str, int] = field(default_factory=dict)
    course: tuple[tuple[int, Mapping[str, float]], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON explanation, in the types of JSON."""
        slim = replace(self.report, sites=(self.site,), units=(), metrics={}, exams=())
        whole = slim.to_dict()
        more = {"units_truncated": self.units_truncated} if self.units_truncated else {}
        state = whole["sites"][0] if self.unit is None else vars(self.unit)
        argv = [str(word) for word in self.report.run.get("argv") or ()]
        said: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "kind": "explanation",
                "flatline": version(),
                "run": whole["run"],
                "site": self.site.name,
                "unit": None if self.unit is None else self.unit.unit,
                "story": [vars(moment) for moment in self.story],
                "state": state,
                "decomposition": [vars(way) for way in self.ways],
                "histograms": [vars(one) for one in self.histograms],
                "context": [vars(reading) for reading in self.context],
                "comeback": None if self.comeback is None else self.comeback.to_dict(),
                "upstream": [vars(one) for one in self.upstream],
                "downstream": [vars(one) for one in self.downstream],
                "units": [vars(one) for one in self.units],
                **more,
                "causes": self.causes,
                "course": [{"step": step, **numbers} for step, numbers in self.course],
                "findings": [
                    {
                        "code": one.code,
                        "severity": one.severity,
                        "message": one.message,
                        "remedies": [
                            vars(remedy) | prescription(remedy.treatment, argv, self.report.store)
                            for remedy in one.remedies
                        ],
                    }
                    for one in self.findings
                ],
                "thresholds": whole["thresholds"],
            }
        )
        return said

    def __repr__(self) -> str:
        unit = "" if self.unit is None else f":{self.unit.unit}"
        return f"<Explanation: {named(self.site.name)}{unit}, {len(self.story)} moments>"

    def __str__(self) -> str:
        from flatline.show import narrative

        return narrative.render(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from flatline.show import narrative

        return narrative.view(self, console, options)


def explain(
    recording: Recording,
    target: str,
    *,
    thresholds: Thresholds = DEFAULT,
    store: str | None = None,
) -> Explanation:
    """The story of what ``target`` names.

    Args:
        recording: The run.
        target: ``SITE`` or ``SITE:UNIT``.
        thresholds: What to compare with.
        store: The store to name in commands, where it is not the usual one.

    Raises:
        UsageError: There is no such site or unit; the message names what comes close.
    """
    site, unit = locate(recording, target)
    found = judge(recording, thresholds)
    report = build(recording, units=0, thresholds=thresholds, store=store, found=found)
    chart = Chart(list(found.sites.values()), recording.history, thresholds)
    states, causes = found.sites[site.name], found.causes[site.name]
    turns = [(one.step, one.kind, one.units) for one in recording.events if one.site == site.name]
    whole = Explanation(
        report=report,
        site=next(one for one in report.sites if one.name == site.name),
        upstream=tuple(beside(chart.of(name)) for name in chart.upstream[site.name]),
        downstream=tuple(
            beside(other)
            for other in chart
            if other is not states and set(other.site.feeds) & set(site.reads)
        ),
    )
    if unit is None:
        listed, total = unit_reports([states], [causes], UNITS)
        died = Counter(CAUSES[code] for code in causes.code.tolist() if code >= 0)
        return replace(
            whole,
            units=listed,
            units_truncated=total if total > len(listed) else None,
            story=of_site(states, chart.history, turns),
            findings=tuple(one for one in found.findings if site.name in one.sites),
            causes=dict(died.most_common()),
            course=_course(recording, site.name),
        )
    packed = recording.histograms.get(site.name, ())
    return _of_unit(whole, chart, unit_report(states, causes, unit), turns, packed)


def _of_unit(
    whole: Explanation,
    chart: Chart,
    unit: UnitReport,
    turns: Sequence[tuple[int, str, Any]],
    packed: Sequence[tuple[int, bytes]],
) -> Explanation:
    states = chart.of(unit.site)
    own = [(step, kind) for step, kind, units in turns if unit.unit in units]
    life, dead = int(states.last_life[unit.unit]), unit.state == "dead"
    above = whole.upstream
    if unit.since_step is not None:
        above = tuple(beside(chart.of(one.site), unit.since_step) for one in above)
    return replace(
        whole,
        unit=unit,
        story=of_unit(states, unit.unit, chart.history, own),
        ways=ways(chart.history, unit.site, unit.unit),
        histograms=Drawings(packed).of(unit.unit, life, int(states.since_step[unit.unit])),
        context=_context(chart.history.steps, unit),
        comeback=comeback(chart, unit.site, unit.unit) if dead else None,
        upstream=above,
        findings=tuple(one for one in whole.report.findings if _concerns(one, unit)),
    )


def locate(recording: Recording, target: str) -> tuple[Site, int | None]:
    """The site that ``SITE`` or ``SITE:UNIT`` names, and the unit; see :func:`explain`."""
    sites = {site.name: site for site in recording.sites}
    if target in sites:
        return sites[target], None
    if not sites:
        raise UsageError(
            f"expected a watched site, found none in this run to look for {named(target)!r} in; "
            "flatline report says why"
        )
    name, _, unit = target.rpartition(":")
    if name in sites:
        last = sites[name].units - 1
        if unit.isascii() and unit.isdecimal() and len(unit) < 12 and int(unit) <= last:
            return sites[name], int(unit)
        raise UsageError(
            f"expected a unit from 0 to {last:,} of site {named(name)}, found {named(unit)!r}; "
            f"write for example {named(name)}:{last}"
        )
    close = difflib.get_close_matches(target, sites, 3, 0.5)
    close = close or difflib.get_close_matches(name or target, sites, 3, 0.3)
    close = [one for one in sites if one in close] or list(sites)[:3]
    raise UsageError(
        f"expected the name of a site, as flatline report lists them, found {named(target)!r}; "
        f"did you mean {' or '.join(named(one) for one in close)}?"
    )


def beside(states: States, died: int | None = None) -> Neighbour:
    """One site beside an explained one.

    Args:
        states: Its states.
        died: When the explained unit died.
    """
    dead = states.are("dead")
    before = dead & (states.since_step >= 0) & (states.since_step < (died or 0))
    return Neighbour(
        states.site.name,
        states.site.activation.name,
        states.site.units,
        int(dead.sum()),
        None if died is None else int(before.sum()),
    )


def _context(steps: Steps, unit: UnitReport) -> tuple[Reading, ...]:
    """What the training was like around the death of a unit; nothing for one that lives."""
    if unit.since_step is None:
        return ()
    after = -1 if unit.since_after is None else unit.since_after
    told = [*range(max(after + 1 - BEFORE, 0), after + 1)]
    told += _between(steps, after + 1, unit.since_step)
    told += range(unit.since_step, unit.since_step + AFTER)
    found = []
    for step in told:
        place = int(np.searchsorted(steps.step, step))
        if place < len(steps.step) and steps.step[place] == step:
            row = (steps.lr[place], steps.gradient[place], steps.loss[place])
            found.append(Reading(step, *(float(v) if np.isfinite(v) else None for v in row)))
    return tuple(found)


def _between(steps: Steps, first: int, stop: int) -> list[int]:
    """Steps of ``[first, stop)``: all where they are few, else those of the largest gradients."""
    inside = steps.step[(steps.step >= first) & (steps.step < stop)]
    gradient = steps.gradient[(steps.step >= first) & (steps.step < stop)]
    largest = np.argsort(np.nan_to_num(-gradient, nan=np.inf), kind="stable")[:BETWEEN]
    return sorted(inside[largest].tolist())


def _concerns(finding: Finding, unit: UnitReport) -> bool:
    """Whether a finding is about a unit in this state, at this site."""
    if finding.sites and unit.site not in finding.sites:
        return False
    if unit.state == "dead" and finding.code in ("born-dead", "dying-relu"):
        return (finding.code == "born-dead") == (unit.cause == "born-dead")
    return unit.state in _ABOUT.get(finding.code, SICK)


def _course(recording: Recording, site: str) -> tuple[tuple[int, dict[str, float]], ...]:
    """Per exam that saw a site, what it measured."""
    return tuple(
        (step, {name: sites[site][name] for name in COURSE if name in sites[site]})
        for step, sites in recording.exams
        if site in sites
    )
