"""Life stories of units against brute force, and how often the dead come back against counting."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatline
import recordings
from brute_force import known_truth
from flatline.diagnose.chart import Chart
from flatline.diagnose.comeback import CLOSE, comeback, moving, near
from flatline.diagnose.diagnose import diagnose
from flatline.diagnose.story import EVENTS, of_site, of_unit, ways
from flatline.record.recording import Recording
from flatline.record.store import Store
from flatline.sense.history import Autopsy
from flatline.sense.pacer import Pacer
from flatline.show import certain
from flatline.show.report import build
from workloads import WORKLOADS

#: Workloads in which units die, and some of them come back.
DYING = ["weight_decay", "revival", "functional", "mlp_relu_killed"]
SICK = recordings.sick_mlp()


def charted(recording: Recording) -> Chart:
    found = diagnose(recording.sites, recording.windows, recording.ledgers, recording.history)
    return Chart(list(found.sites.values()), recording.history)


@cache
def recorded(name: str) -> Recording:
    """A training with an exam at every fifth step and at the last."""
    workload = WORKLOADS[name]
    training = workload.build()
    with pytest.MonkeyPatch.context() as patch, Store(None) as store:
        steps = {*range(0, workload.steps, 5), workload.steps - 1}
        patch.setattr(Pacer, "due", lambda self, step, elapsed, event: step in steps)
        patch.setattr(Pacer, "quiet", staticmethod(lambda step: 1))
        with flatline.Monitor(training.model, training.optimizer, path=store._file) as monitor:
            for _ in range(workload.steps):
                training.step()
        return store.load(monitor.report().run["id"])


@pytest.mark.parametrize("name", DYING)
def test_a_life_story_is_what_brute_force_saw(name):
    recording, truth = recorded(name), known_truth(name)
    deaths = revivals = 0
    for states in charted(recording):
        true = truth[states.site.name]
        exact = recording.ledgers[states.site.name].exact
        turns = [(e.step, e.kind, e.units) for e in recording.events if e.site == states.site.name]
        for unit in range(states.site.units):
            own = [(step, kind) for step, kind, units in turns if unit in units]
            story = of_unit(states, unit, recording.history, own)
            assert [one.step for one in story] == sorted(one.step for one in story)
            assert (story[0].event, story[-1].event) == ("born", "now")
            silent_since = None
            for moment in story:
                step = moment.step
                if moment.event == "last fired" and exact[unit]:
                    assert step == true.last_life[unit]
                elif moment.event == "died":
                    after = moment.evidence["after"]
                    assert true.fired[step, unit] == 0
                    assert after is None or true.fired[after, unit]
                    assert step == true.last_life[unit] + 1 or not moment.evidence["exact"]
                    deaths += 1
                elif moment.event == "found silent":
                    assert true.fired[step, unit] == 0
                    silent_since = step
                elif moment.event == "revived":
                    assert true.fired[silent_since + 1 : step + 1, unit].any()
                    assert step <= true.last_life[unit] or not exact[unit]
                    revivals += 1
    assert deaths
    assert revivals


@pytest.mark.parametrize("name", DYING)
def test_the_terms_of_a_way_add_up_to_what_brute_force_saw(name):
    recording, truth = recorded(name), known_truth(name)
    seen = 0
    for site, autopsy in recording.autopsies.items():
        true = truth[site]
        means = true.z_sum / true.examples[:, None]
        for unit in autopsy.units.tolist():
            for way in ways(recording.history, site, unit):
                change = means[way.end, unit] - means[way.start, unit]
                assert way.bias + way.weight + way.input == pytest.approx(
                    change, rel=1e-6, abs=1e-4
                )
                assert way.z_end == pytest.approx(means[way.end, unit], rel=1e-6, abs=1e-4)
                seen += 1
    assert seen


def test_a_unit_that_no_exam_saw_die_has_no_way():
    history = recorded("weight_decay").history
    assert ways(history, "no such site", 0) == ()
    site, autopsy = next(iter(history.autopsies.items()))
    living = next(unit for unit in range(1000) if unit not in autopsy.units)
    assert ways(history, site, living) == ()


def test_the_story_of_a_site_counts_what_the_stories_of_its_units_tell():
    recording = recorded("revival")
    for states in charted(recording):
        turns = [(e.step, e.kind, e.units) for e in recording.events if e.site == states.site.name]
        whole = of_site(states, recording.history, turns)
        for event in set(EVENTS) - {"born", "now", "last fired"}:
            of_units = [
                moment.step
                for unit in range(states.site.units)
                for moment in of_unit(
                    states, unit, recording.history, [(s, k) for s, k, us in turns if unit in us]
                )
                if moment.event == event
            ]
            told = [(one.step, one.evidence["units"]) for one in whole if one.event == event]
            assert told == sorted((s, of_units.count(s)) for s in set(of_units))


def test_a_run_without_exams_or_ledgers_has_a_story_of_now_alone():
    recording = replace(recordings.tiny(), ledgers={}, exams=[])
    states = charted(recording).of("net.0")
    assert [one.event for one in of_unit(states, 2, recording.history, [])] == ["now"]
    assert [one.event for one in of_site(states, recording.history, [])] == ["now"]


def autopsied(units, z_after, spread) -> Autopsy:
    whole = ("units", "step", "before", "first")
    blank = {
        one.name: np.full(len(units), 5, np.int32 if one.name in whole else np.float32)
        for one in fields(Autopsy)
    }
    known = {"units": units, "z_after": z_after, "spread_after": spread}
    return Autopsy(**blank | {k: np.asarray(v, blank[k].dtype) for k, v in known.items()})


def with_autopsies(depths: list[float]) -> Chart:
    """net.0 of 128 units, 44 of them dead: units were found silent at these depths."""
    recording = SICK
    units = np.arange(len(depths), dtype=np.int32)
    spread = np.full(len(depths), 2.0)
    autopsies = {"net.0": autopsied(units, -2.0 * np.array(depths), spread)}
    return charted(replace(recording, autopsies=autopsies))


@given(st.lists(st.floats(0, 8, width=32), min_size=4, max_size=60), st.sampled_from([0, 3]))
def test_others_at_least_as_deep_are_counted_with_those_that_fire_again(depths, unit):
    chart = with_autopsies(depths)
    states = chart.of("net.0")
    found = comeback(chart, "net.0", unit)
    deep = np.array(depths, np.float32)
    peers = [u for u in range(len(depths)) if u != unit and deep[u] >= deep[unit]]
    assert found.died == len(peers)
    assert found.returned == sum(states.state(u) != "dead" for u in peers)
    assert found.depth == pytest.approx(depths[unit])


def test_a_unit_of_unknown_depth_is_compared_with_all_that_died():
    found = comeback(with_autopsies([1.0, 2.0, 3.0]), "net.0", 127)
    assert (found.depth, found.died, found.returned) == (None, 3, 2)


def test_units_close_to_firing_are_counted_where_inputs_move():
    first, second = (
        recordings.Plan("net.0", 8),
        recordings.Plan("net.2", 8, dead={0: 3, 1: 3, 2: 3}),
    )
    recording = recordings.record(first, second)
    above, below = recording.sites
    chained = replace(recording, sites=(replace(above, reads=below.feeds), below))
    margins = charted(chained).of("net.2").margin[:3]
    assert near(charted(chained)) == (margins >= -CLOSE).sum()
    window = chained.windows["net.2"]
    moved = replace(window, z_max=np.where(np.arange(8) < 2, -0.1, -9).astype(np.float32))
    close = replace(chained, windows={**chained.windows, "net.2": moved})
    assert near(charted(close)) == 2
    assert near(charted(replace(close, sites=recording.sites))) == 0  # it reads the data
    said = certain.sentences(build(close))
    assert said[-1].startswith("2 lie within 1 standard deviation of firing, in layers whose")


def test_inputs_move_while_a_layer_that_makes_them_lives_and_is_updated():
    head, body = recordings.Plan("net.0", 8), recordings.Plan("net.2", 8, dead={0: 3})
    recording = recordings.record(head, body)
    first, second = recording.sites
    chained = replace(recording, sites=(replace(first, reads=second.feeds), second))
    assert moving(charted(chained), "net.2") == 5e-4
    assert moving(charted(chained), "net.0") is None
    still = [(step, {"net.0": {"update_ratio": 0.0}}) for step in (0, 9)]
    assert moving(charted(replace(chained, exams=still)), "net.2") == 0
    ledger = recordings.Plan("net.0", 8, dead=dict.fromkeys(range(8), 3)).ledger(500)
    dead = replace(chained, ledgers={**chained.ledgers, "net.0": ledger})
    assert moving(charted(dead), "net.2") == 0
