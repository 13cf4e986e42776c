"""``flatline trial`` on real programs: real processes, a real store, real interruptions."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"
#: Learns slowly; what else it does depends on how it was treated.
PROGRAM = """
    import os, subprocess, time

    if b"activation=silu" in open("/proc/self/cmdline", "rb").read():
        child = subprocess.Popen(["sleep", "600"])
        open("child.pid", "w").write(str(child.pid))
        time.sleep(600)

    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(40):
        x = torch.randn(64, 4)
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True) - 3).square().mean()
        loss.backward()
        optimizer.step()
        kind = type(model[1]).__name__
        if kind == "GELU":
            raise RuntimeError("no room for GELU")
        if os.path.exists("slow"):
            time.sleep(0.2)
"""
SAME = """
    import torch

    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for step in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "same.py").write_text(textwrap.dedent(SAME))
    return tmp_path


def start(folder: Path, *arguments: str, limit: str = "") -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.Popen(
        ["bash", "-c", f'{limit} exec "$@"', "-", sys.executable, "-m", "flatline", *arguments],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever started the tests may ignore the interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def flatline(folder: Path, *arguments: str, limit: str = "") -> tuple[int, str, str]:
    process = start(folder, *arguments, limit=limit)
    output, errors = process.communicate(timeout=200)
    return process.returncode, output, errors


def alive(pid: int) -> bool:
    """Whether a process still runs; one that ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def of_trial(folder: Path) -> list[int]:
    """Processes that carry out runs of a trial in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().decode(errors="replace").split("\0")
            if "--seed-offset" in words and str(folder / ".flatline" / "runs.db") in words:
                found.append(int(entry.parent.name))
    return found


def test_arms_that_help_crash_and_diverge_are_told_apart(folder):
    status, output, errors = flatline(
        folder,
        *("trial", "--treat", "lr=x30", "--treat", "lr=x1e9", "--treat", "activation=gelu"),
        *("--max-steps", "30", "--jobs", "2", "--json", "-", "train.py"),
    )
    assert status == 0, errors
    document = json.loads(output)
    arms = {arm["treatment"]: arm for arm in document["arms"]}

    assert list(arms) == ["lr=x30", "control", "lr=x1e9", "activation=gelu"]
    assert (document["seeds"], document["max_steps"]) == (3, 30)
    better, crashed = arms["lr=x30"], arms["activation=gelu"]
    assert better["verdict"] == "better"
    assert better["objective"]["high"] < 0
    assert 0 < better["steps_to_control"] < 30
    assert 0 <= better["dead_share"] <= better["sick_share"] <= 1
    assert len({*arms["control"]["objective"]["runs"]}) == 3
    assert (arms["lr=x1e9"]["verdict"], arms["lr=x1e9"]["diverged"]) == ("worse", 3)
    assert (crashed["failures"], crashed["verdict"]) == (3, "no difference shown")
    assert "ended with status 1: RuntimeError: no room for GELU" in crashed["failed"][0]["why"]
    (log,) = re.findall(r"output is in (\S+)", crashed["failed"][0]["why"])
    assert "Traceback" in (folder / log).read_text()
    # Each arm is a stored run like any other, stopped at the same step.
    runs = json.loads(flatline(folder, "runs", "--json", "-")[1])
    ids = {run["id"]: run for run in runs}
    stored = [ids[run] for name in ("control", "lr=x30") for run in arms[name]["stored"]]
    assert {run["steps"] for run in stored} == {30}
    assert [run["treatments"] for run in stored] == [[]] * 3 + [["lr=x30"]] * 3
    assert "flatline: control, seed 0: loss" in errors


def test_an_arm_that_hangs_is_ended_with_all_that_it_started(folder):
    """Runs that are kept from before need no time, so the limit may be short."""
    one = ("trial", "--max-steps", "30", "--seeds", "1", "--treat", "lr=x30")
    assert flatline(folder, *one, "train.py")[0] == 0
    more = ("--treat", "activation=silu", "--timeout", "6", "--json", "trial.json")
    status, output, errors = flatline(folder, *one, *more, "train.py")
    assert status == 0, errors
    document = json.loads((folder / "trial.json").read_text())
    arms = {arm["treatment"]: arm for arm in document["arms"]}

    assert re.fullmatch(
        r"still ran after \d+ s, its time limit", arms["activation=silu"]["failed"][0]["why"]
    )
    assert not alive(int((folder / "child.pid").read_text()))
    assert arms["lr=x30"]["failures"] == arms["control"]["failures"] == 0
    said = " ".join(output.split())
    assert "2 of 2 runs were kept from an earlier call" in said
    assert "an interval needs the control on two seeds" in said


def test_an_interrupted_trial_ends_its_runs_and_goes_on_where_it_stopped(folder):
    command = ("trial", "--treat", "lr=x30", "--seeds", "1", "--max-steps", "30", "train.py")
    first = start(folder, *command)
    assert first.stderr is not None
    assert "control, seed 0" in first.stderr.readline()
    (folder / "slow").touch()  # the other run cannot end before it is interrupted
    while not (left := of_trial(folder)):
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=60)

    assert first.returncode == 130, errors
    assert errors.splitlines() == [
        "flatline: interrupted; 1 of 2 runs are finished and kept, the same command goes on from "
        "there"
    ]
    assert not any(map(alive, left))
    (folder / "slow").unlink()
    status, output, errors = flatline(folder, *command)
    assert status == 0, errors
    assert "1 of 2 runs were kept from an earlier call" in output
    assert "control, seed 0" not in errors


def test_a_program_that_ignores_seeds_is_found_out(folder):
    status, output, errors = flatline(
        folder, "trial", "--treat", "lr=x2", "--seeds", "2", "same.py"
    )

    assert status == 0, errors
    said = " ".join(output.split())
    assert "the program ignores seeds: the control's loss is the same to the last bit" in said
    assert "No treatment was shown to be better" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--treat", "init=hee", "train.py"), "did you mean init=he?"),
        (("--treat", "spam=1", "train.py"), "expected a treatment among output="),
        (("--treat", "lr=x0.1", "missing.py"), "expected a Python script that can be read"),
        (("--seeds", "0", "train.py"), "expected a whole number of at least 1, found '0'"),
        (("--timeout", "soon", "train.py"), "expected a number above 0, found 'soon'"),
        (("--cpus-per-arm", "2", "train.py"), "expected --engine ray with --cpus-per-arm"),
        ((), "expected a script or -m MODULE, found neither; write: flatline trial train.py"),
        (("-",), "expected a program that can be run many times, found standard input"),
        (("--treat", "lr=x2", "--store", "/proc/no/runs.db", "train.py"), "name another file"),
    ],
)
def test_what_cannot_be_carried_out_is_said_before_anything_runs(folder, arguments, message):
    status, output, errors = flatline(folder, "trial", *arguments)

    assert (status, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert not (folder / ".flatline").exists()


@pytest.mark.parametrize("room", [pytest.param(64, id="at once"), pytest.param(128, id="later")])
def test_a_full_disk_is_one_plain_sentence(folder, room):
    """Made by a limit to the blocks of 1 kB that a file may hold."""
    status, output, errors = flatline(
        folder, "trial", "--treat", "lr=x2", "train.py", limit=f"trap '' XFSZ; ulimit -f {room};"
    )

    assert (status, output) == (2, "")
    *_, sentence = errors.splitlines()  # after those of runs for which there was room
    assert re.fullmatch(
        "flatline: expected to use .*runs.db as the run store, found: .*; name another file with "
        "--store",
        sentence,
    )


def test_a_control_that_fails_ends_the_trial_with_its_reason(folder):
    (folder / "train.py").write_text("import torch\nraise ValueError('no data')\n")
    status, _, errors = flatline(folder, "trial", "train.py")

    assert status == 2
    assert "failed: ended with status 1: ValueError: no data; its output is in" in errors
