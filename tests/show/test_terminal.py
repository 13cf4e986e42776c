"""The report as text: what it says, and that it fits."""

from __future__ import annotations

import io
import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import recordings
from flatline.diagnose.findings import Finding, Remedy
from flatline.show.report import Report, SiteReport, UnitReport, build
from flatline.show.sheet import Sheet
from flatline.show.terminal import render, render_runs, segments, spark

NAMES = st.sampled_from(recordings.HOSTILE) | st.text(st.characters(), max_size=30)
RUNS = [
    {
        "id": f"{index:010}",
        "name": name,
        "status": ("finished", "failed", "interrupted", "running")[index % 4],
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": None if index % 4 == 3 else 7.5 ** (index % 8),
        "steps": 10 ** (index % 8),
    }
    for index, name in enumerate(recordings.HOSTILE)
]


def widths(text: str) -> list[int]:
    return [cell_len(line) for line in text.split("\n")]


@pytest.mark.parametrize("name", ["sick_mlp", "tiny", "healthy_mlp", "unexamined", "empty"])
def test_eighty_columns(name, golden):
    golden(f"{name}.txt", render(build(recordings.ALL[name]())))


def test_forty_columns(golden):
    golden("sick_mlp_40.txt", render(build(recordings.sick_mlp()), 40))


def test_a_table_of_runs(golden):
    console = Console(file=io.StringIO(), width=80)
    console.print(render_runs(RUNS))
    golden("runs.txt", console.file.getvalue())


@pytest.mark.parametrize("width", [20, 40, 59, 60, 79, 80, 120, 200])
@pytest.mark.parametrize("name", recordings.ALL)
def test_every_report_fits_its_width(name, width):
    text = render(build(recordings.ALL[name]()), width)
    assert max(widths(text)) <= width
    assert not any(line.endswith(" ") for line in text.split("\n"))


@pytest.mark.parametrize("width", [20, 24, 28, 40, 80])
def test_the_legend_of_costs_explains_the_columns_that_are_shown(width):
    lines = render(build(recordings.sick_mlp()), width).split("\n")
    part = lines[lines.index("What it costs") + 1 :]
    heads = part[0].split()
    legend = " ".join(" ".join(part[: part.index("")]).split())

    explained = [head for head in ("live", "rank", "update") if f"{head}: " in legend]
    assert explained == heads
    assert (len(heads) < 3) == (width < 27)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Any report, consistent or not."""
    states = st.sampled_from(["healthy", "dead", "dormant", "saturated", "nonfinite"])
    numbers = st.integers(0, 10**9)
    sites = tuple(
        SiteReport(
            draw(NAMES), draw(NAMES), draw(numbers), states=draw(st.dictionaries(states, numbers))
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    steps = draw(st.integers(0, 10**7))
    units = tuple(
        UnitReport(
            site=draw(NAMES),
            unit=draw(numbers),
            state=draw(st.sampled_from(["dead", "dormant", "nonfinite"])),
            certain=draw(st.booleans()),
            since_step=draw(st.none() | numbers),
            since_after=draw(st.none() | numbers),
            since_exact=draw(st.booleans()),
            examples=draw(numbers),
            firing_rate_upper=draw(st.none() | st.floats(0, 1)),
            evidence=draw(st.dictionaries(st.just("margin"), st.floats(-1e9, 0))),
        )
        for _ in range(draw(st.integers(0, 4)))
    )
    remedies = tuple(Remedy(draw(NAMES), draw(NAMES)) for _ in range(draw(st.integers(0, 3))))
    severities = st.sampled_from(["critical", "warning", "info"])
    finding = Finding(draw(NAMES), draw(severities), (draw(NAMES),), 0.5, draw(NAMES), {}, remedies)
    return Report(
        verdict=draw(st.sampled_from(["healthy", "warning", "sick"])),
        run={"name": draw(NAMES), "id": draw(NAMES), "steps": steps, "argv": draw(st.lists(NAMES))},
        sites=sites,
        units=units,
        findings=(finding,) * draw(st.integers(0, 2)),
        metrics={
            draw(NAMES): draw(st.lists(st.tuples(st.integers(0, steps), st.none() | st.floats())))
        },
        not_watched=((draw(NAMES), draw(NAMES)),),
        lost=((draw(NAMES), draw(NAMES)),),
        deaths=tuple((step, 1) for step in sorted(draw(st.sets(st.integers(0, steps))))),
        store=draw(st.none() | NAMES),
    )


@settings(max_examples=60, deadline=None)
@given(reports(), st.integers(40, 200))
def test_any_report_fits_any_width(report, width):
    text = render(report, width)
    assert max(widths(text)) <= width
    assert "\x1b" not in text


@given(st.lists(NAMES, max_size=4), st.integers(40, 200))
def test_any_table_of_runs_fits_any_width(names, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(render_runs([{"id": name, "name": name, "steps": 1} for name in names]))
    assert max(widths(console.file.getvalue())) <= width


def test_ascii_terminals_get_ascii():
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80)
    console.print(build(recordings.sick_mlp()))
    console.file.seek(0)
    assert "#" in console.file.read()


def test_colour_only_where_it_is_wanted():
    report = build(recordings.sick_mlp())
    assert "\x1b[" in render(report, color=True)
    assert "\x1b" not in render(report)


def test_markup_in_names_is_text():
    report = build(recordings.record(recordings.Plan("[red]x[/red]", 4)))
    assert "[red]x[/red]" in render(report)


def test_printing_a_report_is_the_same_as_its_text():
    report = build(recordings.tiny())
    console = Console(file=io.StringIO(), width=80)
    console.print(report)
    assert console.file.getvalue() == str(report)


def test_many_metrics_are_counted_not_listed():
    recording = recordings.record(
        recordings.Plan("net.0", 4), metrics={f"m{i}": [(0, 1.0)] for i in range(50)}
    )
    assert "and 44 metrics more" in render(build(recording))


@given(
    st.dictionaries(
        st.sampled_from(["healthy", "dead", "dormant"]), st.integers(1, 10**6), min_size=1
    ),
    st.integers(3, 60),
)
def test_a_bar_is_full_and_shows_every_kind(counts, cells):
    parts = segments(counts, cells)
    assert sum(parts.values()) == cells
    assert parts.keys() == counts.keys()
    assert min(parts.values()) >= 1


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_a_spark_line_tells_nothing_from_something(numbers):
    line = spark(numbers)
    assert [mark == "▁" for mark in line] == [n == 0 for n in numbers]
    heights = ["▁▂▃▄▅▆▇█".index(mark) for mark in line]
    assert sorted(heights) == [h for _, h in sorted(zip(numbers, heights, strict=True))]


def test_a_command_that_does_not_fit_beside_its_comment_is_broken_only_where_it_must():
    report = build(recordings.sick_mlp())
    lines = render(replace(report, store="/a/rather/long/path/to/a/store.db"), 80).split("\n")
    command = "  flatline report 0123456789 --store /a/rather/long/path/to/a/store.db --json -"
    assert command in lines


@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\\"), max_size=30
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(20, 100),
)
def test_a_command_over_several_lines_is_the_same_to_a_shell(words, width):
    command = shlex.join(words)
    shown = Sheet(width, ascii_only=False).command(command).plain

    assert shlex.split(shown.replace(" \\\n", " ")) == words


def test_a_long_command_fits_the_lines_that_it_is_given():
    command = "flatline run --apply activation=leaky_relu --apply norm=batch:standard train.py"
    shown = Sheet(40, ascii_only=False).command(command).plain.split("\n")

    assert all(len(line) <= 38 for line in shown)
    assert all(line.endswith(" \\") for line in shown[:-1])


@pytest.mark.parametrize("width", [30, 40, 80])
def test_every_line_of_what_a_command_is_for_is_a_comment_to_a_shell(width):
    said = "the first remedy for learning-rate-too-high, applied"
    lines = Sheet(width, ascii_only=False).comment(said).plain.split("\n")

    assert all(line.startswith("# ") and len(line) <= width - 2 for line in lines)
    assert " ".join(line.removeprefix("# ") for line in lines) == said
