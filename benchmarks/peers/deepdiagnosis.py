"""DeepDiagnosis: the first symptom at the end of an epoch, and a decision tree for its cause."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from .peer import (
    BAD_INIT,
    BAD_INPUT,
    BAD_OUTPUT,
    DEAD,
    FROZEN,
    NON_FINITE,
    NOTHING,
    SATURATED,
    STUCK,
    TOO_FAST,
    TOO_SLOW,
    VANISHING,
    Peer,
    Words,
)
from .recording import PASSIVE, Call, Epoch, Step, finite, mean_abs, norm, share

#: What a nonlinearity can return.
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf),
          "elu": (-1.0, math.inf)}  # fmt: skip


def unchanged(values: Sequence[float]) -> bool:
    """Whether the mean equals the largest: all values are the same."""
    return sum(values) / len(values) == max(values)


class DeepDiagnosis(Peer):
    """DeepDiagnosis' callback ``mapFaluireToFix``.

    After each epoch, on one batch, the first of these that holds ends the training:

    * after the first epoch: labels outside the range of the last nonlinearity, a linear output
      whose range is over ten times the labels', ReLU under cross entropy: out of range;
    * forward, layer by layer: mean output not finite or exactly 0 (numerical); in the last epoch,
      at least 70 % of a ReLU's (or exponential's) outputs <= 0 (dead node); in every 5th, over half
      of the inputs of a sigmoid or tanh beyond ±5 (saturated), or five equal means (unchanged);
    * loss not finite, accuracy not finite or 0 (invalid); five equal losses, 20 equal accuracies;
    * backward, dense layers: mean gradient not finite or 0 (numerical), mean |gradient| below 1e-7
      (vanishing); in every 5th epoch, five equal means of gradient or weights (unchanged).

    A symptom comes with a fix from a fixed tree: inputs outside [-1, 1], else the variance of a
    layer's weights outside [1e-5, 10], else lr·‖gradient‖/‖weight‖ outside [1e-5, 0.1] in a layer,
    else another activation or optimizer. The symptom and the fix both count as its word.

    The published code misaligns weights with gradients and takes variances of means, which are
    never small or large; here the tree works as the paper describes it. Weights are compared
    before the epoch's last update.
    """

    name = "DeepDiagnosis"
    source = "DeepDiagnosis/ICSE2022 callback/callbacks.py 500b017"
    blind = "units, deaths before the last epoch's end, convolutions' gradients, other activations"
    codes: ClassVar[Words] = {
        "out of range": BAD_OUTPUT,
        "numerical: not finite": NON_FINITE,
        "numerical: zero": DEAD | {"zero-init"},
        "dead node": DEAD,
        "saturated activation": SATURATED,
        "unchanged tensor": STUCK | FROZEN | DEAD,
        "invalid loss": NON_FINITE,
        "invalid accuracy": STUCK,
        "loss not decreasing": STUCK,
        "accuracy not increasing": STUCK,
        "vanishing gradient": VANISHING,
        "fix: normalize the data": BAD_INPUT,
        "fix: poor weights": BAD_INIT,
        "fix: learning rate": TOO_FAST | TOO_SLOW,
        "fix: other": NOTHING,
    }

    often, rarely = 5, 20

    def __init__(self) -> None:
        super().__init__()
        self.means: dict[tuple[str, str], list[float]] = {}
        self.labels: list[float] = []
        self.before: Epoch | None = None

    def step(self, step: Step) -> None:
        if self.before is None and step.targets is not None and step.targets.numel():
            self.labels += [float(step.targets.min()), float(step.targets.max())]

    def epoch(self, epoch: Epoch) -> None:
        """Look at the epoch before: only now is it known not to have been the last."""
        if self.before is not None:
            self.look(self.before, last=False)
        self.before = epoch

    def end(self) -> None:
        if self.before is not None:
            self.look(self.before, last=True)

    def look(self, epoch: Epoch, last: bool) -> None:
        """Say the first symptom, if it is the first of all, and what would fix it."""
        symptom = None if self.said else next(self.symptoms(epoch, last), None)
        if symptom is not None:
            self.say(symptom, epoch.last.index)
            self.say(fix(symptom, epoch.last), epoch.last.index)

    def symptoms(self, epoch: Epoch, last: bool) -> Iterator[str]:
        found = [call for call in epoch.first_batch() if call.kind not in PASSIVE]
        turn = (epoch.index + 1) % self.often == 0
        if epoch.index == 0 and found and self.out_of_range(epoch.last):
            yield "out of range"
        for call in found:
            yield from self.forward(call, turn, last)
        for call in found[:-1]:
            if turn and unchanged(self.means["output", call.name][-self.often :]):
                yield "unchanged tensor"
        yield from self.metrics(epoch, turn)
        yield from self.backward(epoch.last, turn)

    def forward(self, call: Call, turn: bool, last: bool) -> Iterator[str]:
        assert call.output is not None
        mean = float(call.output.float().mean())
        self.means.setdefault(("output", call.name), []).append(mean)
        yield from numerical(mean)
        if last and call.kind in ("relu", "exp") and share(call.output <= 0) >= 0.7:
            yield "dead node"
        given = call.input if turn and call.kind in ("sigmoid", "tanh") else None
        if given is not None and share(given.abs() >= 5) > 0.5:
            yield "saturated activation"

    def metrics(self, epoch: Epoch, turn: bool) -> Iterator[str]:
        losses = self.means.setdefault(("loss", ""), [])
        losses.append(epoch.loss)
        if not math.isfinite(epoch.loss):
            yield "invalid loss"
        if turn and unchanged(losses[-self.often :]):
            yield "loss not decreasing"
        if epoch.accuracy is None:
            return
        accuracies = self.means.setdefault(("accuracy", ""), [])
        accuracies.append(epoch.accuracy)
        if not math.isfinite(epoch.accuracy) or epoch.accuracy == 0:
            yield "invalid accuracy"
        if (epoch.index + 1) % self.rarely == 0 and unchanged(accuracies[-self.rarely :]):
            yield "accuracy not increasing"

    def backward(self, step: Step, turn: bool) -> Iterator[str]:
        dense = [call.name for call in step.layers() if call.weighted and call.kind == "Linear"]
        for name in reversed(dense):
            grad, weight = step.grads.get(f"{name}.weight"), step.weights.get(f"{name}.weight")
            if grad is None or weight is None:
                continue
            mean = float(grad.mean())
            yield from numerical(mean)
            if mean_abs(grad) < 1e-7:
                yield "vanishing gradient"
            yield from numerical(float(weight.mean()))
            for what, value in (("grad", mean), ("weight", float(weight.mean()))):
                values = self.means.setdefault((what, name), [])
                values.append(value)
                if turn and unchanged(values[-self.often :]):
                    yield "unchanged tensor"

    def out_of_range(self, step: Step) -> bool:
        kind, outputs = step.answer()
        if outputs is None or not self.labels or kind == "softmax":
            return False
        if kind in ("relu", "linear") and step.criterion in ("cross_entropy", "nll_loss"):
            return True
        low, high = min(self.labels), max(self.labels)
        if kind == "linear" and float(outputs.max() - outputs.min()) > 10 * (high - low):
            return True
        least, most = RANGES.get(kind, (-math.inf, math.inf))
        return low < least or high > most


def numerical(mean: float) -> Iterator[str]:
    if not math.isfinite(mean):
        yield "numerical: not finite"
    if mean == 0:
        yield "numerical: zero"


def fix(symptom: str, step: Step) -> str:
    """The end of the decision tree."""
    tree = {
        "vanishing gradient": ("rate",),
        "invalid loss": ("rate",),
        "invalid accuracy": ("rate",),
        "unchanged tensor": ("weights", "rate"),
        "numerical: not finite": ("weights", "data", "rate"),
        "numerical: zero": ("weights", "data", "rate"),
        "out of range": (),
        "loss not decreasing": ("weights", "data", "rate"),
        "accuracy not increasing": ("weights", "data", "rate"),
    }
    for question in tree.get(symptom, ("data", "weights", "rate")):
        if question == "data" and outside(step.inputs):
            return "fix: normalize the data"
        if question == "weights" and any(poor(w) for w in step.weights.values() if w.dim() > 1):
            return "fix: poor weights"
        if question == "rate" and any(odd_rate(step)):
            return "fix: learning rate"
    return "fix: other"


def outside(inputs: Tensor | None) -> bool:
    return inputs is not None and (float(inputs.min()) < -1 or float(inputs.max()) > 1)


def poor(weight: Tensor) -> bool:
    variance = float(torch.var(weight)) if weight.numel() > 1 else 1.0
    return variance < 1e-5 or variance > 10


def odd_rate(step: Step) -> Iterator[bool]:
    for name, grad in step.grads.items():
        size = norm(step.weights[name])
        if grad.dim() > 1 and finite(grad) and size > 0:
            yield not 1e-5 <= step.lr * norm(grad) / size <= 0.1
