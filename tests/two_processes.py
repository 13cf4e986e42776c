"""Run by ``torchrun``: trains under DDP and FSDP, bare and watched, and compares the bits."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from untouched import differences, surroundings
from watching import Memory, watched


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Linear(16, 2),
    )  # fmt: skip
    with torch.no_grad():
        net[0].bias[0] = -100.0
    return net


def replicated() -> nn.Module:
    return DistributedDataParallel(network())


def compiled() -> nn.Module:
    return torch.compile(DistributedDataParallel(network()), backend="eager")


def sharded() -> nn.Module:
    net = network()
    mesh = init_device_mesh("cpu", (2,))
    for layer in (net[0], net[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def train(wrap) -> dict[str, object]:
    model = wrap()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(dist.get_rank())
    for step in range(6):
        x = torch.randn(32, 8, generator=generator)
        last = step % 2 == 1 or wrap is sharded
        with nullcontext() if last or wrap is compiled else model.no_sync():
            F.cross_entropy(model(x), x[:, 1].gt(0).long()).backward()
        if last or wrap is compiled:
            optimizer.step()
            optimizer.zero_grad()
    state = {**model.state_dict(), **optimizer.state_dict()["state"][0]}
    local = {
        name: one.to_local() if hasattr(one, "to_local") else one for name, one in state.items()
    }
    return {name: one.numpy().tobytes() for name, one in local.items()}


def compare(wrap) -> Memory:
    before = surroundings()
    bare = train(wrap)
    with watched() as (memory, _):
        found = train(wrap)
    assert not differences(bare, found), wrap
    assert not differences(before, surroundings())
    assert not memory.losses, memory.losses
    assert {"0", "3"} >= memory.sites.keys() >= {"0"}, memory.sites
    for vitals in (exam.vitals for exam in memory.exams):  # of the window so far
        assert vitals["0"].examples % 32 == 0
        assert vitals["0"].fired[0] == 0 < vitals["0"].fired[1:].sum()
    assert memory.exams
    return memory


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    for wrap in (replicated, compiled, sharded):
        compare(wrap)
    Path(sys.argv[1], str(dist.get_rank())).touch()
    dist.destroy_process_group()
