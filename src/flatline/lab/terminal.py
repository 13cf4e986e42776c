"""Experiments and what came out, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from flatline.lab.experiment import CONDITIONAL, SKIPPED, SUPPORTED, UNSUPPORTED, Experiment
from flatline.lab.results import bounds, remarks, rests_on, shown
from flatline.lab.runner import Result
from flatline.show.sheet import Sheet, bare
from flatline.show.text import duration

STYLES = {SUPPORTED: "green", CONDITIONAL: "yellow", UNSUPPORTED: "red", SKIPPED: "dim"}
#: Up to so many experiments are told in full.
IN_FULL = 5
_ROLES = {"claim": "", "scope": " (without it: with conditions)", "tool": " (tests flatline)"}


@dataclass(frozen=True)
class Listing:
    """The experiments that there are, for ``Console.print``."""

    experiments: Sequence[Experiment]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sheet = Sheet(options.max_width, options.ascii_only)
        table = sheet.grid(2)
        for one in self.experiments:
            table.add_row(sheet.text(one.id, "bold"), sheet.text(one.claim))
        foot = "flatline lab run [ID…] carries them out; without an id, all of them."
        return bare(Group(table, sheet.text(f"\n{foot}", "dim")), console, options)


@dataclass(frozen=True)
class Results:
    """What came out, for ``Console.print``."""

    results: Sequence[Result]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        page = _Page(options.max_width, options.ascii_only, self.results)
        parts: list[RenderableType] = [page.table(), *page.remarks()]
        if len(self.results) <= IN_FULL:
            parts += [page.told(one) for one in self.results if one.measurements]
        return bare(Group(*parts, page.foot()), console, options)


@dataclass(frozen=True)
class _Page(Sheet):
    """Draws the parts of one list of results."""

    results: Sequence[Result]

    def table(self) -> RenderableType:  # type: ignore[override]
        table = self.grid(4)
        table.columns[2].justify = "right"
        for one in self.results:
            judged = one.judged
            table.add_row(
                self.text(one.experiment.id, "bold"),
                self.text(judged.verdict, STYLES[judged.verdict]),
                self.text(duration(one.seconds) if one.measurements else "", "dim"),
                self.text(shown(judged.outcomes[0]) if judged.outcomes else ""),
            )
        return table

    def remarks(self) -> list[RenderableType]:
        said = [(one.experiment.id, line) for one in self.results for line in remarks(one)]
        if not said:
            return []
        table = self.grid(2)
        for name, line in said:
            table.add_row(self.text(name, "bold"), self.text(line))
        return [self.section("Conditions and failures", table)]

    def told(self, result: Result) -> RenderableType:
        one = result.experiment
        lines: list[RenderableType] = [
            self.text(one.claim),
            self.text(f"by {rests_on(result)}", "dim"),
        ]
        table = self.grid(2)
        for outcome in result.judged.outcomes:
            mark = Text("holds", "green") if outcome.holds else Text("fails", "red")
            check = outcome.check
            said = self.text(f"{check.says}{_ROLES[check.role]}: ")
            said.append_text(self.text(shown(outcome), "bold"))
            said.append_text(self.text(f", bound {bounds(check)}", "dim"))
            table.add_row(mark, said)
        lines += [table, self.text(f"{one.command}: {one.advice}", "dim")]
        return self.section(one.id, *lines)

    def foot(self) -> RenderableType:
        said = [f"\nBeside each verdict: its first check, by {rests_on(one)}."
                for one in self.results if one.measurements][:1]  # fmt: skip
        kept = sum(one.kept for one in self.results)
        if kept:
            said.append(f"{kept} measured before, kept in .flatline/lab (--again measures anew).")
        return Group(*(self.text(line, "dim") for line in said))
