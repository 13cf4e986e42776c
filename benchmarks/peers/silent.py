"""Peers that count silent units: keras-contrib, UvA, DeadNeurons, loss-of-plasticity, ReDo, SNR.

Most of them count, or act on each unit, and never say how many are too many. Such a count is taken
as an alarm from 10 % of a layer on, which is what the one peer that does say so says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from .peer import DEAD, DORMANT, SATURATED, Peer, Words
from .recording import Call, Epoch, Step, layers, share

#: Share of a layer from which keras-contrib warns.
MANY = 0.10


def many(units: Tensor) -> bool:
    """Whether marked units are enough of a layer for an alarm."""
    return share(units) >= MANY


def hidden_columns(epoch: Epoch, *kinds: str) -> Iterator[Tensor]:
    """Outputs of each hidden nonlinearity on the whole training set, a column for each unit."""
    found = layers(epoch.census)
    for call in found[:-1]:  # the last layer is not hidden
        if call.nonlinear and (not kinds or call.kind in kinds):
            yield call.columns()


class DeadReluDetector(Peer):
    """keras-contrib's callback.

    After each epoch the outputs of every ReLU layer on the whole training set are summed over
    examples and positions; a unit whose sum is 0 is dead, and a layer with at least 10 % dead
    units is named. In the source a ReLU that is a layer of its own is passed over, since it has no
    weights; here every ReLU counts.
    """

    name = "keras-contrib DeadReluDetector"
    source = "keras-team/keras-contrib keras_contrib/callbacks/dead_relu_detector.py 3fc5ef7"
    blind = "anything but units of a ReLU that are silent on all data; fewer than 10 % of a layer"
    codes: ClassVar[Words] = {"dead": DEAD}

    def epoch(self, epoch: Epoch) -> None:
        for call in layers(epoch.census):
            if call.kind == "relu" and many(call.columns().sum(0) == 0):
                self.say("dead", epoch.last.index)


class UvA(Peer):
    """The count of the UvA deep learning notebooks.

    After the training the network runs over the whole training set in evaluation mode; a hidden
    unit whose output is exactly 0 on every example is dead. The notebook prints the share of each
    layer and leaves the verdict to the reader.
    """

    name = "UvA notebook"
    source = "Lightning-AI/tutorials course_UvA-DL/02-activation-functions/notebook.py 1581765"
    blind = "causes, time, smooth nonlinearities; all but silence on all data"
    codes: ClassVar[Words] = {"dead": DEAD}

    def __init__(self) -> None:
        super().__init__()
        self.last = Epoch()

    def epoch(self, epoch: Epoch) -> None:
        self.last = epoch

    def end(self) -> None:
        for columns in hidden_columns(self.last):
            if many((columns == 0).all(0)):
                self.say("dead", self.last.last.index)


class DeadNeurons(Peer):
    """The self-diagnosis of DeadNeurons.

    After each epoch, on the whole training set: a unit with mean and deviation below 1e-6 is dead,
    one with mean above 5 and deviation below 0.1 is saturated. One unit makes the source call the
    network unhealthy, and so it does here. The source has a single hidden ReLU layer; here every
    hidden ReLU is looked at.
    """

    name = "DeadNeurons"
    source = "Rekhii/DeadNeurons src/model/classifier.py a070b54"
    blind = "nonlinearities but ReLU, gradients, causes; that a few dead units do no harm"
    codes: ClassVar[Words] = {"dead": DEAD, "saturated": SATURATED}

    def epoch(self, epoch: Epoch) -> None:
        for columns in hidden_columns(epoch, "relu"):
            mean, deviation = columns.mean(0), columns.std(0, correction=0)
            if bool(((mean < 1e-6) & (deviation < 1e-6)).any()):
                self.say("dead", epoch.last.index)
            if bool(((mean > 5.0) & (deviation < 0.1)).any()):
                self.say("saturated", epoch.last.index)


class LossOfPlasticity(Peer):
    """The measure of dormant units that comes with continual backpropagation.

    A hidden unit whose output differs from 0 on fewer than 1 % of the entries of the evaluation set
    is dormant. It is reported as a share. (Continual backpropagation itself ranks units and judges
    none.)
    """

    name = "loss-of-plasticity"
    source = "shibhansh/loss-of-plasticity lop/incremental_cifar/post_run_analysis.py 63c35f3"
    blind = "causes, smooth nonlinearities; a rare unit from a dead one"
    codes: ClassVar[Words] = {"dormant": DORMANT}

    rate = 0.01

    def __init__(self) -> None:
        super().__init__()
        self.last = Epoch()

    def epoch(self, epoch: Epoch) -> None:
        self.last = epoch

    def end(self) -> None:
        for columns in hidden_columns(self.last, "relu"):
            if many((columns != 0).float().mean(0) < self.rate):
                self.say("dormant", self.last.last.index)


def fed(step: Step) -> list[Call]:
    """Outputs of linear and convolutional modules but the last, which peers take for units."""
    return [call for call in step.layers() if call.weighted][:-1]


class ReDo(Peer):
    """ReDo's τ-dormant units.

    On one batch: the mean |ReLU| of the output of each linear or convolutional module but the last,
    divided by the mean over the layer's units; at most τ is dormant. Asked every 1000 updates, and
    here also at the last one, as most runs are shorter. ReDo resets every such unit and warns of
    none. The ReLU is applied whatever nonlinearity follows, as in the source.
    """

    name = "ReDo (τ=0.025)"
    source = "timoklein/redo src/redo.py, src/config.py 3c0e2a9"
    blind = "the nonlinearity in use, functional layers, causes; more than one batch"
    codes: ClassVar[Words] = {"dormant": DORMANT}

    tau = 0.025
    interval = 1000

    def __init__(self) -> None:
        super().__init__()
        self.last = Step()

    def step(self, step: Step) -> None:
        self.last = step
        if step.index and step.index % self.interval == 0:
            self.judge(step)

    def end(self) -> None:
        self.judge(self.last)

    def judge(self, step: Step) -> None:
        for call in fed(step):
            score = call.columns().relu().mean(0)
            score = score / (score.mean() + 1e-9)
            if many(self.dormant(score)):
                self.say("dormant", step.index)

    def dormant(self, score: Tensor) -> Tensor:
        return score <= self.tau


class ReDoZero(ReDo):
    """ReDo with τ = 0: units that are exactly silent on the batch."""

    name = "ReDo (τ=0)"
    source = "google/dopamine dopamine/labs/redo/weight_recyclers.py 5873f54; timoklein/redo"

    def dormant(self, score: Tensor) -> Tensor:
        return torch.isclose(score, torch.zeros(()))


class SNR(Peer):
    """Self-normalized resets.

    The age of a unit is the number of examples since it last fired, counted in whole batches; a
    unit fires when its pre-activation is above 0 anywhere in the batch. Each unit keeps a
    histogram of the ages at which it fired again. From time to time its threshold becomes the 99th
    percentile of that histogram where this is below the present threshold, else twice the present
    one, and never less than a batch. A unit whose age reaches its threshold is reset. By design
    that happens to living units now and then; the units counted here are those that would be reset
    after the last step.

    The source updates thresholds after every 16th task of a continual stream; a single training
    has no tasks, so they are updated after each epoch, and the first threshold is the examples of
    one epoch. A unit that never skipped a batch has no percentile: as in the source its threshold
    falls to one batch.
    """

    name = "Self-Normalized Resets"
    source = "ajozefiak/SelfNormalizedResets src/algorithms/snr.py 8b84f0c"
    blind = "the nonlinearity in use, functional layers, causes; the last layer"
    codes: ClassVar[Words] = {"reset": DORMANT}

    percentile = 0.99
    expansion = 2

    def __init__(self) -> None:
        super().__init__()
        self.ages: dict[str, Tensor] = {}
        self.thresholds: dict[str, Tensor] = {}
        self.waits: dict[str, list[Tensor]] = {}
        self.seen: dict[str, int] = {}
        self.batch: dict[str, int] = {}
        self.steps = 0

    def step(self, step: Step) -> None:
        self.steps = step.index
        for call in fed(step):
            assert call.output is not None
            batch = self.batch[call.name] = len(call.output)
            self.seen[call.name] = self.seen.get(call.name, 0) + batch
            fired = (call.columns() > 0).any(0)
            ages = self.ages.get(call.name, torch.zeros(len(fired), dtype=torch.long))
            waits = self.waits.setdefault(call.name, [])
            waits.append(torch.where(fired, ages, 0))
            self.ages[call.name] = torch.where(fired, 0, ages + batch)

    def epoch(self, epoch: Epoch) -> None:
        for name, waits in self.waits.items():
            before = self.thresholds.get(name, torch.tensor(self.seen[name]))
            usual = torch.stack([self.usual(column) for column in torch.stack(waits).unbind(1)])
            after = torch.where(usual < before, usual, self.expansion * before)
            self.thresholds[name] = after.clamp(min=self.batch[name])
        self.waits = {}

    def end(self) -> None:
        for name, threshold in self.thresholds.items():
            if many(self.ages[name] >= threshold):
                self.say("reset", self.steps)

    def usual(self, waits: Tensor) -> Tensor:
        """The percentile of one unit's waits; 1 where it had none."""
        waited = waits[waits > 0].sort().values
        if not len(waited):
            return torch.tensor(1)
        return waited[int(torch.ceil(torch.tensor(self.percentile * len(waited)))) - 1]
