"""What dead units cost, in words and in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatline.diagnose.impact import MEANINGS, Gap
from flatline.show.report import Report, SiteReport
from flatline.show.text import count, measured, named, percent


@dataclass(frozen=True)
class Column:
    """One number of every site.

    Attributes:
        head: What it is called.
        key: Its name in the JSON report.
        cells: The number of each site, as it is shown.
    """

    head: str
    key: str
    cells: tuple[str, ...]

    @property
    def meaning(self) -> str:
        """Unit and definition."""
        unit, means = MEANINGS[self.key]
        return f"{means} ({unit})"


#: Each column in short; at length they are defined on the page and by ``flatline explain SITE``.
_SHORT = {
    "live": "units left",
    "rank": "effective rank of the activations",
    "stable": "stable rank",
    "particip.": "participation ratio",
    "of": "examples behind the ranks",
    "lost": "gradient that ends at silent units",
    "update": "relative update of live units",
    "gini": "how unevenly units are read",
    "top": "influence of the top tenth",
    "param.": "parameters of dead units",
    "adds": "multiply-adds of dead units per example",
}


def legend(found: Sequence[Column]) -> str:
    """What the columns are, in short."""
    said = "; ".join(f"{column.head}: {_SHORT[column.head]}" for column in found)
    return f"{said}. flatline explain SITE defines them."


def columns(sites: Sequence[SiteReport]) -> list[Column]:
    """What was measured of these sites, without what was measured of none."""
    shown = (
        ("live", "live_width", [f"{one.impact.live_width:,}" for one in sites]),
        ("rank", "effective_rank", [measured(one.effective_rank) for one in sites]),
        ("stable", "stable_rank", [measured(one.impact.stable_rank) for one in sites]),
        ("particip.", "participation", [measured(one.impact.participation) for one in sites]),
        ("of", "rank_rows", [measured(one.impact.rank_rows) for one in sites]),
        ("lost", "signal_lost", [_share(one.impact.signal_lost) for one in sites]),
        ("update", "live_update_ratio", [measured(one.impact.live_update_ratio) for one in sites]),
        ("gini", "gini", [measured(one.impact.gini) for one in sites]),
        ("top", "top_share", [_share(one.impact.top_share) for one in sites]),
        ("param.", "dead_parameters", [_whole(one.impact.dead_parameters) for one in sites]),
        ("adds", "dead_multiply_adds", [_whole(one.impact.dead_multiply_adds) for one in sites]),
    )
    return [Column(head, key, tuple(cells)) for head, key, cells in shown if any(cells)]


def ablation(sites: Sequence[SiteReport]) -> list[Column]:
    """What the loss loses by live units, where that was measured."""
    shown = (
        ("a quarter", "ablated_quarter", [measured(one.impact.ablated_quarter) for one in sites]),
        ("a half", "ablated_half", [measured(one.impact.ablated_half) for one in sites]),
    )
    return [Column(head, key, tuple(cells)) for head, key, cells in shown if any(cells)]


def _share(value: float | None) -> str:
    return "" if value is None else percent(value)


def _whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def sentences(report: Report) -> list[str]:
    """What dead units cost the model as a whole, and how far validation lies from training."""
    found, said = report.cost, []
    if found.dead and found.dead_parameters:
        share = ""
        if found.parameters:
            part = percent(min(found.dead_parameters / found.parameters, 1.0))
            share = f", {part} of the model's {found.parameters:,}"
        unit = "The dead unit holds" if found.dead == 1 else f"{found.dead:,} dead units hold"
        said.append(
            f"{unit} {count(found.dead_parameters, 'parameter')}{share}, and take at least "
            f"{count(found.dead_multiply_adds, 'multiply-add')} per example."
        )
    return said + [_gap(gap) for gap in found.gaps]


def _gap(gap: Gap) -> str:
    said = (
        f"{named(gap.metric)} {measured(gap.value)} at step {gap.step:,} against "
        f"{measured(gap.training_value)} in training: a gap of {measured(gap.gap)}"
    )
    if gap.best == gap.value:
        return f"{said}, at its best."
    return f"{said}; it was best at step {gap.best_step:,} ({measured(gap.best)})."
