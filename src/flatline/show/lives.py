"""What the page tells of single units and of a site's neighbours, looked up only when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from flatline.diagnose.chart import Chart
from flatline.diagnose.states import States
from flatline.diagnose.story import Moment, Way, of_unit, ways
from flatline.record.recording import Event, Recording
from flatline.sense.vitals import Float, Vitals
from flatline.show.drawings import Drawings, Histogram


@dataclass(frozen=True)
class Spread:
    """The pre-activation of one unit over the examples of an exam, or of several.

    Attributes:
        step: The exam, or the last of several; ``None`` for all examples that are kept.
        mean: Mean of z.
        deviation: Its standard deviation.
        low: The smallest z; ``None`` where only mean and deviation are kept.
        high: The largest z.
    """

    step: int | None
    mean: float
    deviation: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Life:
    """The life of one unit.

    Attributes:
        story: What happened to it, by rising step.
        ways: How its mean pre-activation went into silence.
        spreads: Where its pre-activation lay, by rising step.
        histograms: How it was distributed at some exams, by rising step.
    """

    story: tuple[Moment, ...]
    ways: tuple[Way, ...] = ()
    spreads: tuple[Spread, ...] = ()
    histograms: tuple[Histogram, ...] = ()


@dataclass(frozen=True)
class Lives:
    """The lives of all units of a run.

    Attributes:
        chart: The states of all sites, and what led to them.
        windows: Per site, the examples that its states rest on.
        events: What happened to units, in order.
        histograms: Per site, packed histograms of its units at exams, by rising step.
    """

    chart: Chart
    windows: dict[str, Vitals] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    histograms: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    @classmethod
    def of_run(cls, recording: Recording, chart: Chart) -> Lives:
        """The lives of a recorded run."""
        return cls(chart, recording.windows, tuple(recording.events), recording.histograms)

    def of(self, site: str, unit: int) -> Life:
        """The life of one unit."""
        turns = self._turns.get(site, {}).get(unit, [])
        history = self.chart.history
        told = ways(history, site, unit)
        return Life(
            story=of_unit(self.chart.of(site), unit, history, turns),
            ways=told,
            spreads=tuple(_spreads(told, self._measured.get(site), unit)),
            histograms=self.drawn(site, unit),
        )

    def drawn(self, site: str, unit: int) -> tuple[Histogram, ...]:
        """How the pre-activation of one unit was distributed at some exams."""
        if site not in self._drawings:
            return ()
        states = self.chart.of(site)
        life, since = int(states.last_life[unit]), int(states.since_step[unit])
        return self._drawings[site].of(unit, life, since)

    def drawn_at_ends(self, site: str) -> tuple[set[int], set[int]]:
        """The units of a site that its first and its last exam drew."""
        drawings = self._drawings.get(site)
        return (set(), set()) if drawings is None else (drawings.units(0), drawings.units(-1))

    def upstream(self, site: str) -> list[States]:
        """States of the sites whose units a site reads."""
        return [self.chart.of(name) for name in self.chart.upstream[site]]

    def downstream(self, site: str) -> list[States]:
        """States of the sites that read the units of a site."""
        return self._downstream.get(site, [])

    @cached_property
    def _drawings(self) -> dict[str, Drawings]:
        return {site: Drawings(packed) for site, packed in self.histograms.items()}

    @cached_property
    def _measured(self) -> dict[str, tuple[Float, ...]]:
        """Per site with examples: mean, standard deviation and extremes of z."""
        return {
            site: (window.z_mean, window.z_std, window.z_min, window.z_max)
            for site, window in self.windows.items()
            if window.examples
        }

    @cached_property
    def _downstream(self) -> dict[str, list[States]]:
        found: dict[str, list[States]] = {}
        for states in self.chart:
            for name in self.chart.upstream[states.site.name]:
                found.setdefault(name, []).append(states)
        return found

    @cached_property
    def _turns(self) -> dict[str, dict[int, list[tuple[int, str]]]]:
        found: dict[str, dict[int, list[tuple[int, str]]]] = {}
        for event in self.events:
            units = found.setdefault(event.site, {})
            for unit in event.units:
                units.setdefault(unit, []).append((event.step, event.kind))
        return found


def _spreads(
    told: tuple[Way, ...], measured: tuple[Float, ...] | None, unit: int
) -> Iterable[Spread]:
    """Where z lay at each exam that is known, and over the examples that are kept."""
    known = [Spread(way.start, way.z_start, way.spread_start) for way in reversed(told)]
    known += [Spread(way.end, way.z_end, way.spread_end) for way in told[:1]]
    yield from (one for one in known if math.isfinite(one.mean) and math.isfinite(one.deviation))
    numbers = [float(array[unit]) for array in measured or ()]
    if numbers and all(map(math.isfinite, numbers)):
        yield Spread(None, *numbers)
