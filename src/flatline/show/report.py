"""The report: everything that is shown about one run, as plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flatline.diagnose.causes import Causes
from flatline.diagnose.certainty import Certainty
from flatline.diagnose.diagnose import Diagnosis, diagnose
from flatline.diagnose.findings import Finding
from flatline.diagnose.states import STATES, States
from flatline.diagnose.thresholds import DEFAULT, Thresholds
from flatline.record.recording import Recording
from flatline.sense.history import Steps
from flatline.sense.vitals import Vitals
from flatline.show.plain import plain, version, write

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SCHEMA = "flatline/1"
#: Units listed one by one; beyond this many only their number is told.
UNITS = 10_000
#: Added to the code of a unit whose state is not certain.
UNSURE = 1 << 4
_HEALTHY = STATES.index("healthy")
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


@dataclass(frozen=True)
class SiteReport:
    """One site as the report shows it.

    Attributes:
        name: Its name.
        activation: Name of its activation.
        units: Number of units.
        feeds: Parameters that make its pre-activation.
        reads: Parameters that read its units.
        states: Number of units in each state that occurs; those silent so far are among the dead.
        silent_so_far: Silent units seen on too few examples to be called dead.
        pulse: How well the gradients of every step tell who fired.
        examples: Examples in the last windows of the exams.
        gradient_rms: Measured by the last exam, as the next two; ``None`` where it was not.
        update_ratio: Relative size of one update of the feeding weights.
        effective_rank: Effective rank of the activations.
        deaths: Steps with the number of units that died there and are dead now.
        codes: One byte per unit: the index of its state in :data:`STATES`, plus :data:`UNSURE`
            where it is only silent so far. Not part of the JSON, which lists units by name.
    """

    name: str
    activation: str
    units: int
    feeds: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    states: Mapping[str, int] = field(default_factory=dict)
    silent_so_far: int = 0
    pulse: str = "none"
    examples: int = 0
    gradient_rms: float | None = None
    update_ratio: float | None = None
    effective_rank: float | None = None
    deaths: tuple[tuple[int, int], ...] = ()
    codes: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class UnitReport:
    """One unit that is not healthy.

    Attributes:
        site: Name of its site.
        unit: Its index.
        state: Its state.
        certain: False while it is only silent so far.
        since_step: First step known to be silent; ``None`` where that is not known.
        since_exact: ``since_step`` is the step of death itself.
        since_after: Last step on which it showed life; ``None`` when it never did.
        examples: Examples the statement rests on.
        firing_rate: Share of those on which it fired.
        firing_rate_upper: Upper bound of the firing rate at 99 % confidence.
        cause: Why it died; ``None`` for a unit that is not dead.
        evidence: Further numbers; ``margin`` is how close it came to firing, in standard
            deviations of its pre-activation.
    """

    site: str
    unit: int
    state: str
    certain: bool = True
    since_step: int | None = None
    since_exact: bool = False
    since_after: int | None = None
    examples: int = 0
    firing_rate: float | None = None
    firing_rate_upper: float | None = None
    cause: str | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Report:
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

    def to_dict(self) -> dict[str, Any]:
        """The JSON report; only ``None``, ``bool``, numbers, text, lists and dictionaries.

        Example:
            >>> Report().to_dict()["verdict"]
            'healthy'
        """
        kind = {} if self.kind is None else {"kind": self.kind}
        more = {} if self.units_truncated is None else {"units_truncated": self.units_truncated}
        whole = {
            "schema": SCHEMA,
            **kind,
            "flatline": version(),
            "run": _RUN | dict(self.run),
            "verdict": self.verdict,
            "sites": [_without_codes(site) for site in self.sites],
            "units": [vars(unit) for unit in self.units],
            **more,
            "findings": [
                vars(one) | {"remedies": [vars(remedy) for remedy in one.remedies]}
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
            "thresholds": self.thresholds.changed(),
        }
        said: dict[str, Any] = plain(whole)
        return said

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON report as text, which is strict JSON in ASCII.

        Args:
            path: A file to write it to as well.

        Raises:
            UsageError: When the file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        if path is not None:
            write(path, text)
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one page that needs nothing else.

        Args:
            path: A file to write it to as well.

        Raises:
            UsageError: When the file cannot be written.
        """
        from flatline.show import html

        text: str = html.render(self)
        if path is not None:
            write(path, text)
        return text

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
) -> Report:
    """The report of one recorded run.

    Args:
        recording: The run.
        units: Units to list one by one, at most; the worst are kept.
        kind: ``"examination"`` for a census without training.
        store: The store to name in commands, where it is not the usual one.
        thresholds: What to compare with.

    Example:
        >>> build(Recording({"id": "a1", "status": "finished"})).verdict
        'healthy'
    """
    found = diagnose(
        recording.sites, recording.windows, recording.ledgers, recording.history, thresholds
    )
    charts = list(found.sites.values())
    listed, total = _units(charts, list(found.causes.values()), units)
    return Report(
        verdict=found.verdict,
        run=recording.facts,
        sites=_sites(recording, found),
        units=listed,
        findings=found.findings,
        metrics=_taps(recording.steps) | recording.metrics,
        not_watched=tuple((one.name, one.because) for one in recording.unplaced),
        lost=tuple((what, why) for what, why in recording.lost),
        deaths=_deaths(charts),
        units_truncated=total if total > len(listed) else None,
        kind=kind,
        store=None if store is None else str(store),
        exams=tuple(recording.exams),
        thresholds=thresholds,
        certainty=found.certainty,
    )


def _sites(recording: Recording, found: Diagnosis) -> tuple[SiteReport, ...]:
    measures: dict[str, dict[str, float]] = {}
    for _, sites in recording.exams:
        for name, values in sites.items():
            measures.setdefault(name, {}).update(values)
    none = Vitals.empty(0)
    return tuple(
        SiteReport(
            name=site.name,
            activation=site.activation.name,
            units=site.units,
            feeds=site.feeds,
            reads=site.reads,
            states=found.sites[site.name].counts(),
            silent_so_far=found.sites[site.name].silent_so_far,
            pulse=site.pulse,
            examples=recording.windows.get(site.name, none).examples,
            deaths=_deaths([found.sites[site.name]]),
            codes=_codes(found.sites[site.name]),
            **{key: measures.get(site.name, {}).get(key) for key in _MEASURES},
        )
        for site in recording.sites
    )


_MEASURES = ("gradient_rms", "update_ratio", "effective_rank")


def _units(
    charts: Sequence[States], causes: Sequence[Causes], limit: int
) -> tuple[tuple[UnitReport, ...], int]:
    """The worst ``limit`` units that are not healthy, in order, and the number of all."""
    if not charts:
        return (), 0
    code = np.concatenate([chart.code for chart in charts])
    # What is only silent so far comes after all that is sure to be wrong.
    rank = code + len(STATES) * ~np.concatenate([chart.certain for chart in charts])
    site = np.repeat(np.arange(len(charts)), [len(chart.code) for chart in charts])
    unit = np.concatenate([np.arange(len(chart.code)) for chart in charts])
    sick = np.flatnonzero(code != _HEALTHY)
    kept = np.sort(sick[np.argsort(rank[sick], kind="stable")][: max(limit, 0)])
    rows = zip(site[kept].tolist(), unit[kept].tolist(), strict=True)
    return tuple(_unit(charts[where], causes[where], which) for where, which in rows), len(sick)


def _unit(chart: States, causes: Causes, unit: int) -> UnitReport:
    state = chart.state(unit)
    margin = float(chart.margin[unit])
    dead = state == "dead"
    return UnitReport(
        site=chart.site.name,
        unit=unit,
        state=state,
        certain=bool(chart.certain[unit]),
        since_step=_known(chart.since_step[unit]),
        since_exact=bool(chart.since_exact[unit]),
        since_after=_known(chart.since_after[unit]) if dead else None,
        examples=int(chart.examples[unit]),
        firing_rate=float(chart.firing_rate[unit]),
        firing_rate_upper=float(chart.firing_rate_upper[unit]),
        cause=causes.of(unit),
        evidence=({"margin": margin} if math.isfinite(margin) else {}) | causes.numbers(unit),
    )


def _known(step: np.integer[Any]) -> int | None:
    return int(step) if step >= 0 else None


def _deaths(charts: Sequence[States]) -> tuple[tuple[int, int], ...]:
    steps = [chart.since_step[chart.are("dead") & (chart.since_step >= 0)] for chart in charts]
    step, number = np.unique(np.concatenate([*steps, np.empty(0, np.int64)]), return_counts=True)
    return tuple(zip(step.astype(int).tolist(), number.tolist(), strict=True))


def _codes(chart: States) -> bytes:
    return (chart.code + UNSURE * ~chart.certain).astype(np.uint8).tobytes()


def _without_codes(site: SiteReport) -> dict[str, Any]:
    return {name: value for name, value in vars(site).items() if name != "codes"}


def _taps(steps: Steps) -> dict[str, list[tuple[int, float]]]:
    """Loss and learning rate by step; without what was never seen."""
    return {
        name: list(zip(steps.step.tolist(), values.tolist(), strict=True))
        for name, values in (("loss", steps.loss), ("lr", steps.lr))
        if np.isfinite(values).any()
    }
