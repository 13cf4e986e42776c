"""The change of a mean pre-activation, taken apart, equals what copies of all weights say."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import flatline
from watching import examine_when, watched


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)
    )


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(12, 12, 3, groups=4, padding=2, dilation=2), nn.ReLU(),
        nn.ConvTranspose2d(12, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 49, 4),
    )  # fmt: skip


def normalised() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU(),
        nn.Linear(24, 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 4),
    )  # fmt: skip


def mean_z(model: nn.Sequential, index: int, x: torch.Tensor) -> torch.Tensor:
    """Mean pre-activation of the ReLU at ``index``, per unit, in double precision."""
    z = copy.deepcopy(model).double()[:index](x.double())
    return z.transpose(0, 1).flatten(1).mean(dim=1)


def terms(
    old: nn.Sequential, new: nn.Sequential, index: int, before, after
) -> dict[str, np.ndarray]:
    """The three terms by swapping one thing at a time, with whole copies of the model."""
    layer = index - 1
    weightless = copy.deepcopy(new)  # new weights and bias on the old inputs
    for part in range(layer):
        weightless[part] = copy.deepcopy(old[part])
    z_old, z_new = mean_z(old, index, before), mean_z(new, index, after)
    z_at_old_inputs = mean_z(weightless, index, before)
    bias = (new[layer].bias - old[layer].bias).double()
    return {
        "bias": bias.detach().numpy(),
        "weight": (z_at_old_inputs - z_old - bias).detach().numpy(),
        "input": (z_new - z_at_old_inputs).detach().numpy(),
    }


@pytest.mark.parametrize(
    ("build", "shape"),
    [(mlp, (16,)), (convolutions, (3, 8, 8)), (normalised, (16,))],
)
def test_the_terms_are_those_of_whole_copies(build, shape) -> None:
    torch.manual_seed(1)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9)
    monitor = flatline.Monitor(model, optimizer)
    watcher = monitor._watch.watcher
    examine_when(watcher.pacer, lambda step, event: step % 5 == 0)
    kept = {}
    for step in range(41):
        x, y = torch.randn(64, *shape), torch.randint(4, (64,))
        if step % 5 == 0:
            kept[step] = copy.deepcopy(model), x
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    monitor.close()
    recording = monitor._watch.store.load(monitor._watch.writer.id)
    compared = 0
    for site in recording.sites:
        autopsy = recording.autopsies.get(site.name)
        if autopsy is None:
            continue
        index = int(site.name) + 1
        for place, unit in enumerate(autopsy.units):
            step, before = int(autopsy.step[place]), int(autopsy.before[place])
            assert before == step - 5
            (old, x_old), (new, x_new) = kept[before], kept[step]
            truth = terms(old, new, index, x_old, x_new)
            for name, values in truth.items():
                found = getattr(autopsy, name)[place]
                assert found == pytest.approx(values[unit], abs=2e-4 * (1 + abs(values[unit])))
            compared += 1
    assert compared >= 5


def test_layers_of_an_optimizer_that_steps_first_are_taken_apart_too() -> None:
    torch.manual_seed(1)
    kept = {}
    with watched(lambda step, event: step % 5 == 0) as (memory, _):
        model = mlp()
        parts = [*model[:2].parameters()], [*model[2:].parameters()]
        optimizers = [torch.optim.SGD(part, 0.1) for part in parts]
        for step in range(31):
            x, y = torch.randn(64, 16), torch.randint(4, (64,))
            if step % 5 == 0:
                kept[step] = copy.deepcopy(model), x
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
            for optimizer in optimizers:
                optimizer.step()
            if step == 12:
                with torch.no_grad():
                    for layer in (model[0], model[2]):
                        layer.bias[:4] -= 9
    assert memory.losses == []
    compared = set()
    for (step, site, before, units), columns in zip(memory.autopsies, memory.terms, strict=True):
        if before == 0:
            continue  # at the first exam no layer is known yet
        truth = terms(kept[before][0], kept[step][0], int(site) + 1, kept[before][1], kept[step][1])
        for name, found in zip(("bias", "weight", "input"), columns[4:7], strict=True):
            size = 1 + np.abs(truth[name][units])
            assert np.abs(found - truth[name][units]).max() <= (2e-4 * size).max()
        compared.add(site)
    assert compared == {"0", "2"}
