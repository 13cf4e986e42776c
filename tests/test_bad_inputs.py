"""Trainings that give little to judge, or nothing sound: the report is right and can be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import contract
import flatline
from flatline.record.store import Store
from flatline.sense.pacer import Pacer
from flatline.show.explanation import explain
from flatline.show.report import Report

Batch = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def _always(monkeypatch):
    """Every step is an exam, whatever the clock says."""
    monkeypatch.setattr(Pacer, "due", lambda self, step, elapsed, event: True)


class Watched:
    """A training that was watched, with what plain hooks saw of its first ReLU."""

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        lr: float = 0.05,
        metrics: dict[str, list[float]] | None = None,
    ) -> None:
        self.fired: list[np.ndarray] = []
        relu = next((m for m in model.modules() if isinstance(m, nn.ReLU)), None)
        if relu is not None:
            relu.register_forward_hook(self._see)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        with Store(None) as store:
            with flatline.Monitor(model, optimizer, budget=1, path=store._file) as monitor:
                for x, y in batches:
                    optimizer.zero_grad()
                    loss_fn(model(x), y).backward()
                    optimizer.step()
                for name, values in (metrics or {}).items():
                    for value in values:
                        flatline.log(name, value)
            self.report = monitor.report()
            self.recording = store.load(self.report.run["id"])
        self.said = sound(self.report)
        for site in self.report.sites:
            for target in (site.name, f"{site.name}:0"):
                told = explain(self.recording, target)
                assert contract.strict(told.to_json())["site"] == site.name
                assert_readable(str(told))

    def _see(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.fired.append((output > 0).sum(dim=0).numpy())

    def states(self, site: str) -> dict[int, str]:
        return {one.unit: one.state for one in self.report.units if one.site == site}


def sound(report: Report) -> dict:
    """The report's JSON, after it was looked at in every form."""
    said = contract.check(report.to_json())
    assert_readable(str(report))
    assert said["run"]["id"] is None or report.run["id"] in report.to_html()
    assert not report.lost
    return said


def assert_readable(text: str) -> None:
    words = text.replace("\n", " ").split()
    assert not {"nan", "inf", "-inf", "nan%", "inf%"} & {word.strip(".,;:()") for word in words}


def mlp(inputs: int = 6, units: int = 8, outputs: int = 3, dead: int = 0) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, outputs))
    with torch.no_grad():
        model[0].bias[:dead] = -100
        model[0].bias[dead:] = 0.5
    return model


def drawn(steps: int, size: int = 32, inputs: int = 6, outputs: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, inputs, generator=generator),
            torch.randint(outputs, (size,), generator=generator),
        )
        for _ in range(steps)
    ]


def test_without_a_validation_metric_nothing_is_said_of_a_gap():
    seen = Watched(mlp(), drawn(20))
    assert seen.said["impact"]["gaps"] == []
    assert "gap of" not in str(seen.report)
    logged = Watched(mlp(), drawn(20), metrics={"val_loss": [0.5]})
    (gap,) = logged.said["impact"]["gaps"]
    assert (gap["metric"], gap["training"], gap["value"]) == ("val_loss", "loss", 0.5)


def test_of_a_single_batch_nobody_is_called_dead():
    seen = Watched(mlp(dead=2), drawn(1, size=64))
    assert [(u.state, u.certain) for u in seen.report.units] == [("dead", False)] * 2
    assert seen.said["certainty"]["too_short"]
    assert seen.said["certainty"]["steps_needed"] == 8
    assert seen.said["verdict"] == "healthy"
    text = " ".join(str(seen.report).split())
    assert "Too short to call any unit dead: 64 examples were seen, 459 are needed" in text
    assert "which is 8 steps of 64; the course of the loss is judged from 20 steps on." in text
    enough = Watched(mlp(dead=2), drawn(8, size=64))
    assert not enough.said["certainty"]["too_short"]
    assert [u.certain for u in enough.report.units if u.state == "dead"] == [True] * 2


def test_a_single_large_batch_is_enough():
    seen = Watched(mlp(dead=2), drawn(1, size=459))
    assert [(u.unit, u.certain) for u in seen.report.units if u.state == "dead"] == [
        (0, True),
        (1, True),
    ]
    assert seen.said["certainty"]["seen_one_in"] == 100


def test_batches_of_one_example_are_counted_like_any_other(monkeypatch):
    monkeypatch.setattr(Pacer, "due", lambda self, step, elapsed, event: step % 50 == 0)
    seen = Watched(mlp(dead=2), drawn(500, size=1))
    dead = [one for one in seen.report.units if one.state == "dead"]
    sure = [(u.unit, u.examples, u.cause) for u in dead if u.certain]
    assert sure == [(0, 500, "born-dead"), (1, 500, "born-dead")]
    # Of one example a step half of the units are silent at any moment, which calls nobody dead.
    assert seen.said["certainty"]["called_dead"] == 2
    assert all(u.examples < 20 for u in dead if not u.certain)
    fired = np.array(seen.fired) > 0
    assert not fired[:, :2].any()
    assert fired[:, 2:].any(axis=0).all()
    assert seen.said["sites"][0]["effective_rank"] == pytest.approx(1)
    short = Watched(mlp(dead=2), drawn(458, size=1))
    assert short.said["certainty"]["steps_needed"] == 459


@pytest.mark.parametrize("dead", [0, 1])
def test_a_site_with_one_unit_is_judged_by_it(dead):
    seen = Watched(mlp(units=1, dead=dead), drawn(30))
    site = seen.said["sites"][0]
    assert site["units"] == 1
    assert site["states"].get("dead", 0) == dead
    assert (seen.said["verdict"] == "sick") == bool(dead)
    assert site["impact"]["live_width"] == 1 - dead
    if not dead:
        assert site["impact"]["gini"] == 0
        assert site["impact"]["top_share"] == 1


class Counts(nn.Module):
    """A model whose inputs are whole numbers: indices, and counts that it turns to floats."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.up, self.head = nn.Embedding(9, 6), nn.Linear(8, 8), nn.Linear(8, 3)
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.up.bias[:2] = -1000

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.embed(x[:, 0]), x[:, 1:].float()], dim=1)
        return self.head(self.relu(self.up(both)))


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
def test_inputs_may_be_whole_numbers(kind):
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randint(9, (32, 3), generator=generator).to(kind), torch.arange(32) % 3)
        for _ in range(20)
    ]
    if kind == torch.uint8:  # torch takes no bytes as indices
        batches = [(x.to(torch.int16).int(), y) for x, y in batches]
    seen = Watched(Counts(), batches)
    assert seen.states("up") == {0: "dead", 1: "dead"} | {
        unit: state for unit, state in seen.states("up").items() if unit > 1
    }
    total = np.sum(seen.fired, axis=0)
    assert all((seen.states("up").get(u) == "dead") == (total[u] == 0) for u in range(8))


class Waves(nn.Module):
    """Complex inputs and weights, then the real and imaginary parts as features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Linear(6, 6, dtype=torch.cfloat)
        self.up, self.relu, self.head = nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
        with torch.no_grad():
            self.up.bias[0] = -100

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.up(torch.view_as_real(self.mix(x)).flatten(1))))


def test_inputs_may_be_complex():
    batches = [(torch.complex(x, x.flip(1)), y) for x, y in drawn(20)]
    seen = Watched(Waves(), batches)
    assert [site.name for site in seen.report.sites] == ["up"]
    assert seen.states("up")[0] == "dead"
    found = flatline.examine(Waves(), batches, F.cross_entropy)
    assert [(u.unit, u.state) for u in found.units if u.state == "dead"] == [(0, "dead")]
    sound(found)


def test_labels_that_are_all_equal_kill_nobody_who_fires():
    batches = [(x, torch.zeros_like(y)) for x, y in drawn(300)]
    seen = Watched(mlp(dead=1), batches, lr=1.0)
    last = np.sum(seen.fired[-15:], axis=0)
    for unit, state in seen.states("0").items():
        assert (state == "dead") <= (last[unit] == 0)
    assert seen.states("0")[0] == "dead"
    loss = [value for _, value in seen.said["metrics"]["loss"]]
    assert loss[-1] < 0.01 * loss[0]


def test_a_target_that_never_varies_is_learnt_without_a_complaint():
    batches = [(x, torch.full((len(x), 3), 0.25)) for x, _ in drawn(60)]
    seen = Watched(mlp(), batches, F.mse_loss)
    assert seen.said["verdict"] == "healthy"


# -- not finite -------------------------------------------------------------------------------

BAD = [math.nan, math.inf, -math.inf]


def poisoned(where: int, value: float, steps: int = 40) -> list[Batch]:
    batches = drawn(steps)
    batches[where][0][3, 2] = value
    return batches


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("step", [0, 20, 39])
def test_an_input_that_is_not_finite_makes_the_run_sick(value, step):
    seen = Watched(mlp(), poisoned(step, value))
    assert seen.said["verdict"] == "sick"
    assert seen.said["findings"][0]["code"] == "non-finite"
    assert set(seen.states("0").values()) >= {"nonfinite"}
    assert {u.cause for u in seen.report.units if u.state == "nonfinite"} == {"non-finite"}
    if step:
        assert seen.said["metrics"]["loss"][-1][1] is None


@pytest.mark.parametrize("value", BAD)
def test_a_weight_that_is_not_finite_is_found_without_training(value):
    model = mlp()
    with torch.no_grad():
        model[0].weight[2, 1] = value
    for loss, units in ((None, {2}), (F.cross_entropy, {*range(8)})):
        report = flatline.examine(model, drawn(20), loss)
        assert sound(report)["verdict"] == "sick"
        # A loss that is not finite sends such gradients everywhere.
        assert {u.unit for u in report.units if u.state == "nonfinite"} == units


@pytest.mark.parametrize("value", BAD)
def test_a_loss_that_is_not_finite_is_told(value):
    def loss(output: Tensor, target: Tensor) -> Tensor:
        steps.append(0)
        found = F.cross_entropy(output, target)
        return found * value if len(steps) == 20 else found

    steps: list[int] = []
    seen = Watched(mlp(), drawn(40), loss)
    assert seen.said["verdict"] == "sick"
    assert "not finite at" in " ".join(str(seen.report).split())


@pytest.mark.parametrize("value", BAD)
def test_a_metric_that_is_not_finite_is_no_gap_and_no_fault(value):
    seen = Watched(mlp(), drawn(20), metrics={"val_loss": [value], "train_loss": [1.0]})
    assert seen.said["impact"]["gaps"] == []
    assert seen.said["metrics"]["val_loss"][0][1] is None
    assert seen.said["verdict"] != "sick"


def test_a_batch_without_examples_is_none():
    model = mlp(dead=1)
    x, y = drawn(1, size=512)[0]
    report = flatline.examine(model, [(x[:0], y[:0]), (x, y)], F.cross_entropy)
    assert [(u.unit, u.state, u.examples) for u in report.units if u.state == "dead"] == [
        (0, "dead", 512)
    ]
    sound(report)
