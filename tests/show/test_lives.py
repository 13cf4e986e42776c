"""The lives of units, as the page tells them."""

from __future__ import annotations

import numpy as np
import pytest

import recordings
from flatline.sense.histogram import histograms, pack
from flatline.show.explanation import explain
from flatline.show.report import Report, build
from flatline.show.stories import LIVES, stories, told


def test_a_life_is_the_story_that_explain_tells():
    recording = recordings.with_an_autopsy()
    life = build(recording).lives.of("net.0", 3)
    explained = explain(recording, "net.0:3")
    assert life.story == explained.story
    assert life.ways == explained.ways
    assert [moment.event for moment in life.story][-1] == "now"


def test_spreads_are_those_of_the_exams_and_of_the_window():
    recording = recordings.with_an_autopsy()
    spreads = build(recording).lives.of("net.0", 3).spreads
    assert [(one.step, one.mean) for one in spreads[:3]] == [(0, 1.0), (4, 0.5), (8, -2.0)]
    window = recording.windows["net.0"]
    last = spreads[-1]
    assert (last.step, last.low, last.high) == (None, window.z_min[3], window.z_max[3])
    assert last.mean == pytest.approx(window.z_sum[3] / window.examples)


def test_the_page_holds_what_a_life_says():
    report = build(recordings.with_an_autopsy())
    found = stories(report)
    said = found["of"]["0:3"]
    events = [found["words"][event] for _, event, _ in said["story"]]
    assert events == [one.event for one in report.lives.of("net.0", 3).story]
    bias, weight, given = (found["words"][index] for index in said["ways"][-1][2:5])
    assert (bias, weight, given) == ("−0.5", "−1.75", "−0.25")
    assert found["explain"] == ["flatline explain 0123456789", ""]


def test_neighbours_are_those_that_share_parameters():
    recording = recordings.tiny()
    first, second = recording.sites
    linked = [type(first)(**{**vars(first), "reads": second.feeds[:1]}), second]
    report = build(type(recording)(**{**vars(recording), "sites": tuple(linked)}))
    above, below = zip(*stories(report)["sites"], strict=True)
    assert [[index for index, _ in found] for found in above] == [[], [0]]
    assert [[index for index, _ in found] for found in below] == [[1], []]


def test_so_many_lives_at_most_are_told_and_some_of_every_site():
    plans = [
        recordings.Plan(f"net.{i}", 1_500, dead=dict.fromkeys(range(i * 200, 1_400), 3))
        for i in range(4)
    ]
    report = build(recordings.record(*plans))
    kept = told(report)
    assert 1_900 < len(kept) <= LIVES
    assert {site for site, _ in kept} == {"net.0", "net.1", "net.2", "net.3"}


def test_lives_that_exams_have_drawn_go_first():
    dead = dict.fromkeys(range(1_000, 4_000), 3)
    recording = recordings.record(recordings.Plan("net.0", 5_000, dead=dead))
    begun, ended = [17, 1_234, 3_999], [1_002, 3_998, 3_999]
    recording.histograms["net.0"] = [
        (step, pack(histograms(np.array(units, np.int32), np.zeros((2, 3)))))
        for step, units in ((0, begun), (8, ended))
    ]
    units = [unit for _, unit in told(build(recording))]
    assert units[:4] == [3_999, 1_234, 1_002, 3_998]
    assert units[4:7] == [1_000, 1_001, 1_003]
    assert len(units) == LIVES


def test_a_report_made_by_hand_has_no_lives():
    assert stories(Report())["of"] == {}
