"""What exams measured at each site: at the start, as a rule, at the end, and at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flatline.sense.history import History

Double = npt.NDArray[np.float64]

#: Exams whose median is the start.
EARLY = 3
#: Part of the exams whose median is the end.
LATE = 1 / 3
#: Exams looked at; of more, the first and evenly chosen ones.
_MOST = 96


class Readings:
    """Numbers about sites as wholes, summed up over the exams of a training.

    Args:
        history: The training.
        sites: Names of the sites.
    """

    def __init__(self, history: History, sites: Sequence[str]) -> None:
        exams = history.exams
        chosen: npt.NDArray[np.intp] = np.arange(len(exams))
        if len(exams) > _MOST:
            spread = np.linspace(EARLY, len(exams) - 1, _MOST - EARLY).astype(np.intp)
            chosen = np.concatenate([chosen[:EARLY], np.unique(spread)])
        none: Mapping[str, float] = {}
        self._exams = [[exams[i][1].get(site, none) for site in sites] for i in chosen]
        self._sites = len(sites)
        self._tables: dict[str, Double] = {}

    def _table(self, name: str) -> Double:
        """One measure, shape ``(exams, sites)``; NaN where there was none."""
        if name not in self._tables:
            rows = [[site.get(name, np.nan) for site in exam] for exam in self._exams]
            table = np.array(rows, np.float64).reshape(len(rows), self._sites)
            self._tables[name] = np.where(np.isfinite(table), table, np.nan)
        return self._tables[name]

    def _each(self, name: str, part: str) -> Double:
        """One number per site."""
        table, found = self._table(name), np.full(self._sites, np.nan)
        gaps = np.isnan(table)
        whole = ~gaps.any(axis=0)
        if len(table) and whole.any():
            found[whole] = _PARTS[part](table[:, whole])
        for place in np.flatnonzero(~whole & ~gaps.all(axis=0)):
            found[place] = _PARTS[part](table[~gaps[:, place], place])
        return found

    def first(self, name: str) -> Double:
        """The first value at each site.

        Example:
            >>> exams = [(0, {"net.0": {"batch": 64.0}}), (1, {"net.0": {"batch": 32.0}})]
            >>> Readings(History(exams=exams), ["net.0", "net.2"]).first("batch")
            array([64., nan])
        """
        return self._each(name, "first")

    def early(self, name: str) -> Double:
        """The median of the first exams at each site."""
        return self._each(name, "early")

    def usual(self, name: str) -> Double:
        """The median of all exams at each site."""
        return self._each(name, "usual")

    def late(self, name: str) -> Double:
        """The median of the last third of the exams at each site."""
        return self._each(name, "late")

    def last(self, name: str) -> Double:
        """The last value at each site."""
        return self._each(name, "last")

    def most(self, name: str) -> Double:
        """The largest value at each site."""
        return self._each(name, "most")


def _late(rows: Double) -> Double:
    return np.asarray(np.median(rows[-max(1, round(LATE * len(rows))) :], axis=0))


_PARTS: dict[str, Callable[[Double], Double]] = {
    "first": lambda rows: rows[0],
    "early": lambda rows: np.asarray(np.median(rows[:EARLY], axis=0)),
    "usual": lambda rows: np.asarray(np.median(rows, axis=0)),
    "late": _late,
    "last": lambda rows: rows[-1],
    "most": lambda rows: np.asarray(rows.max(axis=0)),
}
