"""Which exams of a unit are shown, and what is said where there is no histogram."""

from __future__ import annotations

import numpy as np
import pytest

import contract
import recordings
from flatline import activations
from flatline.sense.histogram import BINS, histograms, pack
from flatline.show.drawings import LEVELS, Drawings, bars, undrawn
from flatline.show.explanation import explain
from flatline.show.report import build
from flatline.show.stories import stories

NAN = float("nan")


def drawings(*exams):
    """One site, of which exams drew units: step and units of each."""
    return Drawings(
        [
            (
                step,
                pack(histograms(np.array(units, np.int32), np.full((4, len(units)), step * 1.0))),
            )
            for step, units in exams
        ]
    )


@pytest.mark.parametrize(
    ("life", "since", "moments"),
    [
        pytest.param(
            -1, -1, {0: ["first exam"], 9: ["last exam"], 3: [], 6: []}, id="a unit that lives"
        ),
        pytest.param(
            44, 45,
            {0: ["first exam"], 4: ["last alive"], 5: ["first dead"], 9: ["last exam"]},
            id="a death between exams",
        ),
        pytest.param(
            -1, 0, {0: ["first exam", "first dead"], 9: ["last exam"], 3: [], 6: []}, id="born dead"
        ),
        pytest.param(
            85, 88, {0: ["first exam"], 8: ["last alive"], 9: ["first dead", "last exam"], 4: []},
            id="dead at the last exam",
        ),
        pytest.param(
            95, 96, {0: ["first exam"], 9: ["last alive", "last exam"], 3: [], 6: []},
            id="dead after the last exam",
        ),
    ],
)  # fmt: skip
def test_the_exams_that_tell_most_are_shown(life, since, moments):
    found = drawings(*((10 * i, [7]) for i in range(10))).of(7, life, since)
    assert {one.step // 10: list(one.moments) for one in found} == moments
    assert [one.step for one in found] == sorted(one.step for one in found)


def test_exams_that_drew_other_units_are_passed_over():
    site = drawings((0, [1]), (10, [1, 7]), (20, [1]), (30, [7]), (40, [1, 7]), (50, [1]))
    found = site.of(7, 25, 26)
    assert [(one.step, *one.moments) for one in found] == [
        (10, "first exam", "last alive"), (30, "first dead"), (40, "last exam")
    ]  # fmt: skip
    assert [one.low for one in found] == [10, 30, 40]
    (only,) = drawings((5, [7])).of(7, -1, 0)
    assert only.moments == ("only exam", "first dead")
    assert site.of(3) == ()
    assert Drawings([]).of(3) == ()


def test_values_that_are_not_finite_are_told_apart():
    values = np.array([[1.0, NAN], [2.0, NAN], [NAN, NAN]])
    site = Drawings([(5, pack(histograms(np.arange(2), values)))])
    (some,), (none,) = site.of(0), site.of(1)
    assert (some.low, some.high, some.lost, sum(some.counts)) == (1, 2, 1, 2)
    assert (none.low, none.high, none.lost, sum(none.counts)) == (None, None, 3, 0)


def test_every_filled_bin_has_a_mark():
    counts = [0, 1, 255, 128, 3]
    assert bars(counts, LEVELS) == " ▁█▅▁"
    assert bars([0] * BINS, LEVELS) == " " * BINS


def test_the_page_and_explain_tell_the_same():
    recording = recordings.with_an_autopsy()
    life = build(recording).lives.of("net.0", 3)
    explained = explain(recording, "net.0:3")
    assert explained.histograms == life.histograms
    said = contract.strict(explained.to_json())["histograms"]
    assert [one["step"] for one in said] == [one.step for one in life.histograms]
    assert all(sum(one["counts"]) == 64 and len(one["counts"]) == BINS for one in said)
    assert len(stories(build(recording))["of"]["0:3"]["drawn"]) == len(said)
    assert explain(recording, "net.2:2").to_dict()["histograms"] == []


def test_it_is_said_why_there_is_none():
    relu, gru = activations.get("relu"), activations.get("gru")
    assert "recorded without any" in undrawn(relu, of_run=False, of_site=False)
    assert "no exam drew one of this site" in undrawn(relu, of_run=True, of_site=False)
    assert "256 units of a site and 2,048 in all" in undrawn(relu, of_run=True, of_site=True)
    assert "shows no pre-activation" in undrawn(gru, of_run=True, of_site=False)
