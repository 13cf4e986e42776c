"""How sure it is who is dead: bounds against sums and chance, coverage against real loaders."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import flatline
import recordings
from flatline.diagnose.certainty import (
    CERTAIN_EXAMPLES,
    Certainty,
    false_calls,
    seen_one_in,
    whole_pass,
)
from flatline.diagnose.diagnose import diagnose
from flatline.record.recording import Recording
from flatline.sense.history import Note
from flatline.show import certain, words
from flatline.show.report import build


def judged(recording: Recording) -> Certainty:
    return diagnose(
        recording.sites, recording.windows, recording.ledgers, recording.history
    ).certainty


@given(st.integers(1, 10**7))
def test_one_in_so_many_is_the_rarest_that_silence_excludes(n):
    k = seen_one_in(n)
    assert stats.binom.pmf(0, n, 1 / k) <= 0.01 * (1 + 1e-9)
    assert stats.binom.pmf(0, n, 1 / (k + 1)) > 0.01 * (1 - 1e-9)


def test_nothing_seen_excludes_nothing():
    assert seen_one_in(0) == 1


@given(st.integers(0, 10**6), st.integers(0, 5000))
def test_expected_false_calls_are_units_times_the_chance_of_silence(units, n):
    assert false_calls(units, n) == pytest.approx(units * stats.binom.pmf(0, n, 0.01), rel=1e-9)


def test_expected_false_calls_are_what_chance_gives():
    rng = np.random.default_rng(0)
    silent = rng.binomial(100, 0.01, size=200_000) == 0
    assert silent.sum() == pytest.approx(false_calls(200_000, 100), rel=0.02)


@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.booleans(), st.integers(0, 100))
def test_any_stretch_as_long_as_whole_pass_says_holds_the_whole_set(n, size, shuffle, drop, start):
    data = {"examples": n, "batch_size": size, "shuffle": shuffle, "drop_last": drop}
    steps = whole_pass(data)
    if steps is None:
        assert drop
        assert n % size
        return
    generator = torch.Generator().manual_seed(start)
    loader = DataLoader(
        TensorDataset(torch.arange(n)), size, shuffle, drop_last=drop, generator=generator
    )
    endless = (batch for _ in range(10**6) for (batch,) in loader)
    seen = [batch.tolist() for batch in islice(endless, start, start + steps)]
    assert {example for batch in seen for example in batch} == set(range(n))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"examples": 100, "batch_size": 10, "shuffle": None, "drop_last": False},
        {"examples": 0, "batch_size": 10, "shuffle": True, "drop_last": False},
        {"examples": 100, "batch_size": None, "shuffle": True, "drop_last": False},
    ],
)
def test_what_is_not_known_of_a_loader_is_not_guessed(data):
    assert whole_pass(data) is None


def test_a_run_is_judged_by_its_weakest_call():
    found = judged(recordings.sick_mlp())
    assert (found.units, found.called, found.unsure) == (240, 46, 1)
    assert found.examples == 15_232  # net.2:31 died at step 262 of 500, in batches of 64
    assert found.one_in == seen_one_in(15_232)
    assert found.false_calls == false_calls(240, 15_232)
    assert not found.short


def loaded(died: int, data: dict, **facts) -> Recording:
    """A run of 500 steps of 64 in which one unit died, on a data set with this loader."""
    known = {"examples": 6400, "batch_size": 64, "shuffle": True, "drop_last": False}
    recording = recordings.record(recordings.Plan("net.0", 8, dead={3: died}), facts=facts)
    return replace(recording, notes=[Note(0, "data", known | data)])


@pytest.mark.parametrize(
    ("died", "data", "facts", "whole"),
    [
        pytest.param(301, {}, {}, 1, id="199 steps hold a whole pass of 100"),
        pytest.param(302, {}, {}, 0, id="198 may not"),
        pytest.param(400, {"shuffle": False}, {}, 1, id="in order, 100 do"),
        pytest.param(401, {"shuffle": False}, {}, 0, id="in order, 99 do not"),
        pytest.param(0, {"shuffle": None}, {}, 0, id="an order that is not known"),
        pytest.param(301, {"drop_last": True}, {}, 1, id="nothing is dropped"),
        pytest.param(0, {"drop_last": True, "examples": 6401}, {}, 0, id="the last is dropped"),
        pytest.param(0, {"examples": 6400, "batch_size": 128}, {}, 0, id="batches are split"),
        pytest.param(0, {}, {"world_size": 2}, 0, id="several processes"),
        pytest.param(-1, {}, {}, 1, id="never lived"),
    ],
)
def test_silence_over_a_whole_pass_is_known_from_the_loader(died, data, facts, whole):
    found = judged(loaded(died, data, **facts))
    assert (found.called, found.exhausted) == (1, whole)
    said = certain.sentences(build(loaded(died, data, **facts)))
    assert any("silent over a whole pass of the 6,400" in line for line in said) == bool(whole)


def test_without_an_exact_pulse_each_step_must_have_been_an_exam():
    recording = loaded(200, {})
    ledger = recording.ledgers["net.0"]
    doubted = replace(recording, ledgers={"net.0": replace(ledger, exact=ledger.exact & False)})
    assert judged(doubted).exhausted == 0
    exams = [(step, {"net.0": {"batch": 64}}) for step in range(500)]
    assert judged(replace(doubted, exams=exams)).exhausted == 1
    assert judged(replace(doubted, exams=exams[:300] + exams[301:])).exhausted == 0


def test_a_run_without_dead_units_says_what_it_would_have_seen():
    (line,) = certain.sentences(build(recordings.healthy_mlp()))
    assert line == (
        "Each unit was seen on at least 5,120 examples: a unit that fires on 1 in 1,112 or more "
        "would have been seen, at 99% confidence."
    )


def short(steps: int, batch: int) -> Recording:
    facts = {"steps": steps, "examples": steps * batch}
    recording = recordings.record(recordings.Plan("net.0", 8), steps=steps, facts=facts)
    window = replace(recording.windows["net.0"], examples=steps * batch)
    return replace(recording, windows={"net.0": window})


def test_a_run_too_short_says_what_length_would_do():
    report = build(short(7, 64))
    assert report.certainty.short
    assert report.certainty.enough_steps == 8
    assert words.sentences(report)[1] == (
        "Too short to call any unit dead: 448 examples were seen, 459 are needed, which is 8 steps "
        "of 64; the course of the loss is judged from 20 steps on."
    )
    assert certain.sentences(report) == []
    assert not build(short(8, 64)).certainty.short


@given(st.integers(1, 600))
def test_after_the_steps_that_are_said_to_do_the_run_is_no_longer_too_short(batch):
    found = judged(short(1, batch))
    assert found.short == (batch < CERTAIN_EXAMPLES)
    if found.short:
        assert not judged(short(found.enough_steps, batch)).short
        assert judged(short(found.enough_steps - 1, batch)).short


def test_units_silent_so_far_need_the_rest_of_459_examples():
    said = words.sentences(build(recordings.sick_mlp()))
    assert said[-1] == "6 more steps would do."  # 100 seen, 64 a step


def test_units_that_fell_silent_after_the_last_exam_are_told_apart_from_the_dead():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with flatline.Monitor(model, optimizer, budget=0) as monitor:  # one exam, at step 0
        for step in range(200):
            if step == 100:
                with torch.no_grad():
                    model[0].bias[:3] = -1e3
                    model[0].bias[3:] = 1.0
            model(torch.randn(64, 8)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    report = monitor.report()
    assert (report.certainty.called, report.certainty.unexamined) == (0, 3)
    assert certain.sentences(report)[-1].startswith("3 more units have had no gradient for the")
