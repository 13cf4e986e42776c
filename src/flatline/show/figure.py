"""The report as a picture for papers and pull requests: PNG, SVG or PDF, drawn by matplotlib."""

from __future__ import annotations

import io
import re
import warnings
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatline.errors import UsageError
from flatline.show import about, words
from flatline.show.history import Bins, shares, thin
from flatline.show.marks import KINDS
from flatline.show.report import Report, SiteReport
from flatline.show.text import clean, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Endings of files that can be written.
FORMATS = ("png", "svg", "pdf")
#: Sites drawn, at most.
SITES = 16
WIDTH = 7.0  # inches: a text column of a paper, or a comment of a pull request
#: Inches of a row of a site.
ROW = 0.24
_NAME = 28
_PARTS = 180
_POINTS = 400
_DPI = 160
#: The same bytes for the same report, and text that stays text.
_SETTINGS: Any = {
    "svg.hashsalt": "flatline",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
#: No date in the file.
_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def draw(report: Report, path: str | Path) -> None:
    """Draw a report: states by site, dead share by site and step, and the loss.

    Args:
        report: What to draw.
        path: File to write; its ending says in which format.

    Raises:
        UsageError: matplotlib is not installed, the ending is none of :data:`FORMATS`, or the
            file cannot be written.
    """
    ending = Path(path).suffix[1:].lower()
    if ending not in FORMATS:
        raise UsageError(
            f"expected a picture ending in {', '.join('.' + one for one in FORMATS)}, "
            f"found {str(path)!r}; name it for example report.png"
        )
    try:
        import matplotlib
    except ImportError:
        raise UsageError(
            "expected matplotlib, which draws pictures, found it missing; "
            "pip install 'flatline[plot]'"
        ) from None
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # A font may lack a character of somebody's name; an empty box stands for it.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        figure = _figure(report)
        drawn = io.BytesIO()  # matplotlib trips over a disk that fills up
        figure.savefig(drawn, format=ending, dpi=_DPI, metadata=_UNDATED[ending])
    try:
        Path(path).write_bytes(drawn.getbuffer())
    except OSError as error:
        raise UsageError(
            f"expected a file that can be written, found {str(path)!r}: "
            f"{error.strerror or error}; give another path"
        ) from error


def _figure(report: Report) -> Figure:
    from matplotlib.figure import Figure

    sites = words.worst_sites(report, SITES)
    losers = [site for site in sites if site.deaths]
    loss = any(value is not None for _, value in report.metrics.get("loss", ()))
    heights = [ROW * len(sites) + 0.35] if sites else []
    heights += [ROW * len(losers) + 0.35] if losers else []
    heights += [1.3] if loss else []
    heights = heights or [0.4]
    head = 0.85
    figure = Figure(
        figsize=(WIDTH, head + sum(heights) + 0.55 * len(heights)), layout="constrained"
    )
    title = f"{words.verdict(report).upper()}: {clean(words.sentences(report)[0], 200)}"
    figure.suptitle(
        f"{title}\n{clean(about.title(report), 200)}", x=0.01, ha="left", fontsize=9, wrap=True
    )
    panels = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    if not sites and not loss:
        panels[0].axis("off")
    if sites:
        _states(panels.pop(0), sites)
    if losers:
        _heat(panels.pop(0), report, losers)
    if loss:
        _loss(panels.pop(0), report)
    return figure


def _states(axes: Axes, sites: tuple[SiteReport, ...]) -> None:
    """A bar of states per site."""
    drawn: dict[str, bool] = {}
    for line, site in enumerate(sites):
        at = 0.0
        for kind, number in words.split(site).items():
            share = number / max(site.units, 1)
            label = None if kind in drawn else kind
            drawn[kind] = True
            axes.barh(line, share, left=at, height=0.7, color=colours()[kind], label=label)
            at += share
    _rows(axes, [f"{clean(site.name, _NAME)} ({site.units:,})" for site in sites])
    axes.set_title("States of units, by site")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: KINDS.index(labels[i]))
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(order),
        frameon=False,
        fontsize=7,
        handlelength=1,
        columnspacing=1,
    )


def _heat(axes: Axes, report: Report, losers: list[SiteReport]) -> None:
    """Share of units that are dead now and were so by each step."""
    from matplotlib.colors import LinearSegmentedColormap

    bins = Bins.of(report, _PARTS)
    dead = [shares(site, bins) for site in losers]
    most = max(row[-1] for row in dead)
    fade = LinearSegmentedColormap.from_list("dead", ["#ecece7", colours()["dead"]])
    end = bins.size * bins.number
    axes.imshow(
        dead,
        aspect="auto",
        interpolation="nearest",
        cmap=fade,
        vmin=0,
        vmax=most,
        extent=(0, end, len(losers) - 0.5, -0.5),
    )
    _rows(axes, [clean(site.name, _NAME) for site in losers])
    axes.set_title(f"Dead share by site and step, up to {percent(most)}")
    axes.set_xlim(0, max(int(report.run.get("steps") or 0), 1))


def _loss(axes: Axes, report: Report) -> None:
    """The loss, with the deaths behind it."""
    steps, values = thin(report.metrics["loss"], _POINTS)
    numbers = [float("nan") if value is None else value for value in values]
    axes.plot(steps, numbers, color="#1f5fa8", linewidth=0.9)
    known = [value for value in values if value is not None]
    if min(known) > 0 and max(known) > 50 * min(known):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    most = max((died for _, died in report.deaths), default=0)
    for step, died in report.deaths[:_POINTS]:
        axes.axvspan(step, step + 1, color=colours()["dead"], alpha=0.08 + 0.3 * died / most, lw=0)
    axes.set_title("Loss; red: steps at which units died" if most else "Loss")
    axes.set_xlabel("step")
    axes.set_xlim(0, max(int(report.run.get("steps") or 0), 1))


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(left=False)


@cache
def colours() -> dict[str, str]:
    """The page's light colour of each kind."""
    style = (resources.files("flatline.show") / "assets/page/page.css").read_text("utf-8")
    found = dict(re.findall(r"--kind-([\w-]+): light-dark\((#\w+)", style))
    return {kind: found[kind.replace(" ", "-")] for kind in KINDS}
