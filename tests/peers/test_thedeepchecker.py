"""The rules of TheDeepChecker, just at their thresholds and just off."""

import math

import pytest
import torch

from benchmarks.peers.recording import Epoch, Step
from benchmarks.peers.thedeepchecker import TrainingChecks, rho
from benchmarks.peers.thedeepchecker_start import TheDeepChecker
from scenes import Scenes, answered, call, columns, epochs, grads, play, some

scenes = Scenes()


def moved(before, after, **known):
    """A step that moves the only weights."""
    before, after = (torch.as_tensor(v, dtype=torch.float32) for v in (before, after))
    return Step(weights={"0.weight": before}, updated={"0.weight": after}, **known)


def checked(make, count=41, peer=TrainingChecks):
    return play(peer(), [make(i) for i in range(count)])


def hidden(output, kind="relu"):
    spread = torch.as_tensor(output, dtype=torch.float32)
    return Step(calls=[call(kind, spread, "1"), call("Linear", [[1.0]], "2")])


@scenes.scene("dead units", 0.51, 0.50)
def deepchecker_dead_units(share):
    return checked(lambda i: hidden(columns(share, torch.zeros(100, 1), torch.ones(100, 1))))


@scenes.scene("dead units", 0.99e-5, 1.01e-5)
def deepchecker_dead_value(value):
    return checked(lambda i: hidden(torch.full((100, 2), value)))


@scenes.scene("saturated units", 0.93, 0.92)
def deepchecker_saturated(value):
    return checked(lambda i: hidden(torch.full((10, 2), value), "sigmoid"))


@scenes.scene("unstable activations", 0.303, 0.305)
@scenes.scene("unstable activations", 3.30, 3.28)
def deepchecker_spread(deviation):
    return checked(lambda i: hidden(deviation * torch.tensor([[1.0], [-1.0]])))


@scenes.scene("activation not finite", math.nan, 1.0)
def deepchecker_nan(value):
    return checked(lambda i: hidden(torch.tensor([[1.0], [value]])))


@scenes.scene("output not finite", math.inf, 1.0)
def deepchecker_output(value):
    return checked(lambda i: answered([[0.5], [value]], [[0.5], [1.0]]))


@scenes.scene("constant outputs", 41, 40)
def deepchecker_constant(steps):
    return checked(lambda i: answered([[0.5], [0.5]], [[0.5], [1.0]]), steps)


@scenes.scene("cannot express magnitude", 1.0, 1.01)
def deepchecker_magnitude(largest):
    return checked(lambda i: answered([[0.5], [largest]], [[0.5], [2.0]]))


@scenes.scene("cannot express negative", 0.0, -0.01)
def deepchecker_negative(least):
    return checked(lambda i: answered([[0.5], [least]], [[0.5], [-0.5]]))


@scenes.scene("invalid outputs", "relu", "softmax")
def deepchecker_probabilities(kind):
    outputs = [[0.2, 0.7], [0.5, 0.6]] if kind == "relu" else [[0.3, 0.7], [0.4, 0.6]]
    return checked(lambda i: answered(outputs, [1, 0], "cross_entropy", kind))


@scenes.scene("weight not finite", math.nan, 1.0)
def deepchecker_weight(value):
    return checked(lambda i: moved([[1.0, 1.0]], [[1.0, value]]))


@scenes.scene("negative weights", 0.951, 0.95)
def deepchecker_sign(share):
    weight = some(share, -1, 1)[None]
    return checked(lambda i: moved(weight, weight))


@scenes.scene("dead weights", 0.951, 0.95)
def deepchecker_dead_weights(share):
    weight = some(share, 0.9e-5, 1)[None]
    return checked(lambda i: moved(weight, weight))


@scenes.scene("diverging weights", 1.01e8, 0.99e8)
def deepchecker_large_weights(size):
    return checked(lambda i: moved([[size]], [[size]]))


@scenes.scene("diverging weights", 2.0, 1.99)
def deepchecker_growing_weights(factor):
    return checked(lambda i: moved([[1.0]], [[1e-3 * factor**i]]), 11)


@scenes.scene("diverging biases", 2.0, 1.99)
def deepchecker_growing_biases(factor):
    return checked(lambda i: moved([1.0], [1e-3 * factor**i]), 11)


@scenes.scene("gradient not finite", math.inf, 1.0)
def deepchecker_infinite_gradient(value):
    return checked(lambda i: grads([value]))


@scenes.scene("vanishing gradient", 0.99e-6, 1.01e-6)
def deepchecker_small_gradient(size):
    return checked(lambda i: grads([size]))


@scenes.scene("vanishing gradient", 0.5, 0.51)
def deepchecker_shrinking_gradient(factor):
    return checked(lambda i: grads([1e3 * factor**i]), 11)


@scenes.scene("exploding gradient", 1.01e6, 0.99e6)
def deepchecker_large_gradient(size):
    return checked(lambda i: grads([size]))


@scenes.scene("exploding gradient", 2.0, 1.99)
def deepchecker_growing_gradient(factor):
    return checked(lambda i: grads([1e-3 * factor**i]), 11)


@scenes.scene("untrained weights", 0.0, 1e-3)
@scenes.scene("weights change fast", 0.101, 0.099)
@scenes.scene("weights change slowly", 0.99e-4, 1.01e-4)
def deepchecker_updates(ratio):
    def step(index):
        made = moved(torch.tensor([[1.0]]).double(), [[1.0 + ratio]])
        made.grads = {"0.weight": torch.ones(1, 1)}
        return made

    return checked(step)


@scenes.scene("loss not finite", math.nan, 1.0)
def deepchecker_loss(loss):
    return checked(lambda i: Step(loss=loss))


@scenes.scene("stagnating loss", 0.951, 0.949)
def deepchecker_stagnation(factor):
    return checked(lambda i: Step(loss=factor ** ((i + 9) // 10)))


@scenes.scene("diverging loss", 2.0, 1.99)
def deepchecker_divergence(factor):
    return checked(lambda i: Step(loss=factor ** ((i + 9) // 10)))


@scenes.scene("fluctuating loss", 5, 4)
def deepchecker_fluctuation(many):
    # Means of 10 steps; so many of them alternate, and the others rise.
    means = [1.0 + index % 2 if index < many else 2.0 + index for index in range(10)]
    return checked(lambda i: Step(loss=means[(i + 9) // 10]), 91)


@scenes.scene("unrepresentative loss", 0.0, -1.0)
def deepchecker_correlation(related):
    def step(index):
        period = (index + 9) // 10
        accuracy = (0.5, 0.25, 0.5)[period] if related == 0 else (0.25, 0.5, 0.75)[period]
        right = int(4 * accuracy)
        targets = torch.tensor([0] * right + [1] * (4 - right))
        made = answered(torch.tensor([[1.0, 0.0]]).expand(4, -1), targets, "cross_entropy")
        made.loss = 3.0 - period
        return made

    return checked(step, 21)


def test_thedeepchecker_stops_after_five_perfect_steps():
    perfect = answered([[9.0, 0.0], [0.0, 9.0]], [0, 1], "cross_entropy")
    peer = play(TrainingChecks(), [perfect] * 5 + [Step(loss=math.nan)] * 5)
    assert peer.said == {}


def test_thedeepchecker_takes_negative_outputs_of_tanh_for_saturated():
    assert rho(torch.full((10,), -0.5).numpy()) == pytest.approx(2.0)
    assert rho(torch.full((10,), 0.5).numpy()) == pytest.approx(0.0)


def started(step):
    return epochs(TheDeepChecker(), Epoch(last=step))


@scenes.scene("constant features", 1.0, 1.5)
def deepchecker_features(last):
    return started(Step(inputs=torch.tensor([1.0, last])))


@scenes.scene("unnormalized features", 1.011, 1.009)
def deepchecker_feature_range(high):
    return started(Step(inputs=torch.tensor([0.0, 0.9, high])))


@scenes.scene("unnormalized targets", 1.02, 1.0)
def deepchecker_targets(deviation):
    return started(answered([[0.0], [0.0]], [[deviation], [-deviation]]))


@scenes.scene("unbalanced labels", 90, 10)
def deepchecker_labels(of_one_class):
    labels = [0] * of_one_class + [1] * 10
    return started(answered([[0.0, 0.0]] * len(labels), labels, "cross_entropy"))


@scenes.scene("unbroken symmetry", 0.9e-4, 1.1e-4)
def deepchecker_symmetry(deviation):
    weight = deviation * torch.tensor([[1.0, -1.0]])
    return started(Step(weights={"0.weight": weight}))


@scenes.scene("initialisation", 2.71, 2.70)
def deepchecker_he(ratio):
    weight = math.sqrt(2 / 2 * ratio) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    return started(Step(calls=[call("relu", [[1.0]])], weights={"0.weight": weight}))


@scenes.scene("biases", "weight", "bias")
def deepchecker_biases(name):
    return started(Step(weights={f"0.{name}": torch.zeros(2)}))


@scenes.scene("poor initial loss", 2.01, 1.99)
def deepchecker_first_loss(times):
    step = answered([[0.0, 0.0]] * 2, [0, 1], "cross_entropy")
    step.loss = times * math.log(2)
    return started(step)


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(TheDeepChecker.codes)
