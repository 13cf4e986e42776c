"""The runner, the criteria and the commands of the lab, on experiments of a few lines."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flatline.errors import UsageError
from flatline.lab import page, svg
from flatline.lab.data import INSTALL
from flatline.lab.experiment import CONDITIONAL, SKIPPED, SUPPORTED, UNSUPPORTED, Check, Experiment
from flatline.lab.intervals import of_mean
from flatline.lab.plot import Numbers, Plot, curve
from flatline.lab.registry import ORDER, chosen, registry
from flatline.lab.results import document, remarks, rests_on
from flatline.lab.runner import Result, run
from flatline.launch import cli
from flatline.show.plain import version
from page_source import Page

calls: list[int] = []


def measure(seed: int, fast: bool, null: bool = False) -> Numbers:
    calls.append(seed)
    return {"level": 0.0 if null else 10.0 + seed, "course": [1.0, 2.0 + seed]}


TINY = Experiment(
    id="tiny",
    claim="It is large.",
    protocol="Nothing is done.",
    measure=measure,
    criterion=(Check("the level is at least 5", "level", low=5.0),),
    plot=lambda found: Plot("<A & B>", "x", "y", (curve("course", (1, 2), found, "course"),)),
    null="it is small",
    command="flatline run train.py",
    advice="tells",
)


@pytest.fixture(autouse=True)
def _forget():
    calls.clear()


def judged(low: float, role: str) -> str:
    check = Check("it is large", "level", low=low, role=role, otherwise="Not always.")  # type: ignore[arg-type]
    one = replace(TINY, criterion=(*TINY.criterion, check))
    (result,) = run([one], range(3), folder=None)
    return result.judged.verdict


def test_a_failed_check_counts_by_its_role():
    assert judged(5, "claim") == judged(5, "scope") == judged(50, "tool") == SUPPORTED
    assert judged(50, "scope") == CONDITIONAL
    assert judged(50, "claim") == UNSUPPORTED


def test_a_mean_inside_whose_interval_is_not_inside_proves_nothing():
    one = replace(TINY, criterion=(Check("it is at least 10.5", "level", low=10.5),))
    (result,) = run([one], range(3), folder=None)
    assert result.judged.verdict == UNSUPPORTED
    assert "too few seeds show" in remarks(result)[0]


def test_what_is_not_a_number_supports_nothing():
    for each in (True, False):
        check = Check("it is small", "level", high=math.inf, low=0.0, each=each)
        assert not check.judge([{"level": 1.0}, {"level": math.nan}]).holds


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=20, unique=True))
def test_the_interval_of_a_mean_is_that_of_student(numbers):
    values = [number / 8 for number in numbers]
    found = of_mean(values)
    low, high = stats.t.interval(0.95, len(values) - 1, found.value, stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


def test_a_run_goes_on_where_it_was_interrupted(tmp_path):
    def stop_at_three(name, done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run([TINY], range(5), folder=tmp_path, progress=stop_at_three))
    (result,) = run([TINY], range(5), folder=tmp_path)
    assert calls == [0, 1, 2, 3, 4]
    assert (len(result.measurements), result.kept) == (5, 3)
    list(run([TINY], range(5), folder=tmp_path, null=True))
    list(run([TINY], range(5), folder=tmp_path, again=True))
    assert calls == [0, 1, 2, 3, 4] * 3


def test_what_was_cut_off_is_measured_anew(tmp_path):
    list(run([TINY], range(2), folder=tmp_path))
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text()[:7])
    list(run([TINY], range(2), folder=tmp_path))
    assert calls == [0, 1, 0, 1]


@pytest.mark.parametrize("written", ["{}", "[]", "1", '{"numbers": {}, "seconds": "x"}'])
def test_what_is_no_measurement_is_measured_anew(tmp_path, written):
    list(run([TINY], [0], folder=tmp_path))
    for file in tmp_path.rglob("*.json"):
        file.write_text(written)
    list(run([TINY], [0], folder=tmp_path))
    assert calls == [0, 0]


def edited(entry):
    """What a hand may make of a measurement that is still one by its form."""
    numbers = entry["numbers"]
    yield entry | {"numbers": {}}
    yield entry | {"numbers": {"level": numbers["level"]}}
    yield entry | {"numbers": numbers | {"level": "high"}}
    yield entry | {"numbers": numbers | {"level": numbers["level"] + 1}}
    yield entry | {"seconds": "long"}
    yield {"numbers": numbers, "seconds": 0.1}


def test_what_was_edited_is_measured_anew(tmp_path):
    list(run([TINY], [0], folder=tmp_path))
    (file,) = tmp_path.rglob("*.json")
    kept = file.read_text()
    for tried, entry in enumerate(edited(json.loads(kept)), 1):
        file.write_text(json.dumps(entry))
        (result,) = run([TINY], [0], folder=tmp_path)
        assert (len(calls), result.kept) == (1 + tried, 0)
        assert result.measurements[0]["level"] == 10.0
    file.write_text(json.dumps(json.loads(kept), indent=4))  # laid out anew, it says the same
    assert next(iter(run([TINY], [0], folder=tmp_path))).kept == 1


def test_a_folder_that_holds_nothing_is_named_with_what_to_do(tmp_path):
    (tmp_path / "lab").touch()
    with pytest.raises(UsageError, match=r"found: .*; make room or make it writable, or work in"):
        list(run([TINY], [0], folder=tmp_path / "lab"))


def test_an_experiment_without_its_data_is_skipped_with_the_command_that_helps():
    one = replace(TINY, needs=("no_such_module",))
    (result,) = run([one], range(2), folder=None)
    assert not calls
    (entry,) = document([result])["experiments"]
    assert entry["verdict"] == SKIPPED
    assert entry["evidence"]["skipped"].endswith(INSTALL)
    assert INSTALL in page.render([result]).replace("&#39;", "'")


def test_one_seed_has_no_interval_and_says_so():
    (result,) = run([TINY], [0], folder=None)
    assert "no interval" in rests_on(result)


def test_a_page_holds_every_experiment_and_escapes_what_they_say():
    (result,) = run([TINY], range(2), folder=None)
    text = page.render([result])
    assert "It is large." in text
    assert "&lt;A &amp; B&gt;" in text
    assert "<A & B>" not in text


def test_the_browser_may_use_the_styles_of_the_page_and_nothing_else():
    (result,) = run([TINY], range(2), folder=None)
    source = page.render([result])
    found = Page(source)
    (style,) = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = found.one("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]

    assert not [tag for tag, _, _ in found.elements if tag == "script"]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


@given(
    st.lists(
        st.sampled_from([math.nan, math.inf, -math.inf]) | st.floats(-1e12, 1e12),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
    st.booleans(),
)
def test_a_plot_can_be_drawn_of_whatever_was_measured(values, log, named):
    ticks = tuple(map(str, range(len(values)))) if named else ()
    series = curve("a", range(1, len(values) + 1), [{"y": values}], "y")
    drawn = svg.draw(Plot("t", "x", "y", (series,), ticks, log_x=log, log_y=log), alone=True)
    assert drawn.count("<svg") == drawn.count("</svg>") == 1
    assert "nan" not in drawn


def test_experiments_stand_in_the_order_of_the_handbook():
    assert list(registry()) == [name for name in ORDER if name in registry()]
    assert [one.id for one in chosen(["layer", "neuron"])] == ["neuron", "layer"]


def command(monkeypatch, capfd, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["flatline", "lab", *arguments])
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capfd.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "cause-learning-rat"], "found 'cause-learning-rat'; did you mean cause-learning"),
        (["run", "zzz"], "flatline lab list names them"),
        (["layer"], "write: flatline lab list, or flatline lab run layer"),
        (["layre"], "write: flatline lab list, or flatline lab run layer"),
        (["nope"], "found 'nope'; one of: list, run\nTry: flatline lab --help"),
        (["lsit"], "found 'lsit'; did you mean list?"),
        (["run", "--seeds", "0"], "expected a whole number of at least 1"),
    ],
)
def test_slips_are_answered_with_what_to_write(monkeypatch, capfd, arguments, sentence):
    status, out, err = command(monkeypatch, capfd, *arguments)
    assert (status, out) == (2, "")
    assert sentence in err


def test_the_commands_list_run_and_write(monkeypatch, capfd, tmp_path):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    status, listed, _ = command(monkeypatch, capfd, "list", "--json", "-")
    assert status == 0
    assert [one["id"] for one in json.loads(listed)["experiments"]] == [*registry()]

    arguments = ("run", "layer", "--seeds", "1", "--html", "lab.html")
    status, shown, _ = command(monkeypatch, capfd, *arguments)
    assert status == 0
    assert "supported" in shown
    assert "no interval" in shown
    assert "</svg>" in (tmp_path / "lab.html").read_text("utf-8")

    _, written, _ = command(monkeypatch, capfd, "run", "layer", "--seeds", "2", "--json", "-")
    found = json.loads(written)
    assert (found["schema"], found["kind"]) == ("flatline/1", "lab")
    assert found["flatline"] == json.loads(listed)["flatline"] == version()
    (one,) = found["experiments"]
    assert {*one} == {"id", "claim", "verdict", "evidence", "seconds"}
    assert one["evidence"]["seeds"] == 2


def test_an_interrupted_run_says_how_it_goes_on(monkeypatch, capfd):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("flatline.lab.runner.run", interrupted)
    status, out, err = command(monkeypatch, capfd, "run", "layer")
    assert (status, out) == (130, "")
    assert "the same command goes on" in err


def test_a_result_without_measurements_has_no_verdict_on_the_claim():
    assert Result(TINY, skipped="needs x").judged.verdict == SKIPPED
