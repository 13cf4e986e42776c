"""What the server shows: the list of runs, the page of a run, and a sentence where there is none.

The page of a run is the report's own; what is added keeps it up to date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote
from zlib import crc32

import jinja2
from markupsafe import Markup

from flatline.record.store import Overview
from flatline.show import html, side_by_side
from flatline.show.comparison import Comparison
from flatline.show.environment import environment
from flatline.show.plain import version
from flatline.show.report import Report
from flatline.show.text import clean, duration, named, number

#: Runs listed at most.
MANY = 2000
NAME = 80
#: Rows that a browser lays out together, once they come near the window.
PART = 50
_ROOM = "flatline.ui"


def is_running(facts: Mapping[str, Any]) -> bool:
    """Whether more may come of a run, by the facts about it."""
    return facts.get("status") == "running"


def run(report: Report, stamp: str) -> str:
    """The page of a run.

    Args:
        report: Its report.
        stamp: What stands for the contents of the store that it was built from.
    """
    events = status = None
    if is_running(report.run):
        events = address("/run/events", str(report.run["id"]))
    else:
        status = clean(report.run.get("status") or "", NAME).capitalize()
    bar = _environment().get_template("bar.html.jinja")
    head = bar.render(stamp=stamp, events=events, status=status or "Live")
    return html.render(report, _live(), Markup(head))


def run_policy() -> str:
    """The policy of :func:`run`."""
    return _framed(html.policy(_live()))


def comparison(reports: Sequence[Report]) -> str:
    """The page that sets runs side by side."""
    bar = Markup('\n  <a class="back" href="/">All runs</a>')
    return side_by_side.render(Comparison(tuple(reports)), bar)


def comparison_policy() -> str:
    """What the policy that stands in the page of :func:`comparison` leaves open."""
    return "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def listing(
    overviews: Sequence[Overview],
    verdicts: Mapping[str, str],
    *,
    stamp: str = "",
    store: str = "",
    trouble: str = "",
) -> str:
    """The list of runs.

    Args:
        overviews: What is told of each, newest first.
        verdicts: Verdicts that are known, by id.
        stamp: What stands for the contents of the store.
        store: The store's file.
        trouble: Why there is no list, in a sentence.
    """
    total = len(overviews)
    rows = [
        _row(one, verdicts.get(str(one.facts["id"])), total - i)
        for i, one in enumerate(overviews[:MANY])
    ]
    return _render(
        "list.html.jinja",
        rows=rows,
        PART=PART,
        older=max(total - MANY, 0),
        stamp=stamp,
        store=store,
        trouble=trouble,
        script=_list_script(),
    )


def list_policy() -> str:
    """The policy of :func:`listing`."""
    style, theme = _look()
    return _framed(html.rules((theme, _list_script()), (style,), connect=True))


def message(title: str, sentence: str) -> str:
    """A page that only says something."""
    return _render("message.html.jinja", title=title, sentence=sentence)


def message_policy() -> str:
    """The policy of :func:`message`."""
    style, theme = _look()
    return _framed(html.rules((theme,), (style,), connect=False))


def address(path: str, run_id: str) -> str:
    """The address of something about a run, whatever its id is made of."""
    return f"{path}?id={quote(run_id, safe='')}"


def _row(one: Overview, verdict: str | None, place: int) -> dict[str, Any]:
    """A run as its line in the list says it."""
    facts = one.facts
    run_id, status = str(facts["id"]), str(facts.get("status") or "")
    seconds, running = facts.get("seconds"), is_running(facts)
    row = {
        "place": place,
        "address": address("/run", run_id),
        "name": named(facts.get("name") or "run", NAME),
        "id": clean(run_id, NAME),
        "status": clean(status, NAME),
        "status_class": f"status-{status}" if status in _STATUSES else "",
        "verdict": "" if running else verdict or "",
        "verdict_class": f"verdict-{verdict}" if verdict and not running else "",
        "judge": "" if running else address("/run/verdict", run_id),
        "figures": (
            "" if one.silent is None else f"{one.silent:,} of {one.units:,}",
            f"{int(facts.get('steps') or 0):,}",
            clean(facts.get("started") or "", NAME)[:16].replace("T", " "),
            "" if seconds is None else duration(float(seconds)),
        ),
    }
    return row | {"digest": f"{crc32(repr(row).encode()):x}"}


_STATUSES = ("running", "finished", "failed", "interrupted")


def _render(name: str, **values: Any) -> str:
    style, theme = _look()
    template = _environment().get_template(name)
    return template.render(style=style, theme=theme, version=version(), **values)


@cache
def _environment() -> jinja2.Environment:
    return environment(_ROOM, named=named, number=number, sentence=_sentence)


def _sentence(error: str) -> str:
    """An error's words as they stand on a page."""
    said = clean(error, 10 * NAME)
    return f"{said[:1].upper()}{said[1:].rstrip('.')}."


def _framed(policy: str) -> str:
    """A policy as a header, which alone can forbid that other pages show this one."""
    return f"{policy}; frame-ancestors 'none'"


@cache
def _live() -> html.Live:
    return html.Live(
        script=_asset("follow.js", "live.js"), inner=_asset("keep.js"), style=_asset("ui.css")
    )


@cache
def _look() -> tuple[Markup, Markup]:
    style, theme, _ = html.look()
    return style + "\n" + _asset("ui.css"), theme


@cache
def _list_script() -> Markup:
    _, _, switch = html.look()
    parts = switch + "\n" + _asset("follow.js", "list.js")
    return Markup(f'"use strict";\n(() => {{\n{parts}\n}})();')


def _asset(*names: str) -> Markup:
    return Markup("\n").join(html.asset(name, _ROOM) for name in names)
