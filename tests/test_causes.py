"""Each cause of death, planted alone and beside another, is named from its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pytest

from flatline.diagnose.diagnose import Diagnosis, diagnose
from flatline.sense.history import Autopsy, History, Steps
from test_findings import change, ledger, lively, with_dead
from test_findings_of_trainings import chain

#: A unit that fell from a mean of 0 to -6 spreads in 120 even steps, exams being 10 apart.
FALL: dict[str, float] = {
    "step": 130,
    "before": 120,
    "z_before": -5.5,
    "z_after": -6.0,
    "spread_before": 1.0,
    "spread_after": 1.0,
    "bias": 0.0,
    "weight": 0.0,
    "input": 0.0,
    "first": 0,
    "z_first": 0.0,
    "spread_first": 1.0,
    "bias_first": 0.0,
    "weight_first": 0.0,
    "input_first": 0.0,
}
Planted = tuple[Mapping[str, float], Mapping[str, float]]

#: Per cause: terms of the autopsy, and measures of the exams.
PLANTS: dict[str, Planted] = {
    "bias-drift": ({"bias": -0.5, "bias_first": -6.0}, {}),
    "weight-drift": ({"weight": -0.5, "weight_first": -6.0}, {}),
    "input-shift": (
        {"input": -6.0, "input_first": -6.0, "z_before": 0.0},
        {"data_shift": 3.0},
    ),
    "step-too-large": ({"weight": -6.0, "weight_first": -6.0}, {"shift_high": 6.0}),
    "weight-decay": (
        {"weight": -0.1, "weight_first": -1.0, "spread_after": 0.02, "z_after": -0.1},
        {"decay_ratio": 20.0, "shift_high": 0.05},
    ),
}


def autopsy(units: Mapping[int, Mapping[str, float]]) -> Autopsy:
    """The terms of each unit, by name."""
    whole = ("units", "step", "before", "first")
    columns = {
        one.name: np.array(
            [unit if one.name == "units" else (FALL | dict(terms))[one.name]
             for unit, terms in sorted(units.items())],
            np.int32 if one.name in whole else np.float32,
        )
        for one in fields(Autopsy)
    }  # fmt: skip
    return Autopsy(**columns)


def judged(
    plants: list[str], *, depth: int = 1, gradient: np.ndarray | float = 1.0, site: int = 0
) -> Diagnosis:
    """Sixteen units of a site died, at step 125, of each of these causes in turn."""
    sites = chain(depth)
    name = sites[site].name
    measures: dict[str, float] = {"shift_high": 0.05}
    terms: dict[int, Mapping[str, float]] = {}
    for place, plant in enumerate(plants):
        planted, measured = PLANTS[plant]
        measures |= measured
        terms |= dict.fromkeys(range(16 * place, 16 * place + 16), planted)
    steps = Steps(np.arange(300), np.ones(300), np.full(300, 0.1), np.broadcast_to(gradient, 300))
    exams = [(step, {name: measures}) for step in range(0, 300, 10)]
    history = History(steps=steps, exams=exams, autopsies={name: autopsy(terms)})
    # Deaths one by one, as of units that drift; what kills in a step kills many at once.
    book = ledger(64, len(terms), 124, 125)
    abrupt = {"step-too-large", "input-shift"} & set(plants)
    last = 124 if abrupt else 121 + np.arange(64) % 8
    dead = np.arange(64) < len(terms)
    book = replace(
        book,
        last_life=np.where(dead, last, 299).astype(np.int32),
        first_silent=np.where(dead, 130, -1).astype(np.int32),
    )
    windows = {one.name: lively(64) for one in sites}
    books = {one.name: ledger(64, 0, 0, 0) for one in sites}
    windows[name], books[name] = with_dead(lively(64), len(terms)), book
    return diagnose(sites, windows, books, history)


@pytest.mark.parametrize("cause", PLANTS)
def test_a_cause_planted_alone_is_named(cause: str) -> None:
    found = judged([cause]).causes["net.0"]
    assert {found.of(unit) for unit in range(16)} == {cause}
    assert {found.of(unit) for unit in range(16, 64)} == {None}
    numbers = found.numbers(0)
    expected, _ = PLANTS[cause]
    for term in ("bias", "weight", "input"):
        assert numbers[term] == pytest.approx(expected.get(term, 0.0))
    assert numbers["lr"] == 0.1


@pytest.mark.parametrize(
    "pair",
    [
        ("bias-drift", "weight-drift"),
        ("bias-drift", "weight-decay"),
        ("weight-drift", "weight-decay"),
        ("bias-drift", "input-shift"),
        ("weight-drift", "input-shift"),
    ],
)
def test_two_causes_in_one_site_are_told_apart(pair: tuple[str, str]) -> None:
    found = judged(list(pair)).causes["net.0"]
    assert {found.of(unit) for unit in range(16)} == {pair[0]}
    assert {found.of(unit) for unit in range(16, 32)} == {pair[1]}


def test_a_spike_of_the_gradient_points_at_one_step() -> None:
    gradient = np.where(np.arange(300) == 124, 50.0, 1.0)
    found = judged(["weight-drift"], gradient=gradient).causes["net.0"]
    last = 121 + np.arange(16) % 8
    near = (last >= 124) & (last <= 127)  # momentum carries a spike on for three steps
    assert {found.of(unit) for unit in np.flatnonzero(near)} == {"step-too-large"}
    assert {found.of(unit) for unit in np.flatnonzero(~near)} == {"weight-drift"}
    assert found.numbers(3)["gradient_ratio"] == pytest.approx(50)


#: What is left of z where the inputs are gone.
GONE = {"spread_after": 1e-6, "z_after": -0.01}


@pytest.mark.parametrize(
    ("terms", "update", "cause"),
    [
        pytest.param(
            GONE | {"input": -0.5, "input_first": -6.0}, 0.0, "upstream-death", id="lost its inputs"
        ),
        pytest.param(
            GONE | {"spread_first": 0.0}, 0.01, "upstream-death", id="never varied, never moved"
        ),
        pytest.param(
            GONE | {"weight": -4.0, "weight_first": -4.0}, 0.01, "upstream-death", id="small steps"
        ),
        pytest.param(
            GONE | {"weight": -4.0, "weight_first": -4.0}, 0.2, "step-too-large", id="large updates"
        ),
        pytest.param(
            GONE | {"weight": -15.0, "weight_first": -15.0}, 0.01, "step-too-large", id="leaps"
        ),
        pytest.param(
            {"weight": -0.5, "weight_first": -6.0, "spread_after": 2.0}, 0.01, "weight-drift",
            id="still has inputs",
        ),
    ],
)  # fmt: skip
def test_a_unit_whose_inputs_died_may_have_lost_them_or_died_of_its_own(
    terms: Mapping[str, float], update: float, cause: str
) -> None:
    sites = chain(2)
    measured = {"shift_high": 0.05, "update_ratio": update}
    exams = [(step, {one.name: measured for one in sites}) for step in range(0, 300, 10)]
    history = History(
        steps=Steps(np.arange(300), *np.ones((3, 300))),
        exams=exams,
        autopsies={
            "net.0": autopsy(dict.fromkeys(range(64), PLANTS["bias-drift"][0])),
            "net.1": autopsy(dict.fromkeys(range(32), terms)),
        },
    )
    windows = {"net.0": with_dead(lively(64), 64), "net.1": with_dead(lively(64), 32)}
    spread = replace(
        ledger(64, 64, 0, 60), last_life=np.arange(40, 104, dtype=np.int32),
        first_silent=np.arange(41, 105, dtype=np.int32),
    )  # fmt: skip
    books = {"net.0": spread, "net.1": ledger(64, 32, 124, 125)}
    found = diagnose(sites, windows, books, history).causes
    assert {found["net.0"].of(unit) for unit in range(64)} == {"bias-drift"}
    assert {found["net.1"].of(unit) for unit in range(32)} == {cause}
    assert found["net.1"].numbers(0)["upstream"] == 1


def test_units_of_which_no_life_was_seen_were_born_dead() -> None:
    windows = {"net.0": with_dead(lively(64), 8)}
    found = diagnose(chain(1), windows, {"net.0": ledger(64, 8, -1, 0)}).causes["net.0"]
    assert {found.of(unit) for unit in range(8)} == {"born-dead"}


@pytest.mark.parametrize(
    ("values", "activation", "cause"),
    [
        pytest.param({"nonfinite": True}, "relu", "non-finite", id="no number"),
        pytest.param({"railed": 5120}, "tanh", "saturation", id="on a rail"),
    ],
)
def test_what_the_state_says_is_the_cause(values, activation, cause) -> None:
    windows = {"net.0": change(lively(64), 8, **values)}
    books = {"net.0": ledger(64, 0, 0, 0)}
    found = diagnose(chain(1, activation), windows, books).causes["net.0"]
    assert {found.of(unit) for unit in range(8)} == {cause}
    assert found.of(8) is None


def test_a_death_of_which_nothing_is_known_has_no_named_cause() -> None:
    windows = {"net.0": with_dead(lively(64), 1)}
    found = diagnose(chain(1), windows, {"net.0": ledger(64, 1, 9, 10)}).causes["net.0"]
    assert found.of(0) == "unknown"
    unwatched = diagnose(chain(1), windows).causes["net.0"]
    assert unwatched.of(0) == "unknown"
