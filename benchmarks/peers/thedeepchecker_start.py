"""TheDeepChecker: its checks before the training."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from scipy import stats
from torch import Tensor

from .peer import BAD_INIT, BAD_INPUT, BAD_OUTPUT, NOTHING, SYMMETRY, Words
from .recording import Epoch, Step
from .thedeepchecker import TrainingChecks, differs


def close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-2


class TheDeepChecker(TrainingChecks):
    """The training checks, and those before the training (first phase).

    * features, and the targets of a regression: constant; neither in [0, 1] or [-1, 1] nor of mean
      0 and deviation 1, each to within 0.01;
    * labels of which few classes make up most (normalised perplexity below 0.5);
    * weights of zero variance (symmetry); an F-test tells their deviation from He's for ReLU,
      Glorot's for tanh, LeCun's for sigmoid, or from all three; no biases, or in a classification
      biases that are not 0;
    * the loss of the first step off log(classes) by as much again.

    PyTorch's default initialisation fails the test for He and has biases that are not 0, so it is
    always told of. Left out, as they train anew or change the data: fitting a single batch, zeroed
    inputs, numerical gradients, corrupted labels, augmentation, train against test mode.
    """

    name = "TheDeepChecker"
    codes: ClassVar[Words] = {
        **TrainingChecks.codes,
        "constant features": frozenset({"constant-input"}),
        "unnormalized features": BAD_INPUT,
        "unnormalized targets": BAD_OUTPUT,
        "unbalanced labels": NOTHING,
        "unbroken symmetry": SYMMETRY,
        "initialisation": BAD_INIT,
        "biases": NOTHING,
        "poor initial loss": BAD_INPUT | BAD_INIT,
    }

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.known = False

    def step(self, step: Step) -> None:
        if step.index == 0:
            self.initial(step)
        if not self.known:
            self.inputs += [] if step.inputs is None else [step.inputs]
            self.targets += [] if step.targets is None else [step.targets]
        super().step(step)

    def epoch(self, epoch: Epoch) -> None:
        if self.known:
            return
        self.known = True
        if self.inputs and self.inputs[0].is_floating_point():
            whole = torch.cat([part.flatten() for part in self.inputs])
            if float(whole.std(correction=0)) == 0:
                self.say("constant features", 0)
            elif unnormalized(whole):
                self.say("unnormalized features", 0)
        if self.targets and not epoch.last.classifies:
            if unnormalized(torch.cat([part.flatten().float() for part in self.targets])):
                self.say("unnormalized targets", 0)
        elif self.targets and not self.targets[0].is_floating_point():
            self.labels(torch.cat([part.flatten() for part in self.targets]), epoch.last)
        self.inputs, self.targets = [], []

    def labels(self, labels: Tensor, last: Step) -> None:
        assert last.outputs is not None
        classes = last.outputs.shape[1]
        counts = torch.bincount(labels, minlength=classes).double()
        perplexity = math.exp(float(stats.entropy((counts / counts.sum()).numpy())))
        if classes > 1 and (perplexity - 1) / (classes - 1) < 0.5:
            self.say("unbalanced labels", 0)

    def initial(self, step: Step) -> None:
        """Look at the weights and the loss of the first step."""
        kinds = [call.kind for call in step.nonlinearities("relu", "tanh", "sigmoid")]
        usual = max(set(kinds), key=kinds.count, default="")
        for weight in (w for w in step.weights.values() if w.dim() > 1):
            deviation = float(weight.std(correction=0))
            if deviation**2 <= 1e-8:
                self.say("unbroken symmetry", 0)
            elif badly_spread(weight, deviation, usual):
                self.say("initialisation", 0)
        biases = [value for name, value in step.weights.items() if name.endswith("bias")]
        if not biases or (step.classifies and any(float(bias.sum()) != 0 for bias in biases)):
            self.say("biases", 0)
        if step.classifies and step.outputs is not None:
            expected = math.log(2 if step.is_binary else step.outputs.shape[1])
            if abs(step.loss - expected) >= expected:
                self.say("poor initial loss", 0)


def badly_spread(weight: Tensor, deviation: float, nonlinearity: str) -> bool:
    """Whether weights differ from the initialisation that the nonlinearity asks for."""
    positions = weight[0, 0].numel()
    inside, outside = weight.shape[1] * positions, weight.shape[0] * positions
    he, lecun = math.sqrt(2 / inside), math.sqrt(1 / inside)
    glorot = math.sqrt(2 / (inside + outside))
    wanted = {"relu": he, "tanh": glorot, "sigmoid": lecun}.get(nonlinearity)
    if wanted is not None and differs(deviation, wanted):
        return True
    return all(differs(deviation, scheme) for scheme in (he, lecun, glorot))


def unnormalized(values: Tensor) -> bool:
    low, high = float(values.min()), float(values.max())
    if close(high, 1) and (close(low, 0) or close(low, -1)):
        return False
    return not (close(float(values.std(correction=0)), 1) and close(float(values.mean()), 0))
