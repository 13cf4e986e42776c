"""Two processes under ``torchrun``: each is watched, harmlessly, and one report speaks for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parent
LAUNCH = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d",
          "--rdzv-endpoint=localhost:0")  # fmt: skip
TRAIN = """
    import os, sys, time, torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        net[0].bias[0] = -100.0  # dead in both
        net[0].weight[1] = torch.eye(8)[0]
        net[0].bias[1] = 0.0  # fires where feature 0 is above 0, which it is in one process
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    generator = torch.Generator().manual_seed(rank)
    for step in range(16):
        x = torch.randn(32 + 8 * rank, 8, generator=generator)
        x[:, 0] = x[:, 0].abs() * (1 if rank else -1)
        optimizer.zero_grad()
        F.cross_entropy(model(x), x[:, 1].gt(0).long()).backward()
        optimizer.step()
    dist.destroy_process_group()
    if rank == 1:
        time.sleep(0.5)  # process 0 is to wait for what this one has seen
    print("rank", rank, sys.argv[1:])
"""


def run(folder, *command, status=0):
    paths = [TESTS.parent / "src", TESTS]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, *LAUNCH, *command],
        cwd=folder, env=env, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done


def test_one_report_speaks_for_both_processes(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(TRAIN))

    done = run(tmp_path, "-m", "flatline", "run", "--json", "report.json", "train.py", "--x")

    assert sorted(done.stdout.splitlines()) == ["rank 0 ['--x']", "rank 1 ['--x']"]
    assert done.stderr.count("report.json") == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["run"]["world_size"] == 2
    assert report["run"]["steps"] == 16
    assert report["run"]["status"] == "finished"
    assert report["run"]["examples"] == 16 * (32 + 40)
    assert not report["lost"]
    (site,) = report["sites"]
    assert site["name"] == "0"
    assert site["feeds"] == ["0.weight", "0.bias"]
    assert site["reads"] == ["2.weight"]
    # Each process paces its own exams; both have seen the first step.
    assert site["examples"] >= 72
    dead = [unit["unit"] for unit in report["units"] if unit["state"] == "dead"]
    assert dead == [0]
    assert report["units"][0]["examples"] == 16 * (32 + 40)


def test_replicated_and_sharded_training_comes_out_bit_identical(tmp_path):
    run(tmp_path, str(TESTS / "two_processes.py"), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


TREATED = """
    import os, sys, torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(rank)  # each draws weights of its own, of which DDP takes those of process 0
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(torch.randn(32, 8) + rank).square().sum().backward()
        optimizer.step()
    dist.destroy_process_group()
    print([round(float(p.double().sum()), 4) for p in model.parameters()])
"""


def test_processes_that_are_treated_keep_the_same_weights(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(TREATED))
    treatments = [part for one in ("init=lsuv", "standardize=input") for part in ("--apply", one)]

    plain = run(tmp_path, "-m", "flatline", "run", "--quiet", "train.py")
    done = run(tmp_path, "-m", "flatline", "run", "--quiet", *treatments, "train.py")

    one, other = done.stdout.splitlines()
    assert one == other
    assert one not in plain.stdout


def test_parameters_are_not_added_where_nothing_would_average_them(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(TREATED))

    command = ("-m", "flatline", "run", "--quiet", "--apply", "norm=batch", "train.py")
    done = run(tmp_path, *command, status=1)

    assert "norm=batch: expected one process where parameters are added" in done.stderr
    assert "found 2, between which nothing would average their gradients" in done.stderr
    assert "Traceback" not in done.stderr.partition("flatline: ")[2].partition("torch")[0]
