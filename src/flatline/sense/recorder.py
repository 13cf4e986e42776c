"""Where a watched run is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from flatline.anatomy.site import Site, Unplaced
from flatline.sense.histogram import Histograms
from flatline.sense.history import Float, Int, Row
from flatline.sense.vitals import Ledger, Vitals


class Recorder(Protocol):
    """Where a watched run is written to; no call may raise."""

    def anatomy(self, sites: Sequence[Site], unplaced: Sequence[Unplaced]) -> None:
        """The sites, whenever new ones were found."""

    def exam(
        self,
        step: int,
        vitals: Mapping[str, Vitals],
        previous: Mapping[str, Vitals | None],
        ledgers: Mapping[str, Ledger],
        measures: Mapping[str, Mapping[str, float]],
    ) -> None:
        """An exam."""

    def histograms(self, step: int, found: Mapping[str, Histograms]) -> None:
        """Where the pre-activations of some units lay at an exam, by site."""

    def ledgers(self, step: int, ledgers: Mapping[str, Ledger]) -> None:
        """Ledgers between exams."""

    def steps(self, rows: Sequence[Row]) -> None:
        """Loss, learning rate and gradient norm of steps."""

    def event(
        self, step: int, site: str, kind: str, units: Sequence[int], evidence: dict[str, float]
    ) -> None:
        """A death or a revival."""

    def birth(self, step: int, site: str, birth: Float) -> None:
        """Where the units of a site began; see :class:`flatline.sense.drift.Drift`."""

    def deaths(self, step: int, site: str, before: int, units: Int, terms: Float) -> None:
        """How units died that an exam found silent; see :class:`flatline.sense.autopsy.Deaths`."""

    def note(self, step: int, kind: str, evidence: Mapping[str, Any]) -> None:
        """Something seen of the model as a whole."""

    def lost(self, what: str, why: str) -> None:
        """Something that could not be seen."""
