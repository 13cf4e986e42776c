"""Rules that make a run fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatline.diagnose.diagnose import diagnose
from flatline.diagnose.findings import CODES
from flatline.diagnose.rules import Rule, holds, parse
from flatline.errors import UsageError
from test_findings import lively, site, with_dead


@pytest.mark.parametrize(
    ("text", "rule", "written"),
    [
        ("dead>5%", Rule("dead", 0.05), "dead>5%"),
        (" sick > 12.5 % ", Rule("sick", 0.125), "sick>12.5%"),
        ("starved>0%", Rule("starved", 0.0), "starved>0%"),
        ("critical", Rule("critical"), "critical"),
        *((code, Rule(code), code) for code in CODES),
    ],
)
def test_a_rule_is_read_and_written(text: str, rule: Rule, written: str) -> None:
    assert parse(text) == rule
    assert str(rule) == written
    assert parse(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ded>5%", r"did you mean dead>5%\?"),
        ("dead>5", r"did you mean dead>5%\?"),
        ("dead>=5%", r"did you mean dead>5%\?"),
        ("sik", r"did you mean sick>5%\?"),
        ("dying-rellu", r"did you mean dying-relu\?"),
        ("critcal", r"did you mean critical\?"),
        ("zzz", r"did you mean dead>5%\?"),
        ("", r"did you mean dead>5%\?"),
        ("dead>100%", r"can never hold"),
        ("dead>-5%", r"did you mean"),
        ("dead>nan%", r"did you mean"),
    ],
)
def test_what_is_no_rule_is_refused_with_a_suggestion(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        parse(text)


@given(st.text())
def test_any_text_is_a_rule_or_a_usage_error(text: str) -> None:
    try:
        rule = parse(text)
    except UsageError as error:
        said = str(error)
    else:
        said = repr(text)
        assert parse(str(rule)) == rule
    assert repr(text) in said


class Said:
    """A report in the form of the JSON report."""

    def __init__(self, **said: Any) -> None:
        self.said = {"sites": [], "findings": [], **said}

    def to_dict(self) -> dict[str, Any]:
        return self.said


SITES = Said(
    sites=[
        {"units": 60, "states": {"dead": 6, "healthy": 54}, "silent_so_far": 1},
        {"units": 40, "states": {"saturated": 2, "dormant": 8, "healthy": 30}},
    ]
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("dead>4%", True),
        ("dead>5%", False),  # 5 certain ones of 100: exactly 5 %, not more
        ("sick>6%", True),
        ("sick>7%", False),
        ("dormant>7%", True),
        ("saturated>2%", False),
        ("duplicate>0%", False),
    ],
)
def test_shares_count_certain_units_of_the_whole_model(rule: str, expected: bool) -> None:
    assert holds(parse(rule), SITES) is expected


@pytest.mark.parametrize("percent", range(100))
def test_exactly_the_share_is_not_more_than_the_share(percent: int) -> None:
    def dead(number: int) -> Said:
        return Said(sites=[{"units": 1000, "states": {"dead": number}}])

    rule = parse(f"dead>{percent}%")
    assert not holds(rule, dead(percent * 10))
    assert holds(rule, dead(percent * 10 + 1))


def test_findings_hold_by_code_and_severity() -> None:
    said = Said(findings=[{"code": "saturation", "severity": "warning"}])
    assert holds(parse("saturation"), said)
    assert not holds(parse("dying-relu"), said)
    assert not holds(parse("critical"), said)
    assert holds(parse("critical"), Said(findings=[{"code": "x", "severity": "critical"}]))


def test_nothing_holds_of_nothing() -> None:
    for rule in ("dead>0%", "sick>0%", "critical", "non-finite"):
        assert not holds(parse(rule), Said())


def test_rules_read_a_diagnosis() -> None:
    found = diagnose([site(100)], {"net.0": with_dead(lively(100), 40)})
    assert holds(parse("dead>39%"), found)
    assert not holds(parse("dead>40%"), found)
    assert holds(parse("critical"), found)
    assert holds(parse("dying-relu"), found)
    unsure = diagnose([site(100)], {"net.0": with_dead(lively(100, 458), 40)})
    assert not holds(parse("dead>0%"), unsure)
