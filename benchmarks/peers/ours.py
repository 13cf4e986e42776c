"""flatline on the same runs, in trainings of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .score import Run, Verdict, Verdicts

#: Rows of the table, each with the severities that count in it as an alarm.
OURS = {
    "flatline, critical": frozenset({"critical"}),
    "flatline, with warnings": frozenset({"critical", "warning"}),
}


def judge_ours(runs: Sequence[Run]) -> Verdicts:
    """Train all runs once more, watched by flatline with its default budget."""
    verdicts: Verdicts = {name: {} for name in OURS}
    for run in runs:
        findings = findings_of(run)
        for name, severities in OURS.items():
            codes = frozenset(found.code for found in findings if found.severity in severities)
            verdicts[name][run.name] = Verdict(dict.fromkeys(sorted(codes), 0), codes)
    return verdicts


def findings_of(run: Run) -> Sequence[Any]:
    import flatline

    training = run.build()
    with flatline.Monitor(training.model, training.optimizer) as monitor:
        for _ in range(training.steps):
            training.step()
    return monitor.report().findings
