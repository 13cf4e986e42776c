"""States: equal to a slow reading of the contract, unit by unit, and right on known cases."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flatline import activations
from flatline.anatomy.site import Site
from flatline.diagnose.certainty import CERTAIN_EXAMPLES, firing_rate_upper, rate_upper
from flatline.diagnose.states import States, judge
from flatline.sense.vitals import Ledger, Vitals, merge
from strategies import ledgers, raws, wild_vitals

UNITS = 5
ACTIVATIONS = [
    activations.get(*which)
    for which in (
        ("relu",),
        ("relu6",),
        ("hardtanh",),
        ("leaky_relu", 0.0),
        ("leaky_relu",),
        ("hardsigmoid",),
        ("threshold", 1.0, 0.0),
        ("gelu",),
        ("tanh",),
        ("rnn_relu",),
    )
]
INF = math.inf


def slow_state(  # noqa: C901 - one rule after the other, as the contract lists them
    site: Site, v: Vitals, book: Ledger | None, largest: float, u: int
) -> str:
    """The contract's table, read from the top, for one unit."""
    phi = site.activation
    n, fired = v.examples, int(v.fired[u])
    h_low, h_high = float(v.h_min[u]), float(v.h_max[u])
    z_low, z_high = float(v.z_min[u]), float(v.z_max[u])
    life = first = -1
    if book is not None:
        life, first = int(book.last_life[u]), int(book.first_silent[u])
    spread = h_high - h_low if math.isfinite(h_low) and math.isfinite(h_high) else INF

    def magnitude(unit: int) -> float:
        return float(v.h_abs[unit]) / n if n else 0.0

    known = [
        magnitude(i) for i in range(v.units) if math.isfinite(magnitude(i)) and not v.nonfinite[i]
    ]
    typical = float(np.mean(known)) if known else 0.0

    if v.nonfinite[u]:
        return "nonfinite"
    if n == 0 and life == first == -1:
        return "unvisited"
    ledger_decides = book is not None and phi.can_die
    if ledger_decides:
        jumps = fired == 0 and z_low <= phi.fires[0][0] and z_high >= phi.fires[-1][1]
        silent = first > life and not jumps
    else:
        rounding = float(np.float32(2) ** -23) * max(abs(h_low), abs(h_high))
        silent = n > 0 and fired == 0 and spread < INF and spread <= rounding
    if silent:
        return "dead"
    if n > 0 and phi.rails and v.railed[u] >= 0.95 * n:
        return "saturated"
    rare = ledger_decides and fired == 0
    if n >= 2 and spread <= 1e-6 * typical and not rare:
        return "constant"
    if n >= 2 and v.twin[u] != u:
        return "duplicate"
    unread = n > 0 and bool(site.reads) and bool(v.ignored[u])
    stuck = v.update[u] < 1e-7 and float(v.gradient[u]) < 1e-6 * largest
    if fired > 0 and stuck and not unread:
        return "starved"
    if n > 0 and typical > 0 and magnitude(u) <= 0.025 * typical:
        return "dormant"
    if unread:
        return "ignored"
    if n > 0 and phi.pieces is not None:
        ends = [-INF, *phi.pieces, INF]
        for low, high in pairwise(ends):
            sloped = any(a <= low and high <= b for a, b in phi.fires)
            if sloped and low < z_low and z_high < high:
                return "linear"
    return "healthy"


def slow_examples(state: str, v: Vitals, book: Ledger | None, u: int) -> int:
    if state != "dead" or book is None:
        return v.examples
    n = int(book.silent_examples[u])
    return max(n, v.examples) if book.last_life[u] == -1 and v.fired[u] == 0 else n


def assert_as_slow(site: Site, v: Vitals, book: Ledger | None, largest: float) -> None:
    found = judge(site, v, book, largest_gradient=largest)
    for u in range(v.units):
        state = slow_state(site, v, book, largest, u)
        assert found.state(u) == state, u
        if state == "dead" or book is None:
            n = slow_examples(state, v, book, u)
            assert found.examples[u] == n
            assert found.certain[u] == (state != "dead" or n >= 459)
        if state == "dead":
            assert found.firing_rate_upper[u] == pytest.approx(1 - 0.01 ** (1 / n) if n else 1.0)
            assert found.firing_rate[u] == 0 if n else math.isnan(found.firing_rate[u])
    assert sum(found.counts().values()) == v.units


sites = st.builds(
    Site,
    st.just("s"),
    st.sampled_from(ACTIVATIONS),
    st.just(UNITS),
    reads=st.sampled_from([(), ("next.weight",)]),
)
largest = st.sampled_from([math.nan, 0.0, 1.0, 1e6])


@given(sites, wild_vitals(UNITS), st.none() | ledgers(UNITS), largest)
def test_states_equal_the_slow_reading(
    site: Site, v: Vitals, book: Ledger | None, largest: float
) -> None:
    assert_as_slow(site, v, book, largest)


@given(raws(UNITS), raws(UNITS), st.none() | ledgers(UNITS), largest)
def test_states_of_real_windows_equal_the_slow_reading(a, b, book, largest) -> None:
    site = Site("s", activations.get("relu"), UNITS, reads=("next.weight",))
    assert_as_slow(site, merge(a.vitals(), b.vitals()), book, largest)


@given(wild_vitals(UNITS), sites)
def test_order_of_units_does_not_matter(v: Vitals, site: Site) -> None:
    v = replace(v, twin=np.arange(UNITS, dtype=np.int32))
    back = replace(
        v,
        **{
            name: value[::-1]
            for name, value in vars(v).items()
            if isinstance(value, np.ndarray) and name != "twin"
        },
    )
    assert judge(site, v).code.tolist() == judge(site, back).code[::-1].tolist()


# Known cases: what a network really does.


def seen(z: np.ndarray, activation: activations.Activation, **changes: object) -> Vitals:
    """Vitals of pre-activations, one row per example."""
    z = np.asarray(z, np.float32)
    assert activation.function is not None
    h = activation.function(z.astype(np.float64)).astype(np.float32)

    def within(intervals: tuple[tuple[float, float], ...]) -> np.ndarray:
        inside = np.zeros(z.shape, bool)
        for low, high in intervals:
            inside |= (z > low) & (z < high)
        return inside.sum(axis=0).astype(np.int32)

    same = np.isclose(z[:, :, None], z[:, None, :], rtol=1e-5, atol=0).all(axis=0)
    base = Vitals(
        examples=len(z),
        fired=within(activation.fires),
        railed=within(activation.rails),
        z_min=z.min(axis=0),
        z_max=z.max(axis=0),
        h_min=h.min(axis=0),
        h_max=h.max(axis=0),
        h_abs=np.abs(h).astype(np.float64).sum(axis=0),
        z_sum=z.astype(np.float64).sum(axis=0),
        z_sq=(z.astype(np.float64) ** 2).sum(axis=0),
        twin=same.argmax(axis=1).astype(np.int32),
        nonfinite=np.zeros(z.shape[1], bool),
        ignored=np.zeros(z.shape[1], bool),
        gradient=np.ones(z.shape[1], np.float32),
        update=np.full(z.shape[1], 1e-3, np.float32),
    )
    return replace(base, **changes)


def look(name: str, z: np.ndarray, book: Ledger | None = None, **changes: object) -> States:
    activation = activations.get(name)
    v = seen(z, activation, **changes)
    site = Site("s", activation, v.units, reads=("next.weight",))
    return judge(site, v, book, largest_gradient=1.0)


def names(found: States) -> list[str]:
    return [found.state(u) for u in range(len(found.code))]


def columns(*makers, n: int = 500) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([maker(rng, n) for maker in makers], axis=1)


def normal(mean: float, std: float = 1.0):
    return lambda rng, n: rng.normal(mean, std, n)


def below(top: float):
    return lambda rng, n: top - np.abs(rng.normal(size=n))


def above(bottom: float):
    return lambda rng, n: bottom + np.abs(rng.normal(size=n))


def test_relu_units() -> None:
    found = look("relu", columns(normal(0), below(-0.1), above(0.1), normal(-1)))
    assert names(found) == ["healthy", "dead", "linear", "healthy"]
    assert found.certain.all()
    assert found.firing_rate[1] == 0
    assert found.margin[1] < 0
    assert np.isnan(found.margin[[0, 2, 3]]).all()


@pytest.mark.parametrize(("n", "certain"), [(458, False), (459, True)])
def test_a_dead_unit_is_certain_from_459_examples_on(n: int, certain: bool) -> None:
    found = look("relu", columns(normal(0), below(-0.1), n=n))
    assert names(found)[1] == "dead"
    assert found.certain.tolist() == [True, certain]
    assert found.silent_so_far == (not certain)
    assert found.counts()["dead"] == 1
    assert found.are("dead").tolist() == [False, certain]
    assert (found.firing_rate_upper[1] <= 0.01) == certain


def test_a_smooth_unit_is_dead_only_when_its_output_stands_still() -> None:
    # GELU is exactly 0 far out; at -4 its slope is far below 1 %, but its output still moves.
    found = look("gelu", columns(normal(0), below(-40), below(-4), n=600))
    assert names(found) == ["healthy", "dead", "dormant"]
    assert seen(columns(below(-4)), activations.get("gelu")).fired.tolist() == [0]


def test_rails() -> None:
    assert names(look("tanh", columns(normal(0), normal(4, 0.1), normal(-4, 0.1)))) == [
        "healthy",
        "saturated",
        "saturated",
    ]
    both = np.where(np.arange(500)[:, None] % 2, 5.0, -5.0) * np.ones((1, 2))
    both[:, 1] = columns(normal(0))[:, 0]
    assert names(look("hardtanh", both)) == ["saturated", "healthy"]
    assert names(look("relu6", columns(normal(3), normal(50), below(-1))))[2] == "dead"
    assert look("relu6", columns(normal(3), normal(50))).state(1) == "dead"  # pinned at 6, still


def test_constant_duplicate_dormant_ignored_starved_nonfinite() -> None:
    z = columns(
        normal(0), normal(0.5, 0), normal(0), normal(0, 0.01), normal(0), normal(0), normal(0)
    )
    z[:, 2] = z[:, 0]
    flags = np.zeros(7, bool)
    tiny = np.array([1, 1, 1, 1, 1, 1e-9, 1], np.float32)
    found = look(
        "relu",
        z,
        ignored=flags | (np.arange(7) == 4),
        nonfinite=flags | (np.arange(7) == 6),
        gradient=tiny,
        update=tiny * np.float32(1e-3),
    )
    assert names(found) == [
        "healthy",
        "constant",
        "duplicate",
        "dormant",
        "ignored",
        "starved",
        "nonfinite",
    ]


def test_one_example_says_nothing_about_variation() -> None:
    found = look("tanh", np.array([[0.5, 0.5, -0.5]]))
    assert names(found) == ["healthy"] * 3


def book(last: int, first: int, silent: int, exact: bool = True) -> Ledger:
    return Ledger(
        np.array([last], np.int32),
        np.array([first], np.int32),
        np.array([silent], np.int64),
        np.array([exact]),
    )


@pytest.mark.parametrize(
    ("ledger", "since", "exact", "after", "n"),
    [
        pytest.param(book(7, 10, 900), 8, True, 7, 900, id="pulse"),
        pytest.param(book(7, 10, 900, False), 10, False, 7, 900, id="exams only"),
        # It died at step 10, but no pulse tells whether it lived for a moment since.
        pytest.param(book(9, 10, 900, False), 10, False, 9, 900, id="exam next step"),
        pytest.param(book(-1, 0, 64), 0, True, -1, 64, id="born dead"),
    ],
)
def test_the_ledger_says_since_when(ledger, since, exact, after, n) -> None:
    # The window reaches back to when the unit still fired.
    found = look("relu", columns(normal(0)), ledger)
    assert found.state(0) == "dead"
    assert (found.since_step[0], found.since_exact[0], found.since_after[0]) == (
        since,
        exact,
        after,
    )
    assert found.examples[0] == n
    assert found.firing_rate[0] == 0
    assert np.isnan(found.margin[0])  # the largest z of the window is from before its death


def test_a_window_from_before_the_last_life_proves_no_silence() -> None:
    quiet = columns(below(-0.1), n=5000)
    assert look("relu", quiet, book(7, 8, 64)).examples[0] == 64
    assert not look("relu", quiet, book(7, 8, 64)).certain[0]
    assert look("relu", quiet, book(-1, 0, 64)).examples[0] == 5000


def test_a_unit_that_came_back_is_not_dead_whatever_the_window_says() -> None:
    z = columns(normal(0), below(-0.1))
    ledger = Ledger(*(np.array(v) for v in ([20, 20], [-1, 10], [0, 0], [True, True])))
    assert names(look("relu", z, ledger)) == ["healthy", "dormant"]


def test_an_unread_layer_is_ignored_rather_than_starved() -> None:
    zero = np.zeros(2, np.float32)
    found = look(
        "relu", columns(normal(0), normal(0)), gradient=zero, update=zero, ignored=zero == 0
    )
    assert names(found) == ["ignored", "ignored"]


def test_margin_is_the_largest_z_in_standard_deviations() -> None:
    z = columns(normal(0), below(-0.5))
    found = look("relu", z)
    assert found.margin[1] == pytest.approx(z[:, 1].max() / z[:, 1].std(), rel=1e-4)


def test_nothing_seen() -> None:
    site = Site("s", activations.get("relu"), 2)
    found = judge(site, Vitals.empty(2), Ledger.empty(2))
    assert found.counts() == {"unvisited": 2}
    assert found.examples.tolist() == [0, 0]
    assert np.isnan(found.firing_rate).all()
    assert found.firing_rate_upper.tolist() == [1.0, 1.0]
    assert judge(replace(site, units=0), Vitals.empty(0)).counts() == {}


# Certainty.


def test_459_is_the_smallest_number_that_excludes_one_percent() -> None:
    assert firing_rate_upper(CERTAIN_EXAMPLES) <= 0.01 < firing_rate_upper(CERTAIN_EXAMPLES - 1)


@given(st.integers(1, 10**7), st.sampled_from([0.05, 0.01, 1e-6]))
def test_the_bound_is_the_rate_at_which_silence_has_probability_alpha(n: int, alpha: float) -> None:
    p = float(firing_rate_upper(n, alpha))
    assert n * math.log1p(-p) == pytest.approx(math.log(alpha))
    assert float(rate_upper(0, n, alpha)) == pytest.approx(p)


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_general_bound_is_clopper_and_pearsons(k: int, n: int) -> None:
    k = min(k, n)
    p = float(rate_upper(k, n))
    assert p == pytest.approx(
        float(stats.binomtest(k, n, alternative="less").proportion_ci(0.99).high)
    )


def test_no_example_excludes_nothing() -> None:
    assert rate_upper([0], 0).tolist() == [1.0]
    assert firing_rate_upper(0) == 1.0
