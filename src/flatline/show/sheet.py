"""What every text for a terminal is made of: lines, tables and sections that fit its width."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from flatline.show.marks import MARKS
from flatline.show.text import named

#: A word of a command, quoted or not.
_WORD = re.compile(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+")
_ASCII = str.maketrans({"·": "|", "–": "-", "…": "~", "σ": "sd", "≤": "<=", "−": "-"})


def as_text(what: RenderableType, width: int, color: bool) -> str:
    """What a terminal of this width would show."""
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
    return capture.get()


def bare(what: RenderableType, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
    """Without the spaces with which tables fill their lines: they are in the way of copying."""
    for line in console.render_lines(what, options, pad=False):
        while line and not line[-1].text.rstrip(" "):
            line.pop()
        if line:
            yield from line[:-1]
            yield Segment(line[-1].text.rstrip(" "), line[-1].style)
        yield Segment.line()


@dataclass(frozen=True)
class Sheet:
    """Draws on a terminal.

    Attributes:
        width: Its columns.
        ascii_only: It shows nothing but ASCII.
    """

    width: int
    ascii_only: bool

    def text(self, said: str, style: str = "") -> Text:
        """Words, in ASCII where nothing else can be shown."""
        if self.ascii_only:
            said = said.translate(_ASCII).encode("ascii", "backslashreplace").decode()
        return Text(said, style)

    def command(self, said: str) -> Text:
        """A command to be copied: where it is too long for a section, the shell joins its lines."""
        lines = [""]
        words = [said] if cell_len(said) + 2 <= self.width else _WORD.findall(said)
        for word in words:
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if cell_len(longer) + 4 > self.width and lines[-1].strip():
                lines.append(f"    {word}")
            else:
                lines[-1] = longer
        return self.text(" \\\n".join(lines), "cyan")

    def comment(self, said: str) -> Text:
        """What a command is for, as lines that a shell skips when they are copied with it."""
        lines = textwrap.wrap(
            f"# {said}", self.width - 2, subsequent_indent="# ", break_on_hyphens=False
        )
        return self.text("\n".join(lines), "dim")

    def fit(self, name: str, cells: int, style: str = "") -> Text:
        """A name in at most so many cells, without its middle where it is longer."""
        shown = named(name, 4 * cells)
        if cell_len(shown) > cells:
            left = (cells - 1) // 2
            head, tail = set_cell_size(shown, left), shown[::-1]
            shown = f"{head}…{set_cell_size(tail, cells - 1 - left)[::-1]}"
        return self.text(shown, style)

    def section(self, title: str, *body: RenderableType) -> RenderableType:
        """A heading with what stands below it."""
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

    def mark(self, kind: str) -> tuple[str, str]:
        """How units of a kind are drawn, and in which style."""
        mark = MARKS[kind]
        return mark.plain if self.ascii_only else mark.block, mark.style

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
        """A table whose first column is to the left; columns that do not fit are left out."""
        columns = self.fitting(heads, rows)
        table = self.grid(columns)
        table.expand = False
        for column, head in list(zip(table.columns, heads, strict=False))[1:]:
            column.justify = "right" if head else "left"
            column.ratio = None
        for row in (heads, *rows):
            style = "dim" if row is heads else ""
            table.add_row(*(self.text(cell, style) for cell in row[:columns]))
        return table

    def fitting(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
        """How many columns of a :meth:`table` fit; the first two are always shown."""
        widths = [
            max(len(line) for cell in column for line in cell.split("\n")) + 2
            for column in zip(heads, *rows, strict=True)
        ]
        while sum(widths) > self.width and len(widths) > 2:
            widths.pop()
        return len(widths)
