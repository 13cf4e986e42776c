"""All results as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from flatline.lab import svg
from flatline.lab.results import bounds, remarks, rests_on, shown
from flatline.lab.runner import Result
from flatline.show import html
from flatline.show.environment import environment
from flatline.show.plain import version
from flatline.show.text import duration


def render(results: Sequence[Result]) -> str:
    """The page as text.

    Args:
        results: What to show, in this order.
    """
    style = _style()
    return _template().render(
        results=results,
        plots={one.experiment.id: _plot(one) for one in results if one.measurements},
        style=style,
        policy=html.rules((), (style,), connect=False),
        version=version(),
    )


def _plot(result: Result) -> Markup:
    return Markup(svg.draw(result.experiment.plot(result.measurements)))


@cache
def _style() -> Markup:
    """The report's style sheet, that of plots, and a few lines of the lab's own."""
    report = resources.files("flatline.show") / "assets" / "page" / "page.css"
    own = resources.files("flatline.lab") / "templates" / "lab.css"
    parts = (report.read_text("utf-8"), svg.style(), own.read_text("utf-8"))
    return Markup("\n".join(part.strip() for part in parts))


@cache
def _template() -> jinja2.Template:
    made = environment(
        "flatline.lab",
        bounds=bounds,
        duration=duration,
        remarks=remarks,
        rests_on=rests_on,
        shown=shown,
    )
    return made.get_template("lab.html.jinja")
