"""The result of a trial as text for a terminal, as JSON, and in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult

from flatline.show.document import Page
from flatline.show.next_steps import next_steps
from flatline.show.plain import plain, version
from flatline.show.sheet import Sheet, as_text, bare
from flatline.show.text import clean, count, measured, percent
from flatline.treatments.registry import split
from flatline.trials.plan import LOSS, OUTPUT
from flatline.trials.result import ArmResult, Result
from flatline.trials.statistics import BETTER, UNDECIDED, WORSE

WIDTH = 80
#: Cells for an arm's name, at most.
NAME = 21
_STYLE = {BETTER: "bold green", WORSE: "bold red", UNDECIDED: ""}


@dataclass(frozen=True, repr=False)
class Trial(Page, Result):
    """A controlled trial, which shows itself.

    ``print(trial)`` shows it as text, a notebook as a table.
    """

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; only ``None``, ``bool``, numbers, text, lists and dictionaries."""
        whole = Result.to_dict(self)
        head = {key: whole.pop(key) for key in ("schema", "kind")}
        steps = [{"command": command, "why": why} for command, why in next_steps(self)]
        said: dict[str, Any] = plain({**head, "flatline": version(), **whole, "next": steps})
        return said

    def _page(self) -> str:
        from flatline.show.trial_page import trial_html

        return trial_html(self.to_dict())

    def __str__(self) -> str:
        return as_text(self, WIDTH, color=False)

    def __repr__(self) -> str:
        return f"<Trial: {len(self.arms)} arms, {len(self.seeds)} seeds, {headline(self)}>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from bare(
            _Page(options.max_width, options.ascii_only, self).whole(), console, options
        )

    def _repr_html_(self) -> str:
        rows = [_row(arm) for arm in self.arms]
        cells = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        heads = "".join(f"<th>{html.escape(head)}</th>" for head in _heads(self))
        return f"<p>{html.escape(headline(self))}</p><table><tr>{heads}</tr>{cells}</table>"


def show(result: Result) -> Trial:
    """A result as something that shows itself."""
    return Trial(**vars(result))


def headline(trial: Result) -> str:
    """What a trial found, in one sentence."""
    return outcome([(arm.treatment, _verdict(arm)) for arm in trial.arms if not arm.is_control])


def outcome(tried: Sequence[tuple[str, str]]) -> str:
    """What came of treatments, each with its verdict, the best first.

    Example:
        >>> outcome([("lr=x0.1", "better"), ("init=he", "better"), ("lr=x10", "worse")])
        'lr=x0.1 is better than the control, and 1 other arm too.'
    """
    better = [treatment for treatment, verdict in tried if verdict == BETTER]
    if better:
        more = f", and {count(len(better) - 1, 'other arm')} too" if len(better) > 1 else ""
        return f"{better[0]} is better than the control{more}."
    if not tried:
        return "Nothing was tried."
    if all(verdict == WORSE for _, verdict in tried):
        return "Every treatment is worse than the control."
    return "No treatment was shown to be better than the control."


def _verdict(arm: ArmResult) -> str:
    return "" if arm.comparison is None else arm.comparison.verdict


def _heads(trial: Result) -> tuple[str, ...]:
    return ("arm", clean(trial.objective, 12), "difference", "verdict")


def _row(arm: ArmResult) -> tuple[str, ...]:
    return _name(arm), _objective(arm), _difference(arm), _verdict(arm)


def _name(arm: ArmResult) -> str:
    """An arm's name, of several treatments one a line where they do not fit in one."""
    parts = [arm.treatment] if len(arm.treatment) <= NAME else split(arm.treatment)
    return "\n+".join(clean(part, NAME) for part in parts)


_ASIDES = ("arm", "dead", "sick", "rank", "steps", "gap")
#: What a head does not say by itself.
_MEANING = {
    "rank": "rank: effective rank, mean over sites",
    "steps": "steps: until the control's end is reached, median",
    "gap": "gap: validation less training",
}


def _asides(trial: Result, arm: ArmResult) -> tuple[str, ...]:
    """What an arm did to the model, beside the objective."""
    shares = (arm.average("dead_share"), arm.average("sick_share"))
    steps = trial.steps_to_control(arm)
    return (
        _name(arm),
        *("" if share is None else percent(share) for share in shares),
        measured(arm.average("effective_rank")),
        f"{steps:,.0f}" if steps is not None else "never" if arm.runs.keys() & trial.ends else "",
        measured(arm.average("gap")),
    )


def _objective(arm: ArmResult) -> str:
    if not arm.runs:
        return "failed" if arm.failed else ""
    return "diverged" if arm.mean is None else measured(arm.mean)


def _difference(arm: ArmResult) -> str:
    compared = arm.comparison
    if compared is None or compared.difference is None:
        return ""
    said = _signed(compared.difference)
    if compared.low is None or compared.high is None:
        return said
    return f"{said} [{_signed(compared.low)}, {_signed(compared.high)}]"


def _signed(value: float) -> str:
    """Two digits with a sign; exact zeros have none."""
    return f"{value:+.2g}".replace("-", "−") if value else "0"


@dataclass(frozen=True)
class _Page(Sheet):
    """Draws the parts of one trial; each is ``None`` where there is nothing to say."""

    trial: Trial

    def whole(self) -> RenderableType:
        parts = (self.head(), self.arms(), self.beside(), self.limits(), self.commands())
        return Group(*(part for part in parts if part is not None))

    def head(self) -> RenderableType:
        trial = self.trial
        style = _STYLE[BETTER] if trial.best is not None else "bold"
        steps = "" if trial.max_steps is None else f", {count(trial.max_steps, 'step')} each"
        program = f"{clean(trial.program, 60)}: " if trial.program else ""
        facts = (
            f"{program}{count(len(trial.arms), 'arm')} on {count(len(trial.seeds), 'seed')}{steps}"
        )
        return Group(self.text(headline(trial), style), self.text(facts, "dim"))

    def arms(self) -> RenderableType:
        rows = [_row(arm) for arm in self.trial.arms]
        table = self.grid(4)
        for column in table.columns[1:3]:
            column.justify = "right"
        table.add_row(*(self.text(head, "dim") for head in _heads(self.trial)))
        for name, *cells, verdict in rows:
            style = _STYLE.get(verdict, "dim")
            table.add_row(
                self.text(name, "bold"), *map(self.text, cells), self.text(verdict, style)
            )
        return self.section("Arms, the best first", table, self.text(self.legend(), "dim"))

    def legend(self) -> str:
        trial = self.trial
        what = "the training loss over the last tenth of the steps"
        if trial.objective != LOSS:
            what = f"{clean(trial.objective)} over the last tenth of its readings"
        larger = "larger" if trial.maximise else "smaller"
        said = f"Compared is {what}; {larger} is better."
        tried = len(trial.arms) - 1
        if tried:
            said += (
                " Difference: arm less control on the same seed, with the 95 % interval of its mean"
            )
            said += f", wide enough for all {tried} together." if tried > 1 else "."
        return said

    def beside(self) -> RenderableType:
        every = [_asides(self.trial, arm) for arm in self.trial.arms]
        kept = [i for i in range(len(_ASIDES)) if any(row[i] for row in every)]
        heads, rows = [_ASIDES[i] for i in kept], [[row[i] for i in kept] for row in every]
        shown = heads[: self.fitting(heads, rows)]
        meanings = "; ".join(_MEANING[head] for head in shown if head in _MEANING)
        legend = f"Means over seeds. {meanings}." if meanings else "Means over seeds."
        return self.section("Beside it", self.table(heads, rows), self.text(legend, "dim"))

    def limits(self) -> RenderableType | None:
        said = [*self.reservations(), *self.trial.notes]
        said += [f"{clean(name)} was not tried: {why}" for name, why in self.trial.left_out.items()]
        return self.section("Limits", *(self.text(line) for line in said)) if said else None

    def reservations(self) -> Iterator[str]:
        for arm in self.trial.arms:
            if arm.comparison is not None and arm.comparison.why:
                yield f"{clean(arm.treatment)}: {arm.comparison.why}"
            if arm.stopped:
                yield f"{clean(arm.treatment)}: given up {arm.stopped}"
            for seeds, why in _failures(arm):
                yield f"{clean(arm.treatment)}, {seeds}: {clean(why)}"

    def commands(self) -> RenderableType | None:
        lines: list[RenderableType] = []
        for command, why in next_steps(self.trial):
            shell = command.startswith("flatline ")  # the other kind is a line of Python
            line = self.command(command) if shell else self.text(command, "cyan")
            lines += [self.comment(why), line]
        return self.section("Next", *lines) if lines else None


def _failures(arm: ArmResult) -> Iterator[tuple[str, str]]:
    """Seeds that failed alike, with what is known of the first."""
    alike: dict[str, list[int]] = {}
    for seed, why in arm.failed.items():
        alike.setdefault(why.partition(OUTPUT)[0], []).append(seed)
    for seeds in alike.values():
        noun = "seed" if len(seeds) == 1 else "seeds"
        yield f"{noun} {', '.join(map(str, seeds))}", arm.failed[seeds[0]]
