"""Names and values of treatments, and what is said of wrong ones."""

from __future__ import annotations

import ast
import importlib
import shlex

import pytest

from flatline.diagnose.chart import Chart
from flatline.diagnose.findings import Finding
from flatline.diagnose.names import CODES
from flatline.diagnose.remedies import prescribe
from flatline.errors import UsageError
from flatline.treatments import plan
from flatline.treatments.prescriptions import prescription
from flatline.treatments.registry import METHODS, parse, parse_all

#: Codes of what costs capacity at most, and asks for no treatment.
HARMLESS = (
    *("dormant-units", "ignored-units", "linear-units", "unvisited-units", "constant-input"),
)
EXAMPLES = [f"{one.name}={value}" for one in METHODS for value in one.examples]


@pytest.mark.parametrize("text", EXAMPLES)
def test_each_treatment_is_read_built_and_written_back(text):
    treatment = parse(text)

    assert str(treatment) == text
    changes = plan.build(treatment).changes
    assert changes
    assert "\n" not in changes


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_each_method_names_its_grounds(method):
    assert set(method.findings) <= set(CODES)
    assert method.source
    assert method.refused
    assert method.name in importlib.import_module(method.home).BUILD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("init=hee", r"expected init=he\|xavier.* found 'init=hee'; did you mean init=he\?"),
        ("standardise=input", "did you mean standardize=input"),
        ("activation=relu", r"expected activation=leaky_relu\|prelu\|elu\|gelu\|silu"),
        ("clip=1.0", r"expected clip=norm:MAX\|value:MAX\|agc:RATIO\|auto:PERCENTILE"),
        ("clip=norm:-1", "expected clip="),
        ("clip=auto:101", "expected clip="),
        ("clip=norm:nan", "expected clip="),
        ("clip=norm:inf", "expected clip="),
        ("lr=0.1", r"expected lr=xFACTOR, found 'lr=0.1'; did you mean lr=x0.1\?"),
        ("lr=x0", "expected lr="),
        ("warmup=0", "expected warmup="),
        ("warmup=1.5", "expected warmup="),
        ("weight_decay=-1", "expected weight_decay="),
        ("dropout=0.5", "expected a treatment among output=.*, clip=.*; found 'dropout=0.5'"),
        ("init", "expected a treatment among .*found 'init'"),
        ("", "expected a treatment among"),
    ],
)
def test_what_is_no_treatment_is_refused_with_what_is(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_treatments_are_carried_out_in_a_fixed_order():
    given = ["clip=norm:1", "lr=x0.1", "norm=batch", "init=lsuv", "standardize=input"]
    want = ["standardize=input", "init=lsuv", "norm=batch", "lr=x0.1", "clip=norm:1"]

    assert [str(one) for one in parse_all([*given, "activation=elu"])] == ["activation=elu", *want]
    with pytest.raises(UsageError, match=r"one treatment of a kind, found lr=x0\.1 and lr=x10"):
        parse_all(["lr=x0.1", "lr=x10"])


@pytest.mark.parametrize("code", CODES)
def test_every_remedy_of_a_finding_can_be_applied(code):
    (found,) = prescribe(Chart([]), [Finding(code, "critical", (), 1.0, "")])

    for remedy in found.remedies:
        assert parse_all([remedy.treatment])
        assert remedy.why
    if code not in HARMLESS:
        assert found.remedies


@pytest.mark.parametrize("code", CODES)
def test_no_finding_names_a_treatment_twice(code):
    (found,) = prescribe(Chart([]), [Finding(code, "critical", (), 1.0, "")])
    named = [remedy.treatment for remedy in found.remedies]
    assert len(set(named)) == len(named)


def _finding(code, severity="critical", **known):
    return Finding(code, severity, (), 1.0, "", **known)


def test_a_second_root_is_treated_with_the_first():
    main, _ = prescribe(Chart([]), [_finding("output-activation"), _finding("zero-init")])
    assert main.remedies[0].treatment == "output=identity+init=he"

    milder = _finding("zero-init", "warning")
    main, _ = prescribe(Chart([]), [_finding("output-activation"), milder])
    named = [one.treatment for one in main.remedies]
    assert named == ["output=identity", "output=identity+init=he"]


def test_updates_too_small_are_treated_with_what_may_explain_them():
    main = _finding("output-activation", explains=("learning-rate-too-low",))
    main, _ = prescribe(Chart([]), [main, _finding("learning-rate-too-low", "warning")])
    named = [one.treatment for one in main.remedies]
    assert named == ["output=identity", "output=identity+lr=x100"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_finding("zero-init", explains=("no-learning",)), _finding("no-learning", "warning")),
        (_finding("zero-init"), _finding("init-too-small")),
        (_finding("zero-init"), _finding("output-activation", "info")),
    ],
)
def test_symptoms_hints_and_treatments_of_a_kind_are_not_joined(first, second):
    main, _ = prescribe(Chart([]), [first, second])

    assert not any("+" in one.treatment for one in main.remedies)


def test_a_prescription_can_be_typed_as_it_is():
    said = prescription("clip=norm:1.0", ["-m", "my.train", "--note", "two words; rm"])
    words = shlex.split(said["command"])

    assert words[:2] == ["flatline", "run"]
    assert words[2:] == ["--apply", "clip=norm:1.0", "-m", "my.train", "--note", "two words; rm"]
    call = ast.parse(said["code"], mode="eval").body
    assert ast.literal_eval(call.args[2]) == "clip=norm:1.0"
    assert prescription("dropout=0.5", ["train.py"]) == {}
    elsewhere = shlex.split(prescription("lr=x0.1", ["train.py"], "my runs.db")["command"])
    assert elsewhere == ["flatline", "run", "--store", "my runs.db", *elsewhere[4:]]


def test_treatments_that_belong_together_are_applied_together():
    said = prescription("init=he+lr=x0.1", ["train.py"])

    assert said["command"] == "flatline run --apply init=he --apply lr=x0.1 train.py"
    call = ast.parse(said["code"], mode="eval").body
    assert [ast.literal_eval(one) for one in call.args[2:]] == ["init=he", "lr=x0.1"]


def test_every_swap_of_the_table_is_a_treatment():
    from flatline import activations

    swaps = {swap for name in activations.names() for swap in activations.get(name).swaps}

    assert swaps
    for swap in swaps:
        parse(f"activation={swap}")
