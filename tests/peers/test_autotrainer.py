"""The rules of AUTOTRAINER, just at their thresholds and just off."""

import math

import pytest
import torch

from benchmarks.peers.autotrainer import AutoTrainer, Reading, read_gradients, read_outputs
from benchmarks.peers.recording import Epoch, Step
from scenes import Scenes, call

scenes = Scenes()


def readings(count=10, accuracy=0.5, **known):
    peer = AutoTrainer()
    peer.readings = [Reading(accuracy=accuracy, val_accuracy=accuracy, **known)] * count
    peer.end()
    return peer


@scenes.scene("relu", 0.70, 0.69)
def autotrainer_zero_gradients(zeros):
    return readings(zeros=zeros)


@scenes.scene("vanish", 0.99e-3, 1e-3)
def autotrainer_small_ratio(ratio):
    return readings(ratio=ratio, first=0.9e-4)


@scenes.scene("vanish", 0.99e-4, 1e-4)
def autotrainer_small_gradient(first):
    return readings(ratio=0.9e-3, first=first)


@scenes.scene("explode", 70.1, 70.0)
def autotrainer_large_ratio(ratio):
    return readings(ratio=ratio)


@scenes.scene("explode", 1000.0, 999.0)
def autotrainer_large_loss(loss):
    return readings(loss=loss, finite_weights=False, accuracy=0.9)


@scenes.scene("not_converge", 0.69, 0.70)
def autotrainer_bad_accuracy(accuracy):
    return readings(accuracy=accuracy)


@scenes.scene("unstable", 0.03125, 0.0292)
def autotrainer_oscillation(height):
    peer = AutoTrainer()
    values = [0.75 + height * (epoch % 2) for epoch in range(10)]
    peer.readings = [Reading(accuracy=a, val_accuracy=a) for a in values]
    peer.end()
    return peer


@scenes.scene("activation_issue", True, False)
def autotrainer_large_output(large):
    return readings(large_output=large)


@scenes.scene("loss_issue", -0.01, 0.01)
def autotrainer_negative_loss(loss):
    return readings(loss=loss, accuracy=0.9)


@scenes.scene("abnormal_data", True, False)
def autotrainer_large_hidden(large):
    return readings(large_hidden=large, accuracy=0.9)


def test_autotrainer_is_silent_while_accuracy_is_good_and_keeps_the_weightiest_issue():
    peer, sick = AutoTrainer(), {"zeros": 1.0, "ratio": 0.0, "first": 0.0}
    peer.readings = [Reading(accuracy=a, val_accuracy=a, **sick) for a in (0.8, *([0.9] * 19))]
    peer.end()
    assert peer.said == {}
    assert set(readings(accuracy=0.9, **sick).said) == {"relu"}
    assert set(readings(zeros=1.0, large_hidden=True).said) == {"abnormal_data"}


def test_autotrainer_is_silent_without_accuracy():
    assert readings(accuracy=math.nan, zeros=1.0).said == {}


def test_autotrainer_reads_first_and_last_weight_matrix_and_zeros_of_all_gradients():
    matrices = {"a": torch.tensor([[3.0, 4.0]]), "c": torch.tensor([[0.0, 10.0]])}
    step = Step(grads={"a": matrices["a"], "b": torch.tensor([0.0, 1.0]), "c": matrices["c"]})
    reading = read_gradients(step, Reading())
    assert (reading.first, reading.ratio, reading.zeros) == (5.0, 0.5, 2 / 6)


@pytest.mark.parametrize(("value", "large"), [(9.99, False), (10.0, True)])
def test_autotrainer_measures_hidden_outputs_after_their_nonlinearity(value, large):
    census = [
        call("Linear", torch.full((4, 2), 50.0), "0"),
        call("relu", torch.full((4, 2), value), "1"),
        call("Linear", torch.zeros(4, 1), "2"),
    ]
    assert read_outputs(Epoch(census=census), Reading()).large_hidden is large


@pytest.mark.parametrize(
    ("criterion", "last", "outputs", "sign"),
    [
        ("cross_entropy", "Linear", 3, ""),
        ("cross_entropy", "relu", 3, "activation_output"),
        ("cross_entropy", "Linear", 2, "improper_loss"),
        ("binary_cross_entropy_with_logits", "Linear", 1, ""),
        ("binary_cross_entropy", "tanh", 1, "activation_output"),
        ("binary_cross_entropy", "sigmoid", 3, "improper_loss"),
    ],
)
def test_autotrainer_compares_loss_and_output_layer(criterion, last, outputs, sign):
    values = torch.rand(4, outputs)
    step = Step(calls=[call(last, values)], criterion=criterion, outputs=values)
    assert read_outputs(Epoch(last=step), Reading()).misfit == sign


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(AutoTrainer.codes)
