"""Histograms of pre-activations: their arithmetic, which values they are of, and who keeps them."""

from __future__ import annotations

import math
import weakref
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import flatline
from flatline.sense import sample
from flatline.sense.histogram import BINS, MOST, TOTAL, UNITS, histograms, pack, unpack
from flatline.sense.sample import lattice, shares
from watching import watched

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
WILD = st.one_of(FINITE, st.floats(-3, 3, width=32), st.sampled_from([math.nan, math.inf]))


def rows(elements=WILD, most=40):
    shapes = st.tuples(st.integers(1, most), st.integers(1, 5))
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=elements))


# -- arithmetic -----------------------------------------------------------------------------------


@given(rows())
def test_every_value_is_counted_where_numpy_counts_it(values):
    found = histograms(np.arange(values.shape[1]), values)
    for unit, column in enumerate(values.astype(np.float64).T):
        finite = column[np.isfinite(column)]
        counts = found.counts[unit].astype(int)
        assert found.lost[unit] == len(column) - len(finite)
        assert counts.sum() == len(finite)
        if len(finite) == 0:
            assert math.isnan(found.low[unit] + found.high[unit])
            continue
        assert (found.low[unit], found.high[unit]) == (finite.min(), finite.max())
        if finite.min() == finite.max():
            assert counts[0] == len(finite)
            continue
        # A value within rounding of an edge may lie on either side of it.
        edges = np.histogram_bin_edges(finite, BINS)
        slack = 1e-12 * (edges[-1] - edges[0])
        sure = np.abs(finite[:, None] - edges[1:-1]).min(axis=1) > slack
        if sure.all():
            assert counts.tolist() == np.histogram(finite, BINS)[0].tolist()
        for edge, below in zip(edges[1:-1], np.cumsum(counts), strict=False):
            assert (finite < edge - slack).sum() <= below <= (finite <= edge + slack).sum()


def test_bins_are_those_of_numpy_on_ordinary_data():
    values = np.random.default_rng(3).normal(size=(MOST, 40)).astype(np.float32)
    found = histograms(np.arange(40), values)
    for unit in range(40):
        expected = np.histogram(values[:, unit].astype(np.float64), BINS)[0]
        assert found.counts[unit].tolist() == expected.tolist()


def test_units_are_put_in_order():
    values = np.array([[1.0, 7.0, 3.0], [2.0, 7.0, math.nan]], np.float32)
    found = histograms(np.array([9, 2, 4]), values)
    assert found.units.tolist() == [2, 4, 9]
    assert found.low.tolist() == [7, 3, 1]
    assert found.high.tolist() == [7, 3, 2]
    assert found.lost.tolist() == [0, 1, 0]


def test_a_constant_unit_of_the_most_rows_fits_its_count():
    found = histograms(np.arange(1), np.full((MOST, 1), -0.5, np.float32))
    assert found.counts[0].tolist() == [MOST] + [0] * (BINS - 1)
    with pytest.raises(ValueError, match=f"at most {MOST} rows, found {MOST + 1}"):
        histograms(np.arange(1), np.zeros((MOST + 1, 1), np.float32))


@given(rows(most=8))
def test_packing_loses_nothing(values):
    found = histograms(np.arange(values.shape[1]) * 3, values)
    again = unpack(pack(found))
    for field in fields(found):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(found, field.name))


@pytest.mark.parametrize(
    "blob", [b"", b"no such thing", pack(histograms(np.arange(1), np.ones((1, 1))))[:-6]]
)
def test_what_is_no_histogram_is_refused(blob):
    with pytest.raises(ValueError, match="expected packed histograms"):
        unpack(blob)


# -- which values ---------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, MOST))
def test_places_differ_and_examples_get_even_numbers(examples, places, number):
    example, place = (part.numpy() for part in lattice(examples, places, number))
    assert len(example) == min(number, examples * places)
    assert len({*zip(example.tolist(), place.tolist(), strict=True)}) == len(example)
    assert 0 <= example.min() <= example.max() < examples
    assert 0 <= place.min() <= place.max() < places
    each = np.bincount(example, minlength=examples)
    assert each.max() - each.min() <= 1


@pytest.mark.parametrize("side", [7, 16, 28, 56, 64])
def test_rows_and_columns_of_pictures_are_met_throughout(side):
    place = lattice(8, side * side, MOST)[1].numpy()
    assert min(len({*(place // side).tolist()}), len({*(place % side).tolist()})) > 0.7 * side


@given(st.lists(st.integers(0, 300)), st.integers(0, 3_000))
def test_shares_are_as_equal_as_wishes_allow(wanted, total):
    found = shares(wanted, total)
    assert sum(found) == min(total, sum(wanted))
    assert all(share <= wish for share, wish in zip(found, wanted, strict=True))
    unmet = [share for share, wish in zip(found, wanted, strict=True) if share < wish]
    assert not unmet or max(found) - min(unmet) <= 1


# -- in a training --------------------------------------------------------------------------------


def drawn(net, step, rate=0.0, steps=1):
    """What exams of a training drew, and the pre-activations of each call of its first layer."""
    calls = []
    handle = net[0].register_forward_hook(lambda m, args, out: calls.append(out.detach().clone()))
    with watched() as (memory, _):
        optimizer = torch.optim.SGD(net.parameters(), rate)
        for _ in range(steps):
            optimizer.zero_grad()
            step()
            optimizer.step()
    handle.remove()
    assert memory.losses == []
    return memory.histograms_at, [call.double().numpy() for call in calls]


def check(found, values, units=None):
    """Histograms are those of ``values``, shape ``(values, units)``, by brute force."""
    units = np.arange(values.shape[1]) if units is None else units
    assert found.units.tolist() == list(units)
    for row, unit in enumerate(units):
        column = values[:, unit]
        constant = column.min() == column.max()
        expected = [len(column)] if constant else np.histogram(column, BINS)[0].tolist()
        assert found.counts[row].tolist() == expected + [0] * (BINS - len(expected))
        assert (found.low[row], found.high[row]) == (column.min(), column.max())


def mlp(units=12, bias=0.0):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(5, units), nn.ReLU(inplace=True), nn.Linear(units, 2))
    with torch.no_grad():
        net[0].bias[:3] += bias
    return net


def data(examples, *shape):
    return torch.randn(examples, *shape, generator=torch.Generator().manual_seed(2))


def test_small_batches_are_counted_whole_at_every_exam():
    net, x = mlp(bias=-50.0), data(60, 5)
    found, calls = drawn(net, lambda: net(x).square().sum().backward(), rate=1e-3, steps=3)
    assert [*found] == [0, 1, 2]
    for step, call in enumerate(calls):
        check(found[step]["0"], call)


def test_large_batches_are_counted_at_places_of_the_lattice():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 100, 2))
    x = data(6, 2, 12, 12)
    found, (z,) = drawn(net, lambda: net(x).sum().backward())
    example, place = (part.numpy() for part in lattice(6, 100, MOST))
    check(found[0]["0"], z.reshape(6, 4, 100)[example, :, place])


def test_calls_share_what_is_kept():
    net, x = mlp(), data(20, 5)

    def step():
        for part in x.split(5):
            net(part).sum().backward()

    found, calls = drawn(net, step)
    check(found[0]["0"], np.concatenate(calls))

    many = [data(100, 5) + k for k in range(7)]
    found, calls = drawn(net, lambda: sum(net(part).sum() for part in many).backward())
    counts = found[0]["0"].counts.sum(axis=1)
    assert set(counts.tolist()) == {MOST}
    each = [np.isin(call[:, 0].astype(np.float32), calls[0][:, 0]).sum() for call in calls]
    assert each[0] == 100  # calls can be told apart by their values
    means = np.stack([call.mean(axis=0) for call in calls])
    middle = (found[0]["0"].counts * _centres(found[0]["0"])).sum(axis=1) / MOST
    spread = np.concatenate(calls).std(axis=0)
    assert (abs(middle - means.mean(axis=0)) < 0.2 * spread).all()


def _centres(found):
    width = (found.high - found.low)[:, None] / BINS
    return found.low[:, None] + width * (np.arange(BINS) + 0.5)


def test_passes_that_train_nothing_take_no_share():
    net, x, held_out = mlp(), data(60, 5), data(30, 5)

    def step():
        net.eval()
        for _ in range(20):
            net(held_out)  # somebody forgot no_grad
        net.train()
        net(x).sum().backward()

    found, calls = drawn(net, step)
    check(found[0]["0"], calls[-1])


def test_silent_units_of_a_wide_site_come_first():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(5, 900), nn.ReLU(), nn.Linear(900, 2))
    silent = [7, 300, 301, 899]
    with torch.no_grad():
        net[0].bias[silent] -= 50.0
    x = data(40, 5)
    found, (z,) = drawn(net, lambda: net(x).sum().backward())
    units = found[0]["0"].units
    assert len(units) == UNITS
    assert set(silent) <= set(units.tolist())
    assert np.diff(units).max() < 4 * 900 / UNITS  # the others lie all over the site
    check(found[0]["0"], z, units)


def test_sites_share_what_an_exam_may_keep():
    torch.manual_seed(1)
    parts = [nn.Sequential(nn.Linear(200, 200), nn.ReLU()) for _ in range(11)]
    narrow = nn.Sequential(nn.Linear(200, 8), nn.ReLU())
    net = nn.Sequential(nn.Linear(5, 200), nn.ReLU(), *parts, narrow, nn.Linear(8, 2))
    x = data(4, 5)
    found, (z,) = drawn(net, lambda: net(x).sum().backward())
    widths = [len(one.units) for one in found[0].values()]
    assert widths[-1] == 8
    assert 0.9 * TOTAL < sum(widths) <= TOTAL
    assert max(widths[:-1]) - min(widths[:-1]) <= 1 + (TOTAL - 8) // 12 - TOTAL // 13
    check(found[0]["0"], z, found[0]["0"].units)


def test_silent_units_keep_their_place_where_sites_share():
    torch.manual_seed(1)
    parts = [nn.Sequential(nn.Linear(100, 100), nn.ReLU()) for _ in range(40)]
    net = nn.Sequential(nn.Linear(5, 100), nn.ReLU(), *parts, nn.Linear(100, 2))
    silent = range(60, 90)
    with torch.no_grad():
        net[0].bias[silent] -= 50.0
    found, (z,) = drawn(net, lambda: net(data(4, 5)).sum().backward())
    units = found[0]["0"].units
    assert set(silent) <= set(units.tolist())
    assert len(units) < 60
    check(found[0]["0"], z, units)


def test_what_is_not_finite_is_left_out_and_counted():
    net, x = mlp(), data(30, 5)
    x[4, 0], x[9, 1] = math.inf, math.nan
    found, (z,) = drawn(net, lambda: net(x).sum().backward())
    one = found[0]["0"]
    finite = np.isfinite(z)
    assert one.lost.tolist() == (~finite).sum(axis=0).tolist() == [2] * 12
    assert one.counts.sum(axis=1).tolist() == finite.sum(axis=0).tolist()


def test_a_recurrent_module_shows_no_pre_activation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRU(5, 4, batch_first=True)
            self.up = nn.Linear(4, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(torch.relu(self.up(self.cell(x)[0][:, -1])))

    net, x = Net(), data(8, 3, 5)
    with watched() as (memory, _):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        net(x).sum().backward()
        optimizer.step()
    assert {*memory.exams[0].vitals} == {"cell", "up"}
    assert {*memory.histograms_at[0]} == {"up"}


def test_an_examination_draws_its_last_batch():
    net, batches = mlp(), [data(30, 5), data(40, 5)]
    report = flatline.examine(net, batches)
    ((step, blob),) = report.lives.histograms["0"]
    assert step == 0
    with torch.no_grad():
        check(unpack(blob), net[0](batches[-1]).double().numpy())


def test_no_random_number_is_drawn_and_no_sample_is_kept(monkeypatch):
    net, x = mlp(), data(8, 5)
    kept = []
    original = sample.Sampler.draw

    def draw(self, *args):
        found = original(self, *args)
        kept.append(weakref.ref(found))
        return found

    monkeypatch.setattr(sample.Sampler, "draw", draw)
    state = torch.get_rng_state()
    with watched() as (memory, _):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(3):
            net(x).sum().backward()
            optimizer.step()
            assert [one() for one in kept] == [None] * len(kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(kept) == 3
    assert memory.losses == []
