"""The figures as a part of ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(document: Mapping[str, Any]) -> str:
    """The table and what was missed, from the contents of ``real-bugs.json``."""
    runs, published = document["runs"], document["published"]["in_scope"].items()
    bugs = runs[0]["flatline"]["bugs"]
    lines = [f"| tool | detected, of {bugs} | rightly diagnosed |", "|---|---|---|"]
    for run in runs:
        score = run["flatline"]
        lines.append(
            f"| flatline, at {run['budget']:.0%} of the time | {score['detected']} | "
            f"**{score['diagnosed']}** ({score['first']} by its first finding) |"
        )
    lines += [f"| {name} | {one['detected']} | {one['diagnosed']} |" for name, one in published]
    return "\n".join([*lines, "", *(_missed(run) for run in runs), ""])


def _missed(run: Mapping[str, Any]) -> str:
    score = run["flatline"]
    names = ", ".join([*score["missed"], *score["misdiagnosed"]]) or "none"
    wrong = score["fixed_with_false_alarms"] or "none"
    return (
        f"- At {run['budget']:.0%}: not rightly diagnosed {names}; repaired programs with a "
        f"critical finding of the wrong kind: {wrong}."
    )
