"""The report: everything that is shown about one run, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flatline.diagnose.certainty import Certainty
from flatline.diagnose.chart import Chart
from flatline.diagnose.diagnose import Diagnosis, diagnose
from flatline.diagnose.findings import Finding
from flatline.diagnose.impact import Cost, cost
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.record.recording import Recording
from flatline.sense.history import Steps
from flatline.show.document import Page
from flatline.show.entries import UNSURE as UNSURE
from flatline.show.entries import SiteReport as SiteReport
from flatline.show.entries import UnitReport as UnitReport
from flatline.show.entries import death_steps, site_reports, unit_reports
from flatline.show.lives import Lives
from flatline.show.plain import plain, version
from flatline.treatments.prescriptions import prescription

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SCHEMA = "flatline/1"
#: Units listed one by one; beyond this many only their number is told.
UNITS = 10_000
_RUN: dict[str, Any] = {
    "id": None,
    "name": None,
    "status": "running",
    "steps": 0,
    "examples": 0,
    "started": None,
    "seconds": None,
    "overhead": None,
    "treatments": [],
    "torch": None,
    "device": None,
    "world_size": 1,
}


@dataclass(frozen=True, repr=False)
class Report(Page):
    """What is known about one run or one examination.

    ``print(report)`` shows it as text, a notebook in short, and :meth:`to_html` as a
    page.

    Attributes:
        verdict: ``"healthy"``, ``"warning"`` or ``"sick"``.
        run: Facts about the run.
        sites: The sites, in the order of the forward pass.
        units: The units that are not healthy, in the order of the sites.
        findings: What is wrong, the most severe first.
        metrics: Per name, pairs of step and value.
        not_watched: Name and reason of nonlinearities that were seen and not watched.
        lost: What could not be seen, and why.
        deaths: Steps with the number of units that died there, as far as that is certain.
        units_truncated: Number of units that are not healthy when not all are listed.
        kind: ``"examination"`` for a census without training.
        store: The store to name in commands, where it is not the usual one.
        exams: Step of each exam with what it measured, by site.
        thresholds: What it was judged with.
        certainty: How far the calls of dead units can be trusted.
        cost: What dead units cost the model as a whole, and how far validation lies from training.
        lives: Looks up the life of a unit; ``None`` in a report that rests on no recording.
    """

    verdict: str = "healthy"
    run: Mapping[str, Any] = field(default_factory=dict)
    sites: tuple[SiteReport, ...] = ()
    units: tuple[UnitReport, ...] = ()
    findings: tuple[Finding, ...] = ()
    metrics: Mapping[str, Sequence[tuple[int, float | None]]] = field(default_factory=dict)
    not_watched: tuple[tuple[str, str], ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    deaths: tuple[tuple[int, int], ...] = ()
    units_truncated: int | None = None
    kind: str | None = None
    store: str | None = None
    exams: tuple[tuple[int, Mapping[str, Mapping[str, float]]], ...] = ()
    thresholds: Thresholds = DEFAULT
    certainty: Certainty = field(default_factory=Certainty)
    cost: Cost = field(default_factory=Cost)
    lives: Lives | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON report; only ``None``, ``bool``, numbers, text, lists and dictionaries.

        Example:
            >>> Report().to_dict()["verdict"]
            'healthy'
        """
        kind = {} if self.kind is None else {"kind": self.kind}
        more = {} if self.units_truncated is None else {"units_truncated": self.units_truncated}
        argv = [str(word) for word in self.run.get("argv") or ()]
        whole = {
            "schema": SCHEMA,
            **kind,
            "flatline": version(),
            "run": _RUN | dict(self.run),
            "verdict": self.verdict,
            "sites": [_site(site) for site in self.sites],
            "units": [vars(unit) for unit in self.units],
            **more,
            "findings": [
                vars(one)
                | {
                    "remedies": [
                        vars(remedy) | prescription(remedy.treatment, argv, self.store)
                        for remedy in one.remedies
                    ]
                }
                for one in self.findings
            ],
            "metrics": self.metrics,
            "not_watched": [{"name": name, "because": why} for name, why in self.not_watched],
            "lost": [{"what": what, "why": why} for what, why in self.lost],
            "deaths": self.deaths,
            "exams": [
                {"step": step, "silent": [sites.get(s.name, {}).get("silent") for s in self.sites]}
                for step, sites in self.exams
            ],
            "certainty": self.certainty.to_dict(),
            "impact": self.cost.to_dict(),
            "thresholds": self.thresholds.changed(),
        }
        said: dict[str, Any] = plain(whole)
        return said

    def __str__(self) -> str:
        from flatline.show import terminal

        return terminal.render(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from flatline.show import terminal

        return terminal.view(self, console, options)

    def __repr__(self) -> str:
        return (
            f"<Report: {self.verdict}, {len(self.findings)} findings, {len(self.sites)} sites, "
            f"{len(self.units)} units listed>"
        )

    def _page(self) -> str:
        from flatline.show import html

        return html.render(self)

    def _repr_html_(self) -> str:
        from flatline.show import html

        return html.notebook(self)


def build(
    recording: Recording,
    *,
    units: int = UNITS,
    kind: str | None = None,
    store: str | Path | None = None,
    thresholds: Thresholds = DEFAULT,
    found: Diagnosis | None = None,
) -> Report:
    """The report of one recorded run.

    Args:
        recording: The run.
        units: Units to list one by one, at most; the worst are kept.
        kind: ``"examination"`` for a census without training.
        store: The store to name in commands, where it is not the usual one.
        thresholds: What to compare with.
        found: Its diagnosis by these thresholds, where there is one already.

    Example:
        >>> build(Recording({"id": "a1", "status": "finished"})).verdict
        'healthy'
    """
    found = judge(recording, thresholds) if found is None else found
    charts = list(found.sites.values())
    chart = Chart(charts, recording.history, thresholds)
    noted = recording.history.last("nonfinite") or {}
    metrics = _taps(recording.steps, lost=noted.get("what")) | recording.metrics
    listed, total = unit_reports(charts, list(found.causes.values()), units)
    return Report(
        verdict=found.verdict,
        run=recording.facts,
        sites=site_reports(recording, found),
        units=listed,
        findings=found.findings,
        metrics=metrics,
        not_watched=tuple((one.name, one.because) for one in recording.unplaced),
        lost=tuple((what, why) for what, why in recording.lost),
        deaths=death_steps(charts),
        units_truncated=total if total > len(listed) else None,
        kind=kind,
        store=None if store is None else str(store),
        exams=tuple(recording.exams),
        thresholds=thresholds,
        certainty=found.certainty,
        cost=cost(chart, metrics),
        lives=Lives.of_run(recording, chart),
    )


def judge(recording: Recording, thresholds: Thresholds = DEFAULT) -> Diagnosis:
    """The diagnosis of one recorded run."""
    return diagnose(
        recording.sites, recording.windows, recording.ledgers, recording.history, thresholds
    )


def _site(site: SiteReport) -> dict[str, Any]:
    said = {name: value for name, value in vars(site).items() if name != "codes"}
    return said | {"impact": vars(site.impact)}


def _taps(steps: Steps, lost: str | None) -> dict[str, list[tuple[int, float]]]:
    """Loss, learning rate and gradient norm by step; without what was never seen.

    Args:
        steps: Readings of every step.
        lost: Which of them is known to have been not finite, and so was seen.
    """
    return {
        name: list(zip(steps.step.tolist(), values.tolist(), strict=True))
        for name, values in (
            ("loss", steps.loss),
            ("lr", steps.lr),
            ("gradient_norm", steps.gradient),
        )
        if np.isfinite(values).any() or (name == lost and len(values))
    }
