"""Findings that rest on what a training went through: planted faults and healthy look-alikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from flatline.anatomy.site import Site
from flatline.diagnose.diagnose import diagnose
from flatline.diagnose.findings import Finding
from flatline.sense.history import History, Note, Steps
from flatline.sense.vitals import Ledger, Vitals
from flatline.treatments.registry import parse_all
from test_findings import change, ledger, lively, site, with_dead

STEPS = np.arange(300.0)
LEARNS = 2.3 * 0.99**STEPS
STUCK = np.full(300, 2.3)
#: What exams measure of a layer of 64 units with He's weights, on standardised data.
SOUND = {
    "batch": 64.0,
    "weight_rms": np.sqrt(2 / 64),
    "fan_in": 64.0,
    "row_spread": 1.7,
    "z_rms": 1.0,
    "z_spread": 1.0,
    "signal_rms": 1e-3,
    "gradient_rms": 1e-2,
    "update_ratio": 2e-3,
    "effective_rank": 30.0,
    "rank_rows": 64.0,
}
DATA = {
    "data_offset": 0.5,
    "data_rms": 1.0,
    "data_constant": 0.0,
    "data_features": 64.0,
    "data_shift": 0.0,
}
#: Ten classes by cross-entropy on logits.
CLASSES = Note(
    0,
    "loss",
    dict.fromkeys(("target_low", "target_high", "target_classes", "target_spread"))
    | {"op": "nll", "last": "none", "own": "log_softmax", "width": 10, "scaled": False},
)
Measures = Mapping[str, float | Sequence[float]]


def chain(depth: int, activation: str = "relu") -> list[Site]:
    """Sites of which each reads the one before."""
    return [
        replace(
            site(64, activation, f"net.{i}"), feeds=(f"w{i}",), reads=(f"w{i + 1}",), pulse="exact"
        )
        for i in range(depth)
    ]


def history(
    exams: Sequence[Measures],
    loss: np.ndarray = LEARNS,
    *,
    lr: np.ndarray | float = 0.1,
    gradient: np.ndarray | float = 1.0,
    notes: Sequence[Note] = (),
) -> History:
    """Thirty exams of a chain of sites.

    A measure may change: then its values are spread over the exams.
    """
    steps = Steps(
        np.arange(len(loss)),
        np.asarray(loss),
        np.broadcast_to(lr, len(loss)),
        np.broadcast_to(gradient, len(loss)),
    )
    taken = []
    for number, step in enumerate(range(0, len(loss), 10)):
        measured = {}
        for place, measures in enumerate(exams):
            whole = {**SOUND, **(DATA if place == 0 else {}), **measures}
            measured[f"net.{place}"] = {
                name: float(np.atleast_1d(v)[number * np.size(v) // (len(loss) // 10)])
                for name, v in whole.items()
            }
        taken.append((step, measured))
    return History(steps=steps, exams=taken, notes=notes)


def found(
    exams: Sequence[Measures],
    loss: np.ndarray = LEARNS,
    *,
    windows: Mapping[int, Vitals] | None = None,
    ledgers: Mapping[int, Ledger] | None = None,
    activation: str = "relu",
    **steps: object,
) -> dict[str, Finding]:
    """What is found in a chain of sites, by code."""
    sites = chain(len(exams), activation)
    windows, ledgers = windows or {}, ledgers or {}
    seen = {one.name: windows.get(i, lively(64)) for i, one in enumerate(sites)}
    books = {one.name: ledgers.get(i, ledger(64, 0, 0, 0)) for i, one in enumerate(sites)}
    whole = history(exams, loss, **steps)  # type: ignore[arg-type]
    findings = diagnose(sites, seen, books, whole).findings
    for one in findings:
        for remedy in one.remedies:
            if not remedy.why.startswith(("it treats", "the rate is too small for any")):
                methods = [part.method for part in parse_all([remedy.treatment])]
                assert any(one.code in method.findings for method in methods), (one, remedy)
    return {one.code: one for one in findings}


def severities(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {code: one.severity for code, one in findings.items()}


def test_a_sound_training_has_no_finding() -> None:
    assert found([{}, {}, {}]) == {}


def copies(units: int = 64) -> Vitals:
    return change(lively(units), units, twin=0)


# Initialisation


def test_equal_weights_that_stay_equal_are_the_root_of_the_copies() -> None:
    equal = {"row_spread": 0.0, "effective_rank": 1.0}
    said = found([equal, equal], STUCK, windows={0: copies(), 1: copies()})
    assert said["zero-init"].severity == "critical"
    assert said["zero-init"].explains == ("duplicate-units", "rank-collapse", "no-learning")
    assert said["zero-init"].share == 63 / 64
    assert severities(said) == {
        "zero-init": "critical",
        "duplicate-units": "warning",
        "rank-collapse": "warning",
    }


@pytest.mark.parametrize(("rows", "root"), [(0.0, True), ([0.0, 0.3, 0.3], False)])
def test_copies_that_fell_silent_too_early_to_be_called_dead_are_told_by_their_weights(
    rows: float | Sequence[float], root: bool
) -> None:
    """They died within the first steps, and few examples have been seen since."""
    silent = with_dead(lively(64, 256), 64)
    seen = {"row_spread": rows, "effective_rank": [1.0, 0.0, 0.0]}
    said = found(
        [{}, seen, {}], STUCK, windows={1: silent}, ledgers={1: ledger(64, 64, 1, 4, silent=256)}
    )
    assert ("zero-init" in said) == root
    if root:
        assert (said["zero-init"].severity, said["zero-init"].share) == ("critical", 1.0)


def test_a_layer_that_starts_at_0_on_purpose_parts_at_its_first_update() -> None:
    assert found([{}, {"row_spread": [0.0, 1.7, 1.7]}]) == {}


def test_copies_that_came_later_are_no_matter_of_the_start() -> None:
    assert set(found([{}], windows={0: copies()})) == {"duplicate-units"}


SMALL = {"weight_rms": 0.01}


def shrinking(depth: int, factor: float, **measures: float) -> list[Measures]:
    """Layers whose z shrinks forward and whose gradient shrinks backward."""
    return [
        {
            "z_spread": factor**i,
            "z_rms": factor**i,
            "signal_rms": 1e-3 * factor ** (depth - i),
            "update_ratio": 1e-3 * factor ** (depth - i),
            **measures,
        }
        for i in range(depth)
    ]


def test_small_weights_are_the_root_of_what_vanishes() -> None:
    said = found(shrinking(5, 0.1, **SMALL), STUCK)
    assert next(iter(said)) == "init-too-small"
    assert said["init-too-small"].severity == "critical"
    assert said["init-too-small"].evidence["gain"] == pytest.approx(0.08)
    assert said["init-too-small"].evidence["forward"] == pytest.approx(1e-4)
    assert "vanishing-gradient" in said["init-too-small"].explains
    assert said["init-too-small"].remedies[0].treatment == "init=he"


@pytest.mark.parametrize(
    ("exams", "loss"),
    [
        pytest.param(shrinking(5, 0.1, **SMALL), LEARNS, id="that learn"),
        pytest.param([SMALL, SMALL, SMALL], LEARNS, id="behind normalisations"),
        pytest.param(shrinking(5, 0.9, **SMALL), LEARNS, id="with skip connections"),
    ],
)
def test_small_weights_may_be_healthy(exams: list[Measures], loss: np.ndarray) -> None:
    assert found(exams, loss) == {}


def test_large_weights_are_told_by_the_size_of_z_before_training() -> None:
    large = [{"weight_rms": 1.0, "z_rms": 8.0 ** (i + 1)} for i in range(3)]
    said = found(large, 800 * 0.99**STEPS, notes=[CLASSES])
    assert severities(said) == {"init-too-large": "critical"}
    assert said["init-too-large"].evidence["z_rms"] == 512
    assert said["init-too-large"].evidence["gain"] == 8
    assert severities(found(large, LEARNS, notes=[CLASSES])) == {"init-too-large": "warning"}


@pytest.mark.parametrize(
    "measures",
    [
        pytest.param({"weight_rms": 1.0, "z_rms": 1.0}, id="behind a normalisation"),
        pytest.param({"weight_rms": 1.0, "z_rms": 40.0, "data_rms": 9.0}, id="on large inputs"),
        pytest.param({"weight_rms": [0.18, 1.0]}, id="that grew in training"),
    ],
)
def test_large_weights_may_be_healthy(measures: Measures) -> None:
    assert found([measures]) == {}


# Gradients


def test_a_gradient_that_does_not_arrive() -> None:
    said = found(shrinking(6, 0.1, z_spread=1.0, z_rms=1.0), STUCK, activation="sigmoid")
    assert severities(said) == {"vanishing-gradient": "critical"}
    assert said["vanishing-gradient"].evidence["ratio"] == pytest.approx(1e-5)
    assert said["vanishing-gradient"].explains == ("no-learning",)


@pytest.mark.parametrize(
    ("exams", "loss"),
    [
        pytest.param(shrinking(6, 0.1), LEARNS, id="in a net that learns"),
        pytest.param(shrinking(6, 0.1, update_ratio=1e-3), LEARNS, id="under Adam"),
        pytest.param([{"signal_rms": [1e-3, 1e-7]}] * 3, LEARNS, id="of a converged run"),
    ],
)
def test_a_small_gradient_may_be_healthy(exams: list[Measures], loss: np.ndarray) -> None:
    assert found(exams, loss) == {}


@pytest.mark.parametrize(("number", "severity"), [(2, "info"), (6, "warning"), (20, "critical")])
def test_starved_units_count_by_their_share(number: int, severity: str) -> None:
    starved = change(lively(64), number, gradient=1e-9, update=1e-9)
    assert severities(found([{}, {}], windows={0: starved})) == {"vanishing-gradient": severity}


def spike(at: int = 120, size: float = 200.0) -> np.ndarray:
    gradient = np.ones(300)
    gradient[at] = size
    return gradient


BACK = np.where(STEPS <= 120, LEARNS, 2.3)


def test_one_gradient_that_ruins_a_training() -> None:
    said = found([{}], BACK, gradient=spike())
    assert severities(said) == {"exploding-gradient": "critical"}
    assert said["exploding-gradient"].evidence["step"] == 120
    assert said["exploding-gradient"].evidence["ratio"] == 200
    assert said["exploding-gradient"].remedies[0].treatment == "clip=auto:50"


def test_units_that_one_gradient_killed_are_its_symptoms() -> None:
    dead = {0: with_dead(lively(64), 30)}
    book = {0: ledger(64, 30, 120, 121)}
    said = found([{"shift_high": 0.5}], gradient=spike(), windows=dead, ledgers=book)
    assert severities(said) == {"exploding-gradient": "critical", "dying-relu": "warning"}
    assert said["exploding-gradient"].explains == ("dying-relu",)
    assert said["exploding-gradient"].share == 30 / 64


@pytest.mark.parametrize(
    "gradient",
    [
        pytest.param(spike(size=200.0), id="a hard batch"),
        pytest.param(spike(at=3), id="a first step"),
        pytest.param(np.geomspace(1, 1e4, 300), id="that grows slowly"),
    ],
)
def test_a_large_gradient_without_harm_is_no_illness(gradient: np.ndarray) -> None:
    assert set(severities(found([{}], gradient=gradient)).values()) <= {"info"}


# Rates


def test_a_rate_whose_first_updates_rewrite_the_weights() -> None:
    said = found([{"update_ratio": [0.4, 1e-3]}], STUCK)
    assert severities(said) == {"learning-rate-too-high": "critical"}
    assert said["learning-rate-too-high"].explains == ("no-learning",)
    assert said["learning-rate-too-high"].remedies[0].treatment == "lr=x0.007"  # to 0.003


def test_a_rate_that_was_raised_and_did_harm() -> None:
    lr = np.where(STEPS < 120, 0.1, 3.0)
    gradient = np.where(STEPS < 121, 1.0, 1e5)
    said = found([{}], BACK, lr=lr, gradient=gradient)
    assert severities(said) == {"learning-rate-too-high": "critical"}
    assert said["learning-rate-too-high"].evidence["raised"] == pytest.approx(30)


def test_units_that_large_steps_killed_are_a_symptom_of_the_rate() -> None:
    dead = {0: with_dead(lively(64), 30)}
    book = {0: ledger(64, 30, 2, 3)}
    rates = [{"update_ratio": [0.4, 1e-3], "shift_high": 2.0}]
    said = found(rates, windows=dead, ledgers=book)
    assert severities(said) == {"learning-rate-too-high": "critical", "dying-relu": "warning"}


@pytest.mark.parametrize(
    ("exams", "lr"),
    [
        pytest.param([{}], np.minimum(STEPS / 60, 1), id="warm-up"),
        pytest.param([{}], 0.05 * (1 + np.cos(np.pi * (STEPS % 75) / 75)), id="restarts"),
        pytest.param([{"update_ratio": [0.4, 1e-3]}], 0.1, id="large first steps that learn"),
        pytest.param([{"update_ratio": 0.5, "fan_in": np.nan}], 0.1, id="a bias that began at 0"),
        pytest.param([{"update_ratio": [2e-3, 0.0]}], 0.1 * (1 - STEPS / 300), id="a rate to 0"),
    ],
)
def test_schedules_are_healthy(exams: list[Measures], lr: np.ndarray | float) -> None:
    assert found(exams, lr=lr) == {}


@pytest.mark.parametrize(
    ("update", "loss", "want"),
    [
        pytest.param([1e-6], STUCK, ("critical", "lr=x3000"), id="from the start"),
        pytest.param(
            [2e-3, 0.0, 0.0],
            2.3 - 0.2 * (STEPS > 20),
            ("warning", "schedule=constant"),
            id="that faded",
        ),
    ],
)
def test_updates_too_small_to_learn(
    update: list[float], loss: np.ndarray, want: tuple[str, str]
) -> None:
    said = found([{"update_ratio": update}, {"update_ratio": update}], loss)
    assert severities(said) == {"learning-rate-too-low": want[0]}
    assert said["learning-rate-too-low"].remedies[0].treatment == want[1]


@pytest.mark.parametrize(
    ("exams", "loss"),
    [
        pytest.param([{"update_ratio": [2e-3, 0, 0]}], LEARNS, id="a schedule that ended at 0"),
        pytest.param([{"update_ratio": 0.0}, {}], LEARNS, id="one layer that is frozen"),
        pytest.param([{"update_ratio": 0.0, "gradient_rms": np.nan}, {}], LEARNS, id="a backbone"),
    ],
)
def test_small_updates_may_be_healthy(exams: list[Measures], loss: np.ndarray) -> None:
    assert found(exams, loss) == {}


def test_a_loss_that_stands_still_for_no_known_reason() -> None:
    assert severities(found([{}], STUCK)) == {"no-learning": "warning"}
    assert severities(found([{}], STUCK, notes=[CLASSES])) == {"no-learning": "critical"}
    # A run that was continued where it had converged.
    assert severities(found([{}], 0.01 * STUCK, notes=[CLASSES])) == {"no-learning": "warning"}


# Data


FAR = {"data_offset": 400.0, "data_rms": 20.0}


def test_inputs_far_from_0_that_kill_units_at_birth_are_their_root() -> None:
    dead = {0: with_dead(lively(64), 30)}
    book = {0: ledger(64, 30, -1, 0)}
    said = found([FAR], windows=dead, ledgers=book)
    assert severities(said) == {"unscaled-input": "critical", "born-dead": "warning"}
    assert said["unscaled-input"].explains == ("born-dead",)
    assert said["unscaled-input"].evidence["rms"] == 20
    assert said["unscaled-input"].remedies[0].treatment == "standardize=input"


def test_a_pipeline_that_loses_its_scale_later() -> None:
    shifted = {"data_offset": [0.5, 16.0, 16.0], "data_shift": [0.0, 4.0, 4.0]}
    assert severities(found([shifted], BACK)) == {"unscaled-input": "critical"}


@pytest.mark.parametrize(
    "measures",
    [
        pytest.param(FAR, id="raw inputs into a normalisation"),
        pytest.param({"data_offset": 1.0}, id="pixels from 0 to 1"),
        pytest.param({"data_rms": [1.0] * 14 + [300.0] + [1.0] * 15}, id="one odd batch"),
    ],
)
def test_inputs_that_do_no_harm(measures: Measures) -> None:
    assert found([measures]) == {}


def test_input_features_that_never_vary_are_told() -> None:
    said = found([{"data_constant": [9.0, 8.0, 8.0]}, {}])
    assert severities(said) == {"constant-input": "info"}
    assert said["constant-input"].share == 8 / 64


# Ranks


FLAT = {"effective_rank": 1.2}


@pytest.mark.parametrize(
    ("measures", "loss", "severity"),
    [
        pytest.param(FLAT, STUCK, "critical", id="where nothing is learnt"),
        pytest.param({"effective_rank": [20.0, 1.2, 1.2]}, BACK, "critical", id="that came"),
        pytest.param(FLAT, LEARNS, "warning", id="from the start"),
    ],
)
def test_activations_on_one_line(measures: Measures, loss: np.ndarray, severity: str) -> None:
    assert severities(found([{}, measures], loss)) == {"rank-collapse": severity}


@pytest.mark.parametrize(
    "measures",
    [
        pytest.param({"effective_rank": [20.0, 2.0, 2.0]}, id="classes that came to lie on lines"),
        pytest.param({"effective_rank": 1.0, "rank_rows": 4.0}, id="few rows"),
        pytest.param({"effective_rank": 12.0}, id="a modest rank"),
    ],
)
def test_a_low_rank_may_be_healthy(measures: Measures) -> None:
    assert found([{}, measures]) == {}


# Deaths


def test_a_layer_that_lost_its_inputs_is_a_symptom_of_the_deaths_before_it() -> None:
    dead = {0: with_dead(lively(64), 64), 1: with_dead(lively(64), 40)}
    book = {0: ledger(64, 64, 30, 31), 1: ledger(64, 40, 34, 35)}
    said = found([{}, {}], windows=dead, ledgers=book)
    assert severities(said) == {"dying-relu": "critical", "upstream-death": "warning"}
    assert said["dying-relu"].sites == ("net.0",)
    assert said["upstream-death"].sites == ("net.1",)
    assert said["dying-relu"].explains == ("upstream-death",)


@pytest.mark.parametrize("dead", [0.06, 0.2, 0.29])
def test_nets_that_work_may_have_dead_units(dead: float) -> None:
    number = int(64 * dead)
    said = found(
        [{}, {}],
        windows={0: with_dead(lively(64), number)},
        ledgers={0: ledger(64, number, 99, 100)},
    )
    assert set(severities(said).values()) <= {"info", "warning"}


def test_relus_that_fire_on_half_or_on_few_examples_are_healthy() -> None:
    rare = change(lively(64), 32, fired=3, h_abs=30.0)
    assert found([{}, {}], windows={0: rare}) == {}


# Pairs of faults


def test_two_faults_that_do_not_hide_each_other_are_both_named() -> None:
    dead = {0: with_dead(lively(64), 32), 1: copies()}
    book = {0: ledger(64, 32, -1, 0)}
    said = found([{}, {"row_spread": 0.0}], windows=dead, ledgers=book)
    critical = {code for code, severity in severities(said).items() if severity == "critical"}
    assert critical == {"zero-init", "born-dead"}


def test_units_born_dead_are_not_put_down_to_a_rate_that_killed_others() -> None:
    dead = {0: with_dead(lively(64), 32), 1: with_dead(lively(64), 30)}
    book = {0: ledger(64, 32, -1, 0), 1: ledger(64, 30, 2, 3)}
    rates = {"update_ratio": [0.4, 1e-3], "shift_high": 2.0}
    said = found([rates, rates], windows=dead, ledgers=book)
    assert "born-dead" not in said["learning-rate-too-high"].explains
    assert severities(said) == {
        "learning-rate-too-high": "critical",
        "born-dead": "critical",
        "dying-relu": "warning",
    }


def test_a_loss_that_is_no_number_is_told_where_no_site_was_seen() -> None:
    broken = np.where(STEPS < 5, LEARNS, np.inf)
    said = diagnose([], {}, {}, history([], broken))
    assert [(one.code, one.evidence) for one in said.findings] == [("non-finite", {"step": 5.0})]
    noted = History(notes=[Note(3, "nonfinite", {"what": "loss"})])
    assert diagnose([], {}, {}, noted).findings[0].evidence == {"step": 3.0}
