"""Which runs a trial wants, and what it makes of them, with runs that take no time."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from flatline.diagnose.findings.finding import Finding, Remedy
from flatline.errors import UsageError
from flatline.treatments.registry import METHODS
from flatline.trials.engine import log_file
from flatline.trials.plan import Work, arms
from flatline.trials.prescribe import prescribed
from trials.instant import runner

LEVEL = {"control": 2.0, "lr=x0.1": 1.0, "lr=x10": 3.0, "clip=norm:1.0": 2.0, "init=he": 1.8}
WOBBLE = (0.0, 0.3, 0.1, 0.25, 0.05)


def ends(arm: str, seed: int) -> float:
    """What the seed does to all arms, the level of the arm, and a little of its own."""
    own = 0.01 * (sum(map(ord, arm)) * (seed + 1) % 7)
    return LEVEL[arm] + WOBBLE[seed] + own


def diverging(arm: str, seed: int) -> float:
    return math.nan if arm == "lr=x10" else ends(arm, seed)


def test_arms_are_ranked_with_the_runs_paired_by_seed(tmp_path):
    trial, engine = runner(tmp_path, ends, ["lr=x10", "clip=norm:1.0", "lr=x0.1"])
    result = trial.run()

    assert [arm.treatment for arm in result.arms][0::3] == ["lr=x0.1", "lr=x10"]
    verdicts = {arm.treatment: arm.comparison.verdict for arm in result.arms if arm.comparison}
    assert verdicts == {
        "lr=x0.1": "better",
        "clip=norm:1.0": "no difference shown",
        "lr=x10": "worse",
    }
    assert Counter(job.arm for job in engine.jobs) == dict.fromkeys(["control", *verdicts], 3)
    assert engine.closed
    for arm in result.arms:
        for seed, value in arm.objectives.items():
            assert value == pytest.approx(ends(arm.treatment, seed))


def test_steps_to_control_are_those_of_the_smoothed_loss(tmp_path):
    trial, _ = runner(tmp_path, lambda arm, seed: LEVEL[arm], ["lr=x0.1"], seeds=1)
    result = trial.run()
    control, arm = result.control, result.arms[0]

    # The loss is at the control's end from step 40 on, a mean of 5 steps 4 steps later.
    assert result.steps_to_control(control) == 45
    # 3 / 40 less per step: the mean of 5 steps is below 2 when the one 2 steps ago is.
    assert result.steps_to_control(arm) == 30


def test_what_is_finished_is_not_repeated_and_more_seeds_only_add_runs(tmp_path):
    trial, _ = runner(tmp_path, ends, ["lr=x0.1"], seeds=2)
    first = trial.run()
    again, engine = runner(tmp_path, ends, ["lr=x0.1", "init=he"], seeds=3)
    result = again.run()

    assert sorted((job.arm, job.seed) for job in engine.jobs) == [
        *(("control", 2), ("init=he", 0), ("init=he", 1), ("init=he", 2), ("lr=x0.1", 2)),
    ]
    assert first.control.objectives.items() <= result.control.objectives.items()
    assert "4 of 9 runs were kept from an earlier call; --fresh repeats them" in result.notes
    fresh, engine = runner(tmp_path, ends, ["lr=x0.1"], seeds=2, fresh=True)
    fresh.run()
    assert len(engine.jobs) == 4


def test_an_arm_that_crashes_stops_no_other_and_is_tried_again(tmp_path):
    def crashing(arm: str, seed: int) -> float:
        if (arm, seed) == ("lr=x0.1", 1):
            raise RuntimeError("out of memory")
        return ends(arm, seed)

    trial, _ = runner(tmp_path, crashing, ["lr=x0.1", "lr=x10"])
    result = trial.run()
    failed = result.to_dict()["arms"]
    hurt = next(arm for arm in failed if arm["treatment"] == "lr=x0.1")

    assert hurt["failures"] == 1
    assert hurt["failed"] == [
        {"seed": 1, "why": "ended with status 1: RuntimeError: out of memory"}
    ]
    assert hurt["objective"]["runs"][1] is None
    assert hurt["verdict"] == "no difference shown"
    assert len(next(a for a in result.arms if a.treatment == "lr=x10").runs) == 3
    again, engine = runner(tmp_path, ends, ["lr=x0.1", "lr=x10"])
    assert again.run().best.treatment == "lr=x0.1"
    assert [(job.arm, job.seed) for job in engine.jobs] == [("lr=x0.1", 1)]


def test_an_arm_ended_before_it_stored_anything_stops_no_other(tmp_path):
    trial, engine = runner(tmp_path, ends, ["lr=x0.1", "lr=x10"])
    engine.late = "lr=x10"
    hurt = next(arm for arm in trial.run().arms if arm.treatment == "lr=x10")

    assert not hurt.runs
    assert all("its time limit" in why for why in hurt.failed.values())


def test_a_repeated_run_that_stored_nothing_is_not_taken_for_the_one_before(tmp_path):
    first, _ = runner(tmp_path, ends, ["lr=x10"])
    assert len(first.run().arms[-1].runs) == 3
    again, engine = runner(tmp_path, ends, ["lr=x10"], fresh=True)
    engine.late = "lr=x10"

    assert len(next(a for a in again.run().arms if a.treatment == "lr=x10").failed) == 3


def test_an_arm_that_diverges_is_worse_and_has_no_mean(tmp_path):
    trial, _ = runner(tmp_path, diverging, ["lr=x10"])
    (_, arm) = trial.run().to_dict()["arms"]

    assert (arm["treatment"], arm["verdict"], arm["diverged"]) == ("lr=x10", "worse", 3)
    assert arm["objective"]["mean"] is None
    assert arm["objective"]["difference"] > 1


def test_a_loss_far_above_its_beginning_has_diverged(tmp_path):
    trial, _ = runner(tmp_path, lambda a, s: 1e3**s if a != "control" else 1.0 + s, ["lr=x10"])
    result = trial.run()

    assert [math.isfinite(v) for v in result.arms[1].objectives.values()] == [True, False, False]


def test_halving_gives_up_the_worse_half_after_each_seed_and_says_so(tmp_path):
    four = ["lr=x10", "clip=norm:1.0", "lr=x0.1", "init=he"]
    trial, engine = runner(tmp_path, ends, four, seeds=3, halving=True)
    result = trial.run()

    runs = Counter(job.arm for job in engine.jobs)
    assert runs == {"control": 3, "lr=x0.1": 3, "init=he": 2, "clip=norm:1.0": 1, "lr=x10": 1}
    stopped = {arm.treatment: arm.stopped for arm in result.arms if arm.stopped}
    assert stopped == {
        "init=he": "by halving after 2 seeds",
        "clip=norm:1.0": "by halving after 1 seed",
        "lr=x10": "by halving after 1 seed",
    }
    assert result.best.treatment == "lr=x0.1"
    # Its interval is one of four, though three arms were given up.
    assert "4 treated arms" in result.to_dict()["interval"]
    unhalved, _ = runner(tmp_path, ends, four)
    assert result.best.comparison == unhalved.run().best.comparison


def test_a_control_that_ignores_seeds_is_named(tmp_path):
    trial, _ = runner(tmp_path, lambda arm, seed: LEVEL[arm], ["lr=x0.1"])
    result = trial.run()

    assert result.best is None
    assert "the program ignores seeds" in result.notes[0]


def differently(arm: str, seed: int) -> float:
    return 4.0 if arm == "control" else 4.1


def test_a_program_whose_random_numbers_no_seed_reaches_is_named(tmp_path):
    trial, _ = runner(tmp_path, ends, ["init=he", "lr=x0.1"], begin=differently)
    notes = trial.run().notes

    assert notes[0].startswith("runs of the control and of lr=x0.1 begin with different losses")
    # A treatment of the model may well change the first loss.
    other, _ = runner(tmp_path / "a", ends, ["init=he"], begin=differently)
    assert other.run().notes == ()


def test_one_seed_gives_no_interval_and_says_so(tmp_path):
    trial, _ = runner(tmp_path, ends, ["lr=x0.1"], seeds=1)
    result = trial.run()

    assert result.best is None
    assert "an interval needs the control on two seeds" in result.notes[0]


def test_a_control_that_always_fails_is_an_error(tmp_path):
    def fail(arm: str, seed: int) -> float:
        raise ValueError("no data")

    for treat in (["lr=x0.1"], None):
        trial, engine = runner(tmp_path, fail, treat)
        with pytest.raises(UsageError, match="failed: ended with status 1: ValueError: no data"):
            trial.run()
        assert engine.closed


def test_an_objective_that_nobody_logs_is_an_error_that_lists_what_is_logged(tmp_path):
    trial, engine = runner(tmp_path, ends, ["lr=x0.1"], objective="accuracy")

    with pytest.raises(
        UsageError, match="expected the program to log 'accuracy', found loss; name"
    ):
        trial.run()
    assert engine.closed


def test_a_healthy_control_is_run_once_and_nothing_is_tried(tmp_path):
    trial, engine = runner(tmp_path, ends, None)
    result = trial.run()

    assert [(job.arm, job.seed) for job in engine.jobs] == [("control", 0)]
    assert [arm.treatment for arm in result.arms] == ["control"]
    assert "prescribe nothing" in result.notes[0]


def finding(severity: str, *treatments: str) -> Finding:
    remedies = tuple(Remedy(one, "it may help") for one in treatments)
    return Finding("dying-relu", severity, (), 0.5, "", remedies=remedies)


def test_prescriptions_are_taken_in_turn_the_most_severe_first():
    found = [
        finding("critical", "lr=x0.1", "clip=norm:1.0", "init=he"),
        finding("critical", "init=lsuv", "lr=x0.1"),
        finding("warning", "norm=batch", "look at the data"),
        finding("info", "warmup=100"),
    ]
    taken, left_out = prescribed(found)

    assert [*map(str, taken)] == ["lr=x0.1", "init=lsuv", "clip=norm:1.0", "init=he"]
    assert left_out == {
        "norm=batch": "the first 4 were taken; name it to have it tried",
        "look at the data": "flatline has no treatment of this name",
    }


def test_the_name_of_a_program_need_not_be_text(tmp_path):
    works = [Work((name,), tmp_path / "runs.db") for name in ("caf\udce9.py", "caf\udce8.py")]
    assert works[0].key != works[1].key


def test_runs_of_long_arms_have_files_of_their_own(tmp_path):
    long = "+".join(f"{method.name}={method.examples[0]}" for method in METHODS)
    work = Work(("train.py",), tmp_path / "runs.db")
    logs = {log_file(tmp_path, work.job(arms([long])[0], seed)) for seed in range(3)}

    assert len(logs) == 3
    for log in logs:
        log.touch()


def test_an_arm_may_join_treatments():
    (arm,) = arms(["lr=x1e+2+init=he"])

    assert str(arm) == "init=he+lr=x1e+2"
    with pytest.raises(UsageError, match="did you mean init=he"):
        arms(["lr=x0.1+init=hee"])
