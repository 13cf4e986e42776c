"""The rules of SageMaker Debugger, just at their thresholds and just off."""

import math

import pytest
import torch

from benchmarks.peers.recording import Step
from benchmarks.peers.sagemaker import SageMaker, SageMakerEveryStep
from scenes import Scenes, call, columns, grads, play

scenes = Scenes()


def debugged(*steps):
    return play(SageMakerEveryStep(), steps)


@scenes.scene("DeadRelu", 0.51, 0.50)
def sagemaker_dead_units(share):
    rare = torch.zeros(100, 1)
    return debugged(Step(calls=[call("relu", columns(share, rare, torch.ones(100, 1)))]))


@scenes.scene("DeadRelu", 0, 1)
def sagemaker_activity(examples):
    rare = (torch.arange(100) < examples).float()[:, None]
    return debugged(Step(calls=[call("relu", rare.expand(-1, 100))]))


@scenes.scene("SaturatedActivation", 9.4999, 9.4)
def sagemaker_tanh(given):
    inputs = torch.full((10, 4), given)
    return debugged(Step(calls=[call("tanh", inputs.tanh(), input=inputs)]))


@scenes.scene("SaturatedActivation", -23.0, -22.9)
def sagemaker_sigmoid(given):
    inputs = torch.full((10, 4), given)
    return debugged(Step(calls=[call("sigmoid", inputs.sigmoid(), input=inputs)]))


@scenes.scene("PoorWeightInitialization", 10.1, 9.9)
def sagemaker_variances(ratio):
    inputs = [scale * torch.tensor([[1.0], [-1.0]]) for scale in (1.0, math.sqrt(ratio))]
    calls = [call("relu", given.relu(), str(i), input=given) for i, given in enumerate(inputs)]
    return debugged(Step(calls=calls))


@scenes.scene("PoorWeightInitialization", 0.00099, 0.00101)
def sagemaker_gradients(span):
    return debugged(grads(torch.linspace(0, span / 0.9, 101)))


@scenes.scene("PoorWeightInitialization", 6, 5)
def sagemaker_patience(steps):
    return debugged(*(Step(loss=1.0 + i) for i in range(steps)))


@scenes.scene("VanishingGradient", 0.99e-7, 1.01e-7)
def sagemaker_gradient(size):
    return debugged(grads([size, -size]))


@scenes.scene("ExplodingTensor", math.inf, 1e30)
def sagemaker_not_finite(value):
    return debugged(grads([value, 0.0]))


@scenes.scene("WeightUpdateRatio large", 11.1, 10.9)
@scenes.scene("WeightUpdateRatio small", 1.0, 1.001)
def sagemaker_updates(after):
    weights = [{"0.weight": torch.tensor([[value]])} for value in (1.0, float(after))]
    return debugged(*(Step(weights=weight) for weight in weights))


@scenes.scene("LossNotDecreasing", 0.9995, 0.9985)
@scenes.scene("LossNotDecreasing", 1.06, 1.04)
def sagemaker_loss(last):
    return debugged(*(Step(loss=1 - i / 20) for i in range(10)), Step(loss=last))


@scenes.scene("AllZero", 0.0, 1e-30)
def sagemaker_zero(value):
    return debugged(Step(weights={"0.weight": torch.tensor([[0.0, value]])}))


@scenes.scene("TensorVariance", 10.1, 9.9)
@scenes.scene("TensorVariance", 0.99e-5, 1.01e-5)
def sagemaker_variance(variance):
    spread = math.sqrt(variance) * torch.tensor([[1.0, -1.0]])
    return debugged(Step(weights={"0.weight": spread}))


@scenes.scene("UnchangedTensor", 1.000001, 1.0001)
def sagemaker_unchanged(last):
    return debugged(*(Step(loss=loss) for loss in (1.0, 2.0, 3.0, last)))


@pytest.mark.parametrize(("name", "heard"), [("block.relu", True), ("relu1", False), ("1", False)])
def test_sagemaker_finds_modules_by_name_and_no_functions(name, heard):
    dead = call("relu", torch.zeros(4, 4), name)
    assert ("DeadRelu" in play(SageMaker(), [Step(calls=[dead])]).said) is heard
    dead.module = False
    assert play(SageMaker(), [Step(calls=[dead])]).said == {}


def test_sagemaker_saves_every_500th_step_only():
    dead = call("relu", torch.zeros(4, 4), "relu")
    steps = [Step(calls=[dead] if index else [], loss=0.9**index) for index in range(501)]
    assert play(SageMaker(), steps[:500]).said == {}
    assert play(SageMaker(), steps).said == {"DeadRelu": 500}


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(SageMaker.codes)
