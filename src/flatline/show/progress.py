"""How far a trial is: a table that is drawn anew on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from flatline.show.sheet import Sheet, bare
from flatline.show.text import clean, duration, measured
from flatline.trials.progress import Cell, Progress

_MARK = {
    "waiting": ("·", "dim"),
    "running": ("▶", "cyan"),
    "done": ("✓", "green"),
    "kept": ("✓", "dim green"),
    "failed": ("✗", "red"),
    "given up": ("–", "dim"),
}
_PLAIN = {"·": ".", "▶": ">", "✓": "+", "✗": "x", "–": "-"}
_OVER = ("done", "kept", "failed", "given up")


class Board:
    """The progress as a table: an arm per line, a mark per seed.

    Args:
        progress: What is drawn; it changes meanwhile.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        page = Sheet(options.max_width, options.ascii_only)
        cells = dict(self._progress.cells)
        table = page.grid(3)
        for arm in dict.fromkeys(arm for arm, _ in cells):
            row = [cells[arm, seed] for seed in self._progress.seeds if (arm, seed) in cells]
            marks = Text(" ").join(_mark(cell, options.ascii_only) for cell in row)
            table.add_row(page.fit(arm, 24), marks, page.text(_said(row), "dim"))
        yield from bare(table, console, options)
        yield page.text(summary(self._progress), "dim")


def _mark(cell: Cell, ascii_only: bool) -> Text:
    mark, style = _MARK[cell.state]
    return Text(_PLAIN[mark] if ascii_only else mark, style)


def _said(row: list[Cell]) -> str:
    """The objectives of an arm, and how long its run under way has taken."""
    values = [_value(cell.objective) for cell in row if cell.objective is not None]
    running = [cell.since for cell in row if cell.state == "running"]
    if running:
        values.append(f"running for {duration(time.monotonic() - min(running))}")
    return ", ".join(values)


def _value(objective: float | None) -> str:
    known = objective is not None and math.isfinite(objective)
    return measured(objective) if known else "diverged"


def summary(progress: Progress) -> str:
    """How many runs are over, and about how long the others will take.

    Example:
        >>> summary(Progress("loss", [0], {("control", 0): Cell("done"), ("a", 0): Cell()}))
        '1 of 2 runs'
    """
    over, whole = progress.count(*_OVER), len(progress.cells)
    said = f"{over} of {whole} runs"
    took = [cell.seconds for cell in list(progress.cells.values()) if cell.state == "done"]
    at_once = max(progress.count("running"), 1)
    if any(took) and over < whole:
        left = sum(took) / len(took) * (whole - over) / at_once
        said += f", about {duration(left)} left"
    return said


def line(progress: Progress) -> str | None:
    """What has just happened, for a log; ``None`` where it is not worth a line."""
    if progress.last is None:
        return None
    arm, seed = progress.last
    cell = progress.cells[progress.last]
    if cell.state not in ("done", "failed"):
        return None
    said = f"{clean(arm)}, seed {seed}: "
    if cell.state == "failed":
        said += clean(cell.why)
    else:
        said += f"{clean(progress.objective)} {_value(cell.objective)}"
    return (
        f"{said}, {duration(cell.seconds)} ({progress.count(*_OVER)} of {len(progress.cells)} runs)"
    )
