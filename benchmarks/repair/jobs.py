"""A sick run: its control diagnosed, its prescriptions tried one after the other.

An arm is given up at the first seed on which it is refused, or on which the main finding is still
there, since no other seed can make it a repair; and once an arm is a repair, later ones are not
tried. Outcomes are kept in ``.flatline/repair/`` for as long as the code that they rest on stays
the same, so that an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo.diagnosed import reported
from benchmarks.zoo.jobs import recording_of, truth_of
from benchmarks.zoo.labels import Run
from benchmarks.zoo.runs import named
from flatline.trials.statistics import BETTER, compare

from .arm import Outcome, carry_out

Row = dict[str, Any]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".flatline" / "repair"
#: What outcomes do not rest on: how they are shown, and what is prescribed.
_APART = ("show", "launch", "trials", "remedies", "doses")


@dataclass(frozen=True)
class Plan:
    """How each run is tried.

    Attributes:
        seeds: Paired seeds.
        most: Prescriptions that are tried at most.
        every: Whether later prescriptions are tried where an earlier one was a repair.
        fresh: Whether nothing kept is used.
    """

    seeds: int = 10
    most: int = 6
    every: bool = False
    fresh: bool = False


def prescriptions(report: Row, most: int) -> list[str]:
    """Treatments in the order of the report: those of the main finding first, each once."""
    remedies = [
        remedy["treatment"]
        for one in report["findings"]
        if one["severity"] != "info"
        for remedy in one["remedies"]
        if "command" in remedy
    ]
    return list(dict.fromkeys(remedies))[:most]


def tried(run: Run, plan: Plan) -> Row:
    """What the prescriptions did to one run."""
    report = reported(recording_of(run, None, False, plan.fresh)[0])
    main = next((one["code"] for one in report["findings"] if one["severity"] != "info"), None)
    row = {"id": run.id, "split": run.split, "label": run.main, "main": main, "arms": {}}
    chosen = prescriptions(report, plan.most) if main else []
    if not chosen:
        return row
    control = {seed: _kept(run, seed, "", plan) for seed in range(plan.seeds)}
    arms: dict[str, dict[int, Outcome]] = {treatment: {} for treatment in chosen}
    for treatment, arm in arms.items():
        for seed in range(plan.seeds):
            arm[seed] = _kept(run, seed, treatment, plan)
            if arm[seed].refused or main in arm[seed].found:
                break
        row["arms"][treatment] = _judged(main, control, arms, treatment)
        if row["arms"][treatment]["repaired"] and not plan.every:
            break
    return row


def _judged(
    main: str, control: dict[int, Outcome], arms: dict[str, dict[int, Outcome]], treatment: str
) -> Row:
    """One arm against the control, at an error that all prescriptions share."""
    arm = arms[treatment]
    refused = next((one.refused for one in arm.values() if one.refused), "")
    gone = not refused and all(main not in one.found for one in arm.values())
    told = compare(
        {seed: one.learned for seed, one in control.items()},
        {
            name: {seed: one.learned for seed, one in its.items() if name == treatment}
            for name, its in arms.items()
        },
        untrained=[control[0].guess],
    )[treatment]
    return {
        "repaired": gone and told.verdict == BETTER,
        "gone": gone,
        "not_even_hinted": gone and all(main not in one.hinted for one in arm.values()),
        "verdict": told.verdict,
        "difference": told.difference,
        "interval": [told.low, told.high],
        "seeds": len(arm),
        "refused": refused,
        "objective": [one.objective for one in arm.values()],
        "control": [one.objective for one in control.values()],
        "skill": [one.skill for one in arm.values()],
        "control_skill": [one.skill for one in control.values()],
        "left": sorted({code for one in arm.values() for code in one.found}),
    }


def _kept(run: Run, seed: int, treatment: str, plan: Plan) -> Outcome:
    """One training, made now or before by the same code."""
    path = KEPT / run.id / f"{treatment or 'control'} {seed}.json"
    if not plan.fresh and path.exists():
        found = json.loads(path.read_text())
        if found["key"] == _stamp():
            return Outcome(**found["outcome"])
    outcome = carry_out(run, seed, (treatment,) if treatment else (), watched=bool(treatment))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": _stamp(), "outcome": asdict(outcome)}))
    return outcome


@cache
def _stamp() -> str:
    """A digest of the code that an outcome rests on, and of torch's version."""
    digest = sha256(torch.__version__.encode())
    sources = [HERE / "arm.py"]
    for folder in (ROOT / "src", ROOT / "benchmarks" / "zoo"):
        sources += sorted(folder.rglob("*.py"))
    for path in sources:
        if not {path.stem, *path.relative_to(ROOT).parts} & set(_APART):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def work(name: str, plan: Plan) -> Row | None:
    """One run; ``None`` where its fault did not take, as the zoo finds in a further draw."""
    torch.set_num_threads(1)
    run = named(name)
    if run.draw and truth_of(run, plan.fresh)[0].complaints:
        return None
    return tried(run, plan)


def rows(names: Sequence[str], plan: Plan, jobs: int) -> Iterator[Row | None]:
    """A row for each run, see :func:`work`; made in so many processes of one thread each."""
    task = partial(work, plan=plan)
    if jobs == 1:
        yield from map(task, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, names)
