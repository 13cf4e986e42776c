"""The rules of DeepLocalize, just at their thresholds and just off."""

import math

import torch

from benchmarks.peers.deeplocalize import DeepLocalize
from benchmarks.peers.recording import Step
from scenes import Scenes, call, play

scenes = Scenes()


def located(*steps):
    return play(DeepLocalize(), steps)


def tensors(output=1.0, weight=1.0, grad=1.0, output_grad=1.0, loss=1.0):
    linear = call("Linear", [output], "0", grad=torch.tensor([float(output_grad)]))
    return Step(calls=[linear], loss=loss, grads={"0.weight": torch.tensor([[float(grad)]])},
                updated={"0.weight": torch.tensor([[float(weight)]])})  # fmt: skip


PLACES = {"forward": "output", "weight": "weight", "delta weight": "grad",
          "output gradient": "output_grad"}  # fmt: skip


def deeplocalize_scenes(place, argument):
    @scenes.scene(f"{place} not finite", math.nan, 1e30)
    def deeplocalize_nan(value):
        return located(tensors(**{argument: value}))

    @scenes.scene(f"{place} zero", 2, 1)
    def deeplocalize_zero(times):
        return located(*(tensors(**{argument: i + 1.0}) for i in range(4 - times)),
                       *(tensors(**{argument: 0.0}) for _ in range(times)))  # fmt: skip

    @scenes.scene(f"{place} unchanged", 5, 4)
    def deeplocalize_unchanged(same):
        moving = [dict.fromkeys(PLACES.values(), i + 1.0) | {"loss": 9 - i} for i in range(5)]
        steps = [known | {argument: 1.0 + (i >= same)} for i, known in enumerate(moving)]
        return located(*(tensors(**step) for step in steps))


for _place, _argument in PLACES.items():
    deeplocalize_scenes(_place, _argument)


@scenes.scene("invalid loss", math.nan, 1e30)
def deeplocalize_loss(loss):
    return located(tensors(loss=loss))


@scenes.scene("model does not learn", 5, 4)
def deeplocalize_flat_loss(same):
    names = PLACES.values()
    steps = [dict.fromkeys(names, i + 1.0) | {"loss": 1.0 + (i >= same)} for i in range(5)]
    return located(*(tensors(**step) for step in steps))


def test_deeplocalize_stops_at_the_first_symptom():
    assert list(located(tensors(output=math.nan, loss=math.nan)).said) == ["forward not finite"]


def test_a_rule_speaks_at_its_threshold_and_not_before():
    assert list(scenes.failures()) == []


def test_every_word_has_a_scene():
    assert scenes.words == set(DeepLocalize.codes)
