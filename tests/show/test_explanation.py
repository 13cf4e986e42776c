"""The explanation of a unit and of a site: its words, its JSON, and that it fits."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import contract
import recordings
from flatline.diagnose.comeback import Comeback
from flatline.diagnose.findings import Finding, Remedy
from flatline.diagnose.names import CAUSES as NAMES
from flatline.diagnose.states import STATES
from flatline.diagnose.story import EVENTS, Moment
from flatline.errors import UsageError
from flatline.record.recording import Event, Recording
from flatline.sense.history import Autopsy, Steps
from flatline.show import explanation, reasons
from flatline.show.explanation import BETWEEN, explain, locate
from flatline.show.narrative import render
from flatline.show.report import UNITS, UnitReport


def sick() -> Recording:
    """net.0 reads nothing and net.2 reads it; a large update at step 126 killed net.0:6."""
    recording = recordings.sick_mlp()
    first, second, gate = recording.sites
    gradient = np.full(500, 0.5)
    gradient[126] = 12.5
    steps = replace(recording.steps, gradient=gradient)
    units = np.array([3, 6, 50], np.int32)
    ones = np.ones(3, np.float32)
    autopsies = {
        "net.0": Autopsy(
            units=units,
            step=np.array([133, 133, 133], np.int32),
            before=np.array([120, 120, 120], np.int32),
            first=np.zeros(3, np.int32),
            z_before=0.25 * ones,
            z_after=-6.25 * ones,
            spread_before=ones,
            spread_after=1.5 * ones,
            bias=-4.5 * ones,
            weight=-2.25 * ones,
            input=0.25 * ones,
            z_first=0.75 * ones,
            spread_first=ones,
            bias_first=-4.75 * ones,
            weight_first=-2.5 * ones,
            input_first=0.25 * ones,
        )
    }
    events = [
        Event(40, "net.0", "death", (6, 50), {}),
        Event(60, "net.0", "revival", (6, 50), {}),
        Event(133, "net.0", "death", (3, 6), {}),
        Event(133, "net.2", "death", (6,), {}),
    ]
    return replace(
        recording,
        sites=(replace(first, reads=second.feeds), second, gate),
        autopsies=autopsies,
        events=events,
        steps=steps,
    )


TARGETS = ["net.0:6", "net.0:0", "net.0:5", "net.0", "net.2:64", "net.2:20", "gate:2", "gate"]


@pytest.mark.parametrize("target", TARGETS)
def test_eighty_columns(target, golden):
    golden(f"explain_{target.replace(':', '_')}.txt", str(explain(sick(), target)))


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def test_golden_json(golden):
    said = contract.strict(explain(sick(), "net.0:6").to_json())
    golden("explain.json", json.dumps(rounded(said), indent=1) + "\n")


@pytest.mark.parametrize("target", TARGETS)
def test_json_is_as_the_contract_says(target):
    said = contract.strict(explain(sick(), target).to_json())
    site, _, unit = target.partition(":")
    assert (said["schema"], said["kind"]) == ("flatline/1", "explanation")
    assert (said["site"], said["unit"]) == (site, int(unit) if unit else None)
    assert said["story"]
    for moment in said["story"]:
        assert moment["event"] in EVENTS
        assert isinstance(moment["step"], int)
        assert isinstance(moment["evidence"], dict)


@pytest.mark.parametrize("width", [20, 59, 80])
@pytest.mark.parametrize("name", [name for name in recordings.ALL if name not in ("empty", "deep")])
def test_every_explanation_fits_its_width(name, width):
    recording = recordings.ALL[name]()
    for site in recording.sites[:20]:
        for target in (site.name, f"{site.name}:{site.units - 1}"):
            text = render(explain(recording, target), width)
            assert max(map(cell_len, text.split("\n"))) <= width
            assert not any(line.endswith(" ") for line in text.split("\n"))
            assert "\x1b" not in text


def test_ascii_terminals_get_ascii():
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80)
    console.print(explain(sick(), "net.0:6"))
    console.file.seek(0)
    assert "-6.25" in console.file.read()


# -- what it is about -------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["a", "a:1", "a:1:2", ":", "a:"]), unique=True), st.data())
def test_a_name_may_hold_colons(names, data):
    plans = [recordings.Plan(name, 3) for name in names] or [recordings.Plan("b", 3)]
    recording = Recording({}, sites=tuple(plan.site() for plan in plans))
    site = data.draw(st.sampled_from(recording.sites))
    assert locate(recording, site.name) == (site, None)
    unit = data.draw(st.integers(0, 2))
    if f"{site.name}:{unit}" not in names:
        assert locate(recording, f"{site.name}:{unit}") == (site, unit)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("net.1", "did you mean net.0 or net.2?"),
        ("net.1:3", "did you mean net.0 or net.2"),
        ("gat", "did you mean gate?"),
        ("0123456789", "did you mean net.0 or net.2 or gate?"),
        ("", "found '\"\"'; did you mean"),
        (
            "net.0:128",
            "a unit from 0 to 127 of site net.0, found '128'; write for example net.0:127",
        ),
        ("net.0:-1", "a unit from 0 to 127 of site net.0, found '-1'"),
        ("net.0:", "a unit from 0 to 127 of site net.0, found '\"\"'"),
        ("net.0:٣", "a unit from 0 to 127 of site net.0, found '٣'"),
        ("net.0:" + "9" * 5000, "a unit from 0 to 127 of site net.0, found '999"),
    ],
)
def test_what_is_not_there_is_refused_with_what_comes_close(target, said):
    with pytest.raises(UsageError) as error:
        explain(sick(), target)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_run_without_sites_has_nothing_to_explain():
    with pytest.raises(UsageError, match="expected a watched site, found none in this run"):
        explain(recordings.empty(), "net.0")


HOSTILE = recordings.hostile()


@given(st.text(st.characters(), max_size=20))
def test_any_target_is_told_of_or_refused_in_one_line(target):
    said = ""
    try:
        locate(HOSTILE, target)
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
    assert "\x1b" not in said


# -- what it tells ----------------------------------------------------------------------------


def test_the_step_of_the_fatal_update_is_told():
    told = explain(sick(), "net.0:6")
    steps = {one.step: one for one in told.context}
    assert list(steps) == [*range(123, 129)]  # four before it was silent at 127, and two
    assert steps[126].gradient == 12.5
    assert told.unit.evidence["gradient_ratio"] == 25


@given(
    st.lists(st.integers(0, 400), unique=True, min_size=1, max_size=60),
    st.integers(-1, 300),
    st.integers(1, 99),
)
def test_of_a_long_silence_the_largest_gradients_are_told(steps, after, length):
    rng = np.random.default_rng(len(steps))
    known = np.sort(np.array(steps))
    nan = np.full(len(known), np.nan)
    series = Steps(known, nan, nan, rng.random(len(known)))
    since = after + length
    unit = UnitReport(
        "net.0", 0, "dead", since_step=since, since_after=after if after >= 0 else None
    )
    told = [one.step for one in explanation._context(series, unit)]
    assert told == sorted(set(told))
    assert set(told) <= set(steps)
    inside = [step for step in told if after < step < since]
    assert len(inside) == min(BETWEEN, sum(after < step < since for step in steps))
    left = [g for s, g in zip(known, series.gradient, strict=True) if after < s < since]
    shown = [series.gradient[known == step][0] for step in inside]
    assert sorted(shown) == sorted(left)[len(left) - len(shown) :]


def test_neighbours_are_found_through_the_parameters_between():
    above, below = explain(sick(), "net.2:31"), explain(sick(), "net.0")
    (upstream,) = above.upstream
    assert (upstream.site, upstream.units, upstream.dead) == ("net.0", 128, 44)
    assert upstream.dead_before == 44  # all of them by step 128, and net.2:31 died at 262
    assert [one.site for one in below.downstream] == ["net.2"]
    assert below.downstream[0].dead == 2  # of which one more is silent so far


@pytest.mark.parametrize(
    ("target", "codes"),
    [
        ("net.0:6", ["dying-relu"]),
        ("net.0:0", ["born-dead"]),
        ("net.0:5", []),
        ("net.0", ["dying-relu", "born-dead"]),
        ("net.2:20", ["duplicate-units"]),
        ("gate:2", ["saturation"]),
    ],
)
def test_findings_are_those_that_concern_it(target, codes):
    assert [one.code for one in explain(sick(), target).findings] == codes


def test_a_finding_about_the_whole_model_concerns_whatever_is_sick():
    whole = Finding(
        "learning-rate-too-high", "critical", (), 0.5, "m", {}, (Remedy("lr=x0.1", "w"),)
    )
    units = {t: explain(sick(), t).unit for t in ("net.0:6", "net.0:5", "net.2:4")}
    assert [explanation._concerns(whole, unit) for unit in units.values()] == [True, False, False]


def test_of_a_wide_site_the_worst_units_are_listed_and_all_counted():
    told = explain(recordings.wide(100_000), "embed.up")
    dead = told.site.states["dead"]
    assert sum(one.evidence["units"] for one in told.story if one.event == "died") == dead
    assert len(told.units) == UNITS < dead == told.units_truncated
    assert f"drawn from the {UNITS:,} of" in str(told)
    assert contract.strict(told.to_json())["units_truncated"] == told.units_truncated


def test_causes_of_a_site_add_up_to_its_dead():
    told = explain(sick(), "net.0")
    assert sum(told.causes.values()) == told.site.states["dead"]


# -- words ------------------------------------------------------------------------------------


def test_every_cause_and_event_has_its_words():
    assert reasons.CAUSES.keys() == set(NAMES)
    assert reasons._UNIT.keys() == set(EVENTS)
    assert reasons._SITE.keys() == set(EVENTS) - {"last fired"}


@pytest.mark.parametrize("state", STATES)
def test_every_state_can_be_told_of_now(state):
    known = {"state": state, "certain": True, "firing_rate": 0.5, "firing_rate_upper": 0.6}
    for examples in (0, 100):
        moment = Moment(3, "now", known | {"examples": examples})
        assert reasons.happened(moment, False).startswith(state)


@pytest.mark.parametrize(
    ("found", "said", "unsaid"),
    [
        (Comeback(-0.4, 1.0, 0, 0, 1e-3), "it may well come back by itself", "Of "),
        (Comeback(-4.0, 5.0, 10, 0, 1e-3), "10 other units", "may well"),
        (Comeback(-4.0, 5.0, 10, 0, 0.0), "nothing can lift it", "may well"),
        (Comeback(-0.4, 5.0, 1, 0, None), "No watched site feeds it", "may well"),
        (Comeback(None, None, 1, 1, None), "1 other unit of this run that was", "at its closest"),
    ],
)
def test_chances_follow_from_margin_inputs_and_others(found, said, unsaid):
    text = " ".join(reasons.chances(found))
    assert said in text
    assert unsaid not in text


def test_an_explanation_in_a_log_is_short():
    assert len(repr(explain(sick(), "net.0"))) < 100
