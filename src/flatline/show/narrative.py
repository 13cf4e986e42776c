"""An explanation as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from flatline.diagnose.story import Moment
from flatline.show import about, costs, words
from flatline.show.drawings import ASCII_LEVELS, LEVELS, bars
from flatline.show.explanation import COURSE, Explanation, Neighbour
from flatline.show.reasons import (
    CAUSES,
    chances,
    happened,
    neighbour,
    notable,
    signed,
)
from flatline.show.report import Report
from flatline.show.sheet import Sheet, as_text, bare
from flatline.show.terminal import SEVERITY, WIDTH
from flatline.show.text import count, measured, named, ranges

#: Exams in the table of a site's course, at most.
EXAMS = 10
MOMENTS = 16
NEIGHBOURS = 6
GROUPS = 8


def render(explanation: Explanation, width: int = WIDTH, *, color: bool = False) -> str:
    """The explanation as text.

    Args:
        explanation: What to show.
        width: Columns.
        color: Whether to colour it with escape sequences.
    """
    return as_text(explanation, width, color)


def view(explanation: Explanation, console: Console, options: ConsoleOptions) -> RenderResult:
    """The explanation as a console shows it.

    Args:
        explanation: What to show.
        console: Where.
        options: Its width, and whether it can show nothing but ASCII.
    """
    page = _Page(options.max_width, options.ascii_only)
    parts = (
        page.head(explanation),
        page.story(explanation),
        page.units(explanation),
        page.ways(explanation),
        page.histograms(explanation),
        page.context(explanation),
        page.comeback(explanation),
        page.course(explanation),
        page.cost(explanation),
        page.neighbours(explanation),
        page.advice(explanation),
    )
    return bare(Group(*(part for part in parts if part is not None)), console, options)


class _Page(Sheet):
    """Draws the parts of an explanation; each is ``None`` where there is nothing to say."""

    def head(self, told: Explanation) -> RenderableType:
        site, unit = told.site, told.unit
        if unit is None:
            kind, said = "", f"{site.activation}, {count(site.units, 'unit')}: "
            said += words.listing(words.split(site))
        else:
            kind = words.kind(unit)
            said = words.MEANINGS[kind]
            if when := words.since([unit]):
                said = f"{'' if when == 'born dead' else 'since '}{when}: {said}"
        head = self.text(named(site.name) + ("" if unit is None else f":{unit.unit}"), "bold")
        head.append_text(self.text(f"  {kind}", self.mark(kind)[1] if kind else ""))
        lines: list[RenderableType] = [head, self.text(f"{said}.")]
        if unit is not None and unit.cause is not None:
            lines.append(self.text(f"Cause: {unit.cause}. {CAUSES[unit.cause]}"))
            lines += [self.text(line) for line in notable(unit.evidence)]
        elif told.causes:
            died = ", ".join(f"{number:,} {cause}" for cause, number in told.causes.items())
            lines.append(self.text(f"Causes of death: {died}."))
        heads = (about.title(told.report), about.facts(told.report), about.judged(told.report))
        return Group(*lines, *(self.text(line, "dim") for line in heads if line))

    def story(self, told: Explanation) -> RenderableType | None:
        if not told.story:
            return None
        table = self.grid(3)
        moments = _gathered(told.story) if told.unit is None else list(told.story)
        left = len(moments) - MOMENTS
        if left > 0:  # what began and what ended it says most
            moments[MOMENTS // 2 : MOMENTS // 2 + left] = []
        for index, moment in enumerate(moments):
            if left > 0 and index == MOMENTS // 2:
                table.add_row("", "", self.text(f"{left:,} more", "dim"))
            until = moment.evidence.get("until", moment.step)
            when = f"step {moment.step:,}" + (f"–{until:,}" if until > moment.step else "")
            step = self.text(when, "dim")
            what = self.text(moment.event, "bold")
            table.add_row(step, what, self.text(happened(moment, told.unit is None)))
        return self.section("Life", table)

    def ways(self, told: Explanation) -> RenderableType | None:
        if not told.ways:
            return None
        spans = told.ways[::-1]
        rows: list[tuple[str, list[str]]] = [
            (name, [signed(getattr(way, name)) for way in spans])
            for name in ("bias", "weight", "input")
        ]
        rows.append(("together", [signed(way.z_end - way.z_start) for way in spans]))
        rows.append(("mean z", [f"{measured(w.z_start)} to {measured(w.z_end)}" for w in spans]))
        rows.append(
            (
                "spread of z",
                [f"{measured(w.spread_start)} to {measured(w.spread_end)}" for w in spans],
            )
        )
        heads = [f"from step {way.start:,}" for way in spans]
        table = self.table(["", *heads], [[name, *cells] for name, cells in rows])
        title = f"What moved its mean z until it was found silent at step {spans[0].end:,}"
        return self.section(title, table)

    def histograms(self, told: Explanation) -> RenderableType | None:
        if not told.histograms:
            return None
        levels = ASCII_LEVELS if self.ascii_only else LEVELS
        table = self.grid(5)
        table.expand = False
        for one in told.histograms:
            table.add_row(
                self.text(f"step {one.step:,}", "dim"),
                self.text(", ".join(one.moments)),
                self.text(measured(one.low)),
                Text(bars(one.counts, levels)),
                self.text(measured(one.high) or "none finite"),
            )
            table.columns[2].justify = "right"
        values = max(sum(one.counts) + one.lost for one in told.histograms)
        return self.section(f"Its z at exams, in samples of {count(values, 'value')}", table)

    def context(self, told: Explanation) -> RenderableType | None:
        unit = told.unit
        if unit is None or not told.context:
            return None
        marks = {unit.since_after: "last fired", unit.since_step: "silent"}
        rows = [
            [
                f"{one.step:,}",
                *(measured(value) for value in (one.lr, one.gradient, one.loss)),
                marks.get(one.step, ""),
            ]
            for one in told.context
        ]
        heads = ["step", "learning rate", "gradient norm", "loss", ""]
        return self.section("Around its death", self.table(heads, rows))

    def comeback(self, told: Explanation) -> RenderableType | None:
        if told.comeback is None or told.unit is None:
            return None
        lines = chances(told.comeback)
        return self.section("Chance to come back", *map(self.text, lines))

    def units(self, told: Explanation) -> RenderableType | None:
        if told.unit is not None or not told.units:
            return None
        alone = Report(sites=(told.site,), units=told.units)
        groups, left = words.groups(alone, GROUPS)
        rows = [
            [ranges(g.units, self.width // 3), g.kind, g.since, g.examples, g.fires, g.margin]
            for g in groups
        ]
        heads = ["units", "state", "since", "examples", "fires on", "margin"]
        body: list[RenderableType] = [self.table(heads, rows)]
        if left:
            body.append(self.text(f"and {count(left, 'unit')} more", "dim"))
        if told.units_truncated is not None:
            listed = f"{len(told.units):,} of {told.units_truncated:,}"
            body.append(self.text(f"drawn from the {listed} units that are listed", "dim"))
        return self.section("Worst units", *body)

    def course(self, told: Explanation) -> RenderableType | None:
        if not told.course:
            return None
        some = [told.course[i] for i in _spaced(len(told.course), EXAMS)]
        names = [name for name in COURSE if any(name in numbers for _, numbers in some)]
        rows = [
            [f"{step:,}", *(measured(numbers.get(name)) for name in names)]
            for step, numbers in some
        ]
        heads = ["step", *(_COURSE[name] for name in names)]
        return self.section("Over the exams", self.table(heads, rows))

    def cost(self, told: Explanation) -> RenderableType | None:
        if told.unit is not None:
            return None
        table = self.grid(2)
        for column in costs.columns([told.site]) + costs.ablation([told.site]):
            said = self.text(f"{column.cells[0]}  ", "bold")
            said.append_text(self.text(column.meaning, "dim not bold"))
            table.add_row(self.text(column.key.replace("_", " ")), said)
        return self.section("What it costs", table)

    def neighbours(self, told: Explanation) -> RenderableType | None:
        table = self.grid(2)
        for how, found, others in (
            ("reads", told.upstream, told.site.feeds),
            ("read by", told.downstream, told.site.reads),
        ):
            for line in _few(found) or [f"no watched site, through {_parameters(others)}"]:
                table.add_row(self.text(how, "dim"), self.text(line))
        return self.section("Neighbours", table)

    def advice(self, told: Explanation) -> RenderableType | None:
        if not told.findings:
            return None
        table = self.grid(2)
        for one in told.findings:
            severity = Text(one.severity, SEVERITY[one.severity])
            said = self.text(f"{one.code}  ", "bold")
            said.append_text(self.text(words.message(one.message, one.sites), "not bold"))
            table.add_row(severity, said)
            for treatment, why in words.remedies(one):
                advice = self.text("try ", "dim")
                advice.append_text(self.text(treatment, "not dim bold"))
                advice.append_text(self.text(f": {why}", "not bold"))
                table.add_row("", advice)
                for typed in words.usage(told.report, treatment).values():
                    table.add_row("", self.text(f"    {typed}", "dim not bold"))
        return self.section("What to do", table)


_COURSE = {
    "silent": "silent",
    "firing": "fires",
    "z_rms": "rms z",
    "gradient_rms": "gradient",
    "update_ratio": "update",
    "effective_rank": "eff. rank",
}


def _gathered(story: Iterable[Moment]) -> list[Moment]:
    """The story of a site in which deaths with nothing in between are told together."""
    told: list[Moment] = []
    for moment in story:
        last = told[-1] if told else None
        if last is not None and last.event == moment.event == "died":
            known = {
                "units": last.evidence["units"] + moment.evidence["units"],
                "exact": last.evidence["exact"] and moment.evidence["exact"],
                "until": moment.step,
            }
            told[-1] = Moment(last.step, "died", known)
        else:
            told.append(moment)
    return told


def _few(found: Sequence[Neighbour]) -> list[str]:
    lines = [neighbour(one) for one in found[:NEIGHBOURS]]
    if len(found) > NEIGHBOURS:
        lines.append(f"and {count(len(found) - NEIGHBOURS, 'site')} more")
    return lines


def _parameters(names: Iterable[str]) -> str:
    return ", ".join(named(name) for name in names) or "no parameter that was seen"


def _spaced(number: int, most: int) -> list[int]:
    """At most so many indices, evenly spaced, the first and the last among them.

    Example:
        >>> _spaced(9, 3), _spaced(2, 3)
        ([0, 4, 8], [0, 1])
    """
    if number <= most:
        return list(range(number))
    return [round(i * (number - 1) / (most - 1)) for i in range(most)]
