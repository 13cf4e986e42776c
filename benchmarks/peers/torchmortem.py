"""torchmortem: eight detectors over statistics of leaf modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .peer import (
    BAD_INIT,
    DEAD,
    EXPLODING,
    FROZEN,
    NOTHING,
    SATURATED,
    STUCK,
    TOO_FAST,
    TOO_SLOW,
    VANISHING,
    Peer,
    Words,
)
from .recording import Call, Step, norm, share

Series = npt.NDArray[np.float64]
SEEN = {nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softmax,
        nn.LogSoftmax, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid}  # fmt: skip


class Torchmortem(Peer):
    """torchmortem's detectors, at the sampling it calls balanced.

    Leaf modules only, in the order of ``named_modules``; of several calls in a step the last, and 0
    for a layer without one. Statistics at every step, ranks at every 50th. "Late" is the second
    half of the steps.

    * dead: more than half of the entries below 1e-6, in at least half of the late steps.
    * saturated: the same for entries above 0.95, of any layer.
    * vanishing: late mean gradient norms of the last layer's output at least 100 times the first's.
    * exploding: any such norm above 1000, at any time.
    * stalling: such a norm below 1e-8 in at least 30 % of the steps.
    * weights: norm grown more than tenfold; changed by less than 1e-4; 100-fold between layers.
    * rank: effective rank of the output, last third against first third, at most a half.
    * updates: late median of update by weight norm below 1e-5 or above 0.1.
    * noise: gradient norms whose mean is below their deviation, on average over layers.
    * loss: smoothed loss rising in 80 % of the last 20 steps to 1.5 times; flat within 1e-5.

    Notes of mere interest (catapult, edge of stability) are no alarms and are left out.
    """

    name = "torchmortem"
    source = "sebseager/torchmortem src/torchmortem/{collectors,detectors}/*.py 376e78a"
    blind = "functional nonlinearities, single units, NaN, causes in the data; first-half deaths"
    codes: ClassVar[Words] = {
        "dead units": DEAD,
        "saturation": SATURATED,
        "vanishing gradients": VANISHING,
        "exploding gradients": EXPLODING,
        "gradient stalling": VANISHING | DEAD,
        "weight explosion": EXPLODING,
        "weight stagnation": FROZEN | TOO_SLOW | VANISHING,
        "weight imbalance": BAD_INIT,
        "rank collapse": frozenset({"rank-collapse"}),
        "updates too small": TOO_SLOW | FROZEN,
        "updates too large": TOO_FAST,
        "gradient noise": NOTHING,
        "divergence": EXPLODING,
        "loss plateau": STUCK,
    }

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[str] = []
        self.trained: list[str] = []
        self.weighted: list[str] = []
        self.rows: dict[str, list[list[float]]] = {}
        self.losses: list[float] = []

    def begin(self, model: nn.Module) -> None:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for name, module in model.named_modules():
            own = list(module.parameters(recurse=False))
            if next(module.children(), None) is not None:
                continue
            if own or type(module) in SEEN:
                self.layers.append(name)
            if any(parameter.requires_grad for parameter in own):
                self.trained.append(name)
            if id(getattr(module, "weight", None)) in names:
                self.weighted.append(names[id(module.weight)])

    def step(self, step: Step) -> None:
        calls = {call.name: call for call in step.calls if call.module}
        self.losses.append(step.loss)
        self.row("dead", [entries(calls.get(name), lambda x: x < 1e-6) for name in self.layers])
        self.row("high", [entries(calls.get(name), lambda x: x > 0.95) for name in self.layers])
        self.row("grad", [gradient(calls.get(name)) for name in self.trained])
        if step.index % 50 == 0:
            self.row("rank", [effective_rank(calls.get(name)) for name in self.trained])
        moved = [step.updated[name] - step.weights[name] for name in self.weighted]
        self.row("norm", [norm(step.updated[name]) for name in self.weighted])
        self.row("update", [norm(update) for update in moved])

    def row(self, what: str, values: list[float]) -> None:
        self.rows.setdefault(what, []).append(values)

    def series(self, what: str) -> Series:
        return np.array(self.rows.get(what, []), dtype=np.float64)

    def judge(self, what: str, critical: bool) -> None:
        """Say it, as a warning or as critical."""
        self.say(what, len(self.losses) - 1)

    def end(self) -> None:
        if self.losses:
            with np.errstate(all="ignore"):  # infinite losses and norms are compared as they are
                self.detect()

    def detect(self) -> None:
        self.sustained("dead units", self.series("dead"))
        self.sustained("saturation", self.series("high"))
        if len(self.trained) >= 2:
            self.gradient_flow(self.series("grad"))
        self.weight_norms(self.series("norm"))
        self.rank(self.series("rank"))
        self.updates(self.series("update"), self.series("norm"))
        self.noise(self.series("grad"))
        self.loss(np.array(self.losses))

    def sustained(self, what: str, shares: Series) -> None:
        late = shares[len(shares) // 2 :]
        for layer in late.T:
            if (layer > 0.5).mean() >= 0.5:
                self.judge(what, critical=layer.mean() > 0.8)

    def gradient_flow(self, norms: Series) -> None:
        mean = norms[len(norms) // 2 :].mean(0)
        ratio = 0.0
        if mean[0] < 1e-30:
            ratio = np.inf
        elif mean[-1] >= 1e-30:
            ratio = mean[-1] / mean[0]
        if ratio >= 100:
            self.judge("vanishing gradients", critical=ratio > 1000)
        if (norms > 1000).any():
            self.judge("exploding gradients", critical=True)
        if ((norms < 1e-8).mean(0) >= 0.3).any():
            self.judge("gradient stalling", critical=False)

    def weight_norms(self, norms: Series) -> None:
        if len(norms) < 2 or not norms.shape[1]:
            return
        first, last = norms[0], norms[-1]
        growth = last[first >= 1e-30] / first[first >= 1e-30]
        if (growth > 10).any():
            self.judge("weight explosion", critical=growth.max() > 100)
        if len(norms) >= 4 and (np.abs(growth - 1) < 1e-4).any():
            self.judge("weight stagnation", critical=False)
        there = last[last > 1e-30]
        if len(there) >= 2 and there.max() / there.min() >= 100:
            self.judge("weight imbalance", critical=False)

    def rank(self, ranks: Series) -> None:
        for layer in ranks.T:
            known = layer[layer > 0]
            if len(known) < 3:
                continue
            third = len(known) // 3
            # The source cuts the end at -len // 3, which rounds the other way.
            ratio = known[-len(known) // 3 :].mean() / known[:third].mean()
            if ratio <= 0.5:
                self.judge("rank collapse", critical=ratio <= 0.3)

    def updates(self, updates: Series, norms: Series) -> None:
        ratios = np.where(norms > 1e-30, updates / norms, 0.0)[1:]
        for layer in ratios[len(ratios) // 2 :].T:
            moved = layer[layer > 0]
            if not len(moved):
                continue
            if np.median(moved) < 1e-5:
                self.judge("updates too small", critical=False)
            elif np.median(moved) > 0.1:
                self.judge("updates too large", critical=True)

    def noise(self, norms: Series) -> None:
        if len(norms) < 20 or not norms.shape[1]:
            return
        late = norms[len(norms) // 2 :]
        mean, deviation = late.mean(0), late.std(0)
        usable = (mean >= 1e-30) & (deviation >= 1e-30)
        if usable.any() and (mean[usable] / deviation[usable]).mean() < 1:
            self.judge("gradient noise", critical=False)

    def loss(self, losses: Series) -> None:
        if len(losses) < 10:
            return
        smooth = losses.copy()
        for i in range(1, len(smooth)):
            smooth[i] = 0.1 * losses[i] + 0.9 * smooth[i - 1]
        window = min(20, len(smooth) // 2)
        tail = smooth[-window:]
        rising = (np.diff(tail) > 0).mean() >= 0.8
        if rising and not (tail[0] > 1e-30 and tail[-1] / tail[0] < 1.5):
            self.judge("divergence", critical=True)
        if len(smooth) < 40:
            return
        for start in range(len(smooth) // 2, len(smooth) - 20, 20):
            part = smooth[start : start + 20]
            if part.mean() >= 1e-30 and np.ptp(part) / abs(part.mean()) < 1e-5:
                self.judge("loss plateau", critical=False)


class TorchmortemCritical(Torchmortem):
    """Only what torchmortem calls critical."""

    name = "torchmortem, critical only"

    def judge(self, what: str, critical: bool) -> None:
        if critical:
            super().judge(what, critical)


def entries(call: Call | None, condition: Callable[[Tensor], Tensor]) -> float:
    """Share of a call's entries for which a condition holds."""
    if call is None or call.output is None or not call.output.numel():
        return 0.0
    return share(condition(call.output.float().abs()))


def gradient(call: Call | None) -> float:
    return 0.0 if call is None or call.grad is None else norm(call.grad)


def effective_rank(call: Call | None) -> float:
    """Exponential of the entropy of the singular values of a call's output; 0 where unknown."""
    if call is None or call.output is None or call.output.dim() < 2:
        return 0.0
    rows = call.output.float().flatten(1)
    if min(rows.shape) < 2 or not bool(torch.isfinite(rows).all()):
        return 0.0
    values: Tensor = torch.linalg.svdvals(rows)
    if float(values.sum()) <= 1e-30:
        return 0.0
    shares = values / values.sum()
    shares = shares[shares > 1e-30]
    return float(torch.exp(-(shares * shares.log()).sum()))
