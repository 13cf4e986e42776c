"""Draws a plot as SVG: lines or bars with intervals, axes, a legend. Nothing else is needed.

Colours and shapes both tell series apart. They come from a style sheet, which a page writes once
and a file of its own carries along; it follows the reader's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from flatline.lab.plot import Plot, Series

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 44
_COLOURS = ("#1f5fa8", "#c0392b", "#2a7d55", "#8a5a00", "#6a4fb0", "#4a5560")
_DARK = ("#76b0f0", "#f0897d", "#6fcfae", "#f0b84a", "#b9a3f2", "#b3bcc6")


def style() -> str:
    """The style sheet of all plots."""
    common = (
        ".plot text{font:12px system-ui,sans-serif;fill:#4a4f55}"
        ".plot .axis{stroke:#8a8f95;fill:none}.plot .grid{stroke:#e3e3de;fill:none}"
        ".plot .line{stroke-width:2}.plot .theory{stroke:#4a4f55;stroke-dasharray:5 4}"
        ".plot .spread{fill-opacity:.15}"
        ".plot .whisker{stroke:#4a4f55;fill:none}"
    )
    dark = (
        ".plot text{fill:#b5bac1}.plot .grid{stroke:#33383e}"
        ".plot .whisker,.plot .theory{stroke:#b5bac1}"
    )
    lines = ".plot .line{fill:none}.plot .spread{stroke:none}"
    dark = f"@media (prefers-color-scheme:dark){{{dark}{_inks(_DARK)}{lines}}}"
    return f"{common}{_inks(_COLOURS)}{lines}{dark}"


def _inks(colours: Iterable[str]) -> str:
    return "".join(f".plot .s{i}{{stroke:{c};fill:{c}}}" for i, c in enumerate(colours))


def draw(plot: Plot, *, alone: bool = False) -> str:
    """The plot as an ``svg`` element.

    Args:
        plot: What to draw.
        alone: Whether it is a file of its own, with its style sheet.
    """
    canvas = _Canvas(plot, _Scale.of_x(plot), _Scale.of_y(plot))
    parts = [*canvas.axes(), *canvas.series(), *canvas.legend()]
    sheet = f"<style>{style()}</style>" if alone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{_quoted(plot.title)}">{sheet}\n' + "\n".join(parts) + "\n</svg>\n"
    )


@dataclass(frozen=True)
class _Scale:
    """From values to places on the canvas."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def of_x(cls, plot: Plot) -> _Scale:
        if plot.ticks:
            return cls(-0.5, len(plot.ticks) - 0.5, LEFT, WIDTH - RIGHT, False)
        values = [value for one in plot.series for value in one.x]
        return cls.around(values, LEFT, WIDTH - RIGHT, plot.log_x)

    @classmethod
    def of_y(cls, plot: Plot) -> _Scale:
        values = [v for one in plot.series for ends in (one.y, one.low, one.high) for v in ends]
        if plot.ticks and not plot.log_y:
            values.append(0.0)  # a bar has its foot there
        return cls.around(values, HEIGHT - BOTTOM, TOP, plot.log_y)

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, log: bool) -> _Scale:
        kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [0.1, 1.0]
        low, high = min(kept), max(kept)
        if log:
            low, high = math.log10(low), math.log10(high)
        size = max(1.0, abs(low), abs(high))
        if high - low < 1e-9 * size:
            low, high = low - size / 2, high + size / 2
        room = 0.0 if start == LEFT else 0.04 * (high - low)
        return cls(low - (0 if low == 0 else room), high + room, start, end, log)

    def at(self, value: float) -> float:
        """The place of a value; what lies outside, or has no logarithm, is put at the edge."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(part, 0.0), 1.0) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round values along the scale."""
        if self.log and self.high - self.low >= 1:
            first, last = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
            step = max(1, math.ceil((last - first) / 6))
            return [10.0**power for power in range(first, last + 1, step)]
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        width = _round_step((high - low) / 5)
        first, last = math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9)
        return [i * width for i in range(first, last + 1)]


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least as large."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(one * power for one in (1, 2, 5, 10) if one * power >= rough * 0.999)


@dataclass(frozen=True)
class _Canvas:
    """Draws the parts of one plot."""

    plot: Plot
    x: _Scale
    y: _Scale

    def axes(self) -> list[str]:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = []
        for value in self.y.ticks():
            at = self.y.at(value)
            parts.append(f'<path class="grid" d="M{LEFT} {at}H{right}"/>')
            parts.append(_text(LEFT - 6, at + 4, _figure(value), "end"))
        places: Sequence[float] = range(len(self.plot.ticks)) or self.x.ticks()
        names = self.plot.ticks or [_figure(value) for value in places]
        parts += [
            _text(self.x.at(v), bottom + 16, name, "middle")
            for v, name in zip(places, names, strict=True)
        ]
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        parts.append(_text((LEFT + right) / 2, HEIGHT - 8, self.plot.x, "middle"))
        middle = (TOP + bottom) / 2
        turned = f' transform="rotate(-90 14 {middle})"'
        parts.append(_text(14, middle, self.plot.y, "middle", turned))
        return parts

    def series(self) -> Iterable[str]:
        for index, one in enumerate(self.plot.series):
            yield from self._bars(index, one) if self.plot.ticks else self._line(index, one)

    def _line(self, index: int, one: Series) -> Iterable[str]:
        points = [(self.x.at(x), self.y.at(y)) for x, y in _finite(one.x, one.y)]
        if one.low and not one.dashed:
            upper = [(self.x.at(x), self.y.at(y)) for x, y in _finite(one.x, one.high)]
            lower = [(self.x.at(x), self.y.at(y)) for x, y in _finite(one.x, one.low)]
            yield f'<path class="s{index} spread" d="{_path(upper + lower[::-1])}Z"/>'
        if points:
            yield f'<path class="{_ink(index, one)} line" d="{_path(points)}"/>'
        if not one.dashed:
            yield from (_mark(index, x, y) for x, y in points)

    def _bars(self, index: int, one: Series) -> Iterable[str]:
        many = len(self.plot.series)
        step = (self.x.end - self.x.start) / len(self.plot.ticks)
        width = min(0.8 * step / many, 60)
        foot = self.y.at(0.0)
        for place, (tick, value) in enumerate(zip(one.x, one.y, strict=True)):
            if not math.isfinite(value):
                continue
            left = self.x.at(tick) + (index - many / 2) * width
            top = self.y.at(value)
            yield (
                f'<rect class="s{index}" x="{left:.1f}" y="{min(top, foot):.1f}" '
                f'width="{width - 2:.1f}" height="{max(abs(foot - top), 1):.1f}"/>'
            )
            if one.low:
                low, high = self.y.at(one.low[place]), self.y.at(one.high[place])
                middle = left + width / 2 - 1
                yield f'<path class="whisker" d="M{middle:.1f} {low}V{high}"/>'

    def legend(self) -> Iterable[str]:
        left = float(LEFT)
        for index, one in enumerate(self.plot.series):
            if not one.name:
                continue
            if self.plot.ticks:
                yield f'<rect class="s{index}" x="{left}" y="10" width="14" height="10"/>'
            else:
                yield f'<path class="{_ink(index, one)} line" d="M{left} 15h18"/>'
                if not one.dashed:
                    yield _mark(index, left + 9, 15)
            yield _text(left + 24, 19, one.name, "start")
            left += 44 + 6.6 * len(one.name)


def _ink(index: int, one: Series) -> str:
    """The class that colours a line."""
    return "theory" if one.dashed else f"s{index}"


def _finite(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    return [pair for pair in zip(x, y, strict=True) if all(map(math.isfinite, pair))]


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _mark(index: int, x: float, y: float) -> str:
    """A point, in a shape of its series."""
    shapes = (
        "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
        "m-3.5-3.5h7v7h-7z",
        "m0-4.5l4.5 8h-9z",
        "m0-5l4.5 5l-4.5 5l-4.5-5z",
    )
    return f'<path class="s{index}" d="M{x} {y}{shapes[index % len(shapes)]}"/>'


def _text(x: float, y: float, said: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(said)}</text>'


def _quoted(said: str) -> str:
    return escape(said, {'"': "&quot;"})


def _figure(value: float) -> str:
    """A value along an axis."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,.6g}".replace("-", "−")
