"""The result of a trial: as text, as JSON, in a notebook, and its progress."""

from __future__ import annotations

import io
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from flatline.show.progress import Board, line, summary
from flatline.show.sheet import as_text
from flatline.show.trial import Trial, headline, show
from flatline.show.trial_page import trial_html
from flatline.trials.measures import Curve, Measures
from flatline.trials.progress import Cell, Progress
from flatline.trials.result import ArmResult, Result, ranked, remarks
from page_source import Page

STEPS = 200


def measures(end: float, *, dead: float, run: str, gap: float | None = None) -> Measures:
    """A run whose loss falls from 2.5 to its end in the first half."""
    values = np.maximum(2.5 - (2.5 - end) * np.arange(STEPS) / (STEPS / 2), end)
    return Measures(
        run=run,
        objective=end,
        curve=Curve(np.arange(STEPS), values),
        untrained=2.5,
        dead_share=dead,
        sick_share=min(1.0, dead + 0.05),
        effective_rank=20.5 * (1 - dead),
        gap=gap,
        steps=STEPS,
    )


def arm(name: str, ends: Sequence[float | None], dead: float, **more) -> ArmResult:
    runs = {
        seed: measures(end, dead=dead, run=f"{name[:4]}{seed}", gap=0.1 * (seed + 1))
        for seed, end in enumerate(ends)
        if end is not None
    }
    return ArmResult(name, runs, **more)


def trial(*treated: ArmResult, control: Sequence[float] = (1.0, 1.25, 1.5), **more) -> Trial:
    arms = ranked([arm("control", control, 0.41), *treated], maximise=False)
    facts = {"program": "train.py --epochs 5", "max_steps": STEPS, **more}
    notes = (*remarks(arms, "loss"), *facts.pop("notes", ()))
    return show(Result("loss", False, (0, 1, 2), arms, notes=notes, **facts))


def rich_trial() -> Trial:
    return trial(
        arm("init=he+lr=x0.1", (0.25, 0.5, 0.7), 0.02),
        arm("clip=norm:1.0", (1.1, 1.0, 1.7), 0.4),
        arm("activation=leaky_relu", (0.9, None, None), 0.0, stopped="by halving after 1 seed"),
        arm("lr=x10", (math.nan, math.nan, math.nan), 1.0),
        arm(
            "norm=batch",
            (0.5, None, 0.9),
            0.1,
            failed={1: "still ran after 600 s, its time limit"},
        ),
        left_out={"warmup=100": "the first 4 were taken; name it to have it tried"},
        notes=("3 of 15 runs were kept from an earlier call; --fresh repeats them",),
        store="runs of mine.db",
    )


def test_eighty_columns(golden):
    golden("trial.txt", str(rich_trial()))


def test_the_json_document(golden):
    text = rich_trial().to_json()
    golden("trial.json", text)

    document = json.loads(text)
    assert (document["schema"], document["kind"], document["seeds"]) == ("flatline/1", "trial", 3)
    assert [one["treatment"] for one in document["arms"]] == [
        *("init=he+lr=x0.1", "norm=batch", "activation=leaky_relu", "control", "clip=norm:1.0"),
        "lr=x10",
    ]
    assert "verdict" not in document["arms"][3]
    assert document["arms"][-1]["objective"]["runs"] == [None, None, None]


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_trial_fits_its_width(width, ascii_only):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "ascii" if ascii_only else "utf-8", errors="strict")
    Console(file=file, width=width).print(rich_trial())
    file.flush()
    lines = raw.getvalue().decode(file.encoding).split("\n")

    assert max(map(cell_len, lines)) <= width
    assert not any(said.endswith(" ") for said in lines)


@pytest.mark.parametrize(
    ("treated", "said"),
    [
        pytest.param([], "Nothing was tried.", id="nothing"),
        pytest.param(
            [arm("lr=x0.1", (0.1, 0.3, 0.4), 0.0), arm("init=he", (0.1, 0.3, 0.5), 0.0)],
            "lr=x0.1 is better than the control, and 1 other arm too.",
            id="two",
        ),
        pytest.param(
            [arm("lr=x10", (9.0, 9.1, 9.5), 0.0)],
            "Every treatment is worse than the control.",
            id="worse",
        ),
        pytest.param(
            [arm("lr=x10", (1.1, 1.0, 1.7), 0.0)],
            "No treatment was shown to be better than the control.",
            id="undecided",
        ),
    ],
)
def test_the_headline_says_what_was_shown(treated, said):
    assert headline(trial(*treated)) == said


def whole(trial) -> str:
    """What a terminal shows in one line, commands as a shell joins them."""
    return " ".join(str(trial).replace(" \\\n", " ").split())


def test_what_to_type_next_repeats_the_trial_or_uses_its_best_arm():
    assert "flatline run --apply init=he --apply lr=x0.1 train.py --epochs 5" in str(
        trial(arm("init=he+lr=x0.1", (0.25, 0.5, 0.7), 0.02))
    )
    undecided = whole(trial(arm("clip=norm:1.0", (1.1, 1.0, 1.7), 0.4)))
    assert (
        "flatline trial --seeds 6 --max-steps 200 --treat clip=norm:1.0 train.py --epochs 5"
        in undecided
    )


def test_terminal_json_and_page_say_the_same_steps_with_the_store_they_are_about():
    best = rich_trial()
    commands = [step["command"] for step in best.to_dict()["next"]]

    assert commands == [
        "flatline run --store 'runs of mine.db' --apply init=he --apply lr=x0.1 train.py "
        "--epochs 5",
        'flatline.treat(model, optimizer, "init=he", "lr=x0.1")',
        "flatline report --store 'runs of mine.db' init0",
    ]
    assert [said for _, said in Page(trial_html(best.to_dict())).all("code")] == commands
    assert " ".join(commands[0].split()) in whole(best)


def test_a_program_that_no_terminal_shows_as_it_is_leaves_no_command_to_copy():
    hidden = trial(arm("lr=x0.1", (0.25, 0.5, 0.7), 0.02), program=shlex.join(["a\x1b[2J.py"]))

    assert "flatline run" not in str(hidden)
    assert [step["command"] for step in hidden.to_dict()["next"]] == [
        'flatline.treat(model, optimizer, "lr=x0.1")',
        "flatline report lr=x0",
    ]


def test_a_trial_without_a_program_has_its_best_arm_in_python_alone():
    said = str(trial(arm("lr=x0.1", (0.25, 0.5, 0.7), 0.02), program=""))
    assert "# in the program, the best arm" in said
    assert "flatline run" not in said


def test_the_same_trial_with_more_seeds_begins_at_the_same_seed():
    undecided = trial(arm("clip=norm:1.0", (1.1, 1.0, 1.7), 0.4))
    shifted = replace(undecided, seeds=(7, 8, 9), objective="score", maximise=False)
    said = whole(shifted)

    assert "flatline trial --seeds 6 --seed-offset 7 --max-steps 200 --objective score" in said
    assert "--objective score --minimize --treat clip=norm:1.0" in said


def test_an_end_that_the_control_never_had_is_not_missed():
    rescue = arm("clip=norm:1.0", (1.1, 1.0, 1.7), 0.4)
    assert "never" not in str(trial(rescue, control=(math.nan,) * 3))

    once = trial(rescue, control=(1.2, math.nan, math.nan))
    assert once.steps_to_control(rescue) == rescue.runs[0].curve.steps_to(1.2, False)


def test_the_page_is_made_of_the_json_document(tmp_path):
    text = rich_trial().to_html(tmp_path / "trial.html")

    assert (tmp_path / "trial.html").read_text("utf-8") == text
    assert "init=he+lr=x0.1 is better than the control" in text


def beside(text: str) -> tuple[list[str], str]:
    """Heads and legend of what stands beside the objective."""
    part = text.split("Beside it\n")[1].split("\n\n")[0]
    return part.splitlines()[0].split(), " ".join(part.split())


def test_the_legend_explains_the_columns_that_are_shown_and_no_other():
    whole = trial(arm("lr=x0.1", (0.25, 0.5, 0.7), 0.02))
    without = [
        replace(one, runs={s: replace(run, effective_rank=None) for s, run in one.runs.items()})
        for one in whole.arms
    ]
    heads, legend = beside(str(replace(whole, arms=tuple(without))))
    assert heads == ["arm", "dead", "sick", "steps", "gap"]
    assert "rank:" not in legend

    for width in (80, 32, 24):
        heads, legend = beside(as_text(whole, width, color=False))
        explained = [head for head in ("rank", "steps", "gap") if f"{head}: " in legend]
        assert explained == [head for head in heads if head in ("rank", "steps", "gap")]


def test_seeds_that_fail_alike_are_told_together():
    why = "ended with status 1: no room; its output is in seed-{}.log"
    failed = {0: why.format(0), 1: "still ran after 9 s, its time limit", 2: why.format(2)}
    said = str(trial(arm("norm=batch", (None,) * 3, 0.0, failed=failed))).splitlines()

    assert "  norm=batch, seeds 0, 2: ended with status 1: no room; its output is in" in said
    assert "  norm=batch, seed 1: still ran after 9 s, its time limit" in said


def test_a_notebook_shows_names_as_text():
    given = trial(arm("lr=x0.1", (0.25, 0.5, 0.7), 0.02))
    shown = replace(given, objective="<b>")._repr_html_()

    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert shown.count("<tr>") == 3


def progress() -> Progress:
    cells = {
        ("control", 0): Cell("kept", objective=1.5),
        ("control", 1): Cell("done", seconds=4.0, objective=1.25),
        ("lr=x10", 0): Cell("done", seconds=6.0, objective=math.nan),
        ("lr=x10", 1): Cell("failed", seconds=1.0, why="ended with status 1: Err\x1b[31mor"),
        ("init=he", 0): Cell("running", since=0.0),
        ("init=he", 1): Cell("waiting"),
    }
    return Progress("loss", [0, 1], cells)


def test_progress_is_drawn_with_a_line_for_each_arm():
    lines = as_text(Board(progress()), 80, color=False).splitlines()

    assert lines[0].split() == ["control", "✓", "✓", "1.5,", "1.25"]
    assert lines[1].split()[:4] == ["lr=x10", "✓", "✗", "diverged"]
    assert "running for" in lines[2]
    assert lines[3] == "4 of 6 runs, about 10 s left"


def test_progress_is_told_in_lines_where_there_is_no_terminal():
    told = progress()
    said = []
    for place in told.cells:
        told.last = place
        said.append(line(told))

    assert said == [
        None,
        "control, seed 1: loss 1.25, 4.0 s (4 of 6 runs)",
        "lr=x10, seed 0: loss diverged, 6.0 s (4 of 6 runs)",
        "lr=x10, seed 1: ended with status 1: Err\\x1b[31mor, 1.0 s (4 of 6 runs)",
        None,
        None,
    ]
    assert summary(Progress("loss", [0], {})) == "0 of 0 runs"


def test_an_arm_of_several_treatments_is_named_in_full_one_a_line():
    name = "activation=leaky_relu+norm=batch:standard"
    lines = str(trial(arm(name, (0.25, 0.5, 0.7), 0.02))).splitlines()

    first = next(i for i, line in enumerate(lines) if line.startswith("  activation=leaky_relu  "))
    assert lines[first + 1] == "  +norm=batch:standard"
    assert all(len(line) <= 80 for line in lines)
