"""``flatline.trial`` on models that are given as a case."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import flatline
from flatline import trial  # at once: what an import draws is not the trial's
from flatline.errors import UsageError
from flatline.record.store import Store


def data(rows: int = 32) -> list:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, rows, 4, generator=generator)
    return [(x, x.sum(1, keepdim=True) - 2) for x in inputs]


def case(*, batches: object = None, lr: float = 1e-3, zero: bool = False) -> flatline.Case:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
    if zero:
        nn.init.zeros_(model[0].weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)
    return flatline.Case(model, data() if batches is None else batches, mse_loss, optimizer)


def test_a_treatment_that_helps_is_better_and_nothing_of_the_caller_is_changed():
    given = case()
    weights = [parameter.clone() for parameter in given.model.parameters()]
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    result = trial(given, ["lr=x30", "init=he+lr=x0.001"], steps=40)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    assert result.best.treatment == "lr=x30"
    assert [arm.treatment for arm in result.arms] == ["lr=x30", "control", "init=he+lr=x0.001"]
    assert {run.steps for arm in result.arms for run in arm.runs.values()} == {40}
    assert len({*result.control.objectives.values()}) == 3
    assert all(map(torch.equal, weights, given.model.parameters()))
    assert not given.optimizer.state
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    again = trial(given, ["lr=x30", "init=he+lr=x0.001"], steps=40)
    # Exams fall by the clock, so what they measured may differ.
    assert [arm.objectives for arm in again.arms] == [arm.objectives for arm in result.arms]
    assert json.loads(result.to_json())["kind"] == "trial"


def test_the_control_of_the_first_seed_is_the_training_as_it_is():
    given = case(lr=0.01)
    torch.manual_seed(0)
    by_hand = case(lr=0.01)
    losses = []
    torch.manual_seed(0)
    for x, y in by_hand.batches * 10:
        by_hand.optimizer.zero_grad()
        losses.append(mse_loss(by_hand.model(x), y))
        losses[-1].backward()
        by_hand.optimizer.step()

    result = trial(given, ["lr=x2"], seeds=1, steps=40)
    assert result.control.objectives[0] == pytest.approx(torch.stack(losses[-4:]).mean().item())


def test_other_seeds_keep_what_an_initialisation_is_known_by(tmp_path):
    given = case(zero=True)
    trial(given, ["lr=x2"], seeds=2, steps=20, path=tmp_path / "runs.db")
    store = Store(tmp_path / "runs.db")
    controls = [run["id"] for run in store.runs() if "control" in run["name"]]

    assert len(controls) == 2
    for run in controls:
        (site,) = store.load(run).sites
        assert site.name == "0"
        # All its weights are 0, shuffled or not: every unit is a constant at the first exam.
        silent = store.load(run).exams[0][1]["0"]["silent"]
        assert 0 < silent < 16


def test_a_function_makes_the_case_anew_for_each_run():
    made = []

    def factory() -> flatline.Case:
        model = nn.Linear(4, 1)
        made.append(model.weight.detach().clone())
        data_set = TensorDataset(torch.arange(64.0).reshape(16, 4) / 64, torch.ones(16, 1))
        batches = DataLoader(data_set, 4, shuffle=True)
        return flatline.Case(model, batches, mse_loss, torch.optim.SGD(model.parameters(), lr=0.01))

    result = trial(factory, ["lr=x10"], steps=30)

    assert result.arms[0].treatment == "lr=x10"
    assert len(made) == 6
    # Control and arm start the same on each seed, each seed differently.
    assert torch.equal(made[0], made[1])
    assert len({tuple(weight.flatten().tolist()) for weight in made}) == 3


def test_what_the_control_is_ill_with_is_tried_when_no_treatment_is_named():
    sick = case(batches=data(512), lr=0.05)
    nn.init.constant_(sick.model[0].bias, -20.0)
    result = trial(sick, seeds=2, steps=40)

    assert len(result.arms) > 1
    assert result.control.average("dead_share") == 1.0


def test_a_treatment_that_does_not_apply_says_why():
    given = case()
    given.model[1] = nn.Identity()
    result = trial(given, ["norm=batch"], seeds=2, steps=5)
    (arm,) = [arm for arm in result.arms if not arm.is_control]

    assert arm.failed[0].startswith("norm=batch: expected")
    assert arm.comparison.verdict == "no difference shown"


def broken(model: nn.Module, batch: object) -> torch.Tensor:
    raise ValueError("no loss today")


@pytest.mark.parametrize(
    ("given", "arguments", "message"),
    [
        pytest.param(case(), {"treatments": ["lr=0.1"]}, "expected lr=xFACTOR", id="treatment"),
        pytest.param(case(), {"treatments": []}, "expected a treatment to try", id="none"),
        pytest.param(case(), {"seeds": 0}, "expected seeds of at least 1, found 0", id="seeds"),
        pytest.param(case(), {"steps": 1.5}, "expected steps of at least 1", id="steps"),
        pytest.param(nn.Linear(1, 1), {}, "a flatline.Case or a function", id="model"),
        pytest.param(
            flatline.Case(nn.Linear(1, 1), []), {}, "a case with an optimizer", id="optimizer"
        ),
        pytest.param(case(batches=iter(data())), {}, "found an iterator", id="iterator"),
        pytest.param(case(batches=[]), {}, "expected batches to train on", id="no batch"),
    ],
)
def test_what_cannot_be_tried_is_refused(given, arguments, message):
    with pytest.raises(UsageError, match=message):
        trial(given, **arguments)


def test_a_case_that_fails_shows_where():
    given = case(batches=[(torch.zeros(1, 4), torch.zeros(1, 1), None)])
    failing = flatline.Case(given.model, given.batches, broken, given.optimizer)

    with pytest.raises(UsageError, match="ValueError: no loss today; correct this") as caught:
        trial(failing, ["lr=x2"])
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_function_that_gives_the_same_model_again_is_refused():
    given = case()
    with pytest.raises(UsageError, match="a new model for each run, found one that an earlier"):
        trial(lambda: given, ["lr=x2"], seeds=2, steps=4)
