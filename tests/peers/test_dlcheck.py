"""The rules of DLCheck, just at their thresholds and just off."""

import math

import pytest
import torch
from torch import nn

from benchmarks.peers.cockpit import Cockpit
from benchmarks.peers.dlcheck import DLCheck
from benchmarks.peers.recording import Epoch, Step
from scenes import Scenes, call, epochs, play, some

scenes = Scenes()


LINEAR = nn.Linear(1, 3, bias=False)
with torch.no_grad():
    LINEAR.weight.copy_(torch.tensor([[-1.0], [0.5], [2.0]]))


def lightning(step, model=LINEAR):
    """One epoch of one step of a model with one parameter."""
    weight = {"weight": model.weight.detach().clone()}
    step.weights = step.weights or weight
    step.updated = step.updated or {"weight": weight["weight"] * 1.1}
    return epochs(DLCheck(), Epoch(last=step), model=model)


@scenes.scene("weight initialisation", 0.99e-6, 1.01e-6)
def dlcheck_init(deviation):
    model = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(deviation / math.sqrt(2) * torch.tensor([[1.0], [-1.0]]))
    return play(DLCheck(), [], model)


@scenes.scene("untrained", 1.0, 1.001)
def dlcheck_untrained(factor):
    return lightning(Step(updated={"weight": LINEAR.weight.detach() * factor}))


@scenes.scene("diverging", 1.01e4, 0.99e4)
def dlcheck_diverging(value):
    return lightning(Step(updated={"weight": torch.full((3, 1), value)}))


def derived(value, lr=1e-3):
    return lightning(Step(grads={"weight": torch.full((3, 1), value / math.sqrt(3))}, lr=lr))


@scenes.scene("non-finite gradients", math.inf, 1.0)
@scenes.scene("exploding gradients", 1.01e6, 0.99e6)
@scenes.scene("vanishing gradients", 0.99e-7, 1.01e-7)
@scenes.scene("zero gradients", 0.0, 1e-10)
def dlcheck_gradients(size):
    return derived(size)


@scenes.scene("slow learning", 0.99e-8, 1.01e-8)
@scenes.scene("unstable learning", 10.1, 9.9)
def dlcheck_rate(ratio):
    weight = float(LINEAR.weight.detach().abs().mean())
    return derived(math.sqrt(3) * weight, lr=ratio)


@scenes.scene("dead activations", 0.951, 0.95)
def dlcheck_dead(share):
    return lightning(Step(calls=[call("relu", some(share, 0, 1))]))


@scenes.scene("saturated activations", 0.951, 0.949)
@scenes.scene("saturated activations", 0.049, 0.051)
def dlcheck_saturated(size):
    return lightning(Step(calls=[call("tanh", [size, -size])]))


def test_dlcheck_sees_modules_only():
    dead = call("relu", torch.zeros(10), module=False)
    assert "dead activations" not in lightning(Step(calls=[dead])).said


@pytest.mark.parametrize(("loss", "said"), [(math.nan, ["NaN loss"]), (math.inf, [])])
def test_cockpit_warns_of_a_loss_that_is_nan(loss, said):
    assert list(play(Cockpit(), [Step(loss=loss)]).said) == said


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(DLCheck.codes)
