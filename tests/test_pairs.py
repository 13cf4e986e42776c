"""The benchmark's estimators find a cost that is known, and none where there is none."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pairs import Clock, Turns, examining, median_ratio, one_round, total_ratio
from trainings import Training


def simulated(cost, bias=1.0, lumps=0.0, rounds=4, pairs=200, noise=0.02):
    """Rounds in which watching costs ``cost``, and the second build is ``bias`` times as fast."""
    rng = np.random.default_rng(1)

    def half(bias):
        bare = 0.01 * np.exp(noise * rng.standard_normal(pairs))
        watched = 0.01 * bias * cost * np.exp(noise * rng.standard_normal(pairs))
        watched[::50] += lumps
        return Turns(bare, watched, np.ones(pairs, np.int64))

    return [(half(bias), half(1 / bias)) for _ in range(rounds)]


@pytest.mark.parametrize("cost", [1.0, 1.003, 1.1])
def test_the_median_finds_a_steady_cost(cost):
    row = median_ratio(simulated(cost))
    assert row["low"] < cost < row["high"]
    assert row["high"] - row["low"] < 0.01


def test_a_faster_place_in_memory_cancels():
    row = median_ratio(simulated(1.02, bias=1.2))
    assert row["ratio"] == pytest.approx(1.02, abs=0.005)


def test_the_total_counts_rare_lumps_that_the_median_does_not_see():
    rounds = simulated(1.0, lumps=0.05)  # 5 steps' worth in every 50 steps
    assert median_ratio(rounds)["ratio"] == pytest.approx(1.0, abs=0.005)
    assert total_ratio(rounds, steps=200)["ratio"] == pytest.approx(1.1, abs=0.01)


def test_the_total_counts_attaching_and_detaching():
    rounds = simulated(1.0, rounds=1)
    for half in rounds[0]:
        half.ends = 0.2  # a tenth of 200 steps of 0.01 s
    assert total_ratio(rounds, steps=200)["ratio"] == pytest.approx(1.1, abs=0.01)


class Diary:
    """Builds trainings that only note whose turn it was, and whether a dispatch mode was active."""

    def __init__(self):
        self.calls = []
        self.after_step = {}

    def build(self, device):
        name = len(self.after_step)
        self.after_step[name] = lambda: None

        def step():
            self.calls.append((name, examining()))
            self.after_step[name]()

        model = torch.nn.Linear(1, 1)
        model.name = name
        return Training(model, torch.optim.SGD(model.parameters(), 0.1), step)

    def steps(self, name):
        return [who for who, _ in self.calls].count(name)


def ticks():
    return Clock("cpu", itertools.count().__next__)


def test_each_is_watched_once_and_both_take_as_many_steps():
    diary, attached = Diary(), []

    def attach(training):
        attached.append(training.model.name)
        return lambda: None

    first, second = one_round(diary.build, attach, ticks(), turns=3, steps=2, warm=1)
    assert attached == [1, 0]
    assert diary.steps(0) == diary.steps(1) == 13
    assert first.steps.tolist() == second.steps.tolist() == [2, 2, 2]


def test_the_bare_training_never_runs_inside_an_exam():
    diary = Diary()

    def attach(training):
        """Examine every third step, from the end of one to the end of the next."""
        name = training.model.name
        before = diary.steps(name)
        modes = []

        def toggle():
            if modes:
                modes.pop().__exit__(None, None, None)
            elif (diary.steps(name) - before) % 3 == 2:
                modes.append(TorchDispatchMode().__enter__())

        diary.after_step[name] = toggle
        return lambda: diary.after_step.update({name: lambda: None})

    halves = one_round(diary.build, attach, ticks(), turns=6, steps=1, warm=0)
    watched_first = diary.calls[: 2 * halves[0].steps.sum()]
    assert any(inside for who, inside in watched_first if who == 1)
    assert not any(inside for who, inside in watched_first if who == 0)
    assert max(halves[0].steps) == 2
    assert diary.steps(0) == diary.steps(1)
    assert not examining()
