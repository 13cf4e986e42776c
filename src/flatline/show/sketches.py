"""A small plot beside a finding: what its message is about, as one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flatline.diagnose.findings import Finding
from flatline.show.history import Bins, thin
from flatline.show.report import Report, SiteReport
from flatline.show.text import count, measured, percent

#: Size of the drawing that a line lies in.
WIDTH, HEIGHT = 100.0, 30.0
_PARTS = 100
_DEATHS = {"dying-relu", "upstream-death", "saturation", "weight-decay-collapse"}
_LOSS = {
    "learning-rate-too-high",
    "learning-rate-too-low",
    "no-learning",
    "non-finite",
    "stale-gradients",
}
_GRADIENT = {"vanishing-gradient", "exploding-gradient", "init-too-small", "init-too-large"}
_RANK = {"rank-collapse"}


@dataclass(frozen=True)
class Sketch:
    """One line from left to right.

    Attributes:
        title: What it shows.
        path: The line, an SVG path in a box of :data:`WIDTH` by :data:`HEIGHT`.
        points: Values that it joins.
        low: What the lower edge stands for.
        high: What the upper edge stands for.
        left: What lies at its left end.
        right: What lies at its right end.
    """

    title: str
    path: str
    points: int
    low: str
    high: str
    left: str
    right: str


def sketch(report: Report, finding: Finding) -> Sketch | None:
    """The plot of a finding; ``None`` where no line says more than its message."""
    own = [site for site in report.sites if site.name in finding.sites] or list(report.sites)
    if finding.code in _DEATHS:
        return _deaths(report, own)
    if finding.code in _LOSS:
        return _loss(report)
    if finding.code in _GRADIENT:
        return _by_site(report, "gradient_rms", "Size of the gradient, by site (logarithmic)")
    if finding.code in _RANK:
        return _by_site(report, "effective_rank", "Effective rank, by site (logarithmic)")
    return None


def _deaths(report: Report, sites: Sequence[SiteReport]) -> Sketch | None:
    bins = Bins.of(report, _PARTS)
    sums = bins.sums([pair for site in sites for pair in site.deaths])
    units = sum(site.units for site in sites)
    if not any(sums):
        return None
    dead = [sum(sums[: index + 1]) / units for index in range(len(sums))]
    where = "its site" if len(sites) == 1 else f"its {len(sites):,} sites"
    steps = [float(index) for index in range(len(dead))]
    end = int(report.run.get("steps") or bins.size * bins.number)
    return Sketch(
        title=f"Dead share of {where}",
        path=_stairs(steps, dead, 0.0, dead[-1]),
        points=len(dead),
        low="0%",
        high=percent(dead[-1]),
        left="step 0",
        right=f"step {end:,}",
    )


def _loss(report: Report) -> Sketch | None:
    steps, values = thin(report.metrics.get("loss", ()), _PARTS)
    pairs = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
    if len(pairs) < 2:
        return None
    numbers = [value for _, value in pairs]
    low, high = min(numbers), max(numbers)
    return Sketch(
        title="Loss",
        path=_line([float(step) for step, _ in pairs], numbers, low, high),
        points=len(pairs),
        low=measured(low),
        high=measured(high),
        left=f"step {pairs[0][0]:,}",
        right=f"step {pairs[-1][0]:,}",
    )


def _by_site(report: Report, name: str, title: str) -> Sketch | None:
    known = [getattr(site, name) for site in report.sites]
    values = [value for value in known if value is not None and value > 0]
    if len(values) < 2:
        return None
    logs = [math.log10(value) for value in values]
    return Sketch(
        title=title,
        path=_stairs([float(index) for index in range(len(logs))], logs, min(logs), max(logs)),
        points=len(logs),
        low=measured(min(values)),
        high=measured(max(values)),
        left="first site",
        right=f"last of {count(len(logs), 'site')}",
    )


def _line(across: Sequence[float], up: Sequence[float], low: float, high: float) -> str:
    first, span = across[0], (across[-1] - across[0]) or 1.0
    points = [
        f"{(x - first) / span * WIDTH:.4g} {_height(y, low, high):.4g}"
        for x, y in zip(across, up, strict=True)
    ]
    return "M" + "L".join(points)


def _stairs(across: Sequence[float], up: Sequence[float], low: float, high: float) -> str:
    """A line that stays on each value for as long as that holds."""
    each = WIDTH / len(across)
    parts = [
        f"{'M' if index == 0 else 'L'}{index * each:.4g} {_height(y, low, high):.4g}"
        f"H{(index + 1) * each:.4g}"
        for index, y in enumerate(up)
    ]
    return "".join(parts)


def _height(value: float, low: float, high: float) -> float:
    """From the top, with room for the line's own width."""
    share = (value - low) / (high - low) if high > low else 0.5
    return 1 + (1 - share) * (HEIGHT - 2)
