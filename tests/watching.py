"""Watching a workload from a test: a recorder that keeps everything in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flatline.anatomy.site import Site, Unplaced
from flatline.diagnose.diagnose import diagnose
from flatline.diagnose.states import States
from flatline.sense.attach import Attachment
from flatline.sense.histogram import Histograms
from flatline.sense.history import Row
from flatline.sense.vitals import Ledger, Vitals
from flatline.sense.watcher import Watcher


@dataclass(frozen=True)
class Exam:
    """What one exam handed over."""

    step: int
    vitals: Mapping[str, Vitals]
    previous: Mapping[str, Vitals | None]
    ledgers: Mapping[str, Ledger]
    measures: Mapping[str, Mapping[str, float]]


class Memory:
    """Keeps what a watcher hands over."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.unplaced: tuple[Unplaced, ...] = ()
        self.exams: list[Exam] = []
        self.newest: dict[str, Ledger] = {}
        self.rows: list[Row] = []
        self.events: list[tuple[int, str, str, list[int]]] = []
        self.births: dict[str, int] = {}
        self.autopsies: list[tuple[int, str, int, Any]] = []
        self.terms: list[Any] = []
        self.notes: list[tuple[int, str, dict[str, Any]]] = []
        self.losses: list[tuple[str, str]] = []
        self.histograms_at: dict[int, dict[str, Histograms]] = {}

    def anatomy(self, sites: Sequence[Site], unplaced: Sequence[Unplaced]) -> None:
        self.sites = {site.name: site for site in sites}
        self.unplaced = tuple(unplaced)

    def exam(
        self,
        step: int,
        vitals: Mapping[str, Vitals],
        previous: Mapping[str, Vitals | None],
        ledgers: Mapping[str, Ledger],
        measures: Mapping[str, Mapping[str, float]],
    ) -> None:
        self.exams.append(Exam(step, dict(vitals), dict(previous), dict(ledgers), dict(measures)))
        self.newest.update(ledgers)

    def histograms(self, step: int, found: Mapping[str, Histograms]) -> None:
        self.histograms_at[step] = dict(found)

    def ledgers(self, step: int, ledgers: Mapping[str, Ledger]) -> None:
        self.newest.update(ledgers)

    def steps(self, rows: Sequence[Row]) -> None:
        self.rows.extend(rows)

    def event(
        self, step: int, site: str, kind: str, units: Sequence[int], evidence: dict[str, float]
    ) -> None:
        self.events.append((step, site, kind, list(units)))

    def birth(self, step: int, site: str, birth: Any) -> None:
        self.births[site] = step

    def deaths(self, step: int, site: str, before: int, units: Any, terms: Any) -> None:
        self.autopsies.append((step, site, before, units))
        self.terms.append(terms)

    def note(self, step: int, kind: str, evidence: Mapping[str, Any]) -> None:
        self.notes.append((step, kind, dict(evidence)))

    def lost(self, what: str, why: str) -> None:
        self.losses.append((what, why))

    def window(self, site: str) -> tuple[list[int], Vitals]:
        """The newest window of a site: the steps of its exams, and what it says."""
        steps: list[int] = []
        for exam in self.exams:
            if site in exam.vitals:
                steps = [*([] if exam.previous[site] else steps), exam.step]
                vitals = exam.vitals[site]
        return steps, vitals

    def states(self, site: str) -> States:
        """The states of a site's units as they would be reported now."""
        found = diagnose(
            [*self.sites.values()], {name: self.window(name)[1] for name in self.seen}, self.newest
        )
        return found.sites[site]

    @property
    def seen(self) -> set[str]:
        """Names of the sites that received an example in an exam."""
        return {name for exam in self.exams for name in exam.vitals}


def examine_when(pacer: Any, when: Callable[[int, bool], bool]) -> None:
    """Let ``when(step, event)`` decide on exams."""
    pacer.due = lambda step, elapsed, event: when(step, event)
    pacer.quiet = lambda step: next((k for k in range(1, 64) if when(step + k, False)), 64)


@contextmanager
def watched(when: Callable[[int, bool], bool] = lambda step, event: True, **options: Any) -> Any:
    """Watch every optimizer built inside; ``when(step, event)`` decides on exams."""
    memory = Memory()
    watcher = Watcher(memory, budget=0.01, **options)
    examine_when(watcher.pacer, when)
    attachment = Attachment(watcher)
    try:
        yield memory, watcher
    finally:
        attachment.remove()
        watcher.close()
