"""The repair benchmark: what it counts as a repair, on a fixed small sample of the zoo."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.repair import jobs
from benchmarks.repair.arm import Outcome, carry_out, guess, listen, named, objective
from benchmarks.repair.jobs import Plan, prescriptions, tried
from benchmarks.repair.score import figures, kind, miss, per_code, per_treatment, text
from benchmarks.zoo import jobs as zoo_jobs
from benchmarks.zoo.runs import named as run_named
from benchmarks.zoo.training import Training

#: Runs that their first prescription repairs, and it.
SAMPLE = {
    "regression+unreset-0": "zero_grad=each",
    "mlp-cancer+softmax-of-one-0": "output=sigmoid",
    "mlp-wine+drawn-small-0": "init=he",
}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", tmp_path / "repair")
    monkeypatch.setattr(zoo_jobs, "KEPT", tmp_path / "zoo")
    return tmp_path


@pytest.mark.parametrize(("name", "treatment"), SAMPLE.items())
def test_first_prescriptions_repair_a_fixed_sample(name, treatment, kept):
    row = tried(run_named(name), Plan(seeds=4, most=1))

    assert row["main"] == row["label"]
    arm = row["arms"][treatment]
    assert arm["repaired"]
    assert arm["seeds"] == 4
    assert arm["interval"][1] < 0
    assert figures([row])["first"] == figures([row])["repaired"] == 1
    again = tried(run_named(name), Plan(seeds=4, most=1))
    assert again == row


def test_an_arm_is_given_up_where_the_finding_stays_and_the_next_is_tried(kept, monkeypatch):
    asked = []

    def fake(run, seed, treatments, watched=True):
        asked.append((seed, *treatments))
        better = treatments == ("init=orthogonal",)
        return Outcome(0.1 * better + 0.01 * seed**2, 2.0, found=() if better else ("zero-init",))

    monkeypatch.setattr(jobs, "carry_out", fake)
    monkeypatch.setattr(jobs, "recording_of", lambda *_: (None, {}))
    finding = {"code": "zero-init", "severity": "critical", "explains": []}
    remedies = [
        {"treatment": name, "why": "", "command": ""} for name in ("init=he", "init=orthogonal")
    ]
    monkeypatch.setattr(
        jobs, "reported", lambda _: {"findings": [finding | {"remedies": remedies}]}
    )
    row = tried(run_named("mlp-0"), Plan(seeds=3))

    assert [one for one in asked if "init=he" in one] == [(0, "init=he")]
    assert len([one for one in asked if "init=orthogonal" in one]) == 3
    assert not any(arm["repaired"] for arm in row["arms"].values())  # gone, and no better
    assert row["arms"]["init=orthogonal"]["gone"]
    assert "NOT repaired" in miss(row)


def test_treatments_come_in_the_order_of_the_report_each_once():
    report = {
        "findings": [
            {"severity": "critical", "remedies": [{"treatment": "b", "command": ""}]},
            {"severity": "warning", "remedies": [{"treatment": t, "command": ""} for t in "abc"]},
            {"severity": "info", "remedies": [{"treatment": "d", "command": ""}]},
            {"severity": "warning", "remedies": [{"treatment": "no treatment"}]},
        ]
    }

    assert prescriptions(report, 6) == ["b", "a", "c"]
    assert prescriptions(report, 2) == ["b", "a"]


def test_what_a_warning_explains_is_still_there():
    report = {
        "findings": [
            {"code": "zero-init", "severity": "warning", "explains": ["no-learning"]},
            {"code": "dying-relu", "severity": "info", "explains": ["rank-collapse"]},
        ]
    }

    assert named(report) == {"zero-init", "no-learning"}


def test_no_loss_counts_as_worse_than_that_of_a_guess():
    assert objective([9.0] * 8 + [1.0, 3.0], 2.0) == 1.5
    assert objective([0.1] * 9 + [math.nan], 2.0) == pytest.approx((0.1 + 2.0) / 2)


def test_a_guess_is_the_best_output_that_is_the_same_for_all():
    training = Training(run_named("mlp-wine-0").recipe, 0)
    targets = training.task.train[1]
    shares = targets.bincount() / len(targets)
    want = training.task.loss(shares.log().expand(len(targets), -1), targets).item()
    assert guess(training) == pytest.approx(want, rel=1e-5)

    training = Training(run_named("regression-0").recipe, 0)
    targets = training.task.train[1]
    want = training.task.loss(targets.mean(0).expand_as(targets), targets).item()
    assert guess(training) == pytest.approx(want, rel=1e-5)


def test_penalties_are_no_part_of_the_objective():
    training = Training(run_named("mlp-wine-0").recipe, 0)
    training.penalty = lambda: torch.tensor(100.0)
    losses = listen(training)

    assert training.step() > 100
    assert losses[0] < 100


def test_a_refused_treatment_is_told_and_not_judged():
    outcome = carry_out(run_named("mlp-wine-0"), 0, ("unfreeze=all",))

    assert "expected parameters that are not trained" in outcome.refused
    assert math.isnan(outcome.objective)


def test_figures_count_runs_for_which_nothing_is_prescribed_as_not_repaired():
    nothing = {"id": "a", "main": None, "arms": {}}
    arm = {
        "repaired": True,
        "gone": True,
        "not_even_hinted": False,
        "verdict": "better",
        "refused": "",
        "objective": [1.0],
        "control": [2.0],
        "seeds": 1,
        "left": [],
    }
    second = {
        "id": "b",
        "main": "no-learning",
        "arms": {"x=1": arm | {"repaired": False}, "y=1": arm},
    }
    found = figures([nothing, second])

    assert (found["repaired"], found["first"], found["prescribed"]) == (0.5, 0, 0.5)
    assert per_code([nothing, second])["no-learning"] == {"runs": 1, "repaired": 1, "first": 0}
    assert per_treatment([second])["y=1"]["repairs"] == 1
    assert "a: None, NOT repaired" in text([nothing, second])
    assert kind("lr=x0.01+clip=norm:2") == "lr+clip=norm"
