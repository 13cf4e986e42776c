"""What is said of a watched training equals what brute force saw, workload by workload."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from brute_force import SiteTruth, known_truth
from flatline.diagnose.names import STATES
from flatline.sense.vitals import Vitals
from watching import Memory, watched
from workloads import WORKLOADS

SINGLE = np.finfo(np.float32)
everywhere = pytest.mark.parametrize("name", WORKLOADS)
sites = pytest.mark.parametrize(
    ("name", "site"), [(w.name, probe.name) for w in WORKLOADS.values() for probe in w.probes]
)
SCHEDULES = {
    "every step": lambda step, event, last: True,
    "sevenths": lambda step, event, last: step % 7 == 0 or step == last,
    "asked for": lambda step, event, last: step & (step - 1) == 0 or event or step == last,
}
sparsely = pytest.mark.parametrize("schedule", ["sevenths", "asked for"])
#: Units that nothing reads, by workload and site.
IGNORED = {("zero_outgoing", "0"): range(6)}


@cache
def watch(name: str, schedule: str) -> Memory:
    """Train a workload with exams by a schedule."""
    workload = WORKLOADS[name]
    due = SCHEDULES[schedule]
    with watched(lambda step, event: due(step, event, workload.steps - 1)) as (memory, _):
        training = workload.build()
        for _ in range(workload.steps):
            training.step()
    assert memory.losses == []
    return memory


def summed(truth: SiteTruth, steps: list[int]) -> Vitals:
    """What vitals of the examples of some steps should say."""
    low, high = np.min, np.max
    kept = {"twin", "nonfinite", "ignored", "gradient", "update"}
    blank = {key: value for key, value in vars(Vitals.empty(truth.units)).items() if key in kept}
    return Vitals(
        examples=int(truth.examples[steps].sum()),
        fired=truth.fired[steps].sum(axis=0),
        railed=truth.railed[steps].sum(axis=0),
        z_min=low(truth.z_min[steps], axis=0),
        z_max=high(truth.z_max[steps], axis=0),
        h_min=low(truth.h_min[steps], axis=0),
        h_max=high(truth.h_max[steps], axis=0),
        h_abs=truth.h_abs[steps].sum(axis=0),
        z_sum=truth.z_sum[steps].sum(axis=0),
        z_sq=truth.z_sq[steps].sum(axis=0),
        **blank,
    )


def assert_vitals(found: Vitals, true: Vitals) -> None:
    """Counts are equal; numbers are, up to single precision, in which they are kept.

    z is copied from the training, h may be computed anew from z (one unit in the last place, and
    nothing below the smallest normal number), and sums come in another order: each summand brings
    half a unit in the last place of the sum of absolute values, which for z is bounded by the
    root of n times the sum of squares.
    """
    assert found.examples == true.examples
    for key in ("fired", "railed"):
        np.testing.assert_array_equal(getattr(found, key), getattr(true, key), key)
    with np.errstate(over="ignore", invalid="ignore"):
        for key in ("z_min", "z_max"):
            np.testing.assert_array_equal(getattr(found, key), np.float32(getattr(true, key)), key)
        for key in ("h_min", "h_max"):
            kept = np.float32(getattr(true, key))
            np.testing.assert_allclose(
                getattr(found, key), kept, rtol=2 * SINGLE.eps, atol=SINGLE.tiny, err_msg=key
            )
        size = np.sqrt(true.examples * true.z_sq)
        for key, scale in (("h_abs", true.h_abs), ("z_sum", size), ("z_sq", true.z_sq)):
            a, b = np.float32(getattr(found, key)), np.float32(getattr(true, key))
            close = (np.abs(a - b) <= 1e-5 * scale + SINGLE.tiny) | (a == b) | (b != b) & (a != a)
            assert close.all(), (key, a, b)


@everywhere
def test_the_sites_are_where_the_probes_are_and_in_their_order(name):
    memory, truth = watch(name, "every step"), known_truth(name)
    found = [(site.name, site.activation.name, site.units) for site in memory.sites.values()]
    probes = WORKLOADS[name].probes
    assert found == [(p.name, p.activation, truth[p.name].units) for p in probes]
    assert all(memory.sites[p.name].activation.constants == p.constants for p in probes)
    assert memory.unplaced == ()


@pytest.fixture
def _narrow_windows(monkeypatch):
    """Each exam begins a window of its own."""
    monkeypatch.setattr("flatline.sense.census.WINDOW_EXAMPLES", 1)


@everywhere
@pytest.mark.usefixtures("_narrow_windows")
def test_vitals_of_each_step_equal_brute_force(name):
    memory, truth = watch.__wrapped__(name, "every step"), known_truth(name)
    assert [exam.step for exam in memory.exams] == list(range(WORKLOADS[name].steps))
    for exam in memory.exams:
        seen = {site for site, true in truth.items() if true.examples[exam.step]}
        assert exam.vitals.keys() == seen
        for site in seen:
            assert_vitals(exam.vitals[site], summed(truth[site], [exam.step]))


@sites
def test_gradients_and_updates_equal_brute_force(name, site):
    true = known_truth(name)[site]
    if not true.weights:
        pytest.skip("no plain matrix feeds it")
    gradients, updates = true.gradients(), true.updates()
    for exam in watch(name, "every step").exams:
        if site not in exam.vitals:
            continue
        found, step = exam.measures[site], exam.step
        if gradients[step].max() > 1e18:
            continue  # its square overflows in single precision
        finite = gradients[step][np.isfinite(gradients[step])]
        rms = np.sqrt(np.mean(finite**2)) if finite.size else np.nan
        np.testing.assert_allclose(found["gradient_rms"], rms, rtol=1e-3)
        finite = updates[step][np.isfinite(updates[step])]
        middle = np.median(finite) if finite.size and name != "lbfgs" else np.nan
        np.testing.assert_allclose(found["update_ratio"], middle, rtol=1e-3)


@sparsely
@sites
def test_windows_equal_brute_force_over_their_exams(name, site, schedule):
    memory, true = watch(name, schedule), known_truth(name)[site]
    steps: list[int] = []
    for exam in memory.exams:
        if site not in exam.vitals:
            continue
        if exam.previous[site] is not None:
            assert_vitals(exam.previous[site], summed(true, steps))
            assert exam.previous[site].examples >= 512
            steps = []
        steps.append(exam.step)
        assert_vitals(exam.vitals[site], summed(true, steps))


@sparsely
@sites
def test_who_is_dead_and_since_when_equals_brute_force(name, site, schedule):
    memory, true = watch(name, schedule), known_truth(name)[site]
    if site not in memory.seen:
        assert not true.examples.any()
        return
    found, exams = memory.states(site), [e.step for e in memory.exams if site in e.vitals]
    dead = found.code == 2
    assert exams[-1] == np.flatnonzero(true.examples)[-1]
    if memory.sites[site].activation.can_die:
        np.testing.assert_array_equal(dead, true.dead(exams[-1]))
    else:
        assert not (dead & ~true.dead(exams[-1])).any()
    for u in np.flatnonzero(dead):
        life, since, n = int(true.last_life[u]), int(found.since_step[u]), int(found.examples[u])
        after = int(found.since_after[u])
        assert found.certain[u] == (n >= 459)
        assert n <= true.examples[after + 1 :].sum()
        if found.since_exact[u]:
            assert since == life + 1 == after + 1
            if len(set(true.examples)) == 1:
                assert n == true.silent_examples[u]
            continue
        assert after == -1 or true.fired[after, u] > 0
        assert all(true.fired[step, u] == 0 for step in exams if step >= since)
        unseen_life = life > since
        assert unseen_life or after < life + 1 <= since


@cache
def deaths(name: str, schedule: str) -> tuple[int, int]:
    """How many deaths have an exact step, and how many lie between two exams."""
    memory = watch(name, schedule)
    charts = [memory.states(site) for site in memory.seen]
    dead = sum(int((chart.code == 2).sum()) for chart in charts)
    exact = sum(int(chart.since_exact.sum()) for chart in charts)
    return exact, dead - exact


@sparsely
def test_many_deaths_are_exact_and_many_are_not(schedule):
    exact, between = np.sum([deaths(name, schedule) for name in WORKLOADS], axis=0)
    assert exact >= 40
    assert between >= 40


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("penalty_in_loss", "the penalty reaches silent units"),
        ("gradient_noise", "noise reaches silent units"),
        ("mlp_relu_killed", "the loss is flat for some examples once logits have exploded"),
        ("mlp_relu_collapsed", "the loss is flat for some examples, then a whole layer is dark"),
        ("masked_targets", "some examples send no gradient"),
        ("dropout", "what fired may have been dropped"),
        ("lbfgs", "the gradients are those of the last evaluation"),
        ("no_bias", "only some columns of a weight's gradient are looked at"),
    ],
)
@sparsely
def test_no_death_is_exact_where_gradients_mislead(name, why, schedule):
    exact, between = deaths(name, schedule)
    assert exact == 0, why
    assert between > 0


@sparsely
@pytest.mark.parametrize(
    "name",
    ["functional", "inplace", "weight_decay", "revival", "accumulation", "autocast", "norms"],
)
def test_some_deaths_are_exact_where_gradients_tell(name, schedule):
    assert deaths(name, schedule)[0] > 0


def starved(memory: Memory, truth: dict[str, SiteTruth], site: str) -> np.ndarray:
    """Units whose weights no update moves, for want of a gradient."""

    def largest(name: str) -> np.ndarray:
        steps, _ = memory.window(name)
        return np.fmax.reduce(truth[name].gradients()[steps], axis=0)

    if not truth[site].weights:
        return np.zeros(truth[site].units, bool)
    top = max(np.nanmax(largest(name)) for name in memory.seen if truth[name].weights)
    steps, _ = memory.window(site)
    updates = np.fmax.reduce(truth[site].updates()[steps], axis=0)
    return (updates < 1e-7) & (largest(site) < 1e-6 * top)


@sparsely
@sites
def test_all_other_states_equal_the_contract_read_on_raw_activations(name, site, schedule):
    memory, truth = watch(name, schedule), known_truth(name)
    if site not in memory.seen:
        assert memory.states(site).counts() == {"unvisited": truth[site].units}
        return
    found, (steps, _) = memory.states(site), memory.window(site)
    expected = truth[site].states(steps, memory.sites[site].activation.name)
    hungry = starved(memory, truth, site)
    for u, state in enumerate(expected):
        if found.state(u) == "dead" and memory.sites[site].activation.can_die:
            continue  # the ledger has the last word, and was compared above
        unread = u in IGNORED.get((name, site), ())
        if truth[site].fired[steps, u].any() and hungry[u] and not unread:
            state = "starved" if state in ("dormant", "linear", "healthy") else state
        if unread and state in ("linear", "healthy"):
            state = "ignored"
        assert found.state(u) == state, u


def test_nearly_every_state_occurs_in_some_workload():
    memories = [watch(name, "sevenths") for name in WORKLOADS]
    occurring = {s for m in memories for site in m.sites for s in m.states(site).counts()}
    assert occurring == set(STATES)


def of_pushed_units(memory: Memory) -> list[tuple[int, str, list[int]]]:
    """Events of the six units whose biases the workload pushes."""
    events = [
        (step, kind, [u for u in units if u < 6])
        for step, site, kind, units in memory.events
        if site == "0"
    ]
    return [event for event in events if event[2]]


def test_a_revival_is_seen():
    memory = watch("revival", "sevenths")
    assert of_pushed_units(memory) == [
        (14, "death", [0, 1, 2, 3, 4, 5]),
        (28, "revival", [0, 1, 2, 3]),
        (42, "death", [0]),
    ]
    found = memory.states("0")
    assert np.flatnonzero(found.code == 2).tolist() == [0, 4, 5]
    assert found.since_step[[0, 4, 5]].tolist() == [37, 10, 10]
    assert found.since_exact[[0, 4, 5]].all()
    assert found.examples[[0, 4, 5]].tolist() == [13 * 32, 40 * 32, 40 * 32]
    assert found.certain[[0, 4, 5]].tolist() == [False, True, True]


def test_a_revival_between_two_exams_is_seen_in_the_pulse():
    workload = WORKLOADS["revival"]
    with watched(lambda step, event: step in (0, 14, 49)) as (memory, _):
        training = workload.build()
        for _ in range(workload.steps):
            training.step()
    assert of_pushed_units(memory) == [
        (14, "death", [0, 1, 2, 3, 4, 5]),
        (49, "revival", [0, 1, 2, 3]),
        (49, "death", [0]),
    ]
    found = memory.states("0")
    assert found.since_step[[0, 4, 5]].tolist() == [37, 10, 10]
    assert found.since_exact[[0, 4, 5]].all()
