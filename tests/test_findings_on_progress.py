"""Findings that the course of a loss decides: what threw it up, what left it where it was."""

from __future__ import annotations

import numpy as np
import pytest

from flatline.sense.history import Note
from test_findings import ledger, lively, with_dead
from test_findings_of_trainings import (
    CLASSES,
    LEARNS,
    STEPS,
    STUCK,
    Measures,
    found,
    severities,
)

#: Weights ten times below He's, and what is left of z and the gradient behind five such layers.
SMALL = [
    {
        "weight_rms": 0.01,
        "z_spread": 0.1**i,
        "z_rms": 0.1**i,
        "signal_rms": 1e-3 * 0.1 ** (5 - i),
        "update_ratio": 1e-3 * 0.1 ** (5 - i),
    }
    for i in range(5)
]
#: All updates together change a matrix by 9 %.
SHORT = {"update_ratio": 3e-4}
#: The same, with a gradient that fell although the weights hardly moved.
AT_REST = SHORT | {"gradient_rms": [1e-3] * 10 + [3e-4] * 20}
OFF = {"data_offset": 16.0, "data_rms": 2.0}


def thrown(factor: float, step: int = 3) -> np.ndarray:
    return np.where((step <= STEPS) & (step + 3 > STEPS), factor, 1.0) * LEARNS


def test_first_updates_that_throw_the_loss_up_are_told_though_the_training_recovers() -> None:
    said = found([{}], thrown(40))
    assert severities(said) == {"learning-rate-too-high": "warning"}
    assert "first updates raised the loss 39 times" in said["learning-rate-too-high"].message


def test_numbers_that_were_lost_after_the_loss_was_thrown_up_were_lost_to_the_rate() -> None:
    lost = {"notes": [Note(50, "nonfinite", {"what": "loss"})]}
    said = found([{}], np.where(STEPS < 50, thrown(40), np.nan), **lost)
    assert severities(said) == {"learning-rate-too-high": "critical", "non-finite": "warning"}
    calm = found([{}], np.where(STEPS < 50, LEARNS, np.nan), **lost)
    assert severities(calm) == {"non-finite": "critical"}


def test_a_loss_at_rest_at_a_guess_is_no_matter_of_the_rate() -> None:
    said = found([AT_REST, AT_REST], STUCK, notes=[CLASSES])
    assert severities(said) == {"no-learning": "critical"}


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(thrown(20), id="by less"),
        pytest.param(np.where(STEPS == 0, 0.0, LEARNS), id="from a first loss of 0"),
        pytest.param(-LEARNS, id="below 0"),
    ],
)
def test_a_loss_that_rises_at_first_may_be_healthy(loss: np.ndarray) -> None:
    assert "learning-rate-too-high" not in found([{}], loss)


def test_small_weights_are_no_root_where_steps_have_carried_them_far() -> None:
    far = [one | {"weight_rms": [0.01] + [3.0] * 29} for one in SMALL]
    assert "init-too-small" in found(SMALL, STUCK)
    assert "init-too-small" not in found(far, STUCK)


def test_updates_that_all_together_lead_nowhere_explain_a_loss_that_stands_still() -> None:
    said = found([SHORT, SHORT], STUCK, notes=[CLASSES])
    assert severities(said) == {"learning-rate-too-low": "critical"}
    assert said["learning-rate-too-low"].explains == ("no-learning",)
    assert said["learning-rate-too-low"].evidence["way"] == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("measures", "loss"),
    [
        pytest.param(SHORT, STUCK / 2, id="better than a guess"),
        pytest.param(SHORT, LEARNS, id="that learned"),
        pytest.param({"update_ratio": 1e-3}, STUCK, id="updates that could change a third"),
        pytest.param(SHORT | {"gradient_rms": [1e-2] + [0.0] * 29}, STUCK, id="no gradient"),
        pytest.param(AT_REST, STUCK, id="a gradient that fell to a third"),
    ],
)
def test_a_short_way_is_blamed_for_nothing_else(measures: Measures, loss: np.ndarray) -> None:
    assert "learning-rate-too-low" not in found([measures], loss, notes=[CLASSES])


def test_a_loss_that_falls_steadily_and_is_still_above_a_guess() -> None:
    said = found([{}], 6 - STEPS / 100, notes=[CLASSES])
    assert severities(said) == {"learning-rate-too-low": "warning"}
    assert said["learning-rate-too-low"].evidence["pace"] == pytest.approx(1)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(4 - STEPS / 100, id="below a guess at the end"),
        pytest.param(2.5 + 3.5 * 0.98**STEPS, id="that has settled"),
    ],
)
def test_a_falling_loss_may_be_healthy(loss: np.ndarray) -> None:
    assert found([{}], loss, notes=[CLASSES]) == {}


def test_inputs_off_centre_are_not_blamed_where_the_weights_hardly_moved() -> None:
    assert "unscaled-input" in found([OFF], STUCK, notes=[CLASSES])
    said = found([OFF | SHORT], STUCK, notes=[CLASSES])
    assert severities(said) == {"learning-rate-too-low": "critical"}


def test_large_inputs_are_to_blame_for_a_loss_that_falls_and_stays_above_a_guess() -> None:
    raw = {"data_rms": 300.0}
    falls = 40 * 0.97**STEPS
    assert severities(found([raw], falls + 2.4, notes=[CLASSES])) == {"unscaled-input": "critical"}
    assert found([raw], falls, notes=[CLASSES]) == {}


def test_a_whole_silent_site_is_told_on_few_examples_where_the_loss_stands_still() -> None:
    few = lively(64, 84)
    silent = {0: with_dead(few, 64)}
    book = {0: ledger(64, 64, -1, 0, silent=84)}
    said = found([{}], STUCK, windows=silent, ledgers=book)
    assert severities(said) == {"born-dead": "critical"}
    assert said["born-dead"].evidence["examples"] < 459
    assert found([{}], LEARNS, windows=silent, ledgers=book) == {}
    most = {0: with_dead(few, 63)}
    book = {0: ledger(64, 63, -1, 0, silent=84)}
    assert "born-dead" not in found([{}], STUCK, windows=most, ledgers=book)


@pytest.mark.parametrize(("rank", "code"), [(1.0, "unscaled-input"), (9.0, "born-dead")])
def test_inputs_that_put_a_layer_on_a_line_leave_the_next_one_on_one_side(
    rank: float, code: str
) -> None:
    dead = {1: with_dead(lively(64), 30)}
    book = {1: ledger(64, 30, -1, 0)}
    said = found([{"data_rms": 300.0, "effective_rank": rank}, {}], windows=dead, ledgers=book)
    assert next(iter(said)) == code
    assert said[code].severity == "critical"
    assert said[code].sites == ("net.1",)


def test_inputs_off_centre_in_one_small_batch_are_not_called_so() -> None:
    dead = {0: with_dead(lively(64), 30)}
    book = {0: ledger(64, 30, -1, 0)}
    noisy = {"data_offset": [3.0] * 20 + [4.6] * 10}
    assert "unscaled-input" not in found([noisy], windows=dead, ledgers=book)
