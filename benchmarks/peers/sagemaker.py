"""Amazon SageMaker Debugger: its built-in rules for deep learning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch

from .peer import (
    BAD_INIT,
    DEAD,
    EXPLODING,
    FROZEN,
    NON_FINITE,
    SATURATED,
    STUCK,
    SYMMETRY,
    TOO_FAST,
    TOO_SLOW,
    VANISHING,
    Peer,
    Words,
)
from .recording import Call, Step, finite, mean_abs, norm, share

#: Inputs beyond which a nonlinearity counts as inactive.
RANGE = {"tanh": (-9.4999, 9.4999), "sigmoid": (-23.0, 16.99999)}


class SageMaker(Peer):
    """SageMaker Debugger's built-in rules with their defaults.

    The rules are closed; this is what their documentation says of them. Tensors are saved at every
    500th step and found by their names, which are those of modules: ``.*relu_output`` finds a
    module only when the programmer called it ``relu``.

    * DeadRelu: over 50 % of a layer's ReLUs with under 1 % of positive outputs;
    * SaturatedActivation: over 50 % of a layer's tanh (sigmoid) units with under 1 % of inputs
      inside (-9.4999, 9.4999) (sigmoid: (-23, 16.99999));
    * PoorWeightInitialization, in the first 10 saved steps: variances of ReLU inputs that differ
      more than tenfold between layers; 5th and 95th percentile of a gradient within 0.001; no new
      lowest loss for 5 steps;
    * VanishingGradient: mean |g| below 1e-7; ExplodingTensor: a gradient that is not finite;
    * WeightUpdateRatio, between saved steps: norm of update by weight outside [1e-8, 10];
    * LossNotDecreasing: over 10 steps down by less than 0.1 %, or up by more than 5 %; an increase
      up to that is tolerated, which is the lenient reading;
    * AllZero (100 %) and TensorVariance (outside [1e-5, 10]) on weights, UnchangedTensor (3 steps)
      on losses: these have no defaults; as set in thedeepchecker's baseline.

    Left out, as nothing in flatline's vocabulary corresponds: Overfit, Overtraining,
    ClassImbalance, Confusion, StalledTraining, and rules on images, sequences and trees.
    """

    name = "SageMaker Debugger, defaults"
    source = (
        "docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html; names from"
        " awslabs/sagemaker-debugger smdebug/pytorch/{hook,collection}.py 3b82de3; intervals from"
        " awslabs/sagemaker-debugger-rulesconfig ruleConfigs.json afeb292"
    )
    blind = "what happens between saved steps, modules by another name, functional nonlinearities"
    codes: ClassVar[Words] = {
        "DeadRelu": DEAD,
        "SaturatedActivation": SATURATED,
        "PoorWeightInitialization": BAD_INIT,
        "VanishingGradient": VANISHING,
        "ExplodingTensor": NON_FINITE,
        "WeightUpdateRatio large": EXPLODING,
        "WeightUpdateRatio small": TOO_SLOW | FROZEN | VANISHING,
        "LossNotDecreasing": STUCK | TOO_FAST,
        "AllZero": SYMMETRY | {"weight-decay-collapse"},
        "TensorVariance": BAD_INIT,
        "UnchangedTensor": STUCK | FROZEN,
    }

    interval = 500
    by_name = True

    def __init__(self) -> None:
        super().__init__()
        self.saved = 0
        self.losses: list[tuple[int, float]] = []
        self.compared = 0
        self.weights: dict[str, torch.Tensor] = {}

    def step(self, step: Step) -> None:
        if step.index % self.interval:
            return
        self.activations(step)
        self.gradients(step)
        self.tensors(step)
        self.losses.append((step.index, step.loss))
        self.loss(step.index)
        self.saved += 1
        if self.saved <= 10:
            self.initialization(step)

    def found(self, step: Step, kind: str, side: str) -> Iterator[Call]:
        """The calls whose tensor the rule's regular expression finds."""
        for call in step.calls:
            name = f"{call.name}_{side}_0"
            matches = call.module and re.match(f".*{kind}_{side}", name) is not None
            if call.output is not None and (matches if self.by_name else call.kind == kind):
                yield call

    def activations(self, step: Step) -> None:
        for call in self.found(step, "relu", "output"):
            active = (call.columns() > 0).float().mean(0)
            if share(active < 0.01) > 0.5:
                self.say("DeadRelu", step.index)
        for kind, (low, high) in RANGE.items():
            for call in self.found(step, kind, "input"):
                if call.input is None:
                    continue
                given = call.columns(call.input)
                active = ((given > low) & (given < high)).float().mean(0)
                if share(active < 0.01) > 0.5:
                    self.say("SaturatedActivation", step.index)

    def gradients(self, step: Step) -> None:
        for grad in step.grads.values():
            if mean_abs(grad) < 1e-7:
                self.say("VanishingGradient", step.index)
            if not finite(grad):
                self.say("ExplodingTensor", step.index)

    def tensors(self, step: Step) -> None:
        weights = {name: value for name, value in step.weights.items() if "weight" in name}
        for name, value in weights.items():
            if not bool(value.any()):
                self.say("AllZero", step.index)
            if value.numel() > 1 and not 1e-5 <= float(value.var(correction=0)) <= 10:
                self.say("TensorVariance", step.index)
            if name in self.weights:
                ratio = norm(value - self.weights[name]) / (norm(self.weights[name]) + 1e-9)
                if ratio > 10:
                    self.say("WeightUpdateRatio large", step.index)
                elif ratio < 1e-8:
                    self.say("WeightUpdateRatio small", step.index)
        self.weights = weights

    def loss(self, step: int) -> None:
        values = [loss for _, loss in self.losses]
        if len(values) > 3 and np.allclose(values[-1], values[-4], rtol=1e-5, atol=1e-8):
            self.say("UnchangedTensor", step)
        before = self.losses[self.compared][1]
        if step - self.losses[self.compared][0] >= 10:
            self.compared = len(self.losses) - 1
            drop = 100 * (before - values[-1]) / abs(before) if before else 0.0
            if 0 <= drop < 0.1 or drop < -5:
                self.say("LossNotDecreasing", step)

    def initialization(self, step: Step) -> None:
        inputs = [c.input for c in self.found(step, "relu", "input") if c.input is not None]
        variances = [float(given.var(correction=0)) for given in inputs]
        if len(variances) > 1 and max(variances) > 10 * min(variances):
            self.say("PoorWeightInitialization", step.index)
        for grad in step.grads.values():
            with np.errstate(invalid="ignore"):
                low, high = np.percentile(grad.numpy(), (5, 95))
                close = high - low < 0.001
            if close:
                self.say("PoorWeightInitialization", step.index)
        values = [loss for _, loss in self.losses]
        if len(values) - 1 - int(np.argmin(values)) >= 5:
            self.say("PoorWeightInitialization", step.index)


class SageMakerEveryStep(SageMaker):
    """The same rules, given every step and every nonlinearity whatever its name."""

    name = "SageMaker Debugger, every step"
    blind = "single units: fires where half of a layer is concerned; causes"
    interval = 1
    by_name = False
