"""TheDeepChecker: hooks during the training."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .peer import (
    BAD_INIT,
    BAD_INPUT,
    BAD_OUTPUT,
    DEAD,
    EXPLODING,
    FROZEN,
    NON_FINITE,
    NOTHING,
    SATURATED,
    STUCK,
    SYMMETRY,
    TOO_FAST,
    TOO_SLOW,
    VANISHING,
    Peer,
    Words,
)
from .recording import Step, finite, mean_abs, share

Columns = npt.NDArray[np.float32]
#: The critical value that its F-test at the level 0.1 uses.
CRITICAL = 2.70554


def differs(deviation: float, reference: float) -> bool:
    """Its F-test of two deviations."""
    a, b = deviation**2, reference**2
    return max(a, b) > CRITICAL * min(a, b)


def grows(values: Sequence[float], factor: float) -> bool:
    """Whether each of the last five values is at least ``factor`` times the one before."""
    last = list(values)[-5:]
    return len(last) == 5 and all(a > 0 and b >= factor * a for a, b in itertools.pairwise(last))


def shrinks(values: Sequence[float], factor: float) -> bool:
    """Whether each of the last five values is at most ``factor`` times the one before."""
    last = list(values)[-5:]
    return len(last) == 5 and all(a > 0 and b <= factor * a for a, b in itertools.pairwise(last))


class TrainingChecks(Peer):
    """TheDeepChecker's second phase: hooks on weights, biases, activations, gradients and loss.

    Looked at from step 10 on, at every 10th, NaN and infinity at each:

    * activations of the last 10 batches, a column for each unit or channel: over half of the units
      with a 95th percentile of |h| below 1e-5 (dead); for sigmoid and tanh instead over half with
      ρ above 0.85 (saturated), ρ being the mean of |2 g - 1| over a histogram of [0, 1] in 50
      bins, which counts what tanh returns below 0 as saturated; a deviation that an F-test tells
      from [0.5, 2] (unstable);
    * outputs: none varied, over five looks; in a classification not probabilities; in a regression
      never above 1, or never negative, where targets are, over five looks;
    * weights: over 95 % negative; over 95 % below 1e-5 (dead); mean |w| above 1e8 or doubled in
      four steps on end (diverging); biases the same;
    * gradients of weights: mean |g| below 1e-6 or halved, above 1e6 or doubled, four steps on end;
      the mean over 10 steps of log10 of mean |update| by mean |w|: above -1, below -4, or 0;
    * loss, means of 10 steps: the last four drops all below 5 %; doubled four times on end; more
      than half of the last 50 alternating; |correlation| with accuracy below 0.5.

    The source overfits a single batch and stops at five perfect steps; here the rules watch the
    training as it is, and stop likewise.
    """

    name = "TheDeepChecker, training checks"
    source = (
        "thedeepchecker/thedeepchecker deep_checker/{hooks,checkers,metrics}.py,"
        " config/settings.yaml d0a2b3a"
    )
    blind = "death of half a layer or less, causes, the first 10 steps, runs of under 10 steps"
    codes: ClassVar[Words] = {
        "activation not finite": NON_FINITE,
        "dead units": DEAD,
        "saturated units": SATURATED,
        "unstable activations": BAD_INIT | BAD_INPUT | VANISHING,
        "output not finite": NON_FINITE,
        "constant outputs": STUCK | BAD_OUTPUT | DEAD,
        "invalid outputs": BAD_OUTPUT,
        "cannot express magnitude": BAD_OUTPUT,
        "cannot express negative": BAD_OUTPUT,
        "weight not finite": NON_FINITE,
        "negative weights": DEAD,
        "dead weights": SYMMETRY | {"weight-decay-collapse"},
        "diverging weights": EXPLODING,
        "diverging biases": EXPLODING,
        "gradient not finite": NON_FINITE,
        "vanishing gradient": VANISHING,
        "exploding gradient": EXPLODING,
        "untrained weights": FROZEN,
        "weights change fast": TOO_FAST,
        "weights change slowly": TOO_SLOW | VANISHING,
        "loss not finite": NON_FINITE,
        "stagnating loss": STUCK,
        "diverging loss": EXPLODING,
        "fluctuating loss": TOO_FAST,
        "unrepresentative loss": NOTHING,
    }

    start, period, patience, scale = 10, 10, 5, 10

    def __init__(self) -> None:
        super().__init__()
        self.perfect = 0
        self.buffers: dict[str, deque[Columns]] = {}
        self.sizes: dict[str, deque[float]] = {}
        self.ratios: dict[str, list[float]] = {}
        self.recent: list[tuple[float, float]] = []
        self.means: list[tuple[float, float]] = []
        self.least = math.inf
        self.shown: set[str] = set()
        self.wanted: set[str] = set()
        self.missing: dict[str, int] = {}

    def step(self, step: Step) -> None:
        if self.perfect >= self.patience:
            return
        look = step.index >= self.start and step.index % self.period == 0
        self.weights(step, look)
        self.activations(step, look)
        self.outputs(step)
        self.gradients(step, look)
        self.loss(step)
        fitted = step.accuracy == 1.0 if step.classifies else step.loss < 1e-4
        self.perfect = self.perfect + 1 if fitted else 0

    def size(self, name: str, values: Tensor) -> deque[float]:
        """The last sizes of a tensor, this one included."""
        sizes = self.sizes.setdefault(name, deque(maxlen=self.scale))
        sizes.append(mean_abs(values))
        return sizes

    def weights(self, step: Step, look: bool) -> None:
        for name, weight in step.updated.items():
            if not finite(weight):
                self.say("weight not finite", step.index)
                continue
            sizes = self.size(name, weight)
            if not look:
                continue
            kind = "weights" if weight.dim() > 1 else "biases"
            if sizes[-1] > 1e8 or grows(sizes, 2):
                self.say(f"diverging {kind}", step.index)
            if kind == "weights" and share(weight < 0) > 0.95:
                self.say("negative weights", step.index)
            if kind == "weights" and share(weight.abs() < 1e-5) > 0.95:
                self.say("dead weights", step.index)

    def activations(self, step: Step, look: bool) -> None:
        for call in step.layers()[:-1]:
            if not call.nonlinear or call.output is None:
                continue
            buffer = self.buffers.setdefault(call.name, deque(maxlen=self.scale))
            buffer.append(call.columns().numpy())
            if not look:
                continue
            if not finite(call.output):
                self.say("activation not finite", step.index)
                continue
            self.units(np.concatenate(buffer), call.kind, step.index)

    def units(self, columns: Columns, kind: str, step: int) -> None:
        if kind in ("sigmoid", "tanh"):
            measures = np.array([rho(column) for column in columns.T])
            if (measures > 0.85).mean() > 0.5:
                self.say("saturated units", step)
        elif (np.percentile(np.abs(columns), 95, axis=0) < 1e-5).mean() > 0.5:
            self.say("dead units", step)
        deviation = float(columns.std())
        bound = min(max(deviation, 0.5), 2.0)
        if differs(deviation, bound):
            self.say("unstable activations", step)

    def outputs(self, step: Step) -> None:
        outputs = step.answer()[1]
        if outputs is None or step.targets is None:
            return
        rows = outputs.reshape(len(outputs), -1)
        self.express(rows, step.targets)
        if step.index % self.period:
            return
        if not finite(rows):
            self.say("output not finite", step.index)
            return
        for what, word in (("varies", "constant outputs"), ("large", "cannot express magnitude"),
                           ("negative", "cannot express negative")):  # fmt: skip
            if what != "varies" and (step.classifies or what not in self.wanted):
                continue
            self.missing[what] = 0 if what in self.shown else self.missing.get(what, 0) + 1
            if self.missing[what] >= self.patience:
                self.say(word, step.index)
        if step.classifies and not probable(rows):
            self.say("invalid outputs", step.index)

    def express(self, rows: Tensor, targets: Tensor) -> None:
        """Note what outputs showed they can be, and what targets are."""
        if rows.shape[0] > 1 and bool((rows.var(0) > 0).all()):
            self.shown.add("varies")
        for values, into in ((rows, self.shown), (targets, self.wanted)):
            into |= {"large"} if float(values.abs().max()) > 1 else set()
            into |= {"negative"} if float(values.min()) < 0 else set()

    def gradients(self, step: Step, look: bool) -> None:
        for name, grad in step.grads.items():
            if grad.dim() < 2:
                continue
            if not finite(grad):
                self.say("gradient not finite", step.index)
                continue
            sizes = self.size(f"grad {name}", grad)
            self.update(name, step)
            if look and (sizes[-1] < 1e-6 or shrinks(sizes, 0.5)):
                self.say("vanishing gradient", step.index)
            if look and (sizes[-1] > 1e6 or grows(sizes, 2)):
                self.say("exploding gradient", step.index)

    def update(self, name: str, step: Step) -> None:
        before = mean_abs(step.weights[name])
        if not before:
            return
        ratio = mean_abs(step.updated[name] - step.weights[name]) / before
        ratios = self.ratios.setdefault(name, [])
        ratios.append(math.log10(ratio) if ratio > 0 else 0.0)
        if step.index == 0 or step.index % self.period:
            return
        mean = float(np.mean(ratios))
        ratios.clear()
        if mean == 0:
            self.say("untrained weights", step.index)
        elif mean > -1:
            self.say("weights change fast", step.index)
        elif mean < -4:
            self.say("weights change slowly", step.index)

    def loss(self, step: Step) -> None:
        if not math.isfinite(step.loss):
            self.say("loss not finite", step.index)
            return
        accuracy = step.loss if step.accuracy is None else step.accuracy
        self.recent.append((step.loss, accuracy))
        if step.index % self.period:
            return
        loss, accuracy = (float(np.mean(column)) for column in zip(*self.recent, strict=True))
        self.recent.clear()
        self.least = min(self.least, loss)
        self.means.append((loss, accuracy))
        self.curve(np.array([value for value, _ in self.means]), step.index)
        if len(self.means) > 2:
            with np.errstate(all="ignore"):
                related = abs(np.corrcoef(np.array(self.means).T)[0, 1])
            if related < 0.5:
                self.say("unrepresentative loss", step.index)

    def curve(self, losses: npt.NDArray[np.float64], step: int) -> None:
        with np.errstate(all="ignore"):
            last = losses[-5:]
            drops = (last[:-1] - last[1:]) / last[:-1]
            ups = losses[-50:][1:] / losses[-50:][:-1] > 1
        if len(last) == 5 and (drops < 0.05).all():
            self.say("stagnating loss", step)
        if grows(list(losses / self.least if self.least else losses), 2):
            self.say("diverging loss", step)
        turns = int(np.count_nonzero(np.diff(ups)))
        if (len(losses[-50:]) - turns) / len(losses[-50:]) < 0.5:
            self.say("fluctuating loss", step)


def rho(column: Columns) -> float:
    """Its measure of saturation: mean of ``|2 g - 1|`` over bins, each by its count."""
    bins = np.digitize(column, np.arange(0, 1, 0.02))
    counts = np.bincount(bins)
    sums = np.bincount(bins, weights=column)
    there = counts > 0
    means = sums[there] / counts[there]
    return float((np.abs(2 * means - 1) * counts[there]).sum() / counts.sum())


def probable(rows: Tensor) -> bool:
    """Whether rows are probabilities, to within 0.05."""
    if rows.shape[1] == 1:
        return bool(((rows >= 0) & (rows <= 1)).all())
    sums = rows.sum(1)
    return bool((rows >= 0).all() and (sums > 0.95).all() and (sums < 1.05).all())
