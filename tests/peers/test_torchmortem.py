"""The rules of torchmortem, just at their thresholds and just off."""

import pytest
import torch
from torch import nn

from benchmarks.peers.recording import Step
from benchmarks.peers.torchmortem import Torchmortem, TorchmortemCritical
from scenes import Scenes, call, play, some

scenes = Scenes()


NET = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
MOVES = {"0.weight": torch.ones(2, 2), "2.weight": torch.ones(2, 2)}


def autopsy(make, count=40, peer=Torchmortem):
    """``make(i)`` gives the steps' calls, updated weights and loss, where they matter."""
    steps = []
    for index in range(count):
        known = {"calls": [], "loss": 0.9**index, "updated": MOVES} | make(index)
        before = {name: weight - 1e-3 for name, weight in known["updated"].items()}
        steps.append(Step(weights=before, **known))
    return play(peer(), steps, NET)


def flow(first=1.0, last=1.0):
    """Calls of the two layers, with gradients of these norms."""
    return [call("Linear", [0.5], name, grad=torch.tensor([size]))
            for name, size in (("0", float(first)), ("2", float(last)))]  # fmt: skip


@scenes.scene("dead units", 0.501, 0.5)
def torchmortem_dead_entries(share):
    return autopsy(lambda i: {"calls": [call("relu", some(share, 0, 0.5))]})


@scenes.scene("dead units", 20, 19)
def torchmortem_dead_steps(late):
    return autopsy(lambda i: {"calls": [call("relu", some(i >= 80 - late, 0, 0.5))]}, 80)


@scenes.scene("saturation", 0.501, 0.5)
def torchmortem_saturated(share):
    return autopsy(lambda i: {"calls": [call("Linear", some(share, 0.951, 0.5), "0")]})


@scenes.scene("vanishing gradients", 0.00999, 0.01001)
def torchmortem_vanishing(first):
    return autopsy(lambda i: {"calls": flow(first)})


@scenes.scene("exploding gradients", 1001, 999)
def torchmortem_exploding(size):
    return autopsy(lambda i: {"calls": flow(size, size) if i == 0 else flow()})


@scenes.scene("gradient stalling", 30, 29)
def torchmortem_stalling(steps):
    size = lambda i: 0.99e-8 if i < steps else 1.0  # noqa: E731
    return autopsy(lambda i: {"calls": flow(size(i), size(i))}, 100)


def norms(first, last, count=40):
    """Weights of the two layers that go to these factors of what they were."""
    return autopsy(
        lambda i: {"updated": {"0.weight": MOVES["0.weight"] * (1 if i == 0 else first),
                               "2.weight": MOVES["2.weight"] * (1 if i == 0 else last)}}, count,
    )  # fmt: skip


@scenes.scene("weight explosion", 10.1, 9.9)
def torchmortem_growth(factor):
    return norms(factor, 2)


@scenes.scene("weight stagnation", 1.00009, 1.00011)
def torchmortem_stagnation(factor):
    return norms(factor, 2)


@scenes.scene("weight imbalance", 101, 99)
def torchmortem_imbalance(factor):
    return norms(factor, 1)


def spread(rank):
    """A batch whose effective rank this is, up to 4."""
    return torch.diag((torch.arange(4) < rank).float())


@scenes.scene("rank collapse", 2, 3)
def torchmortem_rank(late):
    return autopsy(lambda i: {"calls": [call("Linear", spread(4 if i < 50 else late), "0")]}, 151)


def updates(ratio):
    weight = torch.ones(2, 2, dtype=torch.float64)
    steps = [Step(weights={"0.weight": weight * (1 - ratio), "2.weight": weight * 0.99},
                  updated={"0.weight": weight, "2.weight": weight}, loss=0.9**i)
             for i in range(40)]  # fmt: skip
    return play(Torchmortem(), steps, NET)


@scenes.scene("updates too small", 0.99e-5, 1.01e-5)
@scenes.scene("updates too large", 0.101, 0.099)
def torchmortem_updates(ratio):
    return updates(ratio)


@scenes.scene("gradient noise", 0.4, 0.6)
def torchmortem_noise(often):
    size = lambda i: float(i % 10 < 10 * often) + 1e-9  # noqa: E731
    return autopsy(lambda i: {"calls": flow(size(i), size(i))})


@scenes.scene("divergence", 1.06, 1.01)
def torchmortem_divergence(factor):
    return autopsy(lambda i: {"loss": factor**i})


@scenes.scene("loss plateau", 0.99e-5, 1.1e-5)
def torchmortem_plateau(span):
    # The smoothed loss of a line is a line of the same slope.
    return autopsy(lambda i: {"loss": 1 - span / 19 * (i - 310)} if i >= 10 else {"loss": 1.0}, 400)


def test_torchmortem_forgets_what_the_first_half_had():
    peer = autopsy(lambda i: {"calls": [call("relu", some(i < 20, 0, 0.5)), *flow()]})
    assert set(peer.said) == {"weight stagnation"}


def test_torchmortem_does_not_see_functions():
    dead = call("relu", torch.zeros(100), module=False)
    assert "dead units" not in autopsy(lambda i: {"calls": [dead]}).said


@pytest.mark.parametrize(("share", "heard"), [(0.801, True), (0.799, False)])
def test_torchmortem_calls_four_fifths_of_dead_entries_critical(share, heard):
    dead = call("relu", some(share, 0, 0.5))
    peer = autopsy(lambda i: {"calls": [dead]}, peer=TorchmortemCritical)
    assert ("dead units" in peer.said) is heard


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(Torchmortem.codes)
