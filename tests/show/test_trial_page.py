"""The page of a trial, from its document alone."""

from __future__ import annotations

import copy
import re

import pytest

import trial_documents as trials
from flatline.show.trial_page import headline, trial_html
from page_source import Page


def test_golden_trial(golden):
    source = trial_html(trials.digits())
    source = re.sub(r"sha256-[\w+/=]+", "sha256-…", source)
    for element in ("script", "style"):
        source = re.sub(rf"<{element}>.*?</{element}>", f"<{element}/>", source, flags=re.DOTALL)
    golden("trial.html", source)


@pytest.mark.parametrize("document", [trials.digits, trials.hostile, trials.bare, dict])
def test_pages_are_nested_well_and_load_nothing(document):
    source = trial_html(document())
    page = Page(source)
    tags = [tag for tag, _, _ in page.elements]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert "://" not in source.replace("alert(1)", "")


def test_every_arm_is_drawn_where_its_numbers_are():
    page = Page(trial_html(trials.digits()))
    pictures = page.all("svg", preserveaspectratio="none")
    assert [int(found["data-marks"]) for found, _ in pictures] == [3, 3, 0, 2]
    intervals = [found["d"] for found, _ in page.all("path", **{"class": "interval"})]
    ends = [tuple(map(float, re.match(r"M(\S+) 12H([\d.]+)M", d).groups())) for d in intervals]
    assert len(ends) == 3
    zero = float(page.all("path", **{"class": "zero"})[0][0]["d"][1:].split()[0])
    better, undecided, worse = ends
    assert better[1] < zero < worse[0]
    assert undecided[0] < zero < undecided[1]
    # One scale for all: lengths are in proportion to the numbers.
    assert (better[1] - better[0]) / (worse[1] - worse[0]) == pytest.approx(0.12 / 0.20, abs=1e-3)


def test_the_headline_names_the_best_and_never_more_than_was_shown():
    document = trials.digits()
    assert headline(document) == "lr=x0.1 is better than the control."
    undecided = copy.deepcopy(document)
    undecided["arms"][0]["verdict"] = "no difference shown"
    assert headline(undecided) == "No treatment was shown to be better than the control."
    two = copy.deepcopy(document)
    two["arms"][1]["verdict"] = "better"
    assert headline(two) == "lr=x0.1 is better than the control, and 1 other arm too."


def test_the_best_arm_comes_with_its_command():
    page = Page(trial_html(trials.digits()))
    assert page.all("code")[0][1] == "flatline run --apply lr=x0.1 train.py --epochs 5"


def test_failures_remarks_and_what_was_left_out_are_told():
    text = trial_html(trials.digits())
    for said in ("seed 1 failed", "Not tried: revive=redo", "Seeds change little"):
        assert said in text


def test_what_limits_a_claim_is_told_beside_it():
    document = trials.digits()
    document["arms"][1] |= {"why": "one seed gives no interval", "stopped": "by halving"}
    text = trial_html(document)
    assert "clip=norm:1.0: one seed gives no interval" in text
    assert "clip=norm:1.0: given up by halving" in text
