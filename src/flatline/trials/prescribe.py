"""Which treatments a control's findings call for."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from flatline.diagnose.findings import Finding
from flatline.errors import UsageError
from flatline.trials.plan import Arm, arms

#: Treatments taken from findings at most: each is an arm, and widens the intervals of all.
MOST = 4


def prescribed(
    findings: Iterable[Finding], most: int = MOST
) -> tuple[tuple[Arm, ...], dict[str, str]]:
    """The arms of a trial, and why other remedies are none of them.

    Critical findings come before warnings. Among findings of the same severity the first remedy of
    each comes before the second of any. What is mere information asks for no treatment.

    Args:
        findings: Of the control, the most severe first.
        most: Arms to take.
    """
    taken: dict[Arm, None] = {}
    left_out: dict[str, str] = {}
    for remedy in _in_turn(list(findings)):
        try:
            (arm,) = arms([remedy])
        except UsageError:
            left_out[remedy] = "flatline has no treatment of this name"
            continue
        if arm in taken:
            continue
        if len(taken) < most:
            taken[arm] = None
        else:
            left_out[str(arm)] = f"the first {most} were taken; name it to have it tried"
    return tuple(taken), left_out


def _in_turn(findings: list[Finding]) -> Iterable[str]:
    for severity in ("critical", "warning"):
        lists = [
            [remedy.treatment for remedy in one.remedies]
            for one in findings
            if one.severity == severity
        ]
        for rank in zip_longest(*lists):
            yield from (treatment for treatment in rank if treatment)
