"""AUTOTRAINER: accuracy, gradients and outputs at every third epoch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .peer import (
    BAD_INPUT,
    BAD_OUTPUT,
    DEAD,
    NON_FINITE,
    STUCK,
    TOO_FAST,
    VANISHING,
    Peer,
    Words,
)
from .recording import Call, Epoch, Step, finite, norm

PRIORITY = {"abnormal_data": 4, "activation_issue": 3, "loss_issue": 3, "vanish": 2, "explode": 2,
            "relu": 2, "not_converge": 1, "unstable": 1}  # fmt: skip


@dataclass
class Reading:
    """What is read at the end of an epoch.

    Attributes:
        step: Last step of the epoch.
        loss: Training loss.
        val_loss: Validation loss.
        accuracy: Training accuracy; NaN where there is none.
        val_accuracy: Validation accuracy; NaN where there is none.
        ratio: Norm of the first weight matrix's gradient by the last one's.
        first: Norm of the first weight matrix's gradient.
        zeros: Share of zeros in all gradients together.
        finite_grads: Whether all gradients are finite.
        finite_weights: Whether all weights are.
        large_output: Whether an example's |outputs| sum to more than 1.1, or are not finite.
        large_hidden: Whether the mean |output| of a hidden layer is 10 or more.
        misfit: Sign that loss and output layer do not fit, or nothing.
    """

    step: int = 0
    loss: float = 1.0
    val_loss: float = 1.0
    accuracy: float = math.nan
    val_accuracy: float = math.nan
    ratio: float = 1.0
    first: float = 1.0
    zeros: float = 0.0
    finite_grads: bool = True
    finite_weights: bool = True
    large_output: bool = False
    large_hidden: bool = False
    misfit: str = ""


def read_gradients(step: Step, into: Reading) -> Reading:
    """Add what AUTOTRAINER reads from gradients: of weight matrices, and of all parameters."""
    kernels = [norm(grad) for grad in step.grads.values() if grad.dim() > 1]
    total = sum(grad.numel() for grad in step.grads.values())
    if not kernels or not total:
        return into
    with np.errstate(all="ignore"):
        ratio = float(np.float64(kernels[0]) / np.float64(kernels[-1]))
    return replace(
        into,
        ratio=ratio,
        first=kernels[0],
        zeros=sum(int((grad == 0).sum()) for grad in step.grads.values()) / total,
        finite_grads=all(finite(grad) for grad in step.grads.values()),
        finite_weights=all(finite(weight) for weight in step.updated.values()),
    )


def read_metrics(epoch: Epoch) -> Reading:
    """Losses and accuracies; where nothing is held out, the training's own stand for it."""

    def known(value: float | None, instead: float) -> float:
        return instead if value is None else value

    accuracy = known(epoch.accuracy, math.nan)
    return Reading(
        step=epoch.last.index,
        loss=epoch.loss,
        val_loss=known(epoch.val_loss, epoch.loss),
        accuracy=accuracy,
        val_accuracy=known(epoch.val_accuracy, accuracy),
    )


def largest_gain(values: Sequence[float]) -> float:
    """The largest rise from one value to the next; never below 0."""
    return max([0.0, *(after - before for before, after in itertools.pairwise(values))])


def oscillates(accuracy: Sequence[float], height: float = 0.03, share: float = 0.2) -> bool:
    """Whether paired local maxima and minima differ by ``height``, ``share`` times an epoch."""
    inner = range(1, len(accuracy) - 1)
    tops = [accuracy[i] for i in inner if accuracy[i] >= max(accuracy[i - 1], accuracy[i + 1])]
    lows = [accuracy[i] for i in inner if accuracy[i] <= min(accuracy[i - 1], accuracy[i + 1])]
    count = sum(top - low >= height for top, low in zip(tops, lows, strict=False))
    return count >= share * len(accuracy)


class AutoTrainer(Peer):
    """AUTOTRAINER's monitor, with its defaults.

    At the end of epochs 0, 3, 6, ... these become true, and remain so:

    * died_relu: at least 70 % of all gradient entries are 0; vanish: gradient norm of the first
      weight matrix below 1e-3 of the last one's and below 1e-4; explode: above 70 times;
    * loss: not finite or at least 1e3 (then nothing else is looked at); negative;
    * from 30 % of the epochs less 3 on: not_converge, when no accuracy ever reached 0.7;
      sc_accuracy, when none rose by 0.01 in an epoch; unstable, when local maxima and minima of
      training accuracy lie 0.03 apart, once in five epochs.

    Outputs are looked at, and a verdict given, only when such a sign was there at an earlier check,
    or once, at the first check in the second half: activation_output when |outputs| of an example
    sum to more than 1.1, abnormal_output when a hidden layer's mean |output| is 10 or more. Zero
    gradients, exploding and vanishing are reported only where not_converge or sc_accuracy holds;
    one issue is kept, by priority, and ends the watch.

    The source reads gradients on the first batch after the epoch; here on the epoch's last batch,
    before its update. A loss or output layer unfit for the number of classes is reported as the
    source does. Without classes there is no accuracy: then only the loss and NaN are judged.
    """

    name = "AUTOTRAINER"
    source = "shiningrain/AUTOTRAINER AutoTrainer/utils/{monitor,utils,modules}.py 03a463e"
    blind = "units, layers, anything while accuracy is good, tasks without accuracy, initial state"
    codes: ClassVar[Words] = {
        "relu": DEAD,
        "vanish": VANISHING,
        "explode": NON_FINITE,
        "unstable": TOO_FAST,
        "not_converge": STUCK,
        "activation_issue": BAD_OUTPUT,
        "loss_issue": BAD_OUTPUT,
        "abnormal_data": BAD_INPUT,
    }

    gap = 3

    def __init__(self) -> None:
        super().__init__()
        self.readings: list[Reading] = []

    def epoch(self, epoch: Epoch) -> None:
        reading = read_gradients(epoch.last, read_metrics(epoch))
        self.readings.append(read_outputs(epoch, reading))

    def end(self) -> None:
        """Go through the checks; how far a training is depends on its number of epochs."""
        signs: set[str] = set()
        half_checked = False
        for index in range(0, len(self.readings), self.gap):
            past_half = index >= 0.5 * len(self.readings) and not half_checked
            judged = past_half or bool(signs & {"abnormal_loss", "nan_loss", "sc_accuracy"})
            half_checked |= past_half
            self.check(signs, index, judged)
            issues = issues_of(signs) if judged else []
            if issues:
                self.say(max(issues, key=lambda issue: PRIORITY[issue]), self.readings[index].step)
                return

    def check(self, signs: set[str], index: int, judged: bool) -> None:
        """Add the signs of the check after an epoch."""
        now = self.readings[index]
        signs |= {now.misfit} if now.misfit else set()
        if judged and now.large_output:
            signs.add("activation_output")
        if judged and now.large_hidden and "activation_output" not in signs:
            signs.add("abnormal_output")
        if not now.finite_grads:
            signs.add("nan")
        else:
            signs |= {"vanish"} if now.ratio < 1e-3 and now.first < 1e-4 else set()
            signs |= {"explode"} if now.ratio > 70 else set()
            signs |= {"died_relu"} if now.zeros >= 0.7 else set()
        signs |= set() if now.finite_weights else {"nan"}
        signs |= self.metrics(index)

    def metrics(self, index: int) -> set[str]:
        """Signs from losses and accuracies up to an epoch."""
        past = self.readings[: index + 1]
        losses = [r.loss for r in past] + [r.val_loss for r in past]
        if not np.isfinite(losses).all() or max(losses) >= 1e3:
            return {"nan_loss"}
        signs = {"abnormal_loss"} if min(losses) < 0 else set()
        train, test = [r.accuracy for r in past], [r.val_accuracy for r in past]
        if np.isnan(train).any() or len(past) < 0.3 * len(self.readings) - self.gap:
            return signs
        if oscillates(train):
            signs.add("unstable_loss")
        if max(train) < 0.7 and max(test) < 0.7:
            signs.add("not_converge")
        if largest_gain(train) < 0.01 and largest_gain(test) < 0.01:
            signs.add("sc_accuracy")
        return signs


def issues_of(signs: set[str]) -> list[str]:
    """The issues that signs amount to."""
    bad_output = "activation_output" in signs
    issues = ["abnormal_data"] if "abnormal_output" in signs else []
    if "abnormal_loss" in signs:
        issues.append("loss_issue")
    elif "nan_loss" in signs:
        issues += ["activation_issue"] if bad_output else ["explode"] if "nan" in signs else []
    if signs & {"not_converge", "sc_accuracy"}:
        issues += cause_of(signs, bad_output)
    if "unstable_loss" in signs:
        issues.append("activation_issue" if bad_output else "unstable")
    if "improper_loss" in signs and not bad_output:
        issues.append("loss_issue")
    return issues


def cause_of(signs: set[str], bad_output: bool) -> list[str]:
    """Why accuracy is bad: the first of these that holds."""
    if bad_output:
        return ["activation_issue"]
    for sign, issue in (("died_relu", "relu"), ("explode", "explode"), ("vanish", "vanish")):
        if sign in signs:
            return [issue]
    slow = {"not_converge", "sc_accuracy"} <= signs and "abnormal_output" not in signs
    return ["not_converge"] if slow else []


def whole_layers(calls: list[Call]) -> list[Call]:
    """Calls without those that only make the input of a nonlinearity: one layer in Keras."""
    following = [*calls[1:], None]
    return [
        call
        for call, after in zip(calls, following, strict=False)
        if not (call.weighted and after is not None and after.nonlinear)
    ]


def read_outputs(epoch: Epoch, into: Reading) -> Reading:
    """Add the sizes of outputs on a batch, and whether loss and output layer fit."""
    step = epoch.last
    hidden = [call.output for call in whole_layers(epoch.first_batch())[:-1]]
    large = any(float(out.abs().mean()) >= 10 for out in hidden if out is not None and out.numel())
    reading = replace(into, large_hidden=large)
    kind, outputs = step.answer()
    if outputs is None or not step.classifies:
        return reading
    rows = outputs.reshape(len(outputs), -1) if step.is_binary else outputs
    sums = rows.abs().sum(1)
    return replace(
        reading,
        large_output=not finite(sums) or float(sums.max()) > 1.1,
        misfit=misfit(step.is_binary, rows.shape[1], kind),
    )


def misfit(binary: bool, outputs: int, kind: str) -> str:
    """Sign that the loss does not fit the number of outputs, or the last activation the loss."""
    if binary != (outputs <= 2):
        return "improper_loss"
    fits = kind == "sigmoid" or outputs == 2 if binary else kind == "softmax"
    return "" if fits else "activation_output"
