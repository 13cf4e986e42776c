"""Runs side by side as one page that needs nothing else."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from flatline.show import about, html, words
from flatline.show.comparison import TITLES, Comparison, cells, label, letter, outcome
from flatline.show.history import Bins, shares, thin
from flatline.show.marks import KINDS, MARKS
from flatline.show.report import Report, SiteReport
from flatline.show.text import named, percent

#: Sites drawn, at most.
SITES = 24
#: Metrics drawn, at most.
METRICS = 6
#: Parts of a metric that each keep their lowest and their highest value.
POINTS = 300
#: Rows of a table, at most.
MANY = 200
#: Colours of runs; beyond that many the line's dashes tell them apart.
COLOURS = 6
_BADGES = {"sick": "critical", "warning": "warning", "healthy": "good", "unknown": "warning"}


def render(told: Comparison, bar: Markup | None = None) -> str:
    """The page as text.

    Args:
        told: What to show.
        bar: What stands in the page's head, after our name.
    """
    sites, left = _sites(told)
    charts = _charts(told)
    shown = {kind for _, rows in sites for site in rows if site for kind in words.split(site)}
    return html.page(
        "compare.html.jinja",
        _script(),
        {"runs": [letter(i) for i in range(len(told.reports))], "charts": charts},
        bar=bar or Markup(),
        told=told,
        headline=headline(told),
        sites=sites,
        left=left,
        charts=charts,
        kinds=[kind for kind in KINDS if kind in shown],
        marks=MARKS,
        about=about,
        words=words,
        titles=TITLES,
        badges=_BADGES,
        letter=letter,
        outcome=outcome,
        label=label,
        cells=cells,
        colours=COLOURS,
        MANY=MANY,
    )


def headline(told: Comparison) -> str:
    """What became of the dead, run by run, in one sentence."""
    if not told.differences:
        return "Nothing that is recorded differs between them."
    said = [f"{letter(i)} {_dead(report)}" for i, report in enumerate(told.reports[:8])]
    more = "; and more" if len(told.reports) > 8 else ""
    return f"Dead units: {', '.join(said)}{more}."


def _dead(report: Report) -> str:
    counts = words.totals(report)
    units = sum(counts.values())
    return percent(counts.get("dead", 0) / units) if units else "unknown"


def _sites(told: Comparison) -> tuple[list[tuple[str, list[SiteReport | None]]], int]:
    """The sites that are worst in any run, each in every run; and how many are left out."""
    found = [{site.name: site for site in report.sites} for report in told.reports]
    worst = {site.name for one in told.reports for site in words.worst_sites(one, SITES)}
    names = list(dict.fromkeys(name for one in found for name in one))
    shown = [name for name in names if name in worst][:SITES]
    return [(name, [one.get(name) for one in found]) for name in shown], len(names) - len(shown)


def _charts(told: Comparison) -> list[dict[str, Any]]:
    """The dead share and the metrics over the steps, of every run."""
    names = list(dict.fromkeys(name for report in told.reports for name in report.metrics))
    drawn = [_metric(told, name) for name in names[:METRICS]]
    if any(report.deaths for report in told.reports):
        drawn.insert(0, {"title": "Dead share", "wide": False, "series": _deaths(told)})
    return [chart for chart in drawn if any(one["steps"] for one in chart["series"])]


def _metric(told: Comparison, name: str) -> dict[str, Any]:
    series: list[dict[str, list[Any]]] = []
    for report in told.reports:
        steps, values = thin(report.metrics.get(name, ()), POINTS)
        kept = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
        series.append({"steps": [s for s, _ in kept], "values": [_short(v) for _, v in kept]})
    known = [value for one in series for value in one["values"]]
    wide = bool(known) and min(known) > 0 and max(known) > 50 * min(known)
    title = named(name, 200) + (" (logarithmic)" if wide else "")
    return {"title": title, "wide": wide, "series": series}


def _deaths(told: Comparison) -> list[dict[str, list[Any]]]:
    """Share of all units that are dead now and were so by the end of each part of the run."""
    series: list[dict[str, list[Any]]] = []
    for report in told.reports:
        bins = Bins.of(report, POINTS)
        whole = SiteReport("", "", sum(s.units for s in report.sites), deaths=report.deaths)
        steps = [i * bins.size for i in range(bins.number)]
        series.append({"steps": steps, "values": [_short(v) for v in shares(whole, bins)]})
    return series


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _script() -> Markup:
    parts = [html.asset("page/switch.js"), html.asset("beside/compare.js")]
    return Markup('"use strict";\n(() => {{\n{}\n}})();').format(Markup("\n").join(parts))
