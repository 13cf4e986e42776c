"""The benchmark of real bugs: its table agrees with itself, and its programs show their fault."""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from flatline.diagnose.names import CODES
from real_bugs import BUGS, PROGRAMS
from real_bugs.__main__ import BUDGETS, RESULTS, examined, met, totals
from real_bugs.keras import EPSILON, binary_crossentropy, categorical_crossentropy, glorot
from real_bugs.program import Program
from real_bugs.table import DEAD, published

COUNTED = [bug for bug in BUGS if bug.counted]
#: One of each kind: output, rate too small and too large, scale, dead unit, vanishing gradient.
SAMPLE = ("31880720", "50306988", "48934338", "44066044", "58237726", "39217567")


def test_fifty_of_the_fifty_two_listed_bugs_are_counted():
    assert len(BUGS) == 52
    assert len(COUNTED) == 50
    assert len({bug.name for bug in BUGS}) == 52


@pytest.mark.parametrize(
    ("tool", "listed", "counted"),
    [
        ("U", (50, 14), (50, 14)),
        ("A", (12, 10), (12, 10)),
        ("L", (36, 7), (36, 7)),
        ("F", (47, 27), (46, 26)),  # it called the program without a fault faultless
    ],
)
def test_the_verdicts_add_up_to_the_published_totals(tool, listed, counted):
    assert published(BUGS, tool) == listed
    assert published(COUNTED, tool) == counted


def test_no_tool_diagnoses_what_it_did_not_detect():
    for bug in BUGS:
        assert set(bug.diagnosed) <= set(bug.detected) <= set("UALF"), bug.name


def test_right_diagnoses_are_codes_that_name_a_cause():
    for bug in BUGS:
        assert {*bug.codes, *bug.leaves} <= set(CODES), bug.name
        assert not {"no-learning", "non-finite"} & set(bug.codes), bug.name


def test_what_a_repair_leaves_in_is_explained():
    for bug in BUGS:
        assert bool(bug.leaves) == bool(bug.remains), bug.name
        assert bug.remains == "" or bug.remains.endswith("."), bug.name


def test_the_results_are_of_the_bugs_that_the_table_has():
    document = json.loads(RESULTS.read_text())
    assert [run["budget"] for run in document["runs"]] == list(BUDGETS)
    for run in document["runs"]:
        assert [row["bug"] for row in run["bugs"]] == [bug.name for bug in COUNTED if bug.in_scope]
        assert totals(run["bugs"]) == run["flatline"]
        assert met(run["flatline"])
        for row, bug in zip(run["bugs"], (b for b in COUNTED if b.in_scope), strict=True):
            assert row["right"] == list(bug.codes)


def test_every_bug_in_scope_has_a_program_and_no_other_has():
    assert set(PROGRAMS) == {bug.name for bug in BUGS if bug.in_scope}


def test_every_bug_says_where_it_comes_from_and_why_it_counts_as_it_does():
    for bug in BUGS:
        assert bug.about.endswith(".")
        assert bug.why.endswith((".", ")"))
        assert bug.url.startswith(("https://stackoverflow.com/questions/", "https://github.com/"))
        assert bug.name.isdigit() != bool(bug.commit)


@pytest.mark.parametrize("name", SAMPLE)
def test_the_fault_shows_is_diagnosed_and_the_repair_cures_it(name):
    program = PROGRAMS[name]
    bug = next(bug for bug in BUGS if bug.name == name)
    row = examined(bug, program, budget=0.01)
    assert row["reproduced"], (row["buggy"], row["fixed"])
    assert row["diagnosed"], row["found"]
    assert row["false_alarms"] == []


@pytest.mark.parametrize("name", [bug.name for bug in BUGS if {*bug.leaves} & {*DEAD}])
def test_a_repair_that_is_said_to_leave_dead_units_in_leaves_a_critical_share(name):
    """By brute force: units of a layer that never fired in the second half of the training."""
    last, calls = {}, Counter()

    def note(layer, inputs, outputs):
        lit = (outputs > 0).any(0)
        before = last.get(layer, torch.full(lit.shape, -1))
        last[layer] = torch.where(lit, calls[layer], before)
        calls[layer] += 1

    @contextmanager
    def watch(model, optimizer):
        layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.ReLU)]
        hooks = [layer.register_forward_hook(note) for layer in layers]
        yield
        for hook in hooks:
            hook.remove()

    PROGRAMS[name].fixed(watch)
    shares = [(step < calls[layer] / 2).float().mean() for layer, step in last.items()]
    assert all(len(step) >= 8 for step in last.values())
    assert max(shares) >= 0.3


def test_a_program_hands_its_model_over_before_it_trains_and_takes_it_back_after():
    steps = []

    @contextmanager
    def watch(model, optimizer):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        hook = optimizer.register_step_post_hook(lambda *_: steps.append(1))
        yield
        hook.remove()
        moved = zip(before, model.parameters(), strict=True)
        assert any(not torch.equal(old, new) for old, new in moved)

    bare = PROGRAMS["50306988"].fixed()
    assert PROGRAMS["50306988"].fixed(watch) == bare
    assert len(steps) == 70


@pytest.mark.parametrize(("metric", "worse"), [("accuracy", 0.4), ("loss", 0.9)])
def test_not_a_number_is_bad_and_not_good(metric, worse):
    bad, good = (0.5, 0.9) if metric == "accuracy" else (0.8, 0.1)
    program = Program(lambda repaired, watch: math.nan, metric, bad, good)
    assert program.is_bad(worse)
    assert program.is_good(good)
    assert not program.is_bad(good)
    assert program.is_bad(math.nan)
    assert not program.is_good(math.nan)


def test_the_figures_of_a_program_are_those_that_it_has_unwatched():
    program = PROGRAMS["48934338"]
    bug = next(bug for bug in BUGS if bug.name == "48934338")
    row = examined(bug, program, budget=0.1)
    assert (row["buggy"], row["fixed"]) == (program.buggy(), program.fixed())


def test_a_script_draws_its_own_numbers():
    torch.manual_seed(123)
    first = PROGRAMS["50306988"].buggy()
    torch.rand(7)
    assert PROGRAMS["50306988"].buggy() == first


def silent_units(repaired, watch):
    """Twenty of forty units below their threshold, or none."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 40), torch.nn.ReLU(), torch.nn.Linear(40, 1))
    torch.nn.init.constant_(model[0].bias.detach()[:20], 1.0 if repaired else -50.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    with watch(model, optimizer):
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.randn(256, 4)).square().mean().backward()
            optimizer.step()
    return 0.1 if repaired else 0.9


@pytest.mark.parametrize("right", ["born-dead", "learning-rate-too-low"])
def test_a_finding_is_a_diagnosis_only_when_it_names_what_was_wrong(right):
    bug = replace(BUGS[0], codes=(right,), leaves=())
    row = examined(bug, Program(silent_units, "loss", bad=0.8, good=0.2), budget=1.0)
    assert row["found"][0] == ("born-dead", "critical")
    assert row["detected"]
    assert row["diagnosed"] == row["first"] == (right == "born-dead")
    assert row["reproduced"]
    assert row["false_alarms"] == []
    assert totals([row])["misdiagnosed"] == ([] if right == "born-dead" else [bug.name])


def test_critical_findings_on_a_repaired_program_are_false_alarms_unless_the_repair_leaves_them():
    program = Program(lambda repaired, watch: silent_units(not repaired, watch), "loss", 0.8, 0.2)
    bug = replace(BUGS[0], codes=("born-dead",), leaves=())
    row = examined(bug, program, budget=1.0)
    assert row["false_alarms"] == ["born-dead"]
    assert not row["detected"]
    assert not row["reproduced"]
    assert totals([row])["missed"] == totals([row])["not_reproduced"] == [bug.name]
    known = replace(bug, leaves=("born-dead",))
    assert examined(known, program, budget=1.0)["false_alarms"] == []


def test_the_losses_are_those_of_keras():
    outputs = torch.tensor([[0.2, 0.6], [3.0, 1.0]])
    targets = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # Categorical: each row divided by its sum, then the logarithm of what the class got.
    assert float(categorical_crossentropy(outputs, targets)) == pytest.approx(-math.log(0.75))
    certain = torch.ones(2, 1)
    wrong = torch.tensor([[1.0], [0.0]])
    # Binary: a certain and wrong output costs no more than the logarithm of Keras' epsilon.
    assert float(binary_crossentropy(certain, wrong)) == pytest.approx(
        -math.log(EPSILON) / 2, rel=0.02
    )


def test_glorot_starts_layers_as_keras_does():
    torch.manual_seed(0)
    layer = glorot(torch.nn.Linear(300, 100))
    bound = math.sqrt(6 / 400)
    assert float(layer.weight.detach().abs().max()) == pytest.approx(bound, rel=0.001)
    assert not layer.bias.detach().any()
    lstm = glorot(torch.nn.LSTM(5, 8))
    forget = (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach()
    assert forget[8:16].eq(1).all()
    assert forget.sum() == 8
    for gate in lstm.weight_hh_l0.detach().split(8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)
