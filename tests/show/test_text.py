"""Names and numbers as they are written."""

from __future__ import annotations

import math
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import recordings
from flatline.show.text import clean, duration, named, number, percent, ranges

ANY = st.text(st.characters(), max_size=40)


@given(ANY)
def test_cleaned_text_has_no_character_that_steers(text):
    shown = clean(text)
    assert not any(unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" for c in shown)
    shown.encode("utf-8")


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"])))
def test_plain_text_stays_as_it_is(text):
    assert clean(text) == text


@given(st.text(st.characters(exclude_categories=["C", "Z"])), st.integers(2, 30))
def test_long_text_keeps_both_ends(text, limit):
    shown = clean(text, limit)
    assert len(shown) <= limit
    head, _, tail = shown.partition("…") if len(text) > limit else (text, "", "")
    assert text.startswith(head)
    assert text.endswith(tail)


@pytest.mark.parametrize("name", recordings.HOSTILE)
def test_names_are_never_empty_nor_long(name):
    assert len(named(name, 30)) > 0
    assert clean(name, 30) == clean(clean(name, 30))


@given(st.floats(0, 1))
def test_a_share_is_told_to_two_digits(share):
    said = percent(share)
    value = float(said.strip(">%")) / 100
    if said == ">99%":
        assert 0.99 < share < 1
    else:
        assert value == pytest.approx(share, rel=0.06)
        assert (value == 0) == (share == 0)
        assert (value == 1) == (share == 1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (12345.0, "12,345"),
        (0.5, "0.5"),
        (1 / 3, "0.3333"),
        (1e20, "1e+20"),
        (-2.0, "-2"),
        (None, "not a number"),
        (math.nan, "not a number"),
        (math.inf, "infinity"),
        (-math.inf, "-infinity"),
    ],
)
def test_numbers(value, said):
    assert number(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (9.94, "9.9 s"),
        (119, "119 s"),
        (3540, "59 min"),
        (3600, "1 h 0 min"),
        (176_400, "2 d 1 h"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@given(st.sets(st.integers(0, 300), min_size=1), st.integers(1, 60))
def test_ranges_name_the_first_units_and_count_the_rest(units, most):
    said = ranges(sorted(units, reverse=True), most)
    told, _, rest = said.partition(" (+")
    spans = [tuple(map(int, span.split("–"))) for span in told.split(",")]
    shown = [unit for span in spans for unit in range(span[0], span[-1] + 1)]
    assert shown == sorted(units)[: len(shown)]
    assert int(re.sub(r"\D", "", rest) or 0) == len(units) - len(shown)
    assert len(said) <= most or len(spans) == 1
