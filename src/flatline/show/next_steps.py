"""What to type after a trial: said alike on the terminal, in the JSON and on the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from flatline.diagnose.impact import rises
from flatline.show.text import clean
from flatline.treatments.prescriptions import prescription
from flatline.trials.plan import LOSS
from flatline.trials.result import Result


def next_steps(trial: Result) -> list[tuple[str, str]]:
    """Commands, or lines of Python, each with what it gives; only those that are safe to type."""
    return [step for step in _steps(trial) if clean(step[0]) == step[0]]


def _steps(trial: Result) -> Iterator[tuple[str, str]]:
    best = trial.best
    if best is not None:
        used = prescription(best.treatment, shlex.split(trial.program), trial.store)
        if trial.program:
            yield used["command"], "train with the best arm"
        yield used["code"], "or in the program" if trial.program else "in the program, the best arm"
    elif trial.program and len(trial.arms) > 1:
        yield _again(trial), "more seeds give narrower intervals; finished runs are kept"
    run = next((one.run for one in (best or trial.control).runs.values() if one.run), None)
    if run is not None and trial.program:
        words = ["flatline", "report", *_store(trial), run]
        yield shlex.join(words), "one of its runs in full"


def _again(trial: Result) -> str:
    """The same trial with twice the seeds."""
    words = ["flatline", "trial", *_store(trial), "--seeds", str(2 * len(trial.seeds))]
    if trial.seeds[0]:
        words += ["--seed-offset", str(trial.seeds[0])]
    if trial.max_steps is not None:
        words += ["--max-steps", str(trial.max_steps)]
    if trial.objective != LOSS:
        words += ["--objective", trial.objective]
    if trial.maximise != rises(trial.objective):
        words += ["--maximize" if trial.maximise else "--minimize"]
    for arm in trial.arms:
        words += [] if arm.is_control else ["--treat", arm.treatment]
    return f"{shlex.join(words)} {trial.program}"


def _store(trial: Result) -> list[str]:
    return [] if trial.store is None else ["--store", trial.store]
