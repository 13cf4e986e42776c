"""DLCheck: a Lightning callback that reports at the end of each epoch."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import ClassVar

import torch
from torch import Tensor, nn

from .peer import (
    BAD_INIT,
    DEAD,
    EXPLODING,
    FROZEN,
    NON_FINITE,
    SATURATED,
    SYMMETRY,
    TOO_FAST,
    TOO_SLOW,
    VANISHING,
    Peer,
    Words,
)
from .recording import Epoch, Step, finite, mean_abs, norm

ISSUES = {"exploding gradients": 1e6, "vanishing gradients": 1e-7}


class DLCheck(Peer):
    """What DLCheck's callback reports by itself.

    * at the start: a trainable parameter whose deviation is below 1e-6, which every zero bias is;
    * after each epoch, of trainable parameters: sum and norm as an epoch before (untrained);
      quartiles beyond ±1e4 (diverging); in any step a gradient that is not finite, of norm above
      1e6, of norm below 1e-7, or all 0; a mean over steps of lr · mean|g| / mean|w| outside
      [1e-8, 10];
    * after each epoch, of modules: more than 95 % of all outputs of an ``nn.ReLU`` 0 (dead); the
      mean |output| of an ``nn.Sigmoid`` or ``nn.Tanh`` above 0.95 or below 0.05 (saturated).

    Its further checks (input scaling, label leakage, loss consistency, ...) are methods that
    nothing calls but its tests; they take no part.
    """

    name = "DLCheck"
    source = "QEDan/DLCheck pytorch_lightning_callback/dlcheck_callback.py b201ad1"
    blind = "functional nonlinearities, single units, other nonlinearities, the data, the loss"
    codes: ClassVar[Words] = {
        "weight initialisation": BAD_INIT,
        "untrained": FROZEN,
        "diverging": EXPLODING,
        "non-finite gradients": NON_FINITE,
        "exploding gradients": EXPLODING,
        "vanishing gradients": VANISHING,
        "zero gradients": DEAD | SYMMETRY | VANISHING,
        "slow learning": TOO_SLOW | VANISHING,
        "unstable learning": TOO_FAST,
        "dead activations": DEAD,
        "saturated activations": SATURATED,
    }

    def __init__(self) -> None:
        super().__init__()
        self.trainable: set[str] = set()
        self.print: dict[str, tuple[float, float]] = {}
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.issues: set[str] = set()
        self.ratios: defaultdict[str, float] = defaultdict(float)
        self.steps = 0
        self.sums: dict[tuple[str, str], Tensor] = {}

    def begin(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.trainable.add(name)
                self.print[name] = fingerprint(parameter.detach())
                if parameter.numel() > 1 and float(torch.std(parameter.detach())) < 1e-6:
                    self.say("weight initialisation", 0)

    def step(self, step: Step) -> None:
        self.steps += 1
        for name, grad in step.grads.items():
            if name in self.trainable:
                self.gradient(name, grad, step)
        for call in step.calls:
            if call.module and call.output is not None and call.kind in ("relu", "sigmoid", "tanh"):
                silent = call.output == 0 if call.kind == "relu" else call.output.abs()
                found = torch.tensor([float(silent.sum()), silent.numel()], dtype=torch.float64)
                key = (call.name, call.kind)
                self.sums[key] = self.sums.get(key, torch.zeros(2, dtype=torch.float64)) + found

    def gradient(self, name: str, grad: Tensor, step: Step) -> None:
        if not finite(grad):
            self.issues.add("non-finite gradients")
            return
        size = norm(grad)
        if size > ISSUES["exploding gradients"]:
            self.issues.add("exploding gradients")
        elif 0 < size < ISSUES["vanishing gradients"]:
            self.issues.add("vanishing gradients")
        if not bool(grad.any()):
            self.issues.add("zero gradients")
            return
        weight = mean_abs(step.weights[name])
        if weight > 0:
            self.ratios[name] += step.lr * mean_abs(grad) / weight

    def epoch(self, epoch: Epoch) -> None:
        step = epoch.last.index
        for name in self.trainable & epoch.last.updated.keys():
            self.parameter(name, epoch.last.updated[name], step)
        for ratio in self.ratios.values():
            power = math.log10(ratio / self.steps + 1e-32)
            if power < -8:
                self.issues.add("slow learning")
            elif power > 1:
                self.issues.add("unstable learning")
        for (_, kind), (total, count) in self.sums.items():
            mean = float(total / count)
            if kind == "relu" and mean > 0.95:
                self.issues.add("dead activations")
            elif kind != "relu" and not 0.05 <= mean <= 0.95 and not math.isnan(mean):
                self.issues.add("saturated activations")
        for issue in sorted(self.issues):
            self.say(issue, step)
        self.reset()

    def parameter(self, name: str, values: Tensor, step: int) -> None:
        before, self.print[name] = self.print[name], fingerprint(values)
        if before == self.print[name]:
            self.say("untrained", step)
        low, high = torch.quantile(values.flatten(), torch.tensor([0.25, 0.75]))
        if float(low) < -1e4 or float(high) > 1e4:
            self.say("diverging", step)


def fingerprint(values: Tensor) -> tuple[float, float]:
    return float(values.sum()), norm(values)
