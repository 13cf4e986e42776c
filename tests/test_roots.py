"""Roots are named before their symptoms, and what summaries they rest on are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatline.diagnose.context import ENOUGH, TRAIL, Peaks, trailing
from flatline.diagnose.findings import SEVERITIES, Finding
from flatline.diagnose.findings.roots import ORDER, settle
from flatline.diagnose.names import CODES
from flatline.diagnose.progress import progress
from flatline.diagnose.readings import Readings
from flatline.sense.history import History, Steps


def one(code: str, severity: str, *explains: str, share: float = 0.5) -> Finding:
    return Finding(code, severity, (), share, "", explains=explains)


def said(*findings: Finding) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(found.code, found.severity, found.explains) for found in settle(findings)]


def test_a_symptom_is_listed_under_its_root_and_not_raised_beside_it() -> None:
    root = one("zero-init", "critical", "duplicate-units", "rank-collapse")
    assert said(one("duplicate-units", "critical"), root) == [
        ("zero-init", "critical", ("duplicate-units",)),
        ("duplicate-units", "warning", ()),
    ]


def test_what_was_given_is_as_bad_as_what_it_explains() -> None:
    root = one("unscaled-input", "warning", "dying-relu")
    assert said(root, one("dying-relu", "critical"))[0][:2] == ("unscaled-input", "critical")


def test_what_came_later_explains_nothing_worse_than_itself() -> None:
    root = one("learning-rate-too-high", "warning", "dying-relu", "rank-collapse")
    found = said(root, one("dying-relu", "critical"), one("rank-collapse", "warning"))
    assert found == [
        ("dying-relu", "critical", ()),
        ("learning-rate-too-high", "warning", ("rank-collapse",)),
        ("rank-collapse", "info", ()),
    ]


def test_a_root_that_something_else_explains_waits_for_it() -> None:
    late = one("rank-collapse", "critical", "dying-relu", "no-learning")
    assert [code for code, _, _ in said(one("dying-relu", "critical"), late)] == [
        "rank-collapse",
        "dying-relu",
    ]


def test_information_explains_nothing() -> None:
    root = one("exploding-gradient", "info", "dying-relu")
    assert said(root, one("dying-relu", "critical")) == [
        ("dying-relu", "critical", ()),
        ("exploding-gradient", "info", ()),
    ]


def test_a_root_explains_what_its_symptoms_explain() -> None:
    found = said(
        one("rank-collapse", "critical"),
        one("dying-relu", "critical", "rank-collapse"),
        one("unscaled-input", "critical", "dying-relu"),
    )
    assert found[0] == ("unscaled-input", "critical", ("dying-relu", "rank-collapse"))
    assert {severity for _, severity, _ in found[1:]} == {"warning"}


def test_two_roots_stand_side_by_side_the_nearer_first() -> None:
    found = said(one("dying-relu", "critical", share=0.9), one("unscaled-input", "critical"))
    assert [code for code, _, _ in found] == ["unscaled-input", "dying-relu"]


def test_a_loss_that_stands_still_is_no_finding_of_its_own_where_something_explains_it() -> None:
    alone, root = one("no-learning", "critical"), one("zero-init", "warning", "no-learning")
    assert said(alone) == [("no-learning", "critical", ())]
    assert said(alone, root) == [("zero-init", "critical", ("no-learning",))]


codes = st.sampled_from(CODES)
findings = st.lists(
    st.builds(
        Finding,
        codes,
        st.sampled_from(SEVERITIES),
        st.just(()),
        st.floats(0, 1),
        st.just(""),
        explains=st.lists(codes, max_size=4).map(tuple),
    ),
    unique_by=lambda found: found.code,
)


@given(findings)
def test_nothing_is_lost_and_no_verdict_changes(given: list[Finding]) -> None:
    found = settle(given)
    listed = {code for root in found for code in root.explains}
    assert {root.code for root in found} | listed == {root.code for root in given}
    highest = max((SEVERITIES.index(root.severity) for root in given), default=0)
    assert max((SEVERITIES.index(root.severity) for root in found), default=0) == highest
    levels = {root.code: SEVERITIES.index(root.severity) for root in found}
    for root in found:
        assert all(levels.get(code, 0) < max(levels[root.code], 1) for code in root.explains)
    assert [levels[root.code] for root in found] == sorted(levels.values(), reverse=True)


def test_the_order_has_only_codes_of_the_contract() -> None:
    assert set(ORDER) <= set(CODES)
    assert len(ORDER) == len(set(ORDER))


def trailing_slowly(values: np.ndarray) -> np.ndarray:
    """The same, value by value."""
    size, found = TRAIL // 2, []
    for place in range(len(values)):
        end = place if place < TRAIL else place // size * size
        before = values[max(end - TRAIL, 0) : end]
        before = before[np.isfinite(before)]
        found.append(np.median(before) if len(before) >= ENOUGH else np.nan)
    return np.array(found)


@given(st.lists(st.floats(-10, 10) | st.just(np.nan) | st.just(np.inf), max_size=200))
def test_the_trail_is_the_median_of_the_steps_before(values: list[float]) -> None:
    series = np.array(values, np.float64)
    np.testing.assert_array_equal(trailing(series), trailing_slowly(series))


@given(
    st.lists(st.floats(-9, 9, width=32) | st.just(np.nan), max_size=40),
    st.lists(st.tuples(st.integers(-2, 42), st.integers(-2, 42)), max_size=20),
)
def test_peaks_are_the_largest_values_of_any_part(
    values: list[float], parts: list[tuple[int, int]]
) -> None:
    series = np.array(values, np.float64)
    start, stop = np.array(parts, np.int64).reshape(-1, 2).T
    expected = [
        np.nanmax(series[max(a, 0) : max(b, 0)], initial=-np.inf) if len(series) else -np.inf
        for a, b in parts
    ]
    expected = [value if np.isfinite(value) else np.nan for value in expected]
    np.testing.assert_array_equal(Peaks(series).largest(start, stop), expected)


def course(losses: np.ndarray) -> Steps:
    return Steps.of([(step, loss, 0.1, None) for step, loss in enumerate(losses)])


STEPS = np.arange(200.0)
NOISE = np.random.default_rng(0).normal(size=200)


@pytest.mark.parametrize(
    ("losses", "stuck", "relapsed"),
    [
        pytest.param(2.3 * 0.99**STEPS, False, False, id="learns"),
        pytest.param(2.3 + 0.05 * NOISE, True, False, id="noise alone"),
        pytest.param(2.3 * 0.9**STEPS + 0.5, False, False, id="converges early"),
        pytest.param(2.3 * 0.99**STEPS + 0.4 * abs(NOISE), False, False, id="learns with noise"),
        pytest.param(np.where(STEPS < 120, 2.3 * 0.97**STEPS, 2.3), False, True, id="comes back"),
        pytest.param(2.3 * 1.01**STEPS, True, True, id="grows"),
        pytest.param(-STEPS, False, False, id="below 0"),
        pytest.param(np.where(STEPS < 30, 2.3 * 0.95**STEPS, 0.5), False, False, id="levels off"),
    ],
)
def test_the_course_of_a_loss(losses: np.ndarray, stuck: bool, relapsed: bool) -> None:
    found = progress(course(losses))
    assert (found.stuck, found.relapsed) == (stuck, relapsed)


def test_a_loss_that_ends_at_that_of_a_guess_has_not_moved() -> None:
    losses = course(np.where(STEPS < 5, 2.6, 2.31) + 0.005 * NOISE)
    assert progress(losses).moved
    assert progress(losses, guess=np.log(10)).stuck
    # A penalty may keep a loss above that of a guess.
    assert progress(losses, guess=1.0).moved


@pytest.mark.parametrize("losses", [[], [np.nan] * 30, [2.3] * 19])
def test_a_course_too_short_to_judge_is_neither(losses: list[float]) -> None:
    found = progress(course(np.array(losses)))
    assert [found.known, found.stuck, found.relapsed, found.failed] == [False] * 4


def test_an_infinite_loss_is_a_failure() -> None:
    found = progress(course(np.array([2.3, 1.0, np.inf, np.nan])))
    assert (found.nonfinite, found.failed) == (2, True)


def test_readings_sum_up_the_exams_of_each_site() -> None:
    exams = [
        (step, {"a": {"firing": float(step)}, "b": {"firing": np.nan if step else 0.5}})
        for step in range(12)
    ]
    found = Readings(History(exams=exams), ["a", "b", "c"])
    expected = {
        "first": [0, 0.5],
        "early": [1, 0.5],
        "usual": [5.5, 0.5],
        "late": [9.5, 0.5],
        "last": [11, 0.5],
        "most": [11, 0.5],
    }
    for part, values in expected.items():
        np.testing.assert_array_equal(getattr(found, part)("firing"), [*values, np.nan])
    assert np.isnan(found.last("unheard")).all()


def test_readings_of_a_long_training_keep_its_start_and_its_end() -> None:
    exams = [(step, {"a": {"firing": float(step)}}) for step in range(5000)]
    found = Readings(History(exams=exams), ["a"])
    assert found.first("firing") == 0
    assert found.early("firing") == 1
    assert found.last("firing") == found.most("firing") == 4999
    assert found.usual("firing") == pytest.approx(2500, rel=0.05)
