"""``flatline explain`` on a real training in a real store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import flatline
from flatline.launch import cli
from workloads import WORKLOADS

SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store with one run in which units died, and a later one of another name."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    for name, workload in (("dying", WORKLOADS["weight_decay"]), ("later", WORKLOADS["pairs"])):
        training = workload.build()
        torch.manual_seed(0)
        with flatline.Monitor(training.model, training.optimizer, budget=1, path=path, name=name):
            for _ in range(workload.steps):
                training.step()
    return path


@pytest.fixture
def command(store, monkeypatch, capsys, tmp_path):
    """Runs ``flatline explain`` in this process, from a directory of its own."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "80")
        arguments = ("explain", *arguments, "--store", str(store))
        monkeypatch.setattr(sys, "argv", ["flatline", *arguments])
        monkeypatch.setattr(sys, "__stderr__", sys.stderr)
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        output, errors = capsys.readouterr()
        return status, output, errors

    return run


def dead(store: Path) -> tuple[str, int]:
    """A dead unit of the first run."""
    from flatline.record.store import Store
    from flatline.show.report import build

    with Store(store, create=False) as runs:
        report = build(runs.load(runs.find("dying")))
    unit = next(one for one in report.units if one.state == "dead" and one.since_after is not None)
    return unit.site, unit.unit


def test_a_dead_unit_is_told_of(command, store):
    site, unit = dead(store)
    status, output, errors = command("dying", f"{site}:{unit}")
    assert (status, errors) == (0, "")
    assert output.startswith(f"{site}:{unit}  ")
    for part in (
        "Life",
        "Around its death",
        "Chance to come back",
        "Neighbours",
        "dying (",
    ):
        assert f"\n{part}" in output
    assert max(map(len, output.splitlines())) <= 80

    status, output, _ = command("dying", site)
    assert (status, output.splitlines()[0]) == (0, site)
    assert "Over the exams" in output


def test_json_alone_goes_to_standard_output(command, store, tmp_path):
    site, unit = dead(store)
    status, output, errors = command("dying", f"{site}:{unit}", "--json", "-")
    said = json.loads(output)
    assert (status, errors) == (0, "")
    assert (said["kind"], said["site"], said["unit"]) == ("explanation", site, unit)
    assert said["run"]["name"] == "dying"
    assert command("dying", f"{site}:{unit}", "--json", "e.json", "--quiet") == (0, "", "")
    assert json.loads((tmp_path / "e.json").read_text()) == said


def test_the_last_run_is_meant_where_none_is_named(command):
    status, output, _ = command("0")
    assert status == 0
    assert "later (" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected [RUN] SITE[:UNIT], found nothing; write: flatline explain net.0:17"),
        (["a", "b", "c"], "expected [RUN] SITE[:UNIT], found 3 arguments"),
        (["dyign", "0"], "did you mean dying"),
        (["dying", "1"], "expected the name of a site, as flatline report lists them, found '1'"),
        (["dying", "0:99999"], "of site 0, found '99999'"),
        (["0", "--jsno", "x"], "found '--jsno'; did you mean --json?"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(command, arguments, said):
    status, output, errors = command(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("flatline: expected ")
    assert said in errors.splitlines()[0]


def test_thresholds_of_the_project_are_taken_and_told(command, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.flatline]\nburst_share = 0.5\n")
    status, output, _ = command("0")
    assert status == 0
    assert "judged with burst_share = 0.5 (default 0.1)" in output
    (tmp_path / "pyproject.toml").write_text("[tool.flatline]\nburst_share = 5\n")
    status, output, errors = command("0")
    assert (status, output) == (2, "")
    assert "a number from 0 to 1, found 5" in errors


def test_it_is_told_without_torch(store):
    code = (
        "import sys\nfrom flatline.launch import cli\n"
        f"sys.argv = ['flatline', 'explain', '0', '--quiet', '--store', {str(store)!r}]\n"
        "cli.main()\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
