"""Vitals: merged in any way they say what one pass over all examples says."""

from __future__ import annotations

from dataclasses import fields
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flatline.sense.vitals import Ledger, Vitals, meet, merge, pack, unpack
from strategies import Raw, ledgers, raws, wild_vitals

UNITS = 5
SUMS = {"h_abs", "z_sum", "z_sq"}
partitions = hnp.arrays(np.int32, UNITS, elements=st.integers(0, 2)).map(
    lambda colour: np.array([list(colour).index(c) for c in colour], np.int32)
)


def assert_same(a: Vitals, b: Vitals, scale: float = 0.0) -> None:
    """Equal to the bit, except for sums: equal up to the rounding of sums of such size."""
    for entry in fields(Vitals):
        x, y = getattr(a, entry.name), getattr(b, entry.name)
        if entry.name in SUMS:
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12 * scale, err_msg=entry.name)
        else:
            np.testing.assert_array_equal(x, y, err_msg=entry.name)
            assert np.asarray(x).dtype == np.asarray(y).dtype, entry.name


def size(*raw: Raw) -> float:
    return max(float((one.z.astype(np.float64) ** 2).sum()) for one in raw)


@given(raws(UNITS), raws(UNITS), raws(UNITS))
def test_merge_is_associative_and_commutative(a: Raw, b: Raw, c: Raw) -> None:
    scale = size(a, b, c)
    x, y, z = a.vitals(), b.vitals(), c.vitals()
    assert_same(merge(x, y), merge(y, x), scale)
    assert_same(merge(merge(x, y), z), merge(x, merge(y, z)), scale)


@given(raws(UNITS))
def test_empty_vitals_are_neutral(raw: Raw) -> None:
    vitals = raw.vitals()
    assert_same(merge(vitals, Vitals.empty(UNITS)), vitals)
    assert_same(merge(Vitals.empty(UNITS), vitals), vitals)


@given(raws(UNITS, 9), st.lists(st.integers(0, 9), max_size=4))
def test_merged_windows_equal_one_pass(raw: Raw, cuts: list[int]) -> None:
    ends = sorted({0, len(raw.z), *(min(cut, len(raw.z)) for cut in cuts)})
    pieces = [
        Raw(raw.z[a:b], raw.nonfinite, raw.ignored, raw.gradient, raw.update)
        for a, b in pairwise(ends)
    ]
    merged = reduce(merge, [piece.vitals() for piece in pieces])
    assert_same(merged, raw.vitals(), size(raw))


def test_extrema_gradients_and_flags_merge_as_their_meaning_asks() -> None:
    a, b = Vitals.empty(2), Vitals.empty(2)
    a.gradient[:] = [np.nan, 2.0]
    b.gradient[:] = [1.0, np.nan]
    a.nonfinite[0] = True
    a.ignored[1] = False
    found = merge(a, b)
    assert found.gradient.tolist() == [1.0, 2.0]
    assert found.nonfinite.tolist() == [True, False]
    assert found.ignored.tolist() == [True, False]


def test_merge_refuses_different_sites() -> None:
    with pytest.raises(ValueError, match="2 and 3 units"):
        merge(Vitals.empty(2), Vitals.empty(3))


@given(partitions, partitions)
def test_meet_joins_exactly_those_who_share_both_groups(a: np.ndarray, b: np.ndarray) -> None:
    found = meet(a, b)
    for i in range(UNITS):
        mates = [j for j in range(UNITS) if a[i] == a[j] and b[i] == b[j]]
        assert found[i] == min(mates)


@given(partitions, partitions, partitions)
def test_meet_is_a_semilattice(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    assert meet(a, a).tolist() == a.tolist()
    assert meet(a, b).tolist() == meet(b, a).tolist()
    assert meet(meet(a, b), c).tolist() == meet(a, meet(b, c)).tolist()


def test_meet_of_no_units() -> None:
    nobody = np.zeros(0, np.int32)
    assert meet(nobody, nobody).tolist() == []


@given(st.one_of(wild_vitals(UNITS), ledgers(UNITS)))
def test_pack_and_unpack_keep_every_bit(record: Vitals | Ledger) -> None:
    blob = pack(record)
    found = unpack(type(record), UNITS, blob)
    assert type(found) is type(record)
    assert pack(found) == blob
    for entry in fields(record):
        kept, back = getattr(record, entry.name), getattr(found, entry.name)
        np.testing.assert_array_equal(kept, back)
        if isinstance(kept, np.ndarray):
            assert back.dtype == kept.dtype
            assert back.flags.writeable


@pytest.mark.parametrize("kind", [Vitals, Ledger])
@pytest.mark.parametrize("change", [lambda b: b + b"\0", lambda b: b[:-1], lambda b: b""])
def test_unpack_refuses_blobs_of_another_size(kind: type[Vitals] | type[Ledger], change) -> None:
    blob = pack(kind.empty(3))
    with pytest.raises(ValueError, match=r"."):
        unpack(kind, 3, change(blob))
    with pytest.raises(ValueError, match=r"."):
        unpack(kind, 4, blob)
