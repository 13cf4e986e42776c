"""The Ray engine on a real Ray with two workers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from flatline.errors import UsageError
from flatline.trials.cluster import _room

SOURCES = Path(__file__).parents[2] / "src"
#: Waits, the first time that seed 1 is run, until the worker that runs it is killed.
PROGRAM = """
    import os, time
    import torch

    torch.manual_seed(0)
    if torch.initial_seed() == 1 and not os.path.exists("worker.pid"):
        with open("pids.tmp", "w") as file:
            print(os.getppid(), os.getpid(), file=file)
        os.rename("pids.tmp", "worker.pid")
        time.sleep(600)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(20):
        x = torch.randn(64, 4)
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True) - 3).square().mean().backward()
        optimizer.step()
"""
DRIVER = """
    import json, os, pathlib, signal, threading, time
    import ray
    from flatline.trials.cluster import RayEngine
    from flatline.trials.plan import Work, arms
    from flatline.trials.runner import Runner

    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR")
    engine = RayEngine(None, 100, pathlib.Path("logs"))
    assert engine.slots == 2, engine.slots

    def kill():
        while not os.path.exists("worker.pid"):
            time.sleep(0.05)
        worker, run = map(int, open("worker.pid").read().split())
        os.kill(worker, signal.SIGKILL)
        time.sleep(2)
        try:
            state = open(f"/proc/{run}/stat").read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            state = "gone"
        print("orphan", state in ("gone", "Z"))

    killer = threading.Thread(target=kill)
    killer.start()
    work = Work(("train.py",), pathlib.Path("runs.db").absolute(), 20)
    result = Runner(work, engine, range(2), arms=arms(["lr=x30"])).run()
    killer.join()
    print(json.dumps(result.to_dict()))
    print([run["status"] for run in __import__("flatline.record.store", fromlist=["Store"])
           .Store("runs.db").runs()])
"""


def python(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_runs_on_ray_survive_the_loss_of_a_worker(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "driver.py").write_text(textwrap.dedent(DRIVER))
    done = python(tmp_path, "driver.py")
    assert done.returncode == 0, done.stderr
    gone, document, statuses = done.stdout.splitlines()[-3:]

    assert gone == "orphan True"
    arms = json.loads(document)["arms"]
    assert [arm["treatment"] for arm in arms] == ["lr=x30", "control"]
    assert all(arm["failures"] == 0 and None not in arm["objective"]["runs"] for arm in arms)
    # The lost run stands in the store beside its repetition.
    assert sorted(json.loads(statuses.replace("'", '"'))) == ["finished"] * 4 + ["interrupted"]


def test_without_ray_the_error_says_how_to_get_it(tmp_path):
    (tmp_path / "train.py").write_text("")
    call = "import sys; sys.modules['ray'] = None; from flatline.launch.cli import main; main()"
    done = python(tmp_path, "-c", call, "trial", "--engine", "ray", "train.py")

    assert done.returncode == 2
    assert "pip install 'flatline[ray]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_room_of_a_cluster_is_counted_in_runs():
    assert _room({"CPU": 8.0, "GPU": 3.0}, 2, 0) == 4
    assert _room({"CPU": 8.0, "GPU": 3.0}, 0.5, 1) == 3
    with pytest.raises(UsageError, match="with 1 CPU and 1 GPU for a run, found one with 8 CPU, 0"):
        _room({"CPU": 8.0}, 1, 1)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize(
    ("cpus", "sentence"),
    [
        ("999999", "expected a Ray cluster with 999999 CPU and 0 GPU for a run"),
        ("0.00001", "expected an amount that Ray can keep for a run, found 1e-05 CPU and 0 GPU"),
    ],
)
def test_what_ray_cannot_keep_for_a_run_is_one_plain_sentence(tmp_path, cpus, sentence):
    (tmp_path / "train.py").write_text("")
    options = ("--engine", "ray", "--cpus-per-arm", cpus)
    done = python(tmp_path, "-m", "flatline", "trial", *options, "train.py")

    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
