"""Where a watched run is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from flatline.anatomy.site import Site, Unplaced
from flatline.sense.taps import Row
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

    def ledgers(self, step: int, ledgers: Mapping[str, Ledger]) -> None:
        """Ledgers between exams."""

    def steps(self, rows: Sequence[Row]) -> None:
        """Losses and learning rates."""

    def event(
        self, step: int, site: str, kind: str, units: Sequence[int], evidence: dict[str, float]
    ) -> None:
        """A death or a revival."""

    def lost(self, what: str, why: str) -> None:
        """Something that could not be seen."""
