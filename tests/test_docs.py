"""The names in the documentation are those that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import flatline
from flatline.diagnose.findings import Finding
from flatline.diagnose.names import CAUSES, CODES, STATES
from flatline.launch.cli import flatline as cli
from flatline.show.entries import SiteReport, UnitReport
from flatline.show.explanation import Explanation

DOCS = Path(__file__).parents[1] / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
CONCEPTS = (DOCS / "concepts.md").read_text(encoding="utf-8")


def section(text, title):
    """What stands below a heading, up to the next one."""
    return re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)[1]


def first_column(text):
    """The names in the first column of tables."""
    rows = re.findall(r"^\| (.*?) \|", text, re.M)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_finding_has_its_row_in_the_reference():
    assert sorted(first_column(section(REFERENCE, "Findings and severities"))) == sorted(CODES)


def test_states_are_defined_in_the_order_in_which_they_are_checked():
    assert tuple(first_column(section(CONCEPTS, "States"))) == STATES
    assert tuple(re.findall(r"`([a-z]+)`", section(REFERENCE, "States"))) == STATES


def test_every_cause_is_explained():
    assert sorted(first_column(section(CONCEPTS, "Why it died"))) == sorted(CAUSES)


@pytest.mark.parametrize("name", list(cli.commands))
def test_options_of_a_command_are_those_in_the_reference(name):
    said = section(REFERENCE, "Commands")
    (row,) = re.findall(rf"^\| `flatline {name}\b.*$", said, re.M)
    common = {"--json", "--quiet"} | ({"--store"} if name != "examine" else set())
    known = {word for one in cli.commands[name].params for word in one.opts if word[:2] == "--"}
    documented = set(re.findall(r"`(--[a-z-]+)", row))
    assert documented | common == known


def example(title):
    """The JSON that stands below a heading."""
    return json.loads(re.search(r"```json\n(.*?)```", section(REFERENCE, title), re.S)[1])


def test_the_json_report_has_the_keys_in_the_reference():
    shown = example("The JSON report")
    report = flatline.Report(
        sites=(SiteReport("a", "relu", 1),),
        units=(UnitReport("a", 0, "dead"),),
        findings=(Finding("dying-relu", "critical", ("a",), 0.41, "…"),),
    ).to_dict()
    assert shown.keys() == report.keys()
    for part in ("run", "certainty", "impact"):
        assert shown[part].keys() == report[part].keys()
    for part in ("sites", "units", "findings"):
        assert shown[part][0].keys() == report[part][0].keys()
    assert shown["sites"][0]["impact"].keys() == report["sites"][0]["impact"].keys()


def test_the_json_explanation_has_the_keys_in_the_reference():
    told = Explanation(flatline.Report(), SiteReport("a", "relu", 1)).to_dict()
    assert example("The JSON explanation").keys() == told.keys()
