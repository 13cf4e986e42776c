"""UMLAUT: heuristics about the program, the inputs and the metrics of each epoch."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import torch
from torch import nn

from .peer import BAD_INPUT, BAD_OUTPUT, LINEAR, NOTHING, TOO_FAST, TOO_SLOW, Peer, Words
from .recording import PASSIVE, Epoch, Step


class Umlaut(Peer):
    """UMLAUT's heuristics.

    Before the training, of the layers:

    * no softmax at the end, nor a loss that takes logits (``cross_entropy`` and
      ``..._with_logits`` do): so said of every regression, as in the source;
    * a linear or convolutional layer, not the last, whose output does not go straight into a
      nonlinearity: so said of each layer before a normalisation, as in the source;
    * a last layer with a nonlinearity other than softmax;
    * dropout above a half.

    After each epoch: inputs of the last batch outside [-1, 1], not floating, or images that are not
    square; NaN in the inputs once the loss is NaN; learning rate above 0.01 or below 1e-7;
    validation loss up and training loss not up; from the fourth epoch on, validation accuracy
    above 0.95 or above training accuracy by more than 0.05.
    """

    name = "UMLAUT"
    source = "BerkeleyHCI/umlaut umlaut/heuristics.py 68c2a02"
    blind = "units, activations, gradients and weights altogether"
    codes: ClassVar[Words] = {
        "missing softmax": BAD_OUTPUT,
        "missing activation": LINEAR,
        "final layer has activation": BAD_OUTPUT,
        "high dropout": NOTHING,
        "input shape": NOTHING,
        "input not normalized": BAD_INPUT,
        "input not floating": NOTHING,
        "NaN in input": frozenset({"non-finite"}),
        "learning rate high": TOO_FAST,
        "learning rate low": TOO_SLOW,
        "overfitting": NOTHING,
        "overconfident validation accuracy": NOTHING,
    }

    def __init__(self) -> None:
        super().__init__()
        self.before: Epoch | None = None

    def begin(self, model: nn.Module) -> None:
        if any(isinstance(module, nn.Dropout) and module.p > 0.5 for module in model.modules()):
            self.say("high dropout", 0)

    def step(self, step: Step) -> None:
        if step.index:
            return
        found = [call for call in step.layers() if call.kind not in PASSIVE]
        kind = step.output_kind()
        takes_logits = step.criterion == "cross_entropy" or step.criterion.endswith("with_logits")
        if "softmax" not in kind and not takes_logits:
            self.say("missing softmax", 0)
        if kind != "linear" and "softmax" not in kind:
            self.say("final layer has activation", 0)
        for call, following in itertools.pairwise(found):
            if call.weighted and not following.nonlinear:
                self.say("missing activation", 0)

    def epoch(self, epoch: Epoch) -> None:
        step = epoch.last.index
        self.inputs(epoch)
        if epoch.last.lr > 0.01:
            self.say("learning rate high", step)
        elif epoch.last.lr < 1e-7:
            self.say("learning rate low", step)
        if self.before is not None and overfits(self.before, epoch):
            self.say("overfitting", step)
        self.before = epoch
        if epoch.index >= 3 and epoch.val_accuracy is not None:
            train = epoch.val_accuracy if epoch.accuracy is None else epoch.accuracy
            if epoch.val_accuracy > 0.95 or epoch.val_accuracy - train > 0.05:
                self.say("overconfident validation accuracy", step)

    def inputs(self, epoch: Epoch) -> None:
        inputs, step = epoch.last.inputs, epoch.last.index
        if inputs is None:
            return
        if inputs.dim() == 4 and inputs.shape[2] != inputs.shape[3]:
            self.say("input shape", step)
        if float(inputs.min()) < -1 or float(inputs.max()) > 1:
            self.say("input not normalized", step)
        if not inputs.is_floating_point():
            self.say("input not floating", step)
        elif math.isnan(epoch.loss) and bool(torch.isnan(inputs).any()):
            self.say("NaN in input", step)


def overfits(before: Epoch, after: Epoch) -> bool:
    """Whether validation got worse and training did not."""
    if before.val_loss is None or after.val_loss is None:
        return False
    return after.val_loss > before.val_loss and after.loss <= before.loss
