"""The report as text for a terminal, in 80 columns or whatever there is."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flatline.show import words
from flatline.show.report import Report, SiteReport

WIDTH = 80
SITES = 24
GROUPS = 8
UNSEEN = 8
NARROW = 60
_ARROW = {
    "sick": "bold red",
    "warning": "bold yellow",
    "healthy": "bold green",
    "unknown": "bold yellow",
}
_SEVERITY = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
#: Per kind of unit its mark, its mark in ASCII, and its colour: told apart without colour too.
MARKS = {
    "healthy": ("▇", "#", "green"),
    "linear": ("▅", "/", "blue"),
    "ignored": ("▒", "~", "blue"),
    "dormant": ("▃", "o", "yellow"),
    "unvisited": ("·", ".", "bright_black"),
    "starved": ("▂", "*", "yellow"),
    "duplicate": ("▚", "&", "magenta"),
    "constant": ("━", "=", "magenta"),
    "saturated": ("▔", "^", "magenta"),
    words.SO_FAR: ("░", ":", "yellow"),
    "dead": ("▁", "_", "red"),
    "nonfinite": ("×", "x", "bright_red"),
}
_SPARK, _SPARK_ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"


def render(report: Report, width: int = WIDTH, *, color: bool = False) -> str:
    """The report as text.

    Args:
        report: What to show.
        width: Columns.
        color: Whether to colour it with escape sequences.
    """
    return _text(report, width, color)


def render_runs(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Stored runs as a table, for ``Console.print``.

    Args:
        runs: The facts of each, newest first.
    """
    return _Runs(tuple(runs))


def _text(what: RenderableType, width: int, color: bool) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        _environ={},
    )
    with console.capture() as capture:
        console.print(what)
    # Tables pad their last column; text that goes to a file should not.
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def view(report: Report, width: int = WIDTH, *, ascii_only: bool = False) -> Iterator[Group]:
    """The parts of the report, one after the other.

    Args:
        report: What to show.
        width: Columns.
        ascii_only: Whether the terminal can show nothing else.
    """
    page = _Page(report, width, ascii_only)
    parts = (
        page.head(),
        page.findings(),
        page.sites(),
        page.deaths(),
        page.units(),
        page.unseen(),
        page.commands(),
    )
    yield Group(*(part for part in parts if part is not None))


@dataclass(frozen=True)
class _Page:
    """Draws the parts of one report; each is ``None`` where there is nothing to say."""

    report: Report
    width: int
    ascii_only: bool

    def text(self, said: str, style: str = "") -> Text:
        if self.ascii_only:
            said = said.translate(_ASCII).encode("ascii", "backslashreplace").decode()
        return Text(said, style)

    def fit(self, name: str, cells: int, style: str = "") -> Text:
        """A name in at most so many cells, without its middle where it is longer."""
        shown = words.clean(name, 4 * cells)
        if cell_len(shown) > cells:
            left = (cells - 1) // 2
            head, tail = set_cell_size(shown, left), shown[::-1]
            shown = f"{head}…{set_cell_size(tail, cells - 1 - left)[::-1]}"
        return self.text(shown, style)

    def section(self, title: str, *body: RenderableType) -> RenderableType:
        heading = Text(f"\n{title}", "bold")
        return Group(heading, *(Padding(part, (0, 0, 0, 2)) for part in body))

    def grid(self, columns: int, *, ratio: int | None = None) -> Table:
        """A table without lines whose last column, or the one named, takes what is left."""
        table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        for index in range(columns):
            last = index == (columns - 1 if ratio is None else ratio)
            table.add_column(overflow="fold", no_wrap=not last, ratio=1 if last else None)
        table.expand = True
        return table

    def head(self) -> RenderableType:
        verdict = self.report.verdict if self.report.sites else "unknown"
        sentence = self.text("", "")
        sentence.append(f"{verdict.upper()}  ", _ARROW[verdict])
        sentence.append_text(self.text(words.headline(self.report)))
        lines = [self.text(words.title(self.report), "dim")]
        if facts := words.facts(self.report):
            lines.append(self.text(facts, "dim"))
        return Group(sentence, *lines)

    def findings(self) -> RenderableType | None:
        found = self.report.findings
        if not found:
            return None
        table = self.grid(2)
        for one in found:
            said = self.text(f"{words.clean(one.code)}  ", "bold")
            said.append_text(self.text(words.message(one.message, one.sites), "not bold"))
            table.add_row(Text(one.severity, _SEVERITY[one.severity]), said)
            for remedy in one.remedies[:2] if one.severity != "info" else ():
                advice = self.text("try ", "dim")
                advice.append_text(self.text(words.clean(remedy.treatment), "not dim bold"))
                advice.append_text(self.text(f": {words.clean(remedy.why)}", "not bold"))
                table.add_row("", advice)
        return self.section("Findings", table)

    def sites(self) -> RenderableType | None:
        sites = words.worst_sites(self.report, SITES)
        if not sites:
            return None
        narrow = self.width < NARROW
        bar, name = (10, 12) if narrow else (24, max(12, min(24, self.width - 56)))
        name = min(name, max(cell_len(words.clean(site.name)) for site in sites))
        table = self.grid(4 if narrow else 5)
        table.columns[1 if narrow else 2].justify = "right"
        for site in sites:
            row: list[RenderableType] = [
                self.fit(site.name, name),
                self.text(words.clean(site.activation), "dim"),
                self.text(f"{site.units:,}"),
                self.bar(site, bar),
                self.text(words.listing(words.split(site)) or "healthy"),
            ]
            table.add_row(*(row[:1] + row[2:] if narrow else row))
        body: list[RenderableType] = [table, self.legend()]
        if left := len(self.report.sites) - len(sites):
            body.append(self.text(f"and {words.count(left, 'site')} less affected", "dim"))
        return self.section("Sites, with the state of their units", *body)

    def mark(self, kind: str) -> tuple[str, str]:
        mark, plain, style = MARKS[kind]
        return plain if self.ascii_only else mark, style

    def bar(self, site: SiteReport, cells: int) -> Text:
        bar = Text()
        for kind, length in segments(words.split(site), cells).items():
            mark, style = self.mark(kind)
            bar.append(mark * length, style)
        return bar

    def legend(self) -> Text:
        legend = Text()
        for kind in words.totals(self.report):
            mark, style = self.mark(kind)
            legend.append(mark, style)
            legend.append(f" {kind}   ", "dim")
        legend.rstrip()
        return legend

    def deaths(self) -> RenderableType | None:
        said = words.deaths(self.report)
        if not said:
            return None
        numbers = words.timeline(self.report, max(10, min(60, self.width - 4)))
        line = Text()
        for mark, number in zip(spark(numbers, self.ascii_only), numbers, strict=True):
            line.append(mark, "red" if number else "bright_black")
        last = f"step {int(self.report.run.get('steps') or 0):,}"
        axis = self.text(f"0{last:>{len(numbers) - 1}}" if len(numbers) > 12 else "", "dim")
        parts = [line, axis] if len(numbers) > 12 else [line]
        return self.section("Deaths over time", *parts, self.text(said))

    def units(self) -> RenderableType | None:
        groups, left = words.groups(self.report, GROUPS)
        if not groups:
            return None
        narrow = self.width < NARROW
        table = self.grid(3 if narrow else 4)
        cells = 10 if narrow else 18
        for group in groups:
            which = self.fit(group.site, cells - 2)
            which.append_text(self.text(f":{words.ranges(group.units, 1)}", "bold"))
            style = self.mark(group.state)[1]
            since = self.text(group.since.replace("the start", "born dead"))
            row = [which, self.text(group.state, style), since, self.text(group.evidence, "dim")]
            table.add_row(*(row[:3] if narrow else row))
        body: list[RenderableType] = [table]
        if left:
            body.append(self.text(f"and {words.count(left, 'unit')} more", "dim"))
        if self.report.units_truncated is not None:
            listed = f"{len(self.report.units):,} of {self.report.units_truncated:,}"
            body.append(self.text(f"drawn from the {listed} units that are listed", "dim"))
        return self.section("Worst units", *body)

    def unseen(self) -> RenderableType | None:
        rows = words.unseen(self.report)
        if not rows:
            return None
        table = self.grid(2)
        for how, name, why in rows[:UNSEEN]:
            said = self.text(name, "bold")
            said.append_text(self.text(f": {why}", "not bold"))
            table.add_row(self.text(how, "yellow"), said)
        body: list[RenderableType] = [table]
        if len(rows) > UNSEEN:
            body.append(self.text(f"and {len(rows) - UNSEEN:,} more", "dim"))
        return self.section("Not seen", *body)

    def commands(self) -> RenderableType | None:
        lines: list[RenderableType] = []
        for command, why in words.commands(self.report):
            line = self.text(command, "cyan")
            line.append_text(self.text(f"  # {why}", "not cyan dim"))
            lines.append(line)
        return self.section("Next", *lines) if lines else None


_ASCII = str.maketrans({"·": "|", "–": "-", "…": "~", "σ": "sd"})


def segments(counts: Mapping[str, int], cells: int) -> dict[str, int]:
    """Cells of a bar for each kind, so that every kind that occurs is seen.

    Example:
        >>> segments({"healthy": 999, "dead": 1}, 10)
        {'healthy': 9, 'dead': 1}
    """
    total = sum(counts.values())
    if not total:
        return {}
    exact = {kind: number * cells / total for kind, number in counts.items()}
    given = {kind: max(1, int(share)) for kind, share in exact.items()}
    while sum(given.values()) < cells:
        given[max(given, key=lambda kind: exact[kind] - given[kind])] += 1
    while sum(given.values()) > cells and max(given.values()) > 1:
        most = max((k for k in given if given[k] > 1), key=lambda k: given[k] - exact[k])
        given[most] -= 1
    return given


def spark(numbers: Sequence[int], ascii_only: bool = False) -> str:
    """Numbers as a line of bars; a bar above the lowest wherever a number is not 0.

    Example:
        >>> spark([0, 1, 7])
        '▁▂█'
    """
    marks = _SPARK_ASCII if ascii_only else _SPARK
    top = max(numbers, default=0)
    return "".join(
        marks[0] if not n else marks[max(1, round(n / top * (len(marks) - 1)))] for n in numbers
    )


@dataclass(frozen=True)
class _Runs:
    """A table of runs that fits the console it is printed on."""

    runs: tuple[Mapping[str, Any], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        page = _Page(Report(), options.max_width, options.ascii_only)
        if not self.runs:
            yield page.text("No runs yet: flatline run SCRIPT records one.")
            return
        narrow = options.max_width < NARROW
        table = page.grid(3 if narrow else 6, ratio=1)
        table.columns[-1].justify = "right"
        heads = ("run", "name", "status", "started", "took", "steps")
        pick = (0, 1, 2) if narrow else range(6)
        table.add_row(*(page.text(heads[i], "dim") for i in pick))
        for run in self.runs:
            seconds = run.get("seconds")
            row = (
                page.fit(str(run.get("id")), 12, "bold"),
                page.fit(str(run.get("name") or ""), 12 if narrow else 24),
                page.text(words.clean(run.get("status") or ""), _STATUS.get(run.get("status"), "")),
                page.text(words.clean(run.get("started") or "")[:16].replace("T", " ")),
                page.text("" if seconds is None else words.duration(float(seconds))),
                page.text(f"{int(run.get('steps') or 0):,}"),
            )
            table.add_row(*(row[i] for i in pick))
        yield table


_STATUS: dict[Any, str] = {"failed": "red", "interrupted": "yellow", "running": "green"}
