"""The rules of NeuralDBG, just at their thresholds and just off."""

import math

import torch

from benchmarks.peers.neuraldbg import NeuralDBG
from benchmarks.peers.recording import Step
from scenes import Scenes, call, columns, play, some

scenes = Scenes()


def changed(before, after):
    return play(NeuralDBG(), [Step(calls=[before]), Step(calls=[after])])


HEALTHY = torch.linspace(-0.5, 0.5, 200).reshape(2, 100)


def state(output=None, grad=None):
    kept = HEALTHY if output is None else torch.as_tensor(output, dtype=torch.float32)
    return call("Linear", kept, grad=torch.tensor([1.0 if grad is None else grad]))


@scenes.scene("activation dead", 0.91, 0.90)
def neuraldbg_dead(share):
    return changed(state(), state(columns(share, torch.zeros(2, 1), torch.tensor([[0.1], [0.9]]))))


@scenes.scene("activation saturated", 0.701, 0.70)
def neuraldbg_saturated(share):
    return changed(state(), state(some(share, 0.951, 0.5)[None].expand(2, -1)))


@scenes.scene("activation anomalous", 0.99e-4, 1.01e-4)
def neuraldbg_anomalous(deviation):
    values = torch.tensor([[1.0], [-1.0]]) * deviation / math.sqrt(2)
    return changed(state(), state(0.5 + values.double()))


@scenes.scene("gradient vanishing", 0.99e-6, 1.01e-6)
@scenes.scene("gradient saturated", 0.99e-4, 1.01e-4)
@scenes.scene("gradient exploding", 1001.0, 999.0)
def neuraldbg_gradient(size):
    return changed(state(), state(grad=size))


def test_neuraldbg_never_tells_of_what_was_so_from_the_start():
    dead = state(torch.zeros(2, 100), grad=0.0)
    assert changed(dead, dead).said == {}


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(NeuralDBG.codes)
