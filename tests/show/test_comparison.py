"""Runs side by side."""

from __future__ import annotations

import json
import math
import re

import pytest

import contract
import recordings
from flatline.show.comparison import Comparison, letter
from flatline.show.report import build
from page_source import Page, embedded


def treated():
    """The run of ``sick_mlp`` with other deaths, another loss, and a treatment."""
    recording = recordings.record(
        recordings.Plan("net.0", 128, dead={3: 10}),
        recordings.Plan("net.4", 96),
        facts={"id": "abcdef", "name": "treated", "treatments": ["lr=x0.1"], "seconds": 9.0},
    )
    recording.steps.loss[:] /= 2
    return recording


@pytest.fixture(scope="module")
def pair() -> Comparison:
    return Comparison((build(recordings.sick_mlp()), build(treated())))


def test_golden_comparison(pair, golden):
    golden("comparison.txt", str(pair))
    golden("comparison.json", pair.to_json())
    page = re.sub(r"sha256-[\w+/=]+", "sha256-…", pair.to_html())
    for element in ("script", "style"):
        page = re.sub(rf"<{element}>.*?</{element}>", f"<{element}/>", page, flags=re.DOTALL)
    golden("comparison.html", page)


def test_every_difference_is_one_and_everything_else_is_the_same(pair):
    told = contract.strict(pair.to_json())
    assert told["kind"] == "comparison"
    by_name = {one["name"]: one for one in told["differences"]}
    for one in told["differences"]:
        assert len(one["values"]) == 2
        assert one["values"][0] != one["values"][1]
    first, second = told["runs"]
    assert by_name["treatments"]["values"] == [[], ["lr=x0.1"]]
    assert by_name["dead_share"]["values"] == [first["dead_share"], second["dead_share"]]
    assert by_name["dead_share"]["changes"][1] == second["dead_share"] - first["dead_share"]
    assert by_name["net.4.units"]["values"] == [None, 96]
    assert not {"steps", "torch", "device", "lr.last"} & set(by_name)


def test_shares_are_those_of_the_units_that_are_listed(pair):
    for run, report in zip(pair.to_dict()["runs"], pair.reports, strict=True):
        dead = sum(unit.state == "dead" and unit.certain for unit in report.units)
        assert run["dead_share"] == dead / run["units"]
        assert sum(run["states"].values()) == run["units"]


def test_a_run_does_not_differ_from_itself():
    twice = Comparison((build(recordings.tiny()), build(recordings.tiny())))
    assert twice.to_dict()["differences"] == []
    assert "Nothing that is recorded differs" in str(twice)
    assert "Nothing that is recorded differs" in twice.to_html()


def test_the_end_of_a_metric_is_its_last_value_and_the_mean_of_its_last_tenth():
    values = [float(v) for v in range(19)] + [math.nan]
    recording = recordings.record(
        recordings.Plan("net.0", 4), metrics={"m": list(enumerate(values))}
    )
    told = Comparison((build(recording), build(recordings.tiny()))).to_dict()
    assert told["runs"][0]["metrics"]["m"] == {"last": None, "last_tenth": 18.0}


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_comparison_fits_its_terminal(width):
    from flatline.show.sheet import as_text

    many = [recordings.ALL[name] for name in ("sick_mlp", "tiny", "hostile", "empty", "running")]
    text = as_text(Comparison(tuple(build(one()) for one in many)), width, color=False)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


@pytest.mark.parametrize("name", ["sick_mlp", "hostile", "empty", "running", "broken_metrics"])
def test_pages_are_nested_well_and_load_nothing(name):
    source = Comparison((build(recordings.ALL[name]()), build(treated()))).to_html()
    page = Page(source)
    tags = [tag for tag, _, _ in page.elements]
    assert tags.count("script") == 4
    assert "img" not in tags
    assert "://" not in source.replace("alert(1)", "")
    assert all("style" not in found for _, found, _ in page.elements)


def test_the_page_says_what_the_terminal_says(pair):
    page = Page(pair.to_html())
    text = " ".join(" ".join(t) for tag, _, t in page.elements if tag == "main")
    shown = " ".join(text.split())
    for line in str(pair).splitlines():
        for cell in filter(None, re.split(r"  |(?<=sick), |(?<=healthy), ", line)):
            assert cell.strip() in shown


def test_the_plots_hold_the_metrics_of_both_runs(pair):
    charts = {one["title"]: one for one in embedded(pair.to_html())["charts"]}
    loss = charts["loss (logarithmic)"]["series"]
    for one, report in zip(loss, pair.reports, strict=True):
        known = dict(report.metrics["loss"])
        assert one["steps"] == sorted(known)
        for step, value in zip(one["steps"], one["values"], strict=True):
            assert value == pytest.approx(known[step], rel=1e-4)
    share = charts["Dead share"]["series"][0]["values"][-1]
    dead = sum(died for _, died in pair.reports[0].deaths)
    assert share == pytest.approx(dead / 240, rel=1e-4)


def test_letters_go_on_after_z():
    assert [letter(place) for place in (0, 25, 26, 52)] == ["A", "Z", "A2", "A3"]


def test_json_is_written_to_a_file(pair, tmp_path):
    pair.to_json(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["kind"] == "comparison"
