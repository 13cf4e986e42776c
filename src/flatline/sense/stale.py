"""Gradients that nobody resets: seen from one backward pass to the next, after an exam.

Nothing is done in ordinary steps. After an examined update a few entries of the gradients are
kept; where they are still there, to the bit, when the next backward pass begins, and that pass adds
to them, nobody reset them. After a few such steps in a row it is certain.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
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
    kept: list[tuple[weakref.ref[Tensor], int, Tensor]]
    steps: int = 0
    asked: bool = field(default=False)
    reset: bool = field(default=False)


class Stale:
    """Looks for gradients that outlive the reset between two updates.

    Attributes:
        found: Optimizers whose gradients are never reset: class and steps in a row.
    """

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
        kept = _kept(optimizer)
        if kept:
            self._probes[id(optimizer)] = _Probe(weakref.ref(optimizer), kept, steps)

    def backward(self) -> None:
        """A backward pass is about to begin."""
        for probe in self._probes.values():
            if not probe.reset:
                probe.reset = _differs(probe) if not probe.asked else _is_reset(probe)
                probe.asked = True

    def stepped(self, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """An optimizer has updated again; the evidence of the note once it is certain."""
        probe = self._probes.pop(id(optimizer), None)
        if probe is None or probe.optimizer() is not optimizer:
            return None
        if probe.reset or not probe.asked or not _differs(probe) or _is_reset(probe):
            return None
        if probe.steps + 1 >= CERTAIN:
            return {"optimizer": type(optimizer).__name__, "steps": probe.steps + 1}
        self._arm(optimizer, probe.steps + 1)
        return None


def _kept(optimizer: torch.optim.Optimizer) -> list[tuple[weakref.ref[Tensor], int, Tensor]]:
    """Entries of a few gradients that are not 0, and where these lie."""
    kept: list[tuple[weakref.ref[Tensor], int, Tensor]] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if len(kept) < _PARAMETERS and gradient is not None and is_plain(gradient):
                some = entries(gradient, _ENTRIES).clone()
                if bool(some.any()):
                    kept.append((weakref.ref(parameter), gradient.data_ptr(), some))
    return kept


def _differs(probe: _Probe) -> bool:
    """Whether any of the gradients is another one than the update used."""
    for ref, _, before in probe.kept:
        parameter = ref()
        gradient = None if parameter is None else parameter.grad
        if gradient is None or not torch.equal(entries(gradient, _ENTRIES), before):
            return True
    return False


def _is_reset(probe: _Probe) -> bool:
    """Whether any of the gradients is gone, 0, or a new tensor."""
    for ref, address, _ in probe.kept:
        parameter = ref()
        gradient = None if parameter is None else parameter.grad
        if gradient is None or gradient.data_ptr() != address:
            return True
        if not bool(entries(gradient, _ENTRIES).any()):
            return True
    return False
