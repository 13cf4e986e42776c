"""NeuralDBG: transitions between states of a layer."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from .peer import BAD_INIT, DEAD, EXPLODING, SATURATED, VANISHING, Peer, Words
from .recording import Call, Step, norm, share


class NeuralDBG(Peer):
    """NeuralDBG's events.

    Every call of every module, containers included, puts the module into a state. Activation: dead
    when more than 90 % of the columns of the batch (of a convolution, of pixels and channels) sum
    to less than 1e-9; else saturated when more than 70 % of the entries are above 0.95; else
    anomalous when the deviation is below 1e-4. Gradient of the output: norm below 1e-6 vanishing,
    above 1e3 exploding, below 1e-4 "saturated".

    Only a change of state is an event, and only one into a state that is not healthy counts here:
    a layer that is dead from the first step on never is one.
    """

    name = "NeuralDBG"
    source = "LambdaSection/NeuralDBG neuraldbg.py 028a63d"
    blind = "whatever is so from the first step, functional layers, under 90 % of a layer, NaN"
    codes: ClassVar[Words] = {
        "activation dead": DEAD,
        "activation saturated": SATURATED,
        "activation anomalous": BAD_INIT | DEAD,
        "gradient vanishing": VANISHING,
        "gradient exploding": EXPLODING,
        "gradient saturated": VANISHING,
    }

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[tuple[str, str], str] = {}

    def step(self, step: Step) -> None:
        for call in step.calls:
            if call.module and call.output is not None:
                self.enter("activation", call, activation_state(call.output), step.index)
            if call.module and call.grad is not None:
                self.enter("gradient", call, gradient_state(norm(call.grad)), step.index)

    def enter(self, what: str, call: Call, state: str, step: int) -> None:
        before = self.states.get((what, call.name), state)
        self.states[what, call.name] = state
        if before != state and state != "healthy":
            self.say(f"{what} {state}", step)


def activation_state(output: Tensor) -> str:
    values = output.float().abs()
    silent = values.sum(0) < 1e-9 if values.dim() > 1 else values < 1e-9
    if share(silent) > 0.9:
        return "dead"
    if share(values > 0.95) > 0.7:
        return "saturated"
    if output.numel() > 1 and float(torch.std(output.float())) < 1e-4:
        return "anomalous"
    return "healthy"


def gradient_state(size: float) -> str:
    if size < 1e-6:
        return "vanishing"
    if size > 1e3:
        return "exploding"
    return "saturated" if size < 1e-4 else "healthy"
