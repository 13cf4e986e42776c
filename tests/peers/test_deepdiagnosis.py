"""The rules of DeepDiagnosis, just at their thresholds and just off."""

import math

import torch

from benchmarks.peers.deepdiagnosis import DeepDiagnosis, fix
from benchmarks.peers.recording import Epoch, Step
from scenes import Scenes, call, census, epochs, some

scenes = Scenes()


def diagnosed(*found):
    return epochs(DeepDiagnosis(), *found)


@scenes.scene("dead node", 0.7, 0.699)
def deepdiagnosis_dead(share):
    return diagnosed(census(call("relu", some(share, 0, 1)), call("Linear", [1.0], "2")))


@scenes.scene("saturated activation", 0.501, 0.5)
def deepdiagnosis_saturated(share):
    given = some(share, 5, 0)
    epochs = [census(call("tanh", [0.5 + i], input=given), call("Linear", [1.0], "2"), loss=9 - i)
              for i in range(5)]  # fmt: skip
    return diagnosed(*epochs)


@scenes.scene("unchanged tensor", 5, 4)
def deepdiagnosis_unchanged(same):
    outputs = [*([1.0] * same), 2.0, 3.0, 4.0][:5]
    calls = [(call("relu", [out]), call("Linear", [1.0], "2")) for out in outputs]
    return diagnosed(*(census(*pair, loss=9 - i) for i, pair in enumerate(calls)))


@scenes.scene("loss not decreasing", 5, 4)
def deepdiagnosis_flat_loss(same):
    return diagnosed(*(Epoch(loss=1.0 if i < same else 0.5) for i in range(5)))


@scenes.scene("accuracy not increasing", 20, 19)
def deepdiagnosis_flat_accuracy(same):
    return diagnosed(*(Epoch(loss=20 - i, accuracy=0.5 + (i >= same) / 4) for i in range(20)))


@scenes.scene("invalid loss", math.inf, 1e30)
def deepdiagnosis_loss(loss):
    return diagnosed(Epoch(loss=loss))


@scenes.scene("invalid accuracy", 0.0, 0.01)
def deepdiagnosis_accuracy(accuracy):
    return diagnosed(Epoch(accuracy=accuracy))


@scenes.scene("numerical: not finite", math.nan, 1e30)
def deepdiagnosis_nan(value):
    return diagnosed(census(call("relu", [value])))


@scenes.scene("numerical: zero", 0.0, 1e-30)
def deepdiagnosis_zero(value):
    return diagnosed(census(call("relu", [value])))


def dense(grad, weight=0.5):
    weights = {"0.weight": torch.as_tensor(weight).reshape(1, -1)}
    grads = {"0.weight": torch.as_tensor(grad).reshape(1, -1)}
    calls = [call("Linear", [1.0], "0")]
    return Step(calls=calls, grads=grads, weights=weights, updated=weights)


@scenes.scene("vanishing gradient", 0.99e-7, 1.01e-7)
def deepdiagnosis_gradient(size):
    return diagnosed(Epoch(last=dense([size, size])))


@scenes.scene("out of range", 10.1, 10.0)
def deepdiagnosis_range(span):
    outputs = torch.tensor([[0.0], [span]])
    step = Step(calls=[call("Linear", outputs)], criterion="mse_loss", outputs=outputs,
                targets=torch.tensor([[0.0], [1.0]]))  # fmt: skip
    return diagnosed(census(call("Linear", outputs), last=step))


@scenes.scene("out of range", -0.01, 0.0)
def deepdiagnosis_labels(low):
    outputs = torch.tensor([[0.1], [0.9]])
    step = Step(calls=[call("sigmoid", outputs)], criterion="mse_loss", outputs=outputs,
                targets=torch.tensor([[low], [1.0]]))  # fmt: skip
    return diagnosed(census(call("sigmoid", outputs), last=step))


@scenes.scene("fix: normalize the data", 1.01, 1.0)
def deepdiagnosis_inputs(high):
    step = Step(inputs=torch.tensor([[high]]))
    return diagnosed(census(call("relu", torch.zeros(1, 1)), last=step))


@scenes.scene("fix: poor weights", 10.1, 9.9)
def deepdiagnosis_weights(variance):
    step = Step(weights={"0.weight": math.sqrt(variance / 2) * torch.tensor([[1.0, -1.0]])})
    return diagnosed(census(call("relu", [0.0]), last=step))


@scenes.scene("fix: learning rate", 0.101, 0.099)
def deepdiagnosis_rate(ratio):
    step = dense([ratio / 1e-3 * 0.5])
    step.lr = 1e-3
    return diagnosed(census(call("relu", [0.0]), last=step))


def test_deepdiagnosis_sees_dead_nodes_only_in_the_last_epoch():
    dead, alive = (census(call("relu", some(share, 0, 1)), loss=share) for share in (0.9, 0.1))
    assert "dead node" in diagnosed(alive, dead).said
    assert diagnosed(dead, alive).said == {}


def test_deepdiagnosis_asks_about_inputs_before_weights_for_dead_nodes_and_after_for_a_flat_loss():
    step = Step(inputs=torch.tensor([[9.0]]), weights={"w": torch.tensor([[9.0, -9.0]])})
    assert fix("dead node", step) == "fix: normalize the data"
    assert fix("loss not decreasing", step) == "fix: poor weights"
    assert fix("out of range", step) == "fix: other"


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words | {"fix: other"} == set(DeepDiagnosis.codes)
