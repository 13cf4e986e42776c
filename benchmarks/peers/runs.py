"""The zoo's runs, as the peers need them."""

from __future__ import annotations

import importlib
from typing import Any

from .recorder import Validation
from .score import Run, Training


def from_zoo() -> list[Run]:
    """All runs of the zoo."""
    zoo: Any = importlib.import_module("benchmarks.zoo.runs")
    return [labelled(run) for run in zoo.RUNS.values()]


def labelled(run: Any) -> Run:
    """A run of the zoo with its label."""
    codes = frozenset({*run.expected, *run.equal})
    return Run(
        run.id,
        run.sick,
        codes,
        run.split == "choose",
        build=lambda: training_of(run),
        findings=lambda: findings_of(run),
    )


def findings_of(run: Any) -> list[tuple[str, str]]:
    """What the zoo gets to hear from flatline."""
    diagnosed: Any = importlib.import_module("benchmarks.zoo.diagnosed")
    return [(found["code"], found["severity"]) for found in diagnosed.watched(run)["findings"]]


def training_of(run: Any) -> Training:
    """The run's training, with its epochs, and its task's test set for validation."""
    made = run.begin()
    recipe, (inputs, _) = made.recipe, made.task.train
    per_epoch = max(1, len(inputs) // (recipe.batch * recipe.accumulate))

    def validate() -> Validation:
        inputs, targets = made.task.test
        outputs = made.model(inputs)
        loss = float(made.loss(outputs, targets))
        if recipe.loss is not None:
            return loss, None
        if made.task.kind == "classes":
            return loss, float((outputs.argmax(-1) == targets).float().mean())
        if made.task.kind == "binary":
            return loss, float(((outputs.squeeze(-1) > 0) == (targets > 0)).float().mean())
        return loss, None

    return Training(made.model, made.optimizer, made.step, recipe.steps, per_epoch, validate)
