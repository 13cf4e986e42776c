"""The zoo is what its labels say: each code and cause is planted, and brute force finds it."""

import ast
import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch

from flatline.diagnose.names import CODES as NAMES
from zoo import score
from zoo.diagnosed import EVERY, record, reported, watched
from zoo.faults.rates import rate
from zoo.halves import SPLITS, half
from zoo.labels import CAUSES, CODES, Run
from zoo.oracle import examine
from zoo.recipes import RECIPES
from zoo.runs import RUNS, drawn, named
from zoo.watch import CERTAIN

ZOO = Path(__file__).parent.parent / "benchmarks" / "zoo"
#: One run for each code, and healthy ones that look sick.
SAMPLE = (
    "mlp-wine+equal-weights,value=0.1-0",
    "mlp-wine+drawn-small-0",
    "regression-rare+drawn-large-0",
    "mlp-wine+negative-bias-0",
    "mlp-wine+balanced-to-zero-0",
    "regression-tanh+scaled-later-0",
    "mlp-wine+sigmoids-0",
    "mlp+spiked-batch-0",
    "regression+rate,lr=0.3-0",
    "regression+creeping-0",
    "mlp-wine+raw-0",
    "regression+drained-0",
    "regression+shrunk-0",
    "finetune+forgotten,part=backbone-0",
    "autoencoder+missing-value-0",
    "mlp-rings+straight-0",
    "regression+widened-0",
    "mlp-cancer+softmax-of-one-0",
    "regression+unreset-0",
    "regression+broadcast-0",
    "mlp-wine+smoothed-0",
    "regression-tanh+idle-sensors-0",
    "mlp-wine+positive-bias-0",
    "mlp-wine+whispering-0",
    "experts-cancer+closed,number=2-0",
    "regression+pruned-readers-0",
    "mlp-wide+spare-dead-0",
    "finetune+frozen-backbone-0",
    "bag-sparse-0",
    "mlp-wine+batch-of-0",
)
RUN_LIST = list(RUNS.values())


def complaints(run, report):
    """What a report says against the label of its run."""
    found = {one["code"]: one["severity"] for one in report["findings"]}
    first = next((one["code"] for one in report["findings"] if one["severity"] != "info"), None)
    explained = {code for one in report["findings"] for code in one["explains"]}
    said = [f"{run.main} is not named"] if run.main not in {None, *found, *explained} else []
    if run.sick and first not in {run.main, *run.equal}:
        said.append(f"{first} is named first, not {run.main}")
    if not run.sick:
        said += [f"{code} is called critical" for code in found if found[code] == "critical"]
    return said


def both_halves(runs):
    return {run.split for run in runs} == set(SPLITS)


def test_the_closed_lists_are_those_of_the_contract():
    assert CODES == NAMES
    assert set(CAUSES) < {*CAUSES, "unknown"}


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_planted_four_times_and_in_both_halves(code):
    runs = [run for run in RUN_LIST if run.main == code]
    assert len(runs) >= 4
    assert both_halves(runs)


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_is_planted_six_times_and_in_both_halves(cause):
    runs = [run for run in RUN_LIST if any(plant.cause == cause for plant in run.plants)]
    assert len(runs) >= 6
    assert both_halves(runs)


def test_every_architecture_is_in_both_halves():
    kinds = {run.architecture for run in RUN_LIST}
    assert len(kinds) >= 15
    one_sided = [
        kind for kind in kinds if not both_halves(r for r in RUN_LIST if r.architecture == kind)
    ]
    assert not one_sided


@pytest.mark.parametrize("split", [*SPLITS, "all"])
def test_half_of_the_runs_are_sick(split):
    runs = [run for run in RUN_LIST if split in (run.split, "all")]
    assert len(runs) >= (240 if split == "all" else 120)
    assert 0.45 <= sum(run.sick for run in runs) / len(runs) <= 0.55


def test_ids_are_unique_and_decide_the_half():
    assert all(run.id == name for name, run in RUNS.items())
    assert all(run.split == half(name) for name, run in RUNS.items())


def test_labels_use_the_words_of_the_contract():
    for run in RUN_LIST:
        assert run.named <= set(CODES)
        assert {plant.cause for plant in run.plants} <= set(CAUSES)
        assert {cause for plant in run.plants for cause in plant.equal} <= set(CAUSES)
        assert run.why


def test_nothing_critical_is_allowed_where_nobody_is_sick():
    assert all(bool(run.allowed) == run.sick for run in RUN_LIST)
    assert all(fault.benign or run.sick for run in RUN_LIST for fault in run.faults if fault.code)


def test_only_the_reading_of_reports_knows_flatline():
    knowing = set()
    for path in ZOO.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "flatline" for name in names):
                knowing.add(path.name)
    assert knowing == {"diagnosed.py"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_long_enough_for_units_to_be_called_dead(name):
    recipe = RECIPES[name]
    exams = sum(step < 4 or step % EVERY == 0 for step in range(recipe.steps))
    assert exams * recipe.batch >= CERTAIN


def test_another_draw_has_the_same_runs_with_other_numbers():
    runs = drawn(3)
    assert len(runs) == len(RUNS)
    for run in runs.values():
        first = RUNS[run.id.removesuffix("~3")]
        assert named(run.id) == run
        assert (run.split, run.expected, run.why) == (first.split, first.expected, first.why)
    raised, first = (one["mlp+raised-0" + end] for one, end in ((runs, "~3"), (RUNS, "")))
    assert 0.7 < raised.recipe.schedule(200) / first.recipe.schedule(200) < 1.4
    assert raised.recipe.schedule(200) != first.recipe.schedule(200)
    assert not torch.equal(*(next(run.begin().model.parameters()) for run in (raised, first)))


def test_another_draw_keeps_widths_that_can_be_halved():
    halved = [run for run in drawn(3).values() if any("widened" in f.title for f in run.faults)]
    assert len(halved) >= 10
    assert all(run.begin().step() > 0 for run in halved)


@pytest.mark.parametrize("name", ["cnn-0", "finetune+adapted-0", "mlp-dropout+sparsity-0"])
def test_a_run_repeats_to_the_bit(name):
    def trained():
        training = RUNS[name].begin()
        for _ in range(5):
            training.step()
        return training.model.state_dict()

    first, second = trained(), trained()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_sample_has_every_code_and_healthy_runs():
    mains = Counter(RUNS[name].main for name in SAMPLE)
    assert len(SAMPLE) == len(set(SAMPLE)) == 30
    assert set(mains) == {*CODES, None}


@pytest.mark.parametrize("name", SAMPLE)
def test_brute_force_finds_what_was_planted(name):
    truth = examine(RUNS[name])
    assert truth.complaints == ()
    planted = {plant.cause for plant in RUNS[name].plants}
    assert {death.plant.cause for death in truth.deaths} == planted


def test_brute_force_denies_a_fault_that_did_not_take():
    harmless = Run("regression", (rate.set(lr=0.01),))
    assert any("learning-rate-too-high" in said for said in examine(harmless).complaints)


def test_brute_force_denies_health_that_is_none():
    hidden = Run("regression", (dataclasses.replace(rate.set(lr=0.3), code=None, plants=()),))
    assert any("skill" in said for said in examine(hidden).complaints)


@pytest.mark.parametrize("name", SAMPLE)
def test_reports_agree_with_the_labels(name):
    assert complaints(RUNS[name], watched(RUNS[name])) == []


def test_a_recorded_run_is_diagnosed_anew(tmp_path):
    store = tmp_path / "runs.db"
    record(RUNS["regression+creeping-0"], store)
    first, second = reported(store), reported(store)
    assert first == second
    assert first["findings"][0]["code"] == "learning-rate-too-low"


def scored(**fields):
    """A row of a sick run in which a shift killed units of two sites."""
    row = {
        "id": "made",
        "draw": 0,
        "sick": True,
        "main": "dying-relu",
        "equal": ["unscaled-input"],
        "expected": ["dying-relu"],
        "allowed": ["dying-relu", "unscaled-input"],
        "true": ["dying-relu", "unscaled-input"],
        "found": [["dying-relu", "critical"], ["no-learning", "warning"]],
        "explained": [],
        "complaints": [],
        "causes": [
            {"cause": "input-shift", "site": "0", "equal": [], "named": {"input-shift": 3}},
            {
                "cause": "input-shift",
                "site": "2",
                "equal": ["upstream-death"],
                "named": {"upstream-death": 1, "unknown": 3},
            },
        ],
        "times": {"right": 3, "wrong": [["2", 0, 120, 121]]},
    }
    return row | fields


def test_figures_are_what_the_rows_say():
    rows = [scored(), scored(found=[["no-learning", "critical"]], times={"right": 0, "wrong": []})]
    rows.append(scored(sick=False, allowed=[], causes=[], times={"right": 4, "wrong": []}))
    found = score.figures(rows)
    assert found["main"] == 0.5
    assert found["critical_on_healthy"] == 1
    assert found["critical_untrue"] == 1
    assert found["causes"] == pytest.approx((1 + 0.25) / 2)
    assert found["times"] == pytest.approx(7 / 8)
    codes = score.per_code(rows)
    assert codes["dying-relu"] == {"planted": 3, "found": 2, "said": 2, "true": 2}
    assert codes["no-learning"] == {"planted": 0, "found": 0, "said": 3, "true": 0}
    assert score.met(found) == dict.fromkeys(score.BOUNDS, False)


def test_an_equal_name_counts_as_right():
    assert score.main_right(scored(found=[["unscaled-input", "critical"]]))
    assert not score.main_right(scored(found=[]))
    assert score.confusion([scored()])["input-shift"]["input-shift"] == pytest.approx(1.25)


def test_runs_of_a_further_draw_that_brute_force_denies_are_set_aside():
    denied = scored(draw=1, complaints=["expected skill 0.6, found 0.1"])
    rows = [scored(), denied, scored(complaints=["not so"])]
    assert score.judged(rows) == [rows[0], rows[2]]
    said = score.text(rows).splitlines()
    assert said[0] == "2 runs, 2 of them sick; 1 set aside"
    assert said[-1] == "aside    made: expected skill 0.6, found 0.1"


def test_misses_are_told_by_name():
    wrong = scored(found=[["no-learning", "critical"]], complaints=["not so"])
    said = "\n".join(score.misses([wrong]))
    for part in ("missed   made", "alarm    made", "time     made", "defect   made"):
        assert part in said
    assert score.text([wrong]).splitlines()[0] == "1 runs, 1 of them sick; 0 set aside"
