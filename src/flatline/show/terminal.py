"""The report as text for a terminal, in 80 columns or whatever there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from flatline.show import about, certain, costs, history, words
from flatline.show.costs import Column
from flatline.show.report import Report, SiteReport
from flatline.show.sheet import Sheet, as_text, bare
from flatline.show.text import clean, count, duration, ranges

WIDTH = 80
SITES = 24
GROUPS = 8
COSTS = 8
METRICS = 8
UNSEEN = 8
NARROW = 60
UNIT = 18  # cells for a unit's name, at the least
_ARROW = {
    "sick": "bold red",
    "warning": "bold yellow",
    "healthy": "bold green",
    "unknown": "bold yellow",
}
SEVERITY = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_SPARK, _SPARK_ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"


def render(report: Report, width: int = WIDTH, *, color: bool = False) -> str:
    """The report as text.

    Args:
        report: What to show.
        width: Columns.
        color: Whether to colour it with escape sequences.
    """
    return as_text(report, width, color)


def render_runs(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Stored runs as a table, for ``Console.print``.

    Args:
        runs: The facts of each, newest first.
    """
    return _Runs(tuple(runs))


def view(report: Report, console: Console, options: ConsoleOptions) -> RenderResult:
    """The report as a console shows it.

    Args:
        report: What to show.
        console: Where.
        options: Its width, and whether it can show nothing but ASCII.
    """
    page = _Page(options.max_width, options.ascii_only, report)
    parts = (
        page.head(),
        page.findings(),
        page.sites(),
        page.course(),
        page.units(),
        page.cost(),
        page.certainty(),
        page.unseen(),
        page.commands(),
    )
    return bare(Group(*(part for part in parts if part is not None)), console, options)


@dataclass(frozen=True)
class _Page(Sheet):
    """Draws the parts of one report; each is ``None`` where there is nothing to say."""

    report: Report

    def head(self) -> RenderableType:
        verdict = words.verdict(self.report)
        sentence = self.text("", "")
        sentence.append(f"{verdict.upper()}  ", _ARROW[verdict])
        sentence.append_text(self.text(words.headline(self.report)))
        parts = (about.title, about.facts, about.watching, about.judged)
        lines = [part(self.report) for part in parts]
        return Group(sentence, *(self.text(line, "dim") for line in lines if line))

    def findings(self) -> RenderableType | None:
        found = self.report.findings
        if not found:
            return None
        table = self.grid(2)
        for one in found:
            said = self.text(f"{clean(one.code)}  ", "bold")
            said.append_text(self.text(words.message(one.message, one.sites), "not bold"))
            table.add_row(Text(one.severity, SEVERITY[one.severity]), said)
            if symptoms := words.explains(one):
                table.add_row("", self.text(f"explains {symptoms}", "dim"))
            for treatment, why in words.advice(one):
                advice = self.text("try ", "dim")
                advice.append_text(self.text(treatment, "not dim bold"))
                advice.append_text(self.text(f": {why}", "not bold"))
                table.add_row("", advice)
        return self.section("Findings", table)

    def sites(self) -> RenderableType | None:
        sites = words.worst_sites(self.report, SITES)
        if not sites:
            return None
        narrow = self.width < NARROW
        bar, name = (10, 12) if narrow else (24, max(12, min(24, self.width - 56)))
        name = min(name, max(cell_len(clean(site.name)) for site in sites))
        table = self.grid(4 if narrow else 5)
        table.columns[1 if narrow else 2].justify = "right"
        for site in sites:
            row: list[RenderableType] = [
                self.fit(site.name, name),
                self.text(clean(site.activation), "dim"),
                self.text(f"{site.units:,}"),
                self.bar(site, bar),
                self.text(words.listing(words.split(site))),
            ]
            table.add_row(*(row[:1] + row[2:] if narrow else row))
        body: list[RenderableType] = [table, self.legend()]
        if left := len(self.report.sites) - len(sites):
            body.append(self.text(f"and {count(left, 'site')} less affected", "dim"))
        return self.section("Sites, with the state of their units", *body)

    def bar(self, site: SiteReport, cells: int) -> Text:
        bar = Text()
        for kind, length in segments(words.split(site), cells).items():
            mark, style = self.mark(kind)
            bar.append(mark * length, style)
        return bar

    def legend(self) -> Text:
        """The marks that occur; a mark and its name stay on one line."""
        lines = [Text()]
        for kind in words.totals(self.report):
            mark, style = self.mark(kind)
            entry = Text.assemble((mark, style), (f" {kind}", "dim"))
            if len(lines[-1]) and len(lines[-1]) + 3 + len(entry) > self.width - 2:
                lines.append(Text())
            lines[-1] += Text("   " if len(lines[-1]) else "") + entry
        return Text("\n").join(lines)

    def course(self) -> RenderableType | None:
        """Deaths over time, and the metrics."""
        courses = history.courses(self.report)
        said = [self.text(line) for line in courses[:METRICS]]
        if len(courses) > METRICS:
            said.append(self.text(f"and {count(len(courses) - METRICS, 'metric')} more", "dim"))
        if deaths := history.deaths(self.report):
            said = [*self.timeline(), self.text(deaths), *said]
        return self.section("Over time", *said) if said else None

    def timeline(self) -> Iterator[Text]:
        bins = history.Bins.of(self.report, max(10, min(60, self.width - 34)))
        numbers = bins.sums(self.report.deaths)
        line = Text()
        for mark, number in zip(spark(numbers, self.ascii_only), numbers, strict=True):
            line.append(mark, "red" if number else "bright_black")
        top = (_SPARK_ASCII if self.ascii_only else _SPARK)[-1]
        scale = f"  {top} = {max(numbers):,} in {count(bins.size, 'step')}"
        line.append_text(self.text(scale, "dim"))
        yield line
        last = f"step {int(self.report.run.get('steps') or 0):,}"
        if bins.number > len(last) + 2:
            yield self.text(f"0{last:>{bins.number - 1}}", "dim")

    def units(self) -> RenderableType | None:
        groups, left = words.groups(self.report, GROUPS)
        if not groups:
            return None
        rows = [(g.kind, g.since, g.examples, g.fires, g.margin) for g in groups]
        heads = ("state", "since", "examples", "fires on", "margin")
        widths = [max(map(cell_len, column)) + 2 for column in zip(heads, *rows, strict=True)]
        while self.width - 2 - sum(widths) < UNIT and len(widths) > 2:
            widths.pop()
        cells = self.width - 2 - sum(widths)
        table = self.grid(1 + len(widths))
        table.expand = False
        for column in table.columns[3:]:
            column.justify = "right"
        table.add_row(*(self.text(head, "dim") for head in ("unit", *heads[: len(widths)])))
        for group, row in zip(groups, rows, strict=True):
            which = self.fit(group.site, max(cells - UNIT // 2, UNIT // 2))
            which.append(":")
            which.append_text(self.text(ranges(group.units, cells - len(which)), "bold"))
            styles = (self.mark(group.kind)[1], "", "", "", "")
            shown = zip(row[: len(widths)], styles, strict=False)
            table.add_row(which, *(self.text(said, style) for said, style in shown))
        body: list[RenderableType] = [table]
        if left:
            body.append(self.text(f"and {count(left, 'unit')} more", "dim"))
        if self.report.units_truncated is not None:
            listed = f"{len(self.report.units):,} of {self.report.units_truncated:,}"
            body.append(self.text(f"drawn from the {listed} units that are listed", "dim"))
        return self.section("Worst units", *body)

    def cost(self) -> RenderableType | None:
        """What dead units cost; of a healthy model only what was to be paid attention to."""
        said: list[RenderableType] = [self.text(line) for line in costs.sentences(self.report)]
        sites = words.worst_sites(self.report, COSTS)
        if self.report.verdict != "healthy" and sites:
            found = costs.columns(sites)
            heads, rows = self.of_sites(sites, found)
            shown = found[: self.fitting(heads, rows) - 1]
            said = [self.table(heads, rows), self.text(costs.legend(shown), "dim"), *said]
        if ablated := costs.ablation(sites):
            head = "Growth of the loss when live units, taken at random, give 0:"
            said += [self.text(head), self.table(*self.of_sites(sites, ablated))]
        return self.section("What it costs", *said) if said else None

    def of_sites(
        self, sites: Sequence[SiteReport], found: Sequence[Column]
    ) -> tuple[list[str], list[list[str]]]:
        """Heads and lines of a table of numbers, a line per site."""
        lines = zip(*(column.cells for column in found), strict=True)
        names = [self.fit(site.name, UNIT).plain for site in sites]
        heads = ["", *(column.head for column in found)]
        return heads, [[name, *line] for name, line in zip(names, lines, strict=True)]

    def certainty(self) -> RenderableType | None:
        said = certain.sentences(self.report)
        return self.section("Certainty", *map(self.text, said)) if said else None

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

    def commands(self) -> RenderableType:
        lines = []
        for command, why in words.commands(self.report):
            line, comment = self.command(command), self.comment(why)
            if len(command) + len(why) + 6 <= self.width:
                lines.append(Text.assemble(line, "  ", comment))
            else:
                lines += [comment, line]
        return self.section("Next", *lines)


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
        page = Sheet(options.max_width, options.ascii_only)
        if not self.runs:
            yield page.text("No runs yet: flatline run SCRIPT records one.")
            return
        narrow = options.max_width < NARROW
        cells = 12 if narrow else max(12, options.max_width - 68)  # what the others leave
        table = page.grid(3 if narrow else 6, ratio=1)
        table.columns[-1].justify = "right"
        heads = ("run", "name", "status", "started", "took", "steps")
        pick = (0, 1, 2) if narrow else range(6)
        table.add_row(*(page.text(heads[i], "dim") for i in pick))
        for run in self.runs:
            seconds = run.get("seconds")
            row = (
                page.fit(str(run.get("id")), 12, "bold"),
                page.fit(str(run.get("name") or ""), cells),
                page.text(clean(run.get("status") or ""), _STATUS.get(run.get("status"), "")),
                page.text(clean(run.get("started") or "")[:16].replace("T", " ")),
                page.text("" if seconds is None else duration(float(seconds))),
                page.text(f"{int(run.get('steps') or 0):,}"),
            )
            table.add_row(*(row[i] for i in pick))
        yield from bare(table, console, options)


_STATUS: dict[Any, str] = {"failed": "red", "interrupted": "yellow", "running": "green"}
