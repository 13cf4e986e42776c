"""``flatline compare`` and ``flatline report --plot`` on real trainings in a real store."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import contract
import flatline
from flatline.launch import cli
from workloads import WORKLOADS


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store with two trainings of the same model, the later one with another seed."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    for seed, name in enumerate(("before", "after")):
        training = WORKLOADS["weight_decay"].build()
        torch.manual_seed(seed)
        with flatline.Monitor(training.model, training.optimizer, budget=1, path=path, name=name):
            for _ in range(20 + 10 * seed):
                training.step()
    return path


@pytest.fixture
def command(store, monkeypatch, capsys, tmp_path):
    """Runs ``flatline`` in this process, from a directory of its own."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["flatline", *arguments, "--store", str(store)])
        monkeypatch.setattr(sys, "__stderr__", sys.stderr)
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        output, errors = capsys.readouterr()
        return status, output, errors

    return run


def test_runs_stand_side_by_side_in_80_columns(command):
    status, output, errors = command("compare", "before", "after")
    assert (status, errors) == (0, "")
    assert max(map(len, output.splitlines())) <= 80
    assert "A  before (" in output
    assert "B  after (" in output
    (steps,) = (line.split() for line in output.splitlines() if "steps  " in line)
    assert steps == ["steps", "20", "30"]


def test_json_goes_alone_to_standard_output(command):
    status, output, _ = command("compare", "before", "after", "--json", "-")
    told = contract.strict(output)
    assert status == 0
    assert (told["schema"], told["kind"]) == ("flatline/1", "comparison")
    assert [run["name"] for run in told["runs"]] == ["before", "after"]
    (steps,) = (one for one in told["differences"] if one["name"] == "steps")
    assert (steps["values"], steps["changes"]) == ([20, 30], [0, 10])


def test_files_are_written(command, tmp_path):
    status, output, _ = command(
        "compare", "before", "after", "--html", "c.html", "--json", "c.json", "--quiet"
    )
    assert (status, output) == (0, "")
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "c.json").read_text())["kind"] == "comparison"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "expected two runs or more, found nothing"),
        (("before",), "expected two runs or more, found one"),
        (("before", "afer"), "did you mean after?"),
        (("before", "after", "before"), "expected different runs"),
    ],
)
def test_refuses_in_one_sentence(command, arguments, sentence):
    status, output, errors = command("compare", *arguments)
    assert (status, output) == (2, "")
    assert sentence in errors


def test_a_report_is_drawn_as_a_picture(command, tmp_path):
    status, output, _ = command("report", "--plot", "report.svg", "--quiet")
    assert (status, output) == (0, "")
    assert "States of units, by site" in (tmp_path / "report.svg").read_text()


def test_a_picture_in_no_known_format_is_refused(command):
    status, output, errors = command("report", "--plot", "report.gif")
    assert (status, output) == (2, "")
    assert "expected a picture ending in .png, .svg, .pdf" in errors
