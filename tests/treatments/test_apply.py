"""``flatline run --apply`` on programs that know nothing of it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

SOURCES = Path(__file__).parents[2] / "src"
MODEL = """
    import sys, torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 3)
        def forward(self, x):
            return self.b(F.relu(self.a(x)))

    torch.manual_seed(0)
    model = Net()
    data = [torch.randn(32, 6) * 3 + 1 for _ in range(4)]
"""
OPTIMIZER = """
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
"""
LOOP = """
    for x in data:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        schedule.step()
    torch.save(model.state_dict(), sys.argv[1])
"""
ALL = (
    *("activation=prelu", "standardize=input", "init=lsuv", "norm=batch"),
    *("weight_decay=0.01", "lr=x0.5", "warmup=3", "clip=norm:0.5"),
)


def run(folder: Path, source: str, *options: str) -> tuple[int, str, dict]:
    (folder / "train.py").write_text(textwrap.dedent(source))
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    command = [sys.executable]
    if options != ("bare",):
        command += ["-m", "flatline", "run", "--json", "out.json", *options]
    done = subprocess.run(
        [*command, "train.py", "model.pt"], cwd=folder, env=env, capture_output=True, text=True
    )
    report = folder / "out.json"
    return (
        done.returncode,
        done.stderr,
        json.loads(report.read_text()) if report.exists() else {},
    )


def test_a_program_is_treated_as_a_python_caller_would_treat_it(tmp_path):
    apply = [part for one in reversed(ALL) for part in ("--apply", one)]
    status, said, report = run(tmp_path, MODEL + OPTIMIZER + LOOP, *apply)
    assert status == 0, said
    theirs = torch.load(tmp_path / "model.pt")

    call = f"\n    import flatline\n    flatline.treat(model, optimizer, *{ALL!r})\n"
    assert run(tmp_path, MODEL + OPTIMIZER + call + LOOP, "bare")[0] == 0
    ours = torch.load(tmp_path / "model.pt")

    assert theirs.keys() == ours.keys()
    assert {"flatline_activation.weight", "a.flatline_norm.weight"} <= theirs.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert report["run"]["treatments"] == list(ALL)
    for one in ALL:
        assert said.count(f"flatline: {one} ") == 1
    assert report["sites"][0]["activation"] == "prelu"


def test_without_apply_nothing_is_treated(tmp_path):
    assert run(tmp_path, MODEL + OPTIMIZER + LOOP, "bare")[0] == 0
    bare = torch.load(tmp_path / "model.pt")
    status, _, report = run(tmp_path, MODEL + OPTIMIZER + LOOP, "--quiet")

    assert status == 0
    assert report["run"]["treatments"] == []
    watched = torch.load(tmp_path / "model.pt")
    assert all(torch.equal(bare[name], watched[name]) for name in bare)


def test_a_model_with_loaded_weights_is_not_initialised(tmp_path):
    load = "    model.load_state_dict(model.state_dict())\n"
    status, said, report = run(tmp_path, MODEL + load + OPTIMIZER + LOOP, "--apply", "init=he")

    assert status == 2
    assert "flatline: init=he: expected a model with fresh weights" in said
    assert "a checkpoint was loaded into it; start from scratch" in said
    assert "Traceback" not in said
    assert not (tmp_path / "model.pt").exists()
    assert report["run"]["status"] == "failed"


def test_two_models_are_treated_each_on_its_own_first_batch(tmp_path):
    source = """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))
    second = torch.optim.SGD(other.parameters(), lr=0.1)
    for x in data:
        with torch.no_grad():
            fake = model(x)
        other(fake).square().mean().backward()
        second.step()
        model(x).square().mean().backward()
        optimizer.step()
    torch.save([*model.state_dict(), *other.state_dict()], sys.argv[1])
"""
    status, said, _ = run(tmp_path, MODEL + source, "--apply", "norm=batch")

    assert status == 0, said
    names = torch.load(tmp_path / "model.pt")
    assert {"a.flatline_norm.weight", "0.flatline_norm.weight"} <= set(names)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("init=hee", "did you mean init=he?"), ("lr=0.1", "expected lr=xFACTOR")],
)
def test_a_wrong_treatment_is_refused_before_the_program_starts(tmp_path, wrong, message):
    status, said, report = run(tmp_path, MODEL + OPTIMIZER + LOOP, "--apply", wrong)

    assert status == 2
    assert message in said
    assert report == {}
    assert not (tmp_path / "model.pt").exists()


def test_the_command_that_a_report_prints_repairs_what_it_reports(tmp_path):
    source = (
        MODEL
        + """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x in data * 20:
        model(x).square().mean().backward()
        optimizer.step()
"""
    )
    _, _, report = run(tmp_path, source)
    found = {one["code"]: one["remedies"][0] for one in report["findings"]}["stale-gradients"]
    words = shlex.split(found["command"])
    assert words[0] == "flatline"
    assert words[-2:] == ["train.py", "model.pt"]

    *options, _, _ = words[2:]
    status, said, report = run(tmp_path, source, *options)
    assert status == 0, said
    assert report["run"]["treatments"] == ["zero_grad=each"]
    assert "stale-gradients" not in {one["code"] for one in report["findings"]}


def test_what_is_refused_in_the_midst_of_a_forward_pass_ends_as_any_refusal(tmp_path):
    source = (
        MODEL.replace(
            "self.b = nn.Linear(6, 12), nn.Linear(12, 3)",
            "self.b = nn.Linear(6, 12), nn.Linear(12, 1)",
        )
        + """
    plain = Net.forward
    Net.forward = lambda self, x: (plain(self, x),) if self.training else plain(self, x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for x in data:
        model(x)[0].square().mean().backward()
        optimizer.step()
"""
    )
    status, said, report = run(tmp_path, source, "--apply", "output=squeeze")
    assert status == 2
    assert "expected a model whose output is one tensor in training" in said
    assert "Traceback" not in said
    assert report["run"]["status"] == "failed"


@pytest.mark.parametrize(
    ("source", "done", "why"),
    [
        ("    print('done')\n", [], "the program never imported torch"),
        (
            MODEL + OPTIMIZER + "    model(data[0]).sum().backward()\n",
            ["init=he"],
            "an optimizer was made, but the program ended before its first step",
        ),
        (
            """
    import torch
    weights = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weights], lr=0.1)
    weights.square().sum().backward()
    optimizer.step()
""",
            ["lr=x0.5"],
            "no optimizer trains the parameters of a torch.nn.Module",
        ),
    ],
    ids=["no torch", "no step", "no module"],
)
def test_what_was_never_carried_out_is_said_even_when_quiet(tmp_path, source, done, why):
    status, said, report = run(
        tmp_path, source, "--quiet", "--apply", "lr=x0.5", "--apply", "init=he"
    )

    left_out = [one for one in ("init=he", "lr=x0.5") if one not in done]
    it = "it" if len(left_out) == 1 else "them"
    sentence = (
        f"expected to apply {' and '.join(left_out)}, found that {why}; take this run for one "
        f"without {it}"
    )
    assert status == 0, said
    assert said.count(sentence) == 1
    assert report["run"]["treatments"] == done
    assert {"what": "the treatments", "why": sentence} in report["lost"]


def test_a_program_that_fails_before_it_trains_is_not_called_untreated_as_well(tmp_path):
    status, said, report = run(tmp_path, "    raise SystemExit(3)\n", "--apply", "lr=x0.5")

    assert status == 3
    assert "expected to apply" not in said
    assert report["run"]["treatments"] == ["lr=x0.5"]
