"""What an exam reads on the device equals plain NumPy over the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flatline import activations
from flatline.anatomy.atlas import Feed, Place
from flatline.anatomy.spread import Spread, of_axis
from flatline.sense import gauge
from flatline.sense.gauge import Batch, Reading, arrange, complement
from flatline.sense.gradients import COLUMNS, Movement
from flatline.sense.harvest import fetch, twins
from flatline.sense.measures import quantile, ranks
from flatline.sense.vitals import Vitals, merge
from flatline.sense.window import Window
from strategies import raws

INF = math.inf
seeds = st.integers(0, 2**32 - 1)


def place(name: str, units: int, *constants: float, **options) -> Place:
    return Place("p", activations.get(name, *constants), units, 0, 1, (), **options)


def read(reading: Reading) -> tuple[Vitals, dict[str, float]]:
    """What a reading says, on the host."""
    found = fetch([(reading, reading.flat())], {})
    return found.vitals[reading.place], found.measures[reading.place]


# -- arranging ------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.data())
def test_arranged_elements_are_where_example_position_and_unit_say(shape, data):
    axis = data.draw(st.integers(1, len(shape) - 1))
    x = torch.arange(math.prod(shape)).reshape(shape).float()
    found = arrange(x, of_axis(shape, axis), Batch(shape[0]))
    before, after = math.prod(shape[1:axis]), math.prod(shape[axis + 1 :])
    assert found.shape == (shape[0], before, shape[axis], after)
    for index in np.ndindex(*shape):
        position = int(np.ravel_multi_index(index[1:axis], shape[1:axis])) if axis > 1 else 0
        rest, sizes = index[axis + 1 :], shape[axis + 1 :]
        inner = int(np.ravel_multi_index(rest, sizes)) if sizes else 0
        assert found[index[0], position, index[axis], inner] == x[index]


def test_time_first_tensors_have_their_examples_on_the_second_axis():
    x = torch.arange(5 * 3 * 2).reshape(5, 3, 2).float()  # time, examples, units
    found = arrange(x, Spread(2, 1), Batch(3, axis=1, positions=5))
    assert torch.equal(found.squeeze(3), x.transpose(0, 1))


@pytest.mark.parametrize(
    ("rows", "batch", "examples"),
    [
        pytest.param(12, Batch(4, 0, 3), 4, id="tokens of each example in a row"),
        pytest.param(5, Batch(4), 5, id="rows routed to an expert"),
        pytest.param(10, Batch(4, 0, 5), 2, id="routed tokens are two examples at most"),
        pytest.param(7, Batch(4, 0, 5), 1, id="no multiple of the positions"),
        pytest.param(3, Batch(0), 3, id="a batch whose size is not known"),
    ],
)
def test_rows_never_count_as_more_examples_than_they_may_be(rows, batch, examples):
    assert len(arrange(torch.zeros(rows, 2), Spread(2, 1), batch)) == examples


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_in_single_precision(dtype):
    assert arrange(torch.ones(2, 2, dtype=dtype), Spread(2, 1), Batch(2)).dtype == torch.float32


# -- reading --------------------------------------------------------------------------------------

KINDS = [
    ("relu",),
    ("relu6",),
    ("hardtanh",),
    ("hardtanh", -2.0, 3.0),
    ("leaky_relu", 0.1),
    ("threshold", 1.0, 0.5),
    ("hardsigmoid",),
    ("gelu",),
    ("silu",),
    ("hardswish",),
    ("tanh",),
    ("sigmoid",),
    ("softplus",),
    ("elu",),
]


def edges(activation) -> list[float]:
    """Numbers at, just below and just above each end of an interval."""
    ends = [end for pair in (*activation.fires, *activation.rails) for end in pair]
    ends = [np.float32(end) for end in ends if math.isfinite(end)]
    near = [np.nextafter(end, np.float32(side)) for end in ends for side in (-100, 100)]
    return [float(x) for x in (*ends, *near, -50, 50, 0, 1.5, -1.5)]


def inside(z: np.ndarray, intervals) -> np.ndarray:
    return np.any([(z > low) & (z < high) for low, high in intervals], axis=0)


def by_hand(activation, z: np.ndarray, h: np.ndarray) -> dict[str, np.ndarray]:
    """Vitals of ``z`` and ``h``, shape ``(examples, positions, units)``, one by one."""
    wide, out = z.astype(np.float64), h.astype(np.float64)
    firing = inside(z, activation.fires)
    # On a rail everywhere: in one of its closed intervals at each position.
    railed = np.zeros(z.shape, bool)
    for low, high in activation.rails:
        railed |= (z >= np.float32(low)) & (z <= np.float32(high)) & ~firing
    return {
        "fired": firing.any(axis=1).sum(axis=0),
        "railed": railed.all(axis=1).sum(axis=0),
        "z_min": z.min(axis=(0, 1)),
        "z_max": z.max(axis=(0, 1)),
        "h_min": h.min(axis=(0, 1)),
        "h_max": h.max(axis=(0, 1)),
        "h_abs": abs(out).mean(axis=1).sum(axis=0),
        "z_sum": wide.mean(axis=1).sum(axis=0),
        "z_sq": (wide**2).mean(axis=1).sum(axis=0),
    }


def assert_reads(reading: Reading, expected: dict[str, np.ndarray]) -> None:
    found = read(reading)[0]
    assert found.examples == reading.examples
    for key in ("fired", "railed", "z_min", "z_max", "h_min", "h_max"):
        np.testing.assert_array_equal(getattr(found, key), expected[key], key)
    for key in ("h_abs", "z_sum", "z_sq"):
        np.testing.assert_allclose(getattr(found, key), expected[key], rtol=1e-5, atol=1e-4)
    assert not found.nonfinite.any()


def drawn(activation, seed, *shape):
    rng = np.random.default_rng(seed)
    z = rng.choice(edges(activation), size=shape).astype(np.float32)
    h = np.asarray(activation.function(z.astype(np.float64)), np.float32)
    return z, h


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(seeds, st.integers(1, 3))
@settings(max_examples=25)
def test_a_reading_equals_one_by_one_counting(kind, seed, positions):
    phi = activations.get(*kind)
    z, h = drawn(phi, seed, 4, positions, 3)
    reading = Reading.of(place(*kind[:1], 3, *kind[1:]), torch.tensor(z), Spread(3, 1), Batch(4))
    reading.take(torch.tensor(h))
    assert_reads(reading, by_hand(phi, z, h))


@pytest.mark.parametrize("kind", [("relu",), ("relu6",), ("tanh",), ("gelu",)], ids=str)
@given(seeds)
@settings(max_examples=25)
def test_calls_on_the_same_examples_are_positions_of_them(kind, seed):
    phi = activations.get(*kind)
    at, spread = place(*kind[:1], 3, *kind[1:]), Spread(3, 1)
    z, h = drawn(phi, seed, 4, 3, 3)
    calls = []
    for i in range(3):
        calls.append(Reading.of(at, torch.tensor(z[:, i]), spread, Batch(4)))
        calls[-1].take(torch.tensor(h[:, i]))
    assert calls[0].absorb(calls[1])
    assert calls[0].absorb(calls[2])
    assert_reads(calls[0], by_hand(phi, z, h))


@pytest.mark.parametrize("elements", [4, 60, 80, 40_000])
def test_squares_are_the_same_however_few_examples_are_taken_at_a_time(monkeypatch, elements):
    monkeypatch.setattr(gauge, "_CHUNK", elements // 4)
    z = np.random.default_rng(0).normal(size=(7, 3, 5, 2)).astype(np.float32)
    found = gauge._squares(torch.tensor(z)).numpy()
    np.testing.assert_allclose(found, (z.astype(float) ** 2).sum(axis=(0, 1, 3)), rtol=1e-6)


def test_calls_on_other_examples_are_not_absorbed():
    one, other = (
        Reading.of(place("relu", 2), torch.ones(n, 2), Spread(2, 1), Batch(n)) for n in (3, 4)
    )
    assert not one.absorb(other)


@pytest.mark.parametrize("bad", [math.nan, INF, -INF])
def test_what_is_not_finite_is_said_of_its_unit_alone(bad):
    z = torch.zeros(4, 3)
    z[2, 1] = bad
    reading = Reading.of(place("relu", 3), z, Spread(3, 1), Batch(4))
    reading.take(z.relu())
    found = read(reading)[0]
    assert found.nonfinite.tolist() == [False, True, False]


def test_a_call_without_rows_says_nothing():
    reading = Reading.of(place("relu", 3), torch.zeros(0, 3), Spread(3, 1), Batch(4))
    reading.take(torch.zeros(0, 3))
    vitals, measures = read(reading)
    assert vitals.examples == 0
    assert "effective_rank" not in measures
    assert measures["cold"] == 0
    full = merge(vitals, raw_vitals(3))
    np.testing.assert_array_equal(full.fired, raw_vitals(3).fired)
    np.testing.assert_array_equal(full.twin, raw_vitals(3).twin)


def raw_vitals(units: int) -> Vitals:
    z = torch.arange(4.0 * units).reshape(4, units).sin()
    reading = Reading.of(place("relu", units), z, Spread(units, 1), Batch(4))
    reading.take(z.relu())
    return read(reading)[0]


@given(hnp.arrays(np.float64, (5, 4), elements=st.sampled_from([0.0, 0.0, 1.0, -2.0])))
def test_examples_that_get_no_gradient_are_counted(gradient):
    z = torch.ones(5, 4, requires_grad=True)
    h = z.relu()
    reading = Reading.of(place("relu", 4), z, Spread(4, 1), Batch(5))
    reading.take(h)
    assert math.isnan(read(reading)[1]["cold"])  # nothing was heard yet
    reading.listen()
    h.backward(torch.tensor(gradient, dtype=torch.float32))
    assert read(reading)[1]["cold"] == (gradient == 0).all(axis=1).sum()


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8, unique=True))
def test_a_complement_and_its_intervals_cover_the_line_once(ends):
    ends = sorted(ends)[: len(ends) // 2 * 2]
    intervals = list(zip(ends[::2], ends[1::2], strict=True))
    gaps = complement(intervals)
    for z in np.linspace(-6, 6, 101):
        if z not in ends:
            assert inside(np.array(z), intervals) != inside(np.array(z), gaps)


# -- duplicates -----------------------------------------------------------------------------------


def groups_by_hand(z: np.ndarray) -> np.ndarray:
    """The smallest unit with the same column, comparing all pairs."""
    alike = (abs(z[:, :, None] - z[:, None, :]) <= 1e-5 * abs(z[:, :, None])).all(axis=0)
    return alike.argmax(axis=1)


def groups(z: np.ndarray, spread: Spread | None = None) -> np.ndarray:
    units = z.shape[1]
    at = Reading.of(
        place("tanh", units), torch.tensor(z, dtype=torch.float32), Spread(units, 1), Batch(len(z))
    )
    at.take(torch.tensor(z, dtype=torch.float32))
    return read(at)[0].twin


@given(seeds, st.integers(2, 40), st.integers(1, 12), st.sampled_from([1e-3, 1.0, 1e4]))
def test_twins_equal_comparing_all_pairs(seed, examples, units, size):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((examples, units)) * size
    copied = base[:, rng.integers(0, units, units)]
    z = np.float32(copied * (1 + 2e-7 * rng.standard_normal(copied.shape)))
    np.testing.assert_array_equal(groups(z), groups_by_hand(z))


@given(seeds, st.integers(3, 30), st.integers(2, 8))
def test_units_with_the_same_numbers_in_another_order_are_no_twins(seed, examples, units):
    rng = np.random.default_rng(seed)
    column = rng.standard_normal(examples)
    z = np.stack([column] + [rng.permutation(column) for _ in range(units - 1)], axis=1)
    np.testing.assert_array_equal(groups(z), groups_by_hand(np.float32(z)))


@given(seeds, st.integers(4, 30), st.sampled_from([1e-3, 1e-2]))
def test_units_that_differ_on_one_example_alone_are_no_twins(seed, examples, by):
    rng = np.random.default_rng(seed)
    column = rng.uniform(0.5, 1, examples)
    z = np.stack([column, column], axis=1)
    z[rng.integers(examples), 1] *= 1 + by
    assert groups(z).tolist() == [0, 1]


def test_silent_constant_units_and_units_of_opposite_sign():
    z = np.array([[0.0, 0.0, 1.0, -1.0, 2.0], [0.0, 0.0, 3.0, -3.0, 2.0]])
    assert groups(z).tolist() == [0, 0, 2, 3, 4]


def test_twins_are_found_over_pixels():
    z = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    z[:, 3] = z[:, 1]
    reading = Reading.of(place("relu", 4), z, of_axis(z.shape, 1), Batch(3))
    reading.take(z.relu())
    assert read(reading)[0].twin.tolist() == [0, 1, 2, 1]


def test_units_that_are_not_finite_are_nobodys_twins():
    bad = np.array([np.nan, 1.0, np.nan])
    probes = np.stack([bad] * 4)
    assert twins(probes, bad, bad, abs(bad), 1).tolist() == [0, 1, 2]


# -- effective rank -------------------------------------------------------------------------------


def rank_by_svd(rows: np.ndarray) -> float:
    values = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@given(seeds, st.integers(1, 128), st.integers(1, 60))
@settings(max_examples=40)
def test_effective_rank_equals_the_one_by_singular_values(seed, examples, units):
    rng = np.random.default_rng(seed)
    rows = np.float32(rng.standard_normal((examples, units)) * rng.uniform(0.1, 2, units))
    reading = Reading.of(
        place("tanh", units), torch.tensor(rows), Spread(units, 1), Batch(examples)
    )
    reading.take(torch.tensor(rows))
    found = read(reading)[1]["effective_rank"]
    assert found == pytest.approx(rank_by_svd(rows), rel=1e-2)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_of_equal_directions_is_their_number(rank):
    rows = np.zeros((20, 30), np.float32)
    rows[np.arange(rank), np.arange(rank)] = 7.0
    found = ranks((rows @ rows.T).ravel())
    for key in ("effective_rank", "stable_rank", "participation"):
        assert found[key] == pytest.approx(rank)
    assert found["rank_rows"] == 20


def test_effective_rank_of_nothing_and_of_nonsense():
    assert ranks(np.zeros(16))["effective_rank"] == 0.0
    assert ranks(np.array([np.nan])) == {}
    assert ranks(np.array([])) == {}


# -- windows --------------------------------------------------------------------------------------

UNITS = 4


@pytest.mark.parametrize(
    ("activation", "gated"), [("relu", False), ("relu", True), ("relu6", True)]
)
@given(st.lists(raws(UNITS), min_size=1, max_size=4))
def test_a_window_says_what_merging_says(activation, gated, parts):
    phi = activations.get(activation)
    window = Window(phi, UNITS, gated)
    total = Vitals.empty(UNITS)
    for raw in parts:
        vitals = raw.vitals()
        if not phi.rails:
            vitals.railed[:] = 0
        window.add(vitals)
        total = merge(total, vitals)
    found = window.vitals()
    assert found.examples == window.examples == total.examples
    for key in ("fired", "railed", "twin", "z_min", "z_max", "h_min", "h_max"):
        np.testing.assert_array_equal(getattr(found, key), getattr(total, key), key)
        assert getattr(found, key).dtype == getattr(total, key).dtype
    for key in ("nonfinite", "ignored"):
        np.testing.assert_array_equal(getattr(found, key), getattr(total, key), key)
    size = sum(abs(raw.z).sum(axis=0) for raw in parts)
    for key, scale in (("h_abs", size), ("z_sum", size), ("z_sq", size**2)):
        with np.errstate(over="ignore", invalid="ignore"):  # kept in single precision
            a, b = np.float32(getattr(found, key)), np.float32(getattr(total, key))
            assert ((abs(a - b) <= 1e-6 * np.float32(scale)) | (a == b)).all(), key
    for key in ("gradient", "update"):  # the upper half of a float: two to three digits
        np.testing.assert_allclose(getattr(found, key), getattr(total, key), rtol=2**-7)
    copies = int((total.twin != np.arange(UNITS)).sum())
    assert window.nbytes <= 37 * UNITS + 8 * copies


def test_windows_of_many_examples_and_many_units_keep_their_counts():
    units = 70_000
    vitals = Vitals.empty(units)
    vitals = merge(
        vitals,
        _replaced(vitals, examples=50_000, fired=50_000, twin=np.arange(units, dtype=np.int32)),
    )
    window = Window(activations.get("relu"), units)
    window.add(vitals)
    window.add(vitals)
    found = window.vitals()
    assert (found.fired == 100_000).all()
    assert found.twin[-1] == units - 1


def _replaced(vitals: Vitals, **changes) -> Vitals:
    fields = {
        key: np.full_like(getattr(vitals, key), value) if key != "examples" else value
        for key, value in changes.items()
    }
    return Vitals(**{**vars(vitals), **fields})


# -- movement -------------------------------------------------------------------------------------


def moved(feed_of, before, gradient, after, **options):
    """What a Movement says of a parameter that a step carries from ``before`` to ``after``."""
    parameter = torch.nn.Parameter(before.clone())
    parameter.grad = gradient
    at = Place("p", activations.get("relu"), feeds=(feed_of(parameter),), **options)
    movement = Movement(at)
    with torch.no_grad():
        parameter.copy_(after)
    return movement.numbers()


@given(seeds, st.integers(0, 1), st.integers(1, COLUMNS), st.booleans())
def test_gradients_and_updates_of_a_weight_equal_direct_computation(seed, axis, inputs, half):
    torch.manual_seed(seed)
    dtype = torch.bfloat16 if half else torch.float32
    before, gradient, step = (torch.randn(6, inputs).to(dtype) for _ in range(3))
    after = before + 0.1 * step
    found = moved(
        lambda p: Feed("w", p, axis),
        *(x.movedim(0, axis).contiguous() for x in (before, gradient, after)),
        units=6, start=0, step=1,
    )  # fmt: skip
    rms = gradient.double().square().mean(dim=1).sqrt()
    update = (after - before).double().norm(dim=1) / before.double().norm(dim=1)
    torch.testing.assert_close(found, torch.stack([rms, update]).float(), rtol=1e-5, atol=0)


def test_only_the_rows_of_the_site_count():
    before, gradient = torch.ones(10, 3), torch.arange(10.0)[:, None].expand(10, 3).clone()
    after = before * (1 + gradient / 100)
    found = moved(lambda p: Feed("w", p, 0), before, gradient, after, units=3, start=4, step=2)
    torch.testing.assert_close(found, torch.tensor([[4.0, 6, 8], [0.04, 0.06, 0.08]]))


def test_a_wide_weight_is_measured_on_some_of_its_columns():
    before = torch.ones(2, 10 * COLUMNS + 7)
    found = moved(lambda p: Feed("w", p, 0), before, before, 1.5 * before, units=2, start=0, step=1)
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0], [0.5, 0.5]]))


def test_without_a_weight_the_bias_speaks():
    bias = torch.tensor([1.0, -2.0])
    found = moved(
        lambda p: Feed("b", p, 0, shift=True), bias, 3 * bias, 2 * bias, units=2, start=0, step=1
    )
    torch.testing.assert_close(found, torch.tensor([[3.0, 6.0], [1.0, 1.0]]))


@pytest.mark.parametrize(
    "gradient", [None, torch.eye(2).to_sparse()], ids=["no gradient", "a sparse one"]
)
def test_gradients_that_cannot_be_read_are_not_known(gradient):
    at = lambda p: Feed("w", p, 0)  # noqa: E731
    found = moved(at, torch.ones(2, 2), gradient, torch.ones(2, 2), units=2, start=0, step=1)
    assert found[0].isnan().all()
    assert (found[1] == 0).all()


def test_squares_that_overflow_do_not_make_a_gradient_infinite():
    huge = torch.full((2, 4), 3e30)
    found = moved(lambda p: Feed("w", p, 0), huge, huge, 2 * huge, units=2, start=0, step=1)
    assert found.isfinite().all()
    bad = torch.tensor([[1.0, INF], [1.0, math.nan]])
    ones = torch.ones(2, 2)
    found = moved(lambda p: Feed("w", p, 0), ones, bad, ones, units=2, start=0, step=1)
    assert not found[0].isfinite().any()


def test_after_the_step_no_update_is_known():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    at = Place("p", activations.get("relu"), 2, 0, 1, (Feed("w", parameter, 0),))
    assert Movement(at, updated=True).numbers()[1].isnan().all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_that_of_numpy(values, share):
    found = quantile(np.array(values), share)
    assert found == pytest.approx(np.quantile(values, share), rel=1e-9, abs=1e-6)
