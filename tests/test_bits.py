"""Words of the pulse: every answer equals the one that looks at each row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatline.sense import bits


@pytest.mark.parametrize("kind", [np.uint8, np.uint64])
@given(st.data())
def test_answers_equal_those_of_the_rows(kind, data):
    width = bits.width(kind)
    rows = data.draw(st.lists(st.booleans(), min_size=1, max_size=width))
    word = bits.pack(np.array(rows)[:, None], kind)
    lit = [place for place, row in enumerate(rows) if row]

    assert word.dtype == kind
    assert word[0] == sum(1 << place for place in lit)
    assert bits.first(word)[0] == min(lit, default=-1)
    assert bits.last(word)[0] == max(lit, default=-1)
    between = [after - before - 1 for before, after in pairwise(lit)]
    for unit in (1, 2, 4, 16):
        if unit <= width:
            assert bits.pauses(word, unit)[0] == -(-max(between, default=0) // unit)


@pytest.mark.parametrize("kind", [np.uint8, np.uint64])
def test_below_sets_all_lower_bits(kind):
    places = np.arange(bits.width(kind), dtype=np.int32)
    found = bits.below(places, np.zeros(1, kind))
    assert found.tolist() == [(1 << place) - 1 for place in places.tolist()]
