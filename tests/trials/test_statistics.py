"""What a trial may claim, against closed forms, another library's formulas and simulated nulls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flatline.trials.statistics import (
    compare,
    interval,
    middle,
    seeds_change_nothing,
    steps_to_reach,
)

NAN = math.nan
numbers = st.floats(-1e3, 1e3, allow_nan=False)


def runs(*values: float | None) -> dict[int, float]:
    """Objectives by seed; ``None`` where there is none."""
    return {seed: value for seed, value in enumerate(values) if value is not None}


def test_an_interval_is_that_of_students_paired_test():
    rng = np.random.default_rng(0)
    control, arm = rng.normal(size=(2, 7))
    found = compare(runs(*control), {"a": runs(*arm)})["a"]
    theirs = stats.ttest_rel(arm, control).confidence_interval(0.95)

    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert found.difference == pytest.approx(arm.mean() - control.mean())


def test_two_seeds_give_the_interval_of_the_cauchy_distribution():
    low, high = interval(np.array([0.0, 2.0]), 0.05)

    assert (low, high) == pytest.approx((1 - 1 / math.tan(0.025 * math.pi), 1 + 12.706204736))


def test_intervals_hold_for_all_arms_together():
    control, arm = runs(1.0, 2.0, 3.5), runs(1.1, 2.3, 3.9)
    four = compare(control, dict.fromkeys("abcd", arm))["c"]
    alone = compare(control, {"c": arm}, confidence=1 - 0.05 / 4)["c"]

    assert four == alone
    assert four.high > compare(control, {"c": arm})["c"].high


@pytest.mark.parametrize(
    ("maximise", "lower", "higher"), [(False, "better", "worse"), (True, "worse", "better")]
)
def test_the_direction_of_the_objective_decides_who_is_better(maximise, lower, higher):
    control = runs(2.0, 2.2, 1.9)
    arms = {"lower": runs(1.0, 1.1, 0.8), "higher": runs(3.0, 3.1, 2.9), "near": runs(2.3, 2.0, 2)}
    found = compare(control, arms, maximise=maximise)

    verdicts = {name: one.verdict for name, one in found.items()}
    assert verdicts == {"lower": lower, "higher": higher, "near": "no difference shown"}
    assert found["lower"].difference < 0 < found["higher"].difference


def test_a_single_seed_has_a_difference_and_no_interval():
    found = compare(runs(2.0), {"a": runs(0.1)})["a"]

    assert (found.difference, found.low, found.high) == (pytest.approx(-1.9), None, None)
    assert (found.verdict, found.why) == ("no difference shown", "one seed gives no interval")


def test_only_seeds_that_both_have_are_paired():
    control = runs(1.0, None, 3.0, 4.0)
    found = compare(control, {"a": runs(0.9, -50.0, 2.8, 3.9)})["a"]

    assert found.pairs == 3
    assert found.difference == pytest.approx(-0.4 / 3)
    assert compare(control, {"a": runs(None, 5.0)})["a"].difference is None


def test_an_arm_that_lost_seeds_is_never_better_but_may_be_worse():
    control = runs(2.0, 2.2, 1.9, 2.1)
    found = compare(control, {"low": runs(1.0, 1.1, 0.9), "high": runs(3.0, None, 3.0, 3.1)})

    assert found["low"].high < 0
    assert found["low"].verdict == "no difference shown"
    assert found["low"].why == "measured on 3 of the control's 4 seeds"
    assert found["high"].verdict == "worse"
    both = compare(control, {"a": runs(1.0, NAN, 0.9)})["a"].why
    assert both == "measured on 3 of the control's 4 seeds; diverged on 1 of 3 seeds"


def test_a_program_that_ignores_seeds_has_no_intervals():
    found = compare(runs(0.5, 0.5, 0.5), {"a": runs(0.1, 0.2, 0.15)})["a"]

    assert (found.low, found.verdict) == (None, "no difference shown")
    assert "ignores them" in found.why
    assert not seeds_change_nothing([NAN, NAN])


def test_differences_without_spread_prove_nothing():
    """Nulls of an accuracy in steps of 1/N agree on three seeds in 2 of 27 trials and more."""
    found = compare(runs(0.5, 0.75, 0.25), {"a": runs(0.75, 1.0, 0.5)}, maximise=True)["a"]
    # 0.9 - 0.8 and 0.7 - 0.6 are told apart by rounding alone.
    rounded = compare(runs(0.8, 0.6, 0.1), {"a": runs(0.9, 0.7, 0.2)}, maximise=True)["a"]
    same = compare(runs(0.5, 0.75, 0.25), {"a": runs(0.5, 0.75, 0.25)})["a"]

    assert (found.difference, found.low, found.verdict) == (0.25, None, "no difference shown")
    assert (rounded.low, rounded.verdict) == (None, "no difference shown")
    assert same.why == "the same as the control to the last bit"


def test_an_arm_that_diverges_like_the_control_is_not_called_the_same():
    found = compare(runs(*[NAN] * 3), {"a": runs(*[NAN] * 3), "b": runs(1.0, 2.0, 3.0)})["a"]

    assert (found.difference, found.verdict) == (None, "no difference shown")
    assert found.why == "diverged on every seed, as the control"


@pytest.mark.parametrize("diverged", [NAN, math.inf])
def test_an_arm_that_diverges_is_worse_than_a_control_that_does_not(diverged):
    control = runs(2.3, 2.3001, 2.2999)
    found = compare(control, {"a": runs(*[diverged] * 3)})["a"]

    assert (found.verdict, found.why) == ("worse", "diverged on every seed")
    assert compare(runs(1.0, 1.1), {"a": runs(NAN, NAN)})["a"].verdict != "better"


def test_an_arm_that_diverges_now_and_then_counts_as_the_untrained_model_there():
    found = compare(runs(1.0, 1.0625, 1.125), {"a": runs(1.0, NAN, 1.0)}, untrained=[2.0])["a"]

    assert found.difference == pytest.approx((0 + 0.9375 - 0.125) / 3)
    assert found.why == "diverged on 1 of 3 seeds"
    assert found.verdict == "no difference shown"


def test_a_treatment_that_rescues_a_diverging_control_is_better_only_if_it_learns():
    control, untrained = runs(NAN, NAN, NAN), [2.3, 2.31, 2.29]
    arms = {"learns": runs(0.2, 0.3, 0.25), "stays": runs(2.3, 2.305, 2.31)}
    found = compare(control, arms, untrained=untrained)

    assert found["learns"].verdict == "better"
    assert found["learns"].difference == pytest.approx(0.25 - 2.31)
    assert found["stays"].verdict == "no difference shown"


def test_a_trial_in_which_everything_diverges_says_nothing():
    found = compare(runs(NAN, NAN), {"a": runs(NAN, math.inf)})["a"]

    assert (found.difference, found.verdict) == (None, "no difference shown")


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=6), numbers)
def test_what_is_added_to_both_changes_nothing(pairs, shift):
    control, arm = (np.array(side) for side in zip(*pairs, strict=True))
    found = compare(runs(*control), {"a": runs(*arm)})["a"]
    moved = compare(runs(*(control + 2 * shift)), {"a": runs(*(arm + 2 * shift))})["a"]

    if found.low is not None and moved.low is not None:
        assert moved.difference == pytest.approx(found.difference, abs=1e-9)
        assert moved.low == pytest.approx(found.low, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng, size: rng.normal(size=size), id="normal"),
        pytest.param(lambda rng, size: rng.lognormal(sigma=1.0, size=size), id="skewed"),
        pytest.param(lambda rng, size: rng.standard_t(2, size=size), id="heavy tails"),
        pytest.param(lambda rng, size: rng.integers(0, 6, size) / 360, id="steps"),
    ],
)
@pytest.mark.parametrize("seeds", [3, 6])
def test_a_null_is_called_better_in_at_most_one_trial_of_twenty(draw, seeds):
    """In any of its arms; the arms share a control and each seed has an effect of its own."""
    rng, trials, arms = np.random.default_rng(1), 2000, 3
    false = 0
    for _ in range(trials):
        table = draw(rng, (arms + 1, seeds)) + rng.normal(size=seeds).round(2)
        control, *others = (runs(*row) for row in table)
        found = compare(control, {str(i): arm for i, arm in enumerate(others)})
        false += any(one.verdict == "better" for one in found.values())

    assert false / trials <= 0.05


def test_coverage_of_all_intervals_together_is_what_it_is_said_to_be():
    rng, trials, arms = np.random.default_rng(2), 2000, 4
    misses = 0
    for _ in range(trials):
        table = rng.normal(size=(arms + 1, 5))
        control, *others = (runs(*row) for row in table)
        found = compare(control, {str(i): arm for i, arm in enumerate(others)})
        misses += any(one.low > 0 or one.high < 0 for one in found.values())

    # By Bonferroni at most 5 %; four standard errors of the simulation are 2 %.
    assert 0.02 <= misses / trials <= 0.05


def test_steps_to_reach_are_those_of_a_loop():
    rng = np.random.default_rng(3)
    loss = np.linspace(3, 0, 200) + rng.normal(size=200)
    for goal, window in ((0.5, 20), (1.5, 1), (-2.0, 20)):
        slow = (s for s in range(window, 201) if loss[s - window : s].mean() <= goal)
        assert steps_to_reach(loss, goal, window) == next(slow, None)
        assert steps_to_reach(-loss, -goal, window, maximise=True) == steps_to_reach(
            loss, goal, window
        )


def test_a_run_reaches_its_own_end_at_the_latest_with_its_last_step():
    loss = np.random.default_rng(4).normal(size=300).cumsum() * -0.1
    assert steps_to_reach(loss, float(loss[-30:].mean()), 30) <= 300


def test_readings_that_are_missing_or_diverged_reach_nothing():
    loss = np.array([5.0, NAN, 1.0, 1.0, math.inf])

    assert steps_to_reach(loss, 1.0, 2) == 4
    assert steps_to_reach(loss, 0.5, 2) is None
    assert steps_to_reach(loss, NAN, 2) is None
    assert steps_to_reach(loss, 9.0, 6) is None


def test_the_middle_counts_what_was_never_reached():
    assert middle([10, 20, None]) == 20
    assert middle([10, None]) is None
