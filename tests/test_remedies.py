"""Which treatment is named first, by what a run showed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flatline.diagnose.diagnose import diagnose
from flatline.sense.history import Note
from test_findings import ledger, lively, with_dead
from test_findings_of_trainings import CLASSES, LEARNS, STEPS, STUCK, chain, found, history

BROKEN = np.where(STEPS < 100, LEARNS, np.inf)
WRITTEN = Note(0, "loss", {**CLASSES.evidence, "own": "log"})


def firsts(findings) -> dict[str, str]:
    return {code: one.remedies[0].treatment for code, one in findings.items() if one.remedies}


@pytest.mark.parametrize(
    ("gradient", "notes", "want"),
    [
        pytest.param(np.where(STEPS < 100, 1.0, np.nan), [], "nan_to_num=input", id="by a loss"),
        pytest.param(np.where(STEPS < 99, 1.0, np.nan), [], "floor=1e-12", id="by a slope"),
        pytest.param(np.full(300, np.nan), [], "nan_to_num=input", id="unknown gradients"),
        pytest.param(1.0, [WRITTEN], "floor=1e-12+lr=x0.1", id="a logarithm written out"),
    ],
)
def test_where_numbers_were_lost_decides_what_keeps_them(gradient, notes, want):
    said = found([{}, {}], BROKEN, gradient=gradient, notes=notes)

    assert firsts(said)["non-finite"] == want


@pytest.mark.parametrize(
    ("widths", "want"),
    [
        ((64, 2, 64, 64), ["widen=64", "norm=batch:standard", "init=orthogonal", "norm=layer"]),
        ((64, 17, 64, 64), ["norm=batch:standard", "init=orthogonal", "norm=layer"]),
    ],
)
def test_a_narrow_layer_behind_which_all_lies_on_a_line_is_widened(widths, want):
    sites = [replace(one, units=n) for one, n in zip(chain(len(widths)), widths, strict=True)]
    flat = {"effective_rank": 1.0}
    said = diagnose(
        sites,
        {one.name: lively(one.units) for one in sites},
        {one.name: ledger(one.units, 0, 0, 0) for one in sites},
        history([{}, {}, flat, flat], STUCK),
    )

    (collapse,) = (one for one in said.findings if one.code == "rank-collapse")
    assert [one.treatment for one in collapse.remedies] == want


@pytest.mark.parametrize(
    ("width", "depth", "want"),
    [(2, 9, "activation=elu+norm=batch:standard"), (64, 9, "init=he"), (2, 1, "init=he")],
)
def test_new_weights_are_no_remedy_where_some_layer_is_silent_with_most_of_them(width, depth, want):
    sites = [replace(one, units=width) for one in chain(depth)]
    if depth == 1:  # one narrow layer among wide ones is silent with a probability of 1/4
        sites += [replace(one, units=64, name="wide." + one.name) for one in chain(8)]
        want = "activation=elu+norm=batch:standard"
    windows = {one.name: with_dead(lively(one.units), one.units) for one in sites}
    books = {one.name: ledger(one.units, one.units, -1, 0) for one in sites}
    said = diagnose(sites, windows, books, history([{}] * len(sites), STUCK))

    (born,) = (one for one in said.findings if one.code == "born-dead")
    assert born.remedies[0].treatment == want


@pytest.mark.parametrize(
    ("lr", "update", "want"),
    [
        pytest.param(1e-6, 1e-8, "init=he+lr=x300000", id="a rate too small for any gradient"),
        pytest.param(1e-5, 1e-3, "init=he", id="fine-tuning with Adam"),
        pytest.param(0.1, 1e-8, "init=he", id="gradients too small for the rate"),
    ],
)
def test_a_rate_at_which_no_treatment_shows_is_treated_with_the_main_finding(lr, update, want):
    numbers = {"update_ratio": update}
    dead = with_dead(lively(64), 60)
    said = found(
        [numbers, numbers],
        STUCK,
        windows={0: dead},
        ledgers={0: ledger(64, 60, -1, 0)},
        lr=lr,
    )

    assert firsts(said)["born-dead"] == want


def test_a_broadcast_loss_is_treated_before_a_small_rate():
    written = Note(0, "loss", {**CLASSES.evidence, "broadcast": True})
    said = found([{"update_ratio": 1e-6}] * 2, STUCK, notes=[written])

    assert firsts(said)["learning-rate-too-low"] == "output=squeeze"
