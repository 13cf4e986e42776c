"""The result of a trial, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flatline.trials.measures import Measures
from flatline.trials.plan import CONTROL, arms
from flatline.trials.statistics import (
    BETTER,
    CONFIDENCE,
    WORSE,
    Comparison,
    compare,
    middle,
    seeds_change_nothing,
)

#: Relative difference of two first losses that rounding may explain, as on a GPU.
ROUNDING = 1e-3
#: Homes of treatments that leave the model's first pass as it is.
STEP_HOMES = ("flatline.treatments.steps", "flatline.treatments.clipping")


@dataclass(frozen=True)
class ArmResult:
    """One arm.

    Attributes:
        treatment: ``"control"``, or what was applied.
        runs: What each run says, by seed; diverged runs among them.
        failed: Why a run says nothing, by seed.
        comparison: With the control; ``None`` for the control itself.
        stopped: Why it was given up; empty where it was not.
    """

    treatment: str
    runs: Mapping[int, Measures] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    stopped: str = ""

    @property
    def is_control(self) -> bool:
        """Whether nothing was done to it."""
        return self.treatment == CONTROL

    @property
    def objectives(self) -> dict[int, float]:
        """The objective by seed; not finite where the run diverged."""
        return {seed: one.objective for seed, one in self.runs.items()}

    @property
    def mean(self) -> float | None:
        """Mean objective; ``None`` without a run, or where one diverged."""
        values = list(self.objectives.values())
        mean = sum(values) / len(values) if values else math.nan
        return mean if math.isfinite(mean) else None

    @property
    def diverged(self) -> int:
        """Number of runs that diverged."""
        return sum(not math.isfinite(value) for value in self.objectives.values())

    def average(self, name: str) -> float | None:
        """Mean over the runs of one of their measures, where it was measured."""
        values = [getattr(one, name) for one in self.runs.values()]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Result:
    """A controlled trial.

    Attributes:
        objective: What was compared.
        maximise: Whether a larger one is better.
        seeds: What was added to the program's seeds.
        arms: The control and the treatments, the best first.
        program: What was run.
        max_steps: Steps after which each run was stopped.
        left_out: Remedies of the control's findings that were no arm, and why.
        notes: What else limits what the trial says.
        store: The store that holds the runs, where it is not the usual one.
    """

    objective: str
    maximise: bool
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    program: str = ""
    max_steps: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    store: str | None = None

    @property
    def control(self) -> ArmResult:
        """The untreated arm."""
        return next(arm for arm in self.arms if arm.is_control)

    @property
    def best(self) -> ArmResult | None:
        """The best of the arms that are better than the control."""
        first = self.arms[0]
        shown = first.comparison is not None and first.comparison.verdict == BETTER
        return first if shown else None

    @property
    def ends(self) -> dict[int, float]:
        """The control's objective by seed, where it did not diverge: there is an end to reach."""
        return {s: end for s, end in self.control.objectives.items() if math.isfinite(end)}

    def steps_to_control(self, arm: ArmResult) -> float | None:
        """Median over seeds of the steps in which an arm reaches the control's end."""
        ends = self.ends
        return middle(
            [
                one.curve.steps_to(ends[seed], self.maximise)
                for seed, one in arm.runs.items()
                if seed in ends
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; only what JSON has, but for numbers that are not finite."""
        return {
            "schema": "flatline/1",
            "kind": "trial",
            "objective": self.objective,
            "direction": "larger is better" if self.maximise else "smaller is better",
            "seeds": len(self.seeds),
            "seed_offsets": list(self.seeds),
            "program": self.program,
            "max_steps": self.max_steps,
            "confidence": CONFIDENCE,
            "interval": "paired by seed, Student's t, Bonferroni over "
            f"{len(self.arms) - 1} treated arms",
            "arms": [self._arm(arm) for arm in self.arms],
            "left_out": [{"treatment": name, "why": why} for name, why in self.left_out.items()],
            "notes": list(self.notes),
        }

    def _arm(self, arm: ArmResult) -> dict[str, Any]:
        compared = arm.comparison
        runs = [arm.objectives.get(seed) for seed in self.seeds]
        said: dict[str, Any] = {"treatment": arm.treatment}
        if compared is not None:
            said["verdict"] = compared.verdict
        return said | {
            "objective": {
                "mean": arm.mean,
                "difference": 0.0 if compared is None else compared.difference,
                "low": 0.0 if compared is None else compared.low,
                "high": 0.0 if compared is None else compared.high,
                "runs": runs,
            },
            "dead_share": arm.average("dead_share"),
            "sick_share": arm.average("sick_share"),
            "effective_rank": arm.average("effective_rank"),
            "steps_to_control": self.steps_to_control(arm),
            "gap": arm.average("gap"),
            "failures": len(arm.failed),
            "diverged": arm.diverged,
            "why": "" if compared is None else compared.why,
            "stopped": arm.stopped,
            "failed": [{"seed": seed, "why": why} for seed, why in arm.failed.items()],
            "stored": [arm.runs[seed].run if seed in arm.runs else None for seed in self.seeds]
            if self.program or self.store
            else [],
        }


def ranked(table: Sequence[ArmResult], maximise: bool) -> tuple[ArmResult, ...]:
    """Compared with the control among them, the best first.

    An arm that is better stands before the control, one that is worse after it, whatever their
    means; the others stand by their difference, those without any last.
    """
    control = next(arm for arm in table if arm.is_control)
    others = {arm.treatment: arm for arm in table if not arm.is_control}
    found = compare(
        control.objectives,
        {name: arm.objectives for name, arm in others.items()},
        maximise=maximise,
        untrained=[one.untrained for one in control.runs.values() if one.untrained is not None],
    )
    compared = [
        ArmResult(name, arm.runs, arm.failed, found[name], arm.stopped)
        for name, arm in others.items()
    ]
    return tuple(sorted([control, *compared], key=lambda arm: _rank(arm, maximise)))


def _rank(arm: ArmResult, maximise: bool) -> tuple[int, float]:
    compared = arm.comparison
    if compared is None:
        return 1, 0.0
    group = {BETTER: 0, WORSE: 2}.get(compared.verdict, 1)
    if compared.difference is None:
        return 3, 0.0
    return group, -compared.difference if maximise else compared.difference


def remarks(table: Sequence[ArmResult], objective: str) -> list[str]:
    """What limits what a trial says, as far as its runs tell."""
    control = next(arm for arm in table if arm.is_control)
    values = list(control.objectives.values())
    said = []
    if seeds_change_nothing(values):
        said.append(
            f"the program ignores seeds: the control's {objective} is the same to the last bit on "
            f"{len(values)} seeds, so nothing can be said of chance"
        )
    elif len(values) < 2:
        said.append("an interval needs the control on two seeds at least, and three to be of use")
    if begins := _unpaired(control, table):
        said.append(
            f"runs of the control and of {begins} begin with different losses on the same seed: "
            "the program draws numbers that no seed reaches, so pairs have less in common"
        )
    steps = {one.steps for arm in table for one in arm.runs.values()}
    if len(steps) > 1:
        said.append(
            f"runs took {min(steps):,} to {max(steps):,} steps; stop all at the same one with "
            "--max-steps"
        )
    return said


def _unpaired(control: ArmResult, others: Sequence[ArmResult]) -> str:
    """An arm that begins differently from the control though it is treated in its steps alone."""
    for arm in others:
        if arm.is_control or not _acts_on_steps(arm.treatment):
            continue
        for seed, run in arm.runs.items():
            first = control.runs[seed].untrained if seed in control.runs else None
            if first is None or run.untrained is None:
                continue
            if not math.isclose(first, run.untrained, rel_tol=ROUNDING, abs_tol=ROUNDING):
                return arm.treatment
    return ""


def _acts_on_steps(arm: str) -> bool:
    (parsed,) = arms([arm])
    return all(one.method.home in STEP_HOMES for one in parsed.treatments)
