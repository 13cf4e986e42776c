"""Cockpit: instruments for the eye, and one warning."""

from __future__ import annotations

import math
from typing import ClassVar

from .peer import NON_FINITE, Peer, Words
from .recording import Step


class Cockpit(Peer):
    """The only thing Cockpit says by itself: the loss of a batch is NaN.

    Everything else it measures is drawn for a person to judge.
    """

    name = "Cockpit"
    source = "f-dangel/cockpit cockpit/context.py af91391"
    blind = "everything but a loss that is NaN; an infinite one too"
    codes: ClassVar[Words] = {"NaN loss": NON_FINITE}

    def step(self, step: Step) -> None:
        if math.isnan(step.loss):
            self.say("NaN loss", step.index)
