"""Sentences: each says what holds, and nothing that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

import recordings
from flatline.diagnose.names import STATES
from flatline.show import about, history, words
from flatline.show.marks import KINDS, MARKS, SO_FAR
from flatline.show.report import Report, SiteReport, UnitReport, build


def report(*states: dict[str, int], verdict: str = "sick", **more) -> Report:
    sites = tuple(
        SiteReport(f"net.{index}", "relu", sum(each.values()), states=each)
        for index, each in enumerate(states)
    )
    return Report(verdict=verdict, sites=sites, **more)


@pytest.mark.parametrize(
    ("states", "verdict", "said"),
    [
        ([], "healthy", "Nothing to judge: no nonlinearity with units was seen."),
        (
            [{"unvisited": 3}],
            "healthy",
            "Nothing to judge: none of 3 units received an example in any exam.",
        ),
        ([{"healthy": 5, "linear": 1}], "healthy", "None of 6 units in 1 site is sick."),
        ([{"healthy": 1, "dead": 1}], "sick", "1 of 2 units in 1 site is dead (50%)."),
        (
            [{"healthy": 9}, {"healthy": 99, "dead": 1}],
            "healthy",
            "1 of 109 units in 2 sites is dead (0.92%), in site net.1, below 5% of every site.",
        ),
        (
            [{"dead": 4, "healthy": 4}, {"dead": 2, "constant": 3, "healthy": 4}],
            "sick",
            "9 of 17 units in 2 sites are sick: 6 dead, 3 constant (53%), 5 of them in site net.1.",
        ),
        (
            [{"dead": 1}] * 4,
            "sick",
            "4 of 4 units in 4 sites are dead (100%), spread over 4 sites.",
        ),
    ],
)
def test_headlines(states, verdict, said):
    assert words.headline(report(*states, verdict=verdict)) == said


def test_units_that_are_only_silent_so_far_are_told_apart():
    site = SiteReport("a", "relu", 10, states={"dead": 3, "healthy": 7}, silent_so_far=2)
    assert words.split(site) == {"healthy": 7, SO_FAR: 2, "dead": 1}
    assert words.headline(Report(verdict="sick", sites=(site,))) == (
        "1 of 10 units in 1 site is dead (10%). 2 more are silent so far, on fewer than the 459 "
        "examples that make it certain."
    )


@pytest.mark.parametrize(("last", "said"), [(249, True), (250, False), (499, False), (None, False)])
def test_a_run_examined_in_its_first_half_only_is_not_judged_silently(last, said):
    exams = () if last is None else ((0, {}), (last, {}))
    judged = report({"healthy": 3}, verdict="healthy", exams=exams, run={"steps": 500})
    assert ("No exam came after" in words.headline(judged)) == said
    assert any(how == "not examined" for how, _, _ in words.unseen(judged)) == said
    examined = replace(judged, kind="examination")
    assert "No exam" not in words.headline(examined)


@pytest.mark.parametrize(
    ("overhead", "seconds", "said"),
    [
        ({"budget": 0.01, "measured": 0.006, "exams": 9}, 50, "0.6% of the time, within its 1%"),
        (
            {"budget": 0.01, "measured": 0.16, "spent": 0.48, "exams": 8},
            3,
            "watching took 0.5 s (8 exams), 16% of this short training: the first exams have a "
            "fixed cost, within the budget of 1% from 48 s on",
        ),
        ({"budget": 0.01, "measured": 0.02, "spent": 80, "exams": 8}, 4000, "over its 1%"),
        ({"measured": 0.02, "exams": 1}, 5, "watching took 2% of the time (1 exam)"),
    ],
)
def test_what_watching_cost(overhead, seconds, said):
    run = {"overhead": overhead, "seconds": seconds}
    assert said in about.watching(Report(run=run))


def test_nothing_is_said_of_a_cost_that_nobody_measured():
    assert about.watching(Report()) == ""
    overhead = {"measured": 0.5, "exams": 1}
    assert about.watching(Report(run={"overhead": overhead}, kind="examination")) == ""


def unit(**known) -> UnitReport:
    return UnitReport("a", 0, "dead", **known)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([unit(cause="born-dead", since_step=0)], "born dead"),
        ([unit(since_step=7, since_exact=True, since_after=6)], "step 7"),
        ([unit(since_step=9, since_after=6)], "step 7–9"),
        ([unit(since_after=6)], "after step 6"),
        ([unit()], ""),
        ([UnitReport("a", 0, "dormant")], ""),
        (
            [
                unit(since_step=1007, since_exact=True, since_after=1006),
                unit(since_step=1020, since_exact=True, since_after=1019),
            ],
            "step 1,007–1,020",
        ),
    ],
)
def test_since_when(members, said):
    assert words.since(members) == said


@pytest.mark.parametrize("name", recordings.ALL)
def test_groups_hold_every_sick_unit_once(name):
    built = build(recordings.ALL[name]())
    groups, left = words.groups(built, 1000)
    assert left == 0
    sick = [u for u in built.units if words.kind(u) in (*words.SICK, SO_FAR)] or built.units
    grouped = [(group.site, which, group.kind) for group in groups for which in group.units]
    assert sorted(grouped) == sorted((u.site, u.unit, words.kind(u)) for u in sick)
    few, rest = words.groups(built, 2)
    assert rest == len(sick) - sum(len(group.units) for group in few)


def test_every_state_has_a_mark_and_a_meaning():
    assert set(KINDS) == {*STATES, SO_FAR}
    assert set(words.MEANINGS) == set(KINDS)
    assert sorted(words.severest()) == sorted(KINDS)
    for look in ("block", "plain", "path"):
        assert len({getattr(mark, look) for mark in MARKS.values()}) == len(MARKS)


@pytest.mark.parametrize("name", recordings.ALL)
def test_bins_hold_every_death(name):
    built = build(recordings.ALL[name]())
    for most in (1, 7, 46, 360):
        bins = history.Bins.of(built, most)
        assert bins.number <= most
        assert bins.size * bins.number >= built.run["steps"]
        assert sum(bins.sums(built.deaths)) == sum(died for _, died in built.deaths)
        for site in built.sites:
            certain = site.states.get("dead", 0) - site.silent_so_far
            assert history.shares(site, bins)[-1] <= certain / site.units + 1e-12


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([], "no value"),
        ([(3, 1.5)], "1.5 at step 3"),
        ([(0, 2.0), (9, 2.0)], "2 throughout"),
        ([(0, 1.0), (5, 0.2), (7, 3.0), (9, 0.5)], "lowest 0.2 at step 5, highest 3 at step 7"),
        ([(0, None), (1, float("inf"))], "not finite at 2 steps"),
        ([(9, 0.5), (0, 1.0)], "1 at step 0, 0.5 at step 9"),
    ],
)
def test_courses(points, said):
    (course,) = history.courses(Report(metrics={"loss": points}))
    assert course.startswith("loss: ")
    assert said in course


def test_thinning_keeps_ends_peaks_and_gaps():
    steps = range(100_000)
    points = [(step, float(step % 97)) for step in steps]
    points[31_337] = (31_337, 1e6)
    points[40_000:50_000] = [(step, None) for step in steps[40_000:50_000]]
    kept, values = history.thin(points, 500)
    assert len(kept) <= 1000
    assert kept == sorted(kept)
    assert kept[0] < 200
    assert kept[-1] >= 99_800
    assert (31_337, 1e6) in zip(kept, values, strict=True)
    assert None in values
    assert all(points[step][1] == value for step, value in zip(kept, values, strict=True))


def test_commands_can_be_typed_again():
    built = build(recordings.sick_mlp())
    commands = [command for command, _ in words.commands(built)]
    assert commands == [
        "flatline report 0123456789 --html report.html",
        "flatline report 0123456789 --json -",
        "flatline explain 0123456789 net.0:3",
        "flatline run --apply lr=x0.1 train.py --lr 0.05",
        "flatline run --fail-on dying-relu train.py --lr 0.05",
    ]
    elsewhere = [command for command, _ in words.commands(replace(built, store="/a b/runs.db"))]
    assert all("--store '/a b/runs.db'" in command for command in elsewhere[:4])


def test_a_program_with_many_options_is_named_whole_unless_it_fills_the_screen():
    built = build(recordings.sick_mlp())

    def offered(options):
        argv = ["train.py", *(f"--option-{n}=value" for n in range(options))]
        return words.commands(replace(built, run={**built.run, "argv": argv}))[3][0]

    assert offered(10).endswith("--option-8=value --option-9=value")
    assert offered(30) == "flatline run --apply lr=x0.1 SCRIPT"


def test_no_command_is_offered_that_holds_what_cannot_be_typed():
    commands = [command for command, _ in words.commands(build(recordings.hostile()))]
    assert commands == [
        "flatline run --apply init=he --apply lr=x0.1 SCRIPT",
        "flatline run --fail-on born-dead SCRIPT",
    ]


def test_thresholds_are_those_that_judge():
    said = dict(about.thresholds(Report()))
    assert "459" in said["dead, for certain"]
    assert said["critical"].startswith("from 30% of a hidden site of at least 8 units")
