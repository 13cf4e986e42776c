"""One training of one arm of a run: treated or not, on one seed, and what came of it."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flatline
from benchmarks.zoo.data import Task
from benchmarks.zoo.diagnosed import follow, reported
from benchmarks.zoo.draws import SEEDS
from benchmarks.zoo.labels import Run
from benchmarks.zoo.training import Training
from flatline.errors import FlatlineError

Row = dict[str, Any]
#: Between the seeds of one run; runs of one recipe have neighbouring seeds already.
APART = 100
#: Part of the steps, the last ones, over which the objective is averaged.
END = 0.2


#: Part of the loss of a guess by which a training must be better to have learned anything.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes:
        objective: Mean loss over the last steps, without penalties; see :func:`objective`.
        guess: What it counts as at most.
        skill: Skill on held-out data; ``None`` where it is no number.
        found: Codes that are raised as a warning or worse, or explained by such a finding.
        hinted: Codes that are raised as information.
        refused: Why a treatment was refused; empty where none was.
    """

    objective: float
    guess: float = math.nan
    skill: float | None = None
    found: tuple[str, ...] = ()
    hinted: tuple[str, ...] = ()
    refused: str = ""

    @property
    def learned(self) -> float:
        """The objective; NaN where it is no better than a guess, as of a training that diverged."""
        return self.objective if self.objective < (1 - ROUNDING) * self.guess else math.nan


def carry_out(run: Run, seed: int, treatments: Sequence[str], watched: bool = True) -> Outcome:
    """Train a run on one of its seeds, and say what came of it.

    Args:
        run: The run.
        seed: 0 for the run as the zoo has it; weights and batches of others differ.
        treatments: What is done to it; nothing for the control.
        watched: Whether flatline looks at it.
    """
    training = Training(run.recipe, run.seed + SEEDS * run.draw + APART * seed)
    losses = listen(training)
    bound = guess(training)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where treatments say what they do
            if treatments:
                flatline.treat(training.model, training.optimizer, *treatments)
            report = _train(training, run, watched)
    except FlatlineError as error:
        return Outcome(math.nan, refused=str(error))
    skill = training.skill()
    return Outcome(
        objective(losses, bound),
        bound,
        skill if math.isfinite(skill) else None,
        tuple(sorted(named(report))),
        tuple(sorted(one["code"] for one in report["findings"] if one["severity"] == "info")),
    )


def _train(training: Training, run: Run, watched: bool) -> Row:
    if watched:
        with tempfile.TemporaryDirectory() as folder:
            follow(training, run, Path(folder) / "runs.db")
            return reported(Path(folder) / "runs.db")
    for _ in range(run.steps):
        training.step()
    return {"findings": []}


def named(report: Row) -> set[str]:
    """Codes raised as a warning or worse, and those that such a finding explains."""
    raised = [one for one in report["findings"] if one["severity"] != "info"]
    return {one["code"] for one in raised} | {code for one in raised for code in one["explains"]}


def listen(training: Training) -> list[float]:
    """Note the loss of every batch before penalties are added to it."""
    plain, losses = training.loss, []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        found = plain(outputs, targets)
        losses.append(found.detach())
        return found

    training.loss = loss
    return losses


def objective(losses: Iterable[float], bound: float) -> float:
    """Mean of the last losses, none of which counts as worse than that of a guess.

    A model that is worse than a guess is worth no more than one, by however much it is worse; a
    training whose loss is no number any more as well. Both make the untreated training look better
    than it is, and the interval of its difference to a treated one narrow enough to mean something.
    """
    values = [float(loss) for loss in losses]
    last = values[-max(1, round(END * len(values))) :]
    return sum(min(loss, bound) if loss == loss else bound for loss in last) / len(last)


def guess(training: Training) -> float:
    """The loss of the best output that is the same for all examples."""
    task: Task = training.task
    if task.name == "pairs":  # partners are told from the others of a batch
        return math.log(training.recipe.batch)
    targets = task.train[1]
    if task.kind in ("numbers", "copy"):
        return float(targets.var(0, correction=0).mean())
    shares = targets.flatten().bincount().double() / targets.numel()
    return float(torch.special.entr(shares).sum())
