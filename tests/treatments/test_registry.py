"""Names and values of treatments, and what is said of wrong ones."""

from __future__ import annotations

import ast
import importlib
import shlex
from pathlib import Path

import pytest

from flatline.diagnose.names import CODES
from flatline.errors import UsageError
from flatline.treatments import plan
from flatline.treatments.prescriptions import prescription
from flatline.treatments.registry import METHODS, parse, parse_all

RULES = Path(__file__).parents[2] / "src" / "flatline" / "diagnose" / "findings"
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
        ("dropout=0.5", "expected a treatment among activation=.*, clip=.*; found 'dropout=0.5'"),
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


def _prescribed() -> set[str]:
    """What the rules name as remedies, read from their source; a swap stands for any."""
    found = set()
    for module in RULES.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Remedy":
                text = node.args[0]
                found |= {
                    one.value
                    for one in ast.walk(text)
                    if isinstance(one, ast.Constant) and "=" in str(one.value)
                }
    return found


def test_every_remedy_that_a_rule_names_is_a_treatment():
    named = {text for text in _prescribed() if not text.endswith("=")}

    assert len(named) > 10
    for text in named - {"revive=redo"}:  # which is no treatment yet
        parse(text)


def test_a_prescription_can_be_typed_as_it_is():
    said = prescription("clip=norm:1.0", ["-m", "my.train", "--note", "two words; rm"])
    words = shlex.split(said["command"])

    assert words[:2] == ["flatline", "run"]
    assert words[2:] == ["--apply", "clip=norm:1.0", "-m", "my.train", "--note", "two words; rm"]
    call = ast.parse(said["code"], mode="eval").body
    assert ast.literal_eval(call.args[2]) == "clip=norm:1.0"
    assert prescription("revive=redo", ["train.py"]) == {}


def test_every_swap_of_the_table_is_a_treatment():
    from flatline import activations

    swaps = {swap for name in activations.names() for swap in activations.get(name).swaps}

    assert swaps
    for swap in swaps:
        parse(f"activation={swap}")
