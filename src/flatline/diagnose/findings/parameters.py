"""Parameters that never change while the rest of the model trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings.base import SEVERITIES, Finding, finding
from flatline.diagnose.findings.harm import has_learned
from flatline.diagnose.names import STATES
from flatline.diagnose.states import States

#: Exams that must agree.
_EXAMS = 2
_WHY = {
    "unowned": "were given to no optimizer",
    "no_gradient": "never received a gradient, as behind detach() or no_grad()",
    "still": "received gradients and were not changed by any update",
    "frozen": "are frozen (requires_grad=False)",
}


@dataclass(frozen=True)
class _Part:
    """Parameters that stay for one reason."""

    kind: str
    names: tuple[str, ...]
    share: float
    severity: str


@finding("frozen-parameters")
def frozen_parameters(chart: Chart) -> Finding | None:
    """Parameters that never change, by requires_grad, by the optimizer's list, or by the graph.

    Evidence: names and shares of elements at the exams. Threshold: a part that looks as if it had
    just been initialised is a warning, and critical from 30 % of the model or where the run did not
    learn; a part without a gradient is a warning from 5 % of the model. Avoids: what was frozen by
    ``requires_grad=False``, and parts that were trained before and are left out (a backbone, or
    everything but adapters), which are ``info``; what no operator uses, such as a spare head; what
    has no gradient because all units behind it are silent, or no example was sent there; gradients
    that are 0 at the first step alone, as next to a layer that starts at 0; and the ends of
    schedules, where nothing moves.
    """
    notes = [note.evidence for note in chart.history.notes if note.kind == "parameters"]
    if not notes or not max(note["trained"] for note in notes):
        return None  # nothing trains at all, which is another matter
    parts = [part for kind in _WHY if (part := _part(chart, notes, kind)) is not None]
    if not parts:
        return None
    parts.sort(key=lambda part: (-SEVERITIES.index(part.severity), -part.share))
    first = parts[0]
    return Finding(
        "frozen-parameters",
        first.severity,
        _sites(chart, first.names),
        first.share,
        f"{_named(first.names)} ({first.share:.1%} of all parameters) {_WHY[first.kind]}"
        + ", while the rest trains",
        {
            "elements": float(notes[-1]["elements"]),
            "drawn": float(first.kind in notes[-1]["drawn"]),
            **{f"{part.kind}_share": part.share for part in parts},
        },
        explains=("vanishing-gradient", "learning-rate-too-low", "no-learning"),
    )


def _part(chart: Chart, notes: Sequence[Mapping[str, Any]], kind: str) -> _Part | None:
    """What stayed in all exams for one reason."""
    last = notes[-1]
    always = set.intersection(*(set(note[kind]) for note in notes)) - set(last["unused"])
    idle = _unvisited(chart) if kind == "no_gradient" else set()
    names = tuple(name for name in last[kind] if name in always and _module(name) not in idle)
    if not names or (kind != "frozen" and not _is_sure(chart, kind)):
        return None
    elements = min(note[f"{kind}_elements"] for note in notes)
    unused = last["unused_elements"] if set(last[kind]) & set(last["unused"]) else 0
    share = max(elements - unused, 0) / max(last["elements"], 1)
    return _Part(kind, names, share, _severity(chart, last, kind, share))


def _is_sure(chart: Chart, kind: str) -> bool:
    """Whether there were exams enough, and nothing else explains that a gradient was missing."""
    exams = chart.history.facts.get("overhead", {}).get("exams", len(chart.history.exams))
    cut = kind == "no_gradient" and any(_is_silent(states) for states in chart)
    return exams >= _EXAMS and not cut


def _unvisited(chart: Chart) -> set[str]:
    """Modules around sites that received no example, as experts that nothing is sent to."""
    empty = [one.site for one in chart if one.are("unvisited").all()]
    return {_module(name) for site in empty for name in (*site.feeds, *site.reads)}


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _is_silent(states: States) -> bool:
    """Whether no unit passes a gradient on, be it sure for good or not."""
    stopping = [STATES.index(name) for name in ("dead", "constant", "saturated", "nonfinite")]
    return bool(np.isin(states.code, stopping).all())


def _severity(chart: Chart, last: Mapping[str, Any], kind: str, share: float) -> str:
    limits = chart.thresholds
    if kind == "frozen":
        return "info"
    if kind in last["drawn"] and kind != "still":
        critical = share >= limits.critical_share or has_learned(chart) is False
        return "critical" if critical else "warning"
    if kind == "unowned" or kind in last["leading"]:
        return "info"  # trained before, and left as it is
    return "warning" if share >= limits.idle_share else "info"


def _sites(chart: Chart, names: Sequence[str]) -> tuple[str, ...]:
    """The sites that these parameters feed."""
    return tuple(site.name for site in chart.sites if set(site.feeds) & set(names))


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
