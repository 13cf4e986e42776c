"""Runs side by side: the comparison as plain data, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult

from flatline.show import about, words
from flatline.show.differences import Difference, dead_share, differences, ends, sick_share
from flatline.show.plain import encode, plain, version, write
from flatline.show.report import SCHEMA, Report
from flatline.show.sheet import Sheet, as_text, bare
from flatline.show.text import clean, count, measured, named, percent

WIDTH = 80
#: Rows of a section in a terminal, at most.
ROWS = 24
#: Runs that stand side by side in a terminal, at most; the first is repeated beside the others.
SIDE = 5
CELL = 11
TITLES = {
    "verdict": "Verdict",
    "findings": "Findings",
    "units": "Units",
    "metrics": "Metrics",
    "sites": "Sites",
    "run": "Run",
}


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs side by side; ``print`` shows them as text.

    Attributes:
        reports: The report of each run; the others are compared with the first.
    """

    reports: tuple[Report, ...]

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """What is not the same in all runs."""
        return differences(self.reports)

    def of(self, topic: str) -> list[Difference]:
        """The differences about one topic."""
        return [one for one in self.differences if one.about == topic]

    @property
    def widths(self) -> list[int]:
        """Cells that the values of each run take, so that all tables line up."""
        shown = [cells(one) for one in self.differences]
        return [
            max([len(row[place]) for row in shown if len(row[place]) <= CELL], default=1)
            for place in range(len(self.reports))
        ]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document, in the types of JSON."""
        said: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "kind": "comparison",
                "flatline": version(),
                "runs": [_run(report) for report in self.reports],
                "differences": [vars(one) for one in self.differences],
            }
        )
        return said

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON document as text.

        Args:
            path: A file to write it to as well.

        Raises:
            UsageError: When the file cannot be written.
        """
        text = encode(self.to_dict())
        if path is not None:
            write(path, text)
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """The runs side by side as one page that needs nothing else.

        Args:
            path: A file to write it to as well.

        Raises:
            UsageError: When the file cannot be written.
        """
        from flatline.show import side_by_side

        text: str = side_by_side.render(self)
        if path is not None:
            write(path, text)
        return text

    def __str__(self) -> str:
        return as_text(self, WIDTH, color=False)

    def __repr__(self) -> str:
        return f"<Comparison: {len(self.reports)} runs, {len(self.differences)} differences>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        page = _Page(options.max_width, options.ascii_only)
        parts = [page.head(self), *(page.topic(self, topic) for topic in TITLES)]
        return bare(Group(*(part for part in parts if part is not None)), console, options)


def letter(place: int) -> str:
    """What a run is called beside the others: A to Z, then A2 and so on.

    Example:
        >>> letter(0), letter(27)
        ('A', 'B2')
    """
    turn, which = divmod(place, len(ascii_uppercase))
    return ascii_uppercase[which] + (str(turn + 1) if turn else "")


def outcome(report: Report) -> str:
    """How a run came out, in a few words.

    Example:
        >>> outcome(Report())
        'no unit was seen'
    """
    counts = words.totals(report)
    units, dead = sum(counts.values()), counts.get("dead", 0)
    if not units:
        return "no unit was seen"
    return f"{dead:,} of {count(units, 'unit')} dead ({percent(dead / units)})"


def label(one: Difference) -> str:
    """The name of a difference, in words."""
    if one.about == "metrics":
        name, _, which = one.name.rpartition(".")
        return f"{named(name)}, {'at the end' if which == 'last' else 'mean of the last tenth'}"
    if one.about == "sites":
        name, _, which = one.name.rpartition(".")
        return f"{named(name)}, {which.replace('_', ' ')}"
    return _FACTS.get(one.name) or named(one.name.replace("_", " "))


_FACTS = {"argv": "program", "seconds": "took, in seconds", "world_size": "processes"}


def cells(one: Difference) -> list[str]:
    """The value of each run as it is shown; a dash where a run has none."""
    share = one.name.endswith("_share")
    return [_cell(value, share) for value in one.values]


def _cell(value: Any, share: bool) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, list | tuple):
        return clean(" ".join(map(str, value)), 200)
    if isinstance(value, int | float):
        return percent(value) if share else measured(value)
    return clean(value, 200)


def _run(report: Report) -> dict[str, Any]:
    """The ``run`` object of a report, with how the run came out."""
    whole = report.to_dict()
    return {
        **whole["run"],
        "verdict": whole["verdict"],
        "units": sum(site.units for site in report.sites),
        "states": words.totals(report),
        "dead_share": dead_share(report),
        "sick_share": sick_share(report),
        "findings": [{"code": one.code, "severity": one.severity} for one in report.findings],
        "metrics": ends(report),
    }


class _Page(Sheet):
    """Draws the parts of a comparison."""

    def head(self, told: Comparison) -> RenderableType:
        table = self.grid(2)
        for place, report in enumerate(told.reports):
            table.add_row(self.text(letter(place), "bold"), self.text(about.title(report)))
            said = f"{words.verdict(report)}, {outcome(report)}"
            table.add_row("", self.text(said))
            if treatments := report.run.get("treatments"):
                names = ", ".join(named(one) for one in treatments)
                table.add_row("", self.text(f"treated with {names}", "dim"))
        if told.differences:
            return table
        return Group(table, self.text("\nNothing that is recorded differs between them."))

    def topic(self, told: Comparison, topic: str) -> RenderableType | None:
        rows = told.of(topic)
        if not rows:
            return None
        widths = told.widths
        body: list[RenderableType] = []
        for block in _blocks(len(told.reports), max((self.width - 28) // (CELL + 2), 2)):
            differ = [one for one in rows if len({str(one.values[place]) for place in block}) > 1]
            if differ:
                body.append(self.values(differ[:ROWS], block, widths))
        if len(rows) > ROWS:
            body.append(self.text(f"and {count(len(rows) - ROWS, 'difference')} more", "dim"))
        return self.section(TITLES[topic], *body)

    def values(
        self, rows: Sequence[Difference], block: Sequence[int], widths: Sequence[int]
    ) -> RenderableType:
        """The values of some runs; what is too long for its cell stands below the others."""
        table = self.grid(1 + len(block), ratio=0)
        for column, place in zip(table.columns[1:], block, strict=True):
            column.justify, column.min_width = "right", widths[place]
        table.add_row("", *(self.text(letter(place), "dim") for place in block))
        for one in rows:
            shown = cells(one)
            long = any(len(shown[place]) > CELL for place in block)
            table.add_row(
                self.text(label(one)), *(self.text("" if long else shown[p]) for p in block)
            )
            if long:
                for place in block:
                    table.add_row(self.text(f"  {letter(place)}  {shown[place]}", "dim"))
        return table


def _blocks(runs: int, room: int) -> list[list[int]]:
    """Places of runs that stand side by side, the first in every block.

    Example:
        >>> _blocks(5, 3)
        [[0, 1, 2], [0, 3, 4]]
    """
    side = min(room, SIDE) - 1
    others = list(range(1, runs))
    return [[0, *others[i : i + side]] for i in range(0, len(others), side)]
