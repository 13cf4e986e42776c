"""The report as data: the JSON contract, and what the report says of a recording."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import contract
import recordings
from flatline.diagnose.names import STATES
from flatline.diagnose.thresholds import Thresholds
from flatline.errors import UsageError
from flatline.sense.history import Note
from flatline.show.report import UNSURE, Report, build


def rounded(value):
    """Without the last digits, which differ between platforms."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", [name for name in recordings.ALL if name != "hostile"])
def test_json_is_as_the_contract_says(name):
    contract.check(build(recordings.ALL[name]()).to_json())


def test_hostile_names_survive_json():
    # A status and a start that are none can only come from a damaged store.
    facts = {"status": "finished", "started": None}
    recording = recordings.hostile()
    recording.facts.update(facts)
    text = build(recording).to_json()
    said = contract.check(text)
    assert text.isascii()
    assert [site["name"] for site in said["sites"]] == list(recordings.HOSTILE)
    assert set(recordings.HOSTILE) <= set(said["metrics"])


def test_an_examination_says_so():
    said = contract.check(build(recordings.single(), kind="examination").to_json())
    assert said["kind"] == "examination"


def test_a_report_without_anything_is_json():
    contract.check(Report().to_json())


def test_golden_json(golden):
    said = json.loads(build(recordings.tiny()).to_json())
    golden("tiny.json", json.dumps(rounded(said), indent=1) + "\n")


def test_what_is_not_finite_becomes_null():
    said = contract.check(build(recordings.broken_metrics()).to_json())
    assert said["metrics"]["nan"] == [[0, None], [1, None]]
    assert said["metrics"]["infinite"] == [[0, None], [5, 1.0], [6, None]]


def test_a_loss_that_was_never_finite_is_a_metric_without_values():
    recording = recordings.record(recordings.Plan("net.0", 4), steps=20)
    nan = replace(recording.steps, loss=np.full(20, np.nan))
    assert "loss" not in build(replace(recording, steps=nan)).metrics  # none was seen
    noted = replace(recording, steps=nan, notes=[Note(0, "nonfinite", {"what": "loss"})])
    assert build(noted).to_dict()["metrics"]["loss"] == [[step, None] for step in range(20)]
    assert "loss: not finite at 20 steps" in str(build(noted))


def test_loss_and_learning_rate_are_metrics_which_the_program_may_log_itself():
    recording = recordings.record(recordings.Plan("net.0", 4), metrics={"lr": [(0, 7.0)]})
    said = build(recording).to_dict()
    assert len(said["metrics"]["loss"]) == 500
    assert said["metrics"]["lr"] == [[0, 7.0]]


def test_thresholds_judge_and_those_changed_are_in_every_report():
    assert build(recordings.sick_mlp()).verdict == "sick"
    mild = build(recordings.sick_mlp(), thresholds=Thresholds(critical_share=0.9))
    assert mild.verdict == "warning"
    assert contract.check(mild.to_json())["thresholds"] == {"critical_share": 0.9}
    said = "judged with critical_share = 0.9 (default 0.3)"
    assert said in str(mild)
    assert said in mild.to_html()
    assert said in mild._repr_html_()
    assert "judged with" not in str(build(recordings.sick_mlp()))


def test_units_beyond_the_limit_are_counted():
    whole = build(recordings.sick_mlp())
    part = build(recordings.sick_mlp(), units=5)
    said = contract.check(part.to_json())
    assert said["units_truncated"] == len(whole.units)
    assert {unit["state"] for unit in said["units"]} == {"dead"}
    assert part.sites == whole.sites


def test_the_worst_units_are_listed():
    states = [unit.state for unit in build(recordings.sick_mlp(), units=49).units]
    assert Counter(states) == {"dead": 46, "saturated": 2, "duplicate": 1}


@pytest.mark.parametrize("name", recordings.ALL)
def test_codes_agree_with_counts_and_lists(name):
    report = build(recordings.ALL[name]())
    listed = Counter((unit.site, unit.state, unit.certain) for unit in report.units)
    for site in report.sites:
        codes = np.frombuffer(site.codes, np.uint8)
        assert len(codes) == site.units
        assert np.count_nonzero(codes & UNSURE) == site.silent_so_far
        counts = Counter(STATES[code & ~UNSURE] for code in codes.tolist())
        assert counts == Counter(site.states)
        for code, number in Counter(codes.tolist()).items():
            state = STATES[code & ~UNSURE]
            if state != "healthy":
                assert listed[site.name, state, not code & UNSURE] == number


@pytest.mark.parametrize("name", recordings.ALL)
def test_deaths_of_sites_add_up(name):
    report = build(recordings.ALL[name]())
    together = Counter()
    for site in report.sites:
        together.update(dict(site.deaths))
    assert sorted(together.items()) == list(report.deaths)


def test_exams_tell_how_many_units_of_each_site_were_silent():
    report = build(recordings.tiny())
    said = contract.check(report.to_json())
    assert [exam["step"] for exam in said["exams"]] == [step for step, _ in report.exams]
    assert said["exams"][0]["silent"] == [1, 0]
    assert said["exams"][-1]["silent"] == [3, 0]


def test_a_report_in_a_log_is_one_short_line():
    assert repr(build(recordings.sick_mlp())) == (
        "<Report: sick, 4 findings, 3 sites, 56 units listed>"
    )


@pytest.mark.parametrize("write", ["to_json", "to_html"])
def test_a_file_that_cannot_be_written_is_a_usage_error(write, tmp_path):
    with pytest.raises(UsageError, match="expected a file that can be written"):
        getattr(Report(), write)(tmp_path / "missing" / "report")


@pytest.mark.parametrize("write", ["to_json", "to_html"])
def test_what_is_written_is_what_is_returned(write, tmp_path):
    path = tmp_path / "report"
    text = getattr(build(recordings.hostile()), write)(path)
    assert path.read_text(encoding="utf-8") == text
