"""The rules of the counts of silent units, just at their thresholds and just off."""

import torch

from benchmarks.peers.recording import Epoch, Step
from benchmarks.peers.silent import (
    SNR,
    DeadNeurons,
    DeadReluDetector,
    LossOfPlasticity,
    ReDo,
    ReDoZero,
    UvA,
)
from scenes import Scenes, census, columns, epochs, layer, play

scenes = Scenes()


@scenes.scene("dead", 0.10, 0.09)
def dead_relu_detector(share):
    output = columns(share, torch.zeros(100, 1), torch.ones(100, 1))
    return epochs(DeadReluDetector(), census(*layer(output)))


@scenes.scene("dead", 0.10, 0.09)
def uva_count(share):
    output = columns(share, torch.zeros(100, 1), torch.ones(100, 1))
    return epochs(UvA(), census(*layer(output)))


@scenes.scene("dead", 0.0, 2e-6)
def dead_neurons_dead(value):
    return epochs(DeadNeurons(), census(*layer([[1.0, value], [2.0, value]])))


@scenes.scene("saturated", 0.099, 0.101)
def dead_neurons_saturated(deviation):
    return epochs(DeadNeurons(), census(*layer([[6.0 - deviation], [6.0 + deviation]])))


@scenes.scene("saturated", 5.01, 4.99)
def dead_neurons_mean(value):
    return epochs(DeadNeurons(), census(*layer([[value], [value]])))


@scenes.scene("dormant", 9, 10)
def loss_of_plasticity_rate(fires):
    output = (torch.arange(1000) < fires).float()[:, None]
    return epochs(LossOfPlasticity(), census(*layer(output)))


@scenes.scene("dormant", 0.0249, 0.0251)
def redo_score(score):
    # Ten units of mean 1, of which one has this score.
    output = torch.tensor([score, *[(10 - score) / 9] * 9])
    return play(ReDo(), [Step(calls=layer(output[None], "Linear"))])


@scenes.scene("dormant", -1.0, 1e-6)
def redo_zero(value):
    return play(ReDoZero(), [Step(calls=layer([[value, 1.0]], "Linear"))])


def aged(silent, waits=(), batch=4):
    """A unit that fires after each wait, over one epoch, and is then silent for so many batches."""
    fires = [True, *(fired for wait in waits for fired in [*[False] * wait, True])]
    peer = SNR()
    for index, fired in enumerate([*fires, *[False] * silent]):
        output = torch.full((batch, 1), 1.0 if fired else -1.0)
        peer.step(Step(index=index, calls=layer(output, "Linear")))
        if index == len(fires) - 1:
            peer.epoch(Epoch())
    peer.end()
    return peer


@scenes.scene("reset", 1, 0)
def snr_never_waited(silent):
    return aged(silent)


@scenes.scene("reset", 3, 2)
def snr_waited(silent):
    return aged(silent, waits=[3, 2, 3, 1])


def test_snr_doubles_a_threshold_that_the_usual_wait_exceeds():
    peer = aged(0, waits=[2])
    assert int(peer.thresholds["1"]) == 8
    peer.waits = {"1": [torch.tensor([20])]}
    peer.epoch(Epoch())
    assert int(peer.thresholds["1"]) == 16


def test_whole_data_counts_see_a_unit_that_fires_on_one_example():
    output = torch.zeros(1000, 1)
    output[-1] = 1
    for peer in (DeadReluDetector(), UvA(), DeadNeurons()):
        assert epochs(peer, census(*layer(output))).said == {}, peer.name


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []
