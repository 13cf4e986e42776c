"""The rules of UMLAUT, just at their thresholds and just off."""

import math

import torch
from torch import nn

from benchmarks.peers.recording import Epoch, Step
from benchmarks.peers.umlaut import Umlaut
from scenes import Scenes, call, epochs, play

scenes = Scenes()


def program(*kinds, criterion="cross_entropy"):
    calls = [call(kind, [1.0], str(i)) for i, kind in enumerate(kinds)]
    return play(Umlaut(), [Step(calls=calls, criterion=criterion)])


@scenes.scene("missing softmax", "mse_loss", "cross_entropy")
def umlaut_softmax(criterion):
    return program("Linear", "relu", "Linear", criterion=criterion)


@scenes.scene("missing activation", "BatchNorm1d", "relu")
def umlaut_linear(following):
    return program("Linear", following, "relu", "Linear")


@scenes.scene("final layer has activation", "sigmoid", "softmax")
def umlaut_last(kind):
    return program("Linear", kind)


@scenes.scene("high dropout", 0.51, 0.5)
def umlaut_dropout(rate):
    return play(Umlaut(), [], nn.Sequential(nn.Dropout(rate), nn.Linear(1, 1)))


def watched(inputs=None, lr=1e-3, **known):
    return Epoch(last=Step(inputs=inputs, lr=lr), **known)


@scenes.scene("input shape", (1, 1, 4, 5), (1, 1, 4, 4))
def umlaut_shape(shape):
    return epochs(Umlaut(), watched(torch.zeros(shape)))


@scenes.scene("input not normalized", -1.01, -1.0)
def umlaut_range(low):
    return epochs(Umlaut(), watched(torch.tensor([low, 1.0])))


@scenes.scene("input not floating", torch.int64, torch.float32)
def umlaut_type(dtype):
    return epochs(Umlaut(), watched(torch.zeros(1, dtype=dtype)))


@scenes.scene("NaN in input", math.nan, 0.0)
def umlaut_nan(value):
    return epochs(Umlaut(), watched(torch.tensor([value]), loss=math.nan))


@scenes.scene("learning rate high", 0.0101, 0.01)
@scenes.scene("learning rate low", 0.99e-7, 1e-7)
def umlaut_rate(lr):
    return epochs(Umlaut(), watched(lr=lr))


@scenes.scene("overfitting", 1.01, 1.0)
def umlaut_overfit(val_loss):
    return epochs(Umlaut(), watched(loss=1.0, val_loss=1.0), watched(loss=1.0, val_loss=val_loss))


@scenes.scene("overconfident validation accuracy", 0.951, 0.95)
def umlaut_validation(accuracy):
    return epochs(Umlaut(), *(watched(accuracy=accuracy, val_accuracy=accuracy) for _ in range(4)))


def test_umlaut_waits_three_epochs_before_it_looks_at_accuracy():
    peer = epochs(Umlaut(), *(watched(accuracy=1.0, val_accuracy=1.0) for _ in range(3)))
    assert "overconfident validation accuracy" not in peer.said


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(Umlaut.codes)
