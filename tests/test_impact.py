"""What dead units cost, against torch's own counter, autograd, and models without these units."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import contract
import flatline
import recordings
from flatline.diagnose.impact import MEANINGS, cost, gaps, latest
from flatline.sense.lone import examine
from flatline.sense.measures import signal
from flatline.show import costs
from flatline.show.report import build


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=4), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 9, 16), nn.ReLU(), nn.Linear(16, 4),
    )  # fmt: skip


def perceptrons() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8, bias=False), nn.Tanh(), nn.Linear(8, 4)
    )


def tokens() -> nn.Sequential:
    return nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 4))


CASES = {
    "convolutions": (convolutions, lambda n: torch.randn(n, 3, 10, 10)),
    "perceptrons": (perceptrons, lambda n: torch.randn(n, 6)),
    "tokens": (tokens, lambda n: torch.randint(9, (n, 5))),
}


@pytest.mark.parametrize("name", CASES)
def test_multiply_adds_are_those_that_torch_counts(name):
    make, draw = CASES[name]
    torch.manual_seed(0)
    model, x = make(), draw(7)
    with FlopCounterMode(display=False) as counter:
        model(x)
    counted = counter.get_total_flops() / 2 / len(x)
    found = examine(model, [x])
    each = [(site, found.measures[site.name]) for site in found.sites]
    # Every layer but the head makes one site, and the head reads the last.
    head, sizes = each[-1]
    made = sum(site.units * sizes["fed_adds"] for site, sizes in each)
    assert made + head.units * sizes["read_adds"] == counted
    for (above, reading), (below, making) in pairwise(each):
        assert above.units * reading["read_adds"] == below.units * making["fed_adds"]


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_those_of_the_layers(name):
    make, draw = CASES[name]
    model = make()
    found = examine(model, [draw(3)])
    layers = [m for m in model if isinstance(m, nn.Conv2d | nn.Linear)]
    for site, layer, reader in zip(found.sites, layers, layers[1:], strict=False):
        own = sum(p.numel() for p in layer.parameters())
        assert site.units * found.measures[site.name]["fed"] == own
        assert site.units * found.measures[site.name]["read"] == reader.weight.numel()


class Halves(nn.Module):
    """Two layers whose outputs are read by one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 8), nn.Linear(6, 4), nn.Linear(12, 5)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = F.relu(self.norm(self.left(x)))
        return self.head(torch.cat([left, F.relu(self.right(x))], dim=1))


def test_units_side_by_side_and_normalised_have_their_own_share():
    found = examine(Halves(), [torch.randn(4, 6)])
    sizes = {site.feeds[0]: found.measures[site.name] for site in found.sites}
    assert sizes["left.weight"]["fed"] == 6 + 1 + 2  # weights, bias, and the normalisation's two
    assert sizes["right.weight"]["fed"] == 6 + 1
    assert {one["read"] for one in sizes.values()} <= {0, 5}


def test_gradient_lost_at_silent_units_is_what_autograd_sends_there():
    torch.manual_seed(0)
    model = perceptrons()
    with torch.no_grad():
        model[0].bias[:5] = -100
    x, y = torch.randn(64, 6), torch.randint(4, (64,))
    hidden = model[1](model[0](x))
    hidden.retain_grad()
    F.cross_entropy(model[2:](hidden), y).backward()
    power = hidden.grad.square().sum(dim=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with flatline.Monitor(model, optimizer) as monitor:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    report = monitor.report()
    ((_, exam),) = report.exams
    found = exam["0"]
    assert report.sites[0].impact.signal_lost == found["signal_lost"]
    assert found["signal_lost"] == pytest.approx(float(power[:5].sum() / power.sum()), rel=1e-5)
    assert found["signal_rms"] == pytest.approx(float(hidden.grad.square().mean().sqrt()), rel=1e-5)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), min_size=1, max_size=40))
def test_signal_lost_is_a_share(pairs):
    power, silent = map(np.array, zip(*pairs, strict=True))
    found = signal(power, silent)
    assert 0 <= found.get("signal_lost", 0) <= 1
    if "signal_lost" in found and silent.all():
        assert found["signal_lost"] == 1
    assert math.isfinite(found["signal_rms"])


def test_of_gradients_that_are_not_finite_nothing_is_said():
    assert "signal_lost" not in signal(np.array([np.nan, 1.0]), np.array([True, False]))
    assert "signal_lost" not in signal(np.zeros(3), np.ones(3, bool))


def test_what_dead_units_hold_is_what_a_model_without_them_lacks():
    torch.manual_seed(0)
    wide = nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)
    )
    narrow = nn.Sequential(
        nn.Linear(6, 13), nn.ReLU(), nn.Linear(13, 10), nn.ReLU(), nn.Linear(10, 4)
    )
    with torch.no_grad():
        for layer, dead in ((wide[0], 3), (wide[2], 2)):
            layer.bias[:dead] = -100
            layer.bias[dead:] = 2.0
    report = flatline.examine(wide, [torch.randn(512, 6)])

    def parameters(model):
        return sum(p.numel() for p in model.parameters())

    def multiply_adds(model):
        return sum(m.weight.numel() for m in model if isinstance(m, nn.Linear))

    assert report.cost.dead == 5
    assert report.cost.dead_parameters == parameters(wide) - parameters(narrow)
    assert report.cost.dead_multiply_adds == multiply_adds(wide) - multiply_adds(narrow)
    first, second = (site.impact for site in report.sites)
    assert (first.live_width, second.live_width) == (13, 10)
    assert first.dead_parameters == 3 * (6 + 1 + 12)
    assert second.dead_parameters == 2 * (16 + 1 + 4)
    assert contract.check(report.to_json())["impact"]["dead"] == 5


def test_updates_are_told_of_live_units_alone():
    recording = recordings.record(recordings.Plan("net.0", 8, dead=dict.fromkeys(range(6), 3)))
    updates = np.array([0, 0, 0, 0, 0, 0, 0.25, 0.75], np.float32)
    window = replace(recording.windows["net.0"], update=updates)
    report = build(replace(recording, windows={"net.0": window}))
    assert report.sites[0].impact.live_update_ratio == 0.5


def test_copies_and_constant_units_are_no_width():
    sick = {"constant": (1,), "dormant": (3,), "duplicate": (4,)}
    report = build(recordings.record(recordings.Plan("net.0", 8, dead={0: 3}, sick=sick)))
    assert report.sites[0].impact.live_width == 5


# -- validation against training --------------------------------------------------------------

STEPS = [(step, 2.0 - step / 100) for step in range(100)]


@pytest.mark.parametrize(
    ("held_out", "training", "rising"),
    [
        ("val_loss", "loss", False),
        ("val_loss", "train_loss", False),
        ("validation/loss", "train/loss", False),
        ("test.accuracy", "accuracy", True),
        ("eval_f1", "train_f1", True),
        ("valid acc", "train_acc", True),
    ],
)
def test_a_gap_is_how_much_worse_the_held_out_metric_is(held_out, training, rising):
    points = [(49, 1.5), (99, 1.25)]
    (found,) = gaps({"other": [(0, 1.0)], training: STEPS, held_out: points})
    mean = sum(value for step, value in STEPS if step > 49) / 50
    assert (found.metric, found.training, found.step) == (held_out, training, 99)
    assert found.training_value == pytest.approx(mean)
    assert found.gap == pytest.approx(mean - 1.25 if rising else 1.25 - mean)
    assert (found.best, found.best_step) == ((1.5, 49) if rising else (1.25, 99))


def test_a_training_metric_of_its_own_goes_before_the_loss_of_each_step():
    (found,) = gaps({"loss": STEPS, "train_loss": [(99, 0.5)], "val_loss": [(99, 0.75)]})
    assert (found.training, found.gap) == ("train_loss", 0.25)


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"loss": STEPS},
        {"val_loss": [(9, 1.0)]},
        {"val_loss": [(9, 1.0)], "loss": []},
        {"loss": STEPS, "val_loss": []},
        {"loss": STEPS, "val_loss": [(9, math.nan), (19, None)]},
        {"loss": [(5, math.inf)], "val_loss": [(9, 1.0)]},
        {"loss": [(50, 1.0)], "val_loss": [(9, 1.0)]},
        {"accuracy": STEPS, "val_loss": [(9, 1.0)]},
        {"val": STEPS, "val_": STEPS, "": STEPS},
    ],
)
def test_without_both_there_is_no_gap(metrics):
    assert gaps(metrics) == ()


POINTS = st.lists(st.tuples(st.integers(0, 99), st.none() | st.floats()), max_size=8)


@given(st.dictionaries(st.sampled_from(["loss", "val_loss", "train_acc", "val_acc"]), POINTS))
def test_gaps_are_finite_and_lie_in_the_run(metrics):
    for gap in gaps(metrics):
        assert math.isfinite(gap.value)
        assert (gap.step, gap.value) in metrics[gap.metric]
        assert gap.best_step <= gap.step


def test_a_gap_is_told():
    recording = recordings.record(
        recordings.Plan("net.0", 8), metrics={"val_loss": [(299, 0.5), (499, 1.25)]}
    )
    report = build(recording)
    (said,) = costs.sentences(report)
    assert said.startswith("val_loss 1.25 at step 499 against 0.1")
    assert said.endswith("; it was best at step 299 (0.5).")
    assert said in " ".join(str(report).split())
    assert said in report.to_html()


# -- as a whole -------------------------------------------------------------------------------


def test_every_number_that_is_shown_is_defined():
    report = build(recordings.sick_mlp())
    for column in costs.columns(report.sites):
        assert column.key in MEANINGS
    said = contract.check(report.to_json())
    numbers = {key for site in said["sites"] for key in site["impact"]}
    assert numbers <= said["impact"]["definitions"].keys()


@pytest.mark.parametrize("name", recordings.ALL)
def test_any_report_has_its_cost(name):
    report = build(recordings.ALL[name]())
    dead = sum(site.states.get("dead", 0) - site.silent_so_far for site in report.sites)
    assert report.cost.dead == dead
    assert (report.cost.dead_parameters, report.cost.dead_multiply_adds) == (0, 0)  # not measured


def test_of_a_run_without_exams_nothing_was_measured():
    recording = replace(recordings.tiny(), exams=[])
    assert latest(recording.history) == {}
    assert build(recording).sites[0].impact.stable_rank is None


def test_nothing_costs_nothing():
    from flatline.diagnose.chart import Chart

    assert cost(Chart([]), {}).to_dict()["dead_parameters"] == 0
