"""Every experiment in its short form: what it finds, and that it finds nothing in its null."""

from __future__ import annotations

import pytest

from flatline.lab.data import missing
from flatline.lab.experiment import UNSUPPORTED, Experiment
from flatline.lab.registry import ORDER, registry
from flatline.lab.runner import run

#: One seed, whose numbers are judged as they are: an interval would take several.
SEEDS = (40,)

experiments = pytest.mark.parametrize("one", registry().values(), ids=lambda one: one.id)


def outcome(one: Experiment, null: bool = False):
    if lacking := missing(one.needs):
        pytest.skip(f"needs {', '.join(lacking)}")
    (result,) = run([one], SEEDS, fast=True, null=null, folder=None)
    return result


@experiments
def test_each_experiment_stands_in_short_form_and_falls_with_its_mechanism_switched_off(one):
    found, null = outcome(one), outcome(one, null=True)

    assert found.judged.tool_agrees, found.judged.outcomes
    assert null.judged.verdict != found.judged.verdict
    if found.judged.verdict != UNSUPPORTED:
        assert null.judged.verdict == UNSUPPORTED, null.judged.outcomes


@experiments
def test_each_experiment_says_what_it_does(one):
    assert one.id in ORDER
    assert one.criterion[0].role == "claim"
    for sentence in (one.claim, one.protocol):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
    assert one.command.startswith("flatline ")
    for check in one.criterion:
        assert (check.role == "scope") == bool(check.otherwise)
        assert check.low > float("-inf") or check.high < float("inf")
