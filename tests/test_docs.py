"""What the documents promise is what the package has."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from torch import nn

import flatline
from benchmarks.pages import pages
from flatline.diagnose import names, thresholds
from flatline.diagnose.findings import Finding
from flatline.diagnose.findings.base import _SEARCHES
from flatline.launch.cli import flatline as commands
from flatline.show.entries import SiteReport, UnitReport
from flatline.show.explanation import Explanation

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Said once for all commands, above their table.
COMMON = {"--json", "--store", "--quiet", "--help"}
#: What some do without: one stores nothing, the other writes nothing.
UNCOMMON = {"examine": {"--store"}, "lab": {"--store"}, "ui": {"--json", "--quiet"}}


def section(page: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.split(r"^#+ ", text.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def codes(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([a-z-]+)`", text))


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_pages_quote_the_figures_that_were_measured():
    for page, text in pages().items():
        assert page.read_text(encoding="utf-8") == text, f"make pages writes {page.name} anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_reference_lists_the_options_of_every_command():
    table = section("docs/reference.md", "Commands")
    rows = dict(re.findall(r"^\| `flatline (\w+).*\| (.*)\|$", table, re.MULTILINE))
    assert rows.keys() == commands.commands.keys()
    for name, command in commands.commands.items():
        parts = command.commands.values() if isinstance(command, click.Group) else [command]
        options = {
            opt
            for part in parts
            for param in part.params
            if isinstance(param, click.Option)
            for opt in (*param.opts, *param.secondary_opts)
            if opt.startswith("--")
        }
        common = COMMON - UNCOMMON.get(name, set())
        listed = set(re.findall(r"`(--[\w-]+)", rows[name]))
        assert listed | common == options | {"--help"}, name


def test_the_reference_lists_the_states_and_the_findings_that_are_looked_for():
    states = section("docs/reference.md", "States")
    assert codes(states) == names.STATES
    table = section("docs/reference.md", "Findings and severities")
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert sorted(code for row in rows for code in codes(row)) == sorted(names.CODES)
    assert _SEARCHES.keys() == set(names.CODES)


def test_the_concepts_explain_every_state_and_every_cause():
    table = section("docs/concepts.md", "States")
    assert tuple(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == names.STATES
    why = section("docs/concepts.md", "Why it died")
    rows = re.findall(r"^\| (`.*?) \|", why, re.MULTILINE)
    assert {code for row in rows for code in codes(row)} == set(names.CAUSES)


def keys_in_the_reference(title: str) -> dict[str, Any]:
    text = section("docs/reference.md", title).partition("```json\n")[2]
    example: dict[str, Any] = json.loads(text.partition("```")[0])
    return example


def test_the_json_report_has_the_keys_in_the_reference():
    shown = keys_in_the_reference("The JSON report")
    report = flatline.Report(
        run={"argv": ["train.py"]},
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
    assert keys_in_the_reference("The JSON explanation").keys() == told.keys()


@pytest.mark.parametrize("name", ["Monitor", "examine", "log", "Case"])
def test_the_reference_shows_how_a_name_is_called(name):
    table = section("docs/reference.md", "Python")
    (shown,) = re.findall(rf"^\| `flatline\.{name}\((.*?)\)`", table, re.MULTILINE)
    parameters = inspect.signature(getattr(flatline, name)).parameters
    assert [part.partition("=")[0] for part in shown.split(", ") if part != "*"] == [*parameters]


@pytest.mark.parametrize("page", ["docs/howto.md", "docs/reference.md"])
def test_thresholds_in_examples_exist(page):
    tables = [tomllib.loads(block)["tool"]["flatline"] for block in blocks(page, "toml")]
    assert tables
    for table in tables:
        assert thresholds.parse(table, page) != thresholds.DEFAULT


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def train(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(16, 4)).square().mean().backward()
            optimizer.step()

    (code,) = blocks("README.md", "python")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches = [(torch.randn(8, 4), torch.randn(8, 1))]
    scope = {"model": model, "optimizer": optimizer, "train": train, "batches": batches}
    exec(code, scope | {"loss_fn": nn.functional.mse_loss})

    said = capsys.readouterr().out
    assert "3 steps" in said
    assert "lr=x0.1" in said
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")
