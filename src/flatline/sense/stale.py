"""Gradients that nobody resets: seen from one backward pass to the next, after an exam.

Nothing is done in ordinary steps. After an examined update a few entries of the gradients are
kept; where they are still there, to the bit, when the next backward pass begins, and that pass adds
to them, nobody reset them. After a few such steps in a row it is certain.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flatline.sense.parameters import entries, is_plain

#: Updates in a row after which it is certain.
CERTAIN = 3
#: Parameters, and entries of each, that are looked at.
_PARAMETERS, _ENTRIES = 8, 16


@dataclass
class _Probe:
    """Gradients of one optimizer as an update left them."""

    optimizer: weakref.ref[torch.optim.Optimizer]
    parameters: list[weakref.ref[Tensor]]
    addresses: list[int]
    before: Tensor
    steps: int = 0
    asked: bool = False
    reset: bool = False

    def now(self) -> Tensor | None:
        """The same entries now; ``None`` where a gradient is gone or is a new tensor."""
        gradients = [None if (one := ref()) is None else one.grad for ref in self.parameters]
        found = [one for one in gradients if one is not None]
        if [one.data_ptr() for one in found] != self.addresses:
            return None
        return torch.cat([entries(one, _ENTRIES) for one in found])


class Stale:
    """Looks for gradients that are still there after the update that used them."""

    def __init__(self) -> None:
        self._probes: dict[int, _Probe] = {}

    @property
    def armed(self) -> bool:
        """Whether the coming steps are to be looked at."""
        return bool(self._probes)

    def arm(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Keep some of the gradients that the last updates used."""
        for optimizer in optimizers:
            if id(optimizer) not in self._probes:
                self._arm(optimizer, 0)

    def _arm(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        pairs = _some(optimizer)
        if not pairs:
            return
        before = torch.cat([entries(gradient, _ENTRIES) for _, gradient in pairs])
        if not bool(before.any()):
            return
        owners = [weakref.ref(owner) for owner, _ in pairs]
        addresses = [gradient.data_ptr() for _, gradient in pairs]
        self._probes[id(optimizer)] = _Probe(
            weakref.ref(optimizer), owners, addresses, before, steps
        )

    def backward(self) -> None:
        """A backward pass is about to begin."""
        for probe in self._probes.values():
            if not probe.reset:
                now = probe.now()
                same = now is not None and (probe.asked or torch.equal(now, probe.before))
                probe.reset = now is None or not same or not bool(now.any())
                probe.asked = True

    def stepped(self, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """An optimizer has updated again; the evidence of the note once it is certain."""
        probe = self._probes.pop(id(optimizer), None)
        if probe is None or probe.optimizer() is not optimizer or probe.reset or not probe.asked:
            return None
        now = probe.now()
        if now is None or torch.equal(now, probe.before):
            return None  # that pass added nothing
        if probe.steps + 1 >= CERTAIN:
            return {"optimizer": type(optimizer).__name__, "steps": probe.steps + 1}
        self._arm(optimizer, probe.steps + 1)
        return None


def _some(optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, Tensor]]:
    """A few parameters with plain gradients of one device and type."""
    every = (one for group in optimizer.param_groups for one in group["params"])
    pairs = [(one, one.grad) for one in every if one.grad is not None and is_plain(one.grad)]
    kind = [(gradient.device, gradient.dtype) for _, gradient in pairs[:1]]
    alike = [pair for pair in pairs if [(pair[1].device, pair[1].dtype)] == kind]
    return alike[:_PARAMETERS]
