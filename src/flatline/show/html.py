"""The report as one page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from flatline.show import about, certain, costs, history, words
from flatline.show.environment import environment
from flatline.show.marks import MARKS
from flatline.show.payload import payload
from flatline.show.report import Report, SiteReport
from flatline.show.sketches import sketch
from flatline.show.terminal import GROUPS, SITES, segments
from flatline.show.text import named, number, percent, ranges

#: Findings told at the top.
TOP = 3
#: Columns of the table of dead shares.
COLUMNS = 8
#: Lines of a list that may be long.
MANY = 200
NOTEBOOK_SITES = 12
_RANGES = 32
_STYLES = ("uplot/uPlot.min.css", "page/page.css")
_SCRIPTS = (
    "page/data.js",
    "page/view.js",
    "page/lay.js",
    "page/unit.js",
    "page/picture.js",
    "page/clock.js",
    "page/charts.js",
    "page/heat.js",
    "page/table.js",
    "page/switch.js",
    "page/main.js",
)


@dataclass(frozen=True)
class Live:
    """What a server adds to the page of a run, to keep it up to date.

    Attributes:
        script: Runs last; ``build(kept)`` builds the page, and does so anew after its contents
            were replaced.
        inner: Runs in the scope of the page's own scripts, at the end of each ``build``.
        style: Follows the page's own.
    """

    script: Markup
    inner: Markup
    style: Markup


def render(report: Report, live: Live | None = None, bar: Markup | None = None) -> str:
    """The page as text.

    Args:
        report: What to show.
        live: What a server adds; ``None`` for a file.
        bar: What stands in the page's head, after our name.
    """
    style, theme, chart, script = _parts(live)
    worst = {id(site) for site in words.worst_sites(report, SITES)}
    page = _environment().get_template("page.html.jinja")
    return page.render(
        report=report,
        about=about,
        certain=certain,
        costs=costs,
        charged=_charged(report),
        history=history,
        sketch=sketch,
        words=words,
        marks=MARKS,
        shown={place for place, site in enumerate(report.sites) if id(site) in worst},
        groups=words.groups(report, GROUPS),
        heat=_heat(report),
        data=_embedded(payload(report)),
        style=style,
        theme=theme,
        chart=chart,
        script=script,
        policy=policy(live),
        bar=bar,
        TOP=TOP,
        MANY=MANY,
    )


def policy(live: Live | None = None) -> str:
    """What the browser may do on the page: see :func:`rules`."""
    style, *scripts = _parts(live)
    return rules(tuple(scripts), (style,), connect=live is not None)


def page(template: str, script: Markup, data: Any, **shown: Any) -> str:
    """A page beside the report, in its look.

    Args:
        template: Its template, which extends ``base.html.jinja``.
        script: What it runs.
        data: What the script draws, in the types of JSON.
        shown: What the template names.
    """
    style, theme, _ = look()
    chart = _charts()
    return (
        _environment()
        .get_template(template)
        .render(
            style=style,
            theme=theme,
            chart=chart,
            script=script,
            data=_embedded(data),
            policy=rules((theme, chart, script), (style,), connect=False),
            **shown,
        )
    )


def notebook(report: Report) -> str:
    """The report in short, for a notebook: no script, no style, no picture."""
    worst = words.worst_sites(report, NOTEBOOK_SITES)
    template = _environment().get_template("notebook.html.jinja")
    return template.render(report=report, words=words, about=about, worst=worst, TOP=TOP)


@cache
def _environment() -> jinja2.Environment:
    return environment(
        "flatline.show",
        bar=_bar,
        named=named,
        number=number,
        percent=percent,
        ranges=_ranges,
        slug=_slug,
    )


def _bar(site: SiteReport) -> str:
    """The states of a site's units as a bar of blocks, as in the terminal."""
    parts = segments(words.split(site), 24)
    return "".join(MARKS[kind].block * cells for kind, cells in parts.items())


def _ranges(units: Sequence[int]) -> str:
    return ranges(units, _RANGES)


def _slug(kind: str) -> str:
    return kind.replace(" ", "-")


def _charged(report: Report) -> tuple[list[costs.Column], list[tuple[str, list[str]]]]:
    """What dead units cost as a table: its columns, and a row for each of the worst sites."""
    sites = words.worst_sites(report, SITES)
    found = costs.columns(sites) + costs.ablation(sites)
    cells = zip(*(column.cells for column in found), strict=True)
    return found, [(site.name, list(row)) for site, row in zip(sites, cells, strict=True)]


def _heat(report: Report) -> tuple[list[str], list[tuple[SiteReport, list[str]]]]:
    """Dead share by site and time as a table: its columns, and a row per site that lost units."""
    bins = history.Bins.of(report, COLUMNS)
    last = int(report.run.get("steps") or 0) or bins.size * bins.number
    ends = [min((i + 1) * bins.size, last) for i in range(bins.number)]
    rows = [
        (site, [percent(share) for share in history.shares(site, bins)])
        for site in words.worst_sites(report, SITES)
        if site.deaths
    ]
    return [f"{end:,}" for end in ends], rows


@cache
def _parts(live: Live | None) -> tuple[Markup, Markup, Markup, Markup]:
    """Style, theme, chart library and script."""
    added = "" if live is None else live.style
    return _joined(*_STYLES) + added, asset("page/theme.js"), _charts(), _app(live)


def look() -> tuple[Markup, Markup, Markup]:
    """The page's style, and its scripts that keep and switch the theme, for pages beside it."""
    return _joined(*_STYLES), asset("page/theme.js"), asset("page/switch.js")


@cache
def asset(name: str, package: str = "flatline.show") -> Markup:
    """A file of ours, trusted as it is."""
    return Markup((resources.files(package) / "assets" / name).read_text("utf-8").strip())


@cache
def _joined(*names: str) -> Markup:
    return Markup("\n").join(asset(name) for name in names)


def _app(live: Live | None) -> Markup:
    """The page's modules in one scope that nothing else sees."""
    inner, script = ("", "build();") if live is None else (live.inner, live.script)
    build = f"const build = (kept) => {{\n{_joined(*_SCRIPTS)}\n{inner}\n}};"
    return Markup(f'"use strict";\n(() => {{\n{build}\n{script}\n}})();')


@cache
def _charts() -> Markup:
    """The chart library under its licence, which stands in for its first line, an address."""
    code = asset("uplot/uPlot.iife.min.js").split("\n", 1)[1]
    return Markup(f"/*! uPlot\n\n{asset('uplot/LICENSE')}\n*/\n{code}")


def _embedded(data: dict[str, Any]) -> Markup:
    """JSON that cannot end the element it stands in, whatever names it holds."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def rules(scripts: tuple[str, ...], styles: tuple[str, ...], *, connect: bool) -> str:
    """A policy: the browser may run exactly these scripts, and load nothing from anywhere.

    Args:
        scripts: The scripts of a page.
        styles: Its styles.
        connect: Whether it may ask the server that it came from.
    """
    allowed = {
        kind: " ".join(f"'sha256-{_digest(part)}'" for part in parts)
        for kind, parts in (("script-src", scripts), ("style-src", styles))
        if parts
    }
    said = ["default-src 'none'", "img-src data:", *(f"{k} {v}" for k, v in allowed.items())]
    if connect:
        said.append("connect-src 'self'")
    return "; ".join([*said, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
