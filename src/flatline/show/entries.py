"""Sites and units as a report lists them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatline.diagnose.causes import Causes
from flatline.diagnose.diagnose import Diagnosis
from flatline.diagnose.impact import Impact, latest, of_site
from flatline.diagnose.states import STATES, States
from flatline.record.recording import Recording
from flatline.sense.vitals import Vitals

#: Added to the code of a unit whose state is not certain.
UNSURE = 1 << 4
_HEALTHY = STATES.index("healthy")


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
        impact: What its dead units cost.
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
    impact: Impact = field(default_factory=Impact)
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


def site_reports(recording: Recording, found: Diagnosis) -> tuple[SiteReport, ...]:
    """The sites of a run, in the order of the forward pass."""
    measures: dict[str, dict[str, float]] = {}
    for _, sites in recording.exams:
        for name, values in sites.items():
            measures.setdefault(name, {}).update(values)
    none, known = Vitals.empty(0), latest(recording.history)
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
            deaths=death_steps([found.sites[site.name]]),
            codes=_codes(found.sites[site.name]),
            impact=of_site(
                found.sites[site.name],
                known.get(site.name, {}),
                recording.windows.get(site.name),
            ),
            **{key: measures.get(site.name, {}).get(key) for key in _MEASURES},
        )
        for site in recording.sites
    )


_MEASURES = ("gradient_rms", "update_ratio", "effective_rank")


def unit_reports(
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
    listed = tuple(unit_report(charts[where], causes[where], which) for where, which in rows)
    return listed, len(sick)


def unit_report(chart: States, causes: Causes, unit: int) -> UnitReport:
    """One unit of a site."""
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


def death_steps(charts: Sequence[States]) -> tuple[tuple[int, int], ...]:
    """Steps with the number of units that died there and are dead now."""
    steps = [chart.since_step[chart.are("dead") & (chart.since_step >= 0)] for chart in charts]
    step, number = np.unique(np.concatenate([*steps, np.empty(0, np.int64)]), return_counts=True)
    return tuple(zip(step.astype(int).tolist(), number.tolist(), strict=True))


def _codes(chart: States) -> bytes:
    return (chart.code + UNSURE * ~chart.certain).astype(np.uint8).tobytes()
